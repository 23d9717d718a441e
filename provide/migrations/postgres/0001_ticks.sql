-- Normalised ticks. "C" collation: ids and symbols are compared byte by byte, whatever the locale.
CREATE TABLE ticks (
    id             TEXT COLLATE "C" PRIMARY KEY,
    symbol         TEXT COLLATE "C" NOT NULL,
    -- Event time: nanoseconds since 1970-01-01T00:00:00Z, exactly as the tick says.
    ts_ns          BIGINT NOT NULL,
    -- Its sequence in the stream TICKS.
    seq            BIGINT NOT NULL,
    -- Without precision and scale, so that 218.3100 keeps its zeros.
    price          NUMERIC NOT NULL,
    size           NUMERIC,
    currency       TEXT NOT NULL,
    exchange       TEXT,
    kind           TEXT NOT NULL CHECK (kind IN ('trade', 'quote', 'bar')),
    source         TEXT NOT NULL,
    raw_seq        BIGINT NOT NULL,
    received_at_ns BIGINT NOT NULL,
    -- The event time for people who write SQL: microseconds, which is all that PostgreSQL keeps.
    -- Seconds apart from their fraction, because an interval is multiplied as a binary float.
    ts             TIMESTAMPTZ NOT NULL GENERATED ALWAYS AS (
        (TIMESTAMP 'epoch'
            + (ts_ns / 1000000000) * INTERVAL '1 second'
            + (ts_ns % 1000000000 / 1000) * INTERVAL '1 microsecond') AT TIME ZONE 'UTC') STORED
);

CREATE INDEX ticks_by_symbol_and_time ON ticks (symbol, ts_ns, seq);
