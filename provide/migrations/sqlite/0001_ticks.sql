-- Normalised ticks. Prices and sizes are text: SQLite's numbers are binary floats.
CREATE TABLE ticks (
    id             TEXT NOT NULL PRIMARY KEY,
    symbol         TEXT NOT NULL,
    -- Event time: nanoseconds since 1970-01-01T00:00:00Z.
    ts_ns          INTEGER NOT NULL,
    -- Its sequence in the stream TICKS.
    seq            INTEGER NOT NULL,
    price          TEXT NOT NULL,
    size           TEXT,
    currency       TEXT NOT NULL,
    exchange       TEXT,
    kind           TEXT NOT NULL CHECK (kind IN ('trade', 'quote', 'bar')),
    source         TEXT NOT NULL,
    raw_seq        INTEGER NOT NULL,
    received_at_ns INTEGER NOT NULL
) STRICT;

CREATE INDEX ticks_by_symbol_and_time ON ticks (symbol, ts_ns, seq);
