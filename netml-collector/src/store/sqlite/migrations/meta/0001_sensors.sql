-- Small lasting state. Sensors: what each said of itself last.
CREATE TABLE sensors (
    sensor TEXT PRIMARY KEY,
    version TEXT NOT NULL,
    kernel TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    source INTEGER NOT NULL,
    stream_id INTEGER NOT NULL,
    interfaces TEXT NOT NULL,          -- JSON
    model_id TEXT NOT NULL,
    schema_digest TEXT NOT NULL,
    accepted_commands TEXT NOT NULL,   -- JSON
    last_seen_unix_ms INTEGER NOT NULL
) STRICT;
