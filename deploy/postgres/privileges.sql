-- What the two roles may do in the database that this runs in. The writer owns the database and
-- what it creates there; the reader may connect, and select what the writer has created.
DO $$
BEGIN
    EXECUTE format('REVOKE ALL ON DATABASE %I FROM PUBLIC', current_database());
    EXECUTE format('ALTER DATABASE %I OWNER TO lizards_writer', current_database());
    EXECUTE format('GRANT CONNECT ON DATABASE %I TO lizards_reader', current_database());
END $$;

ALTER SCHEMA public OWNER TO lizards_writer;
GRANT USAGE ON SCHEMA public TO lizards_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE lizards_writer GRANT USAGE ON SCHEMAS TO lizards_reader;
ALTER DEFAULT PRIVILEGES FOR ROLE lizards_writer GRANT SELECT ON TABLES TO lizards_reader;
