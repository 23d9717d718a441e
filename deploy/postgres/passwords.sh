#!/bin/sh
# Gives the two roles their passwords; run by the image's entry point at the first start.
set -eu
psql --set=ON_ERROR_STOP=1 --username="$POSTGRES_USER" --dbname="$POSTGRES_DB" \
    --set=writer="$WRITER_PASSWORD" --set=reader="$READER_PASSWORD" <<'SQL'
ALTER ROLE lizards_writer PASSWORD :'writer';
ALTER ROLE lizards_reader PASSWORD :'reader';
SQL
