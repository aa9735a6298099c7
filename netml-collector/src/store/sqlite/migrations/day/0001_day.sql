-- One file per UTC day of receipt. Unsigned 64-bit ids are kept as the signed value of their bits.

-- Set once the state of the day before is in.
CREATE TABLE carried (one INTEGER PRIMARY KEY CHECK (one = 1)) STRICT;

-- State that lives on from day to day.
CREATE TABLE watermarks (
    stream_id INTEGER PRIMARY KEY,
    sensor TEXT NOT NULL,
    seq INTEGER NOT NULL,
    updated_unix_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE counter_bases (
    sensor TEXT NOT NULL,
    interface TEXT NOT NULL,
    direction INTEGER NOT NULL,
    attach_id INTEGER NOT NULL,
    unix_ns INTEGER NOT NULL,
    packets INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    frames INTEGER NOT NULL,
    recorded INTEGER NOT NULL,
    lost TEXT NOT NULL,                -- JSON, as the next two
    protocol_packets TEXT NOT NULL,
    protocol_bytes TEXT NOT NULL,
    updated_unix_ms INTEGER NOT NULL,
    PRIMARY KEY (sensor, interface, direction, attach_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE verdict_totals (
    sensor TEXT NOT NULL,
    stream_id INTEGER NOT NULL,
    verdict INTEGER NOT NULL,
    flows INTEGER NOT NULL,
    updated_unix_ms INTEGER NOT NULL,
    PRIMARY KEY (stream_id, verdict)
) STRICT, WITHOUT ROWID;

-- Rows.
CREATE TABLE packets (
    id INTEGER PRIMARY KEY,
    unix_ns INTEGER NOT NULL,
    sensor TEXT NOT NULL,
    stream_id INTEGER NOT NULL,
    flow_id INTEGER NOT NULL,
    interface TEXT NOT NULL,
    src_ip BLOB NOT NULL,
    dst_ip BLOB NOT NULL,
    src_port INTEGER NOT NULL,
    dst_port INTEGER NOT NULL,
    ip_protocol INTEGER NOT NULL,
    wire_bytes INTEGER NOT NULL,
    segments INTEGER NOT NULL,
    tcp_flags INTEGER NOT NULL,
    direction INTEGER NOT NULL,
    verdict INTEGER NOT NULL,
    kind TEXT NOT NULL,
    probability REAL NOT NULL
) STRICT;

CREATE TABLE flows (
    id INTEGER PRIMARY KEY,
    sensor TEXT NOT NULL,
    stream_id INTEGER NOT NULL,
    flow_id INTEGER NOT NULL,
    state INTEGER NOT NULL,
    end_reason TEXT NOT NULL,
    first_unix_ns INTEGER NOT NULL,
    last_unix_ns INTEGER NOT NULL,
    src_ip BLOB NOT NULL,
    dst_ip BLOB NOT NULL,
    src_port INTEGER NOT NULL,
    dst_port INTEGER NOT NULL,
    ip_protocol INTEGER NOT NULL,
    interface TEXT NOT NULL,
    fwd_packets INTEGER NOT NULL,
    rev_packets INTEGER NOT NULL,
    fwd_bytes INTEGER NOT NULL,
    rev_bytes INTEGER NOT NULL,
    tcp_flags INTEGER NOT NULL,
    verdict INTEGER NOT NULL,
    kind TEXT NOT NULL,
    probability REAL NOT NULL,
    score REAL NOT NULL,
    reasons TEXT NOT NULL,             -- JSON
    model_id TEXT NOT NULL,
    lost_meanwhile INTEGER NOT NULL,
    expected_false_alarms_per_day REAL,
    initiator_direction INTEGER,
    UNIQUE (stream_id, flow_id)
) STRICT;

CREATE TABLE events (
    id INTEGER PRIMARY KEY,
    unix_ns INTEGER NOT NULL,
    sensor TEXT NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    message TEXT NOT NULL,
    fields TEXT NOT NULL               -- JSON
) STRICT;

-- A sample a minute; the latest is kept in memory.
CREATE TABLE health (
    unix_s INTEGER NOT NULL,
    sensor TEXT NOT NULL,
    health TEXT NOT NULL,              -- JSON
    PRIMARY KEY (unix_s, sensor)
) STRICT, WITHOUT ROWID;

-- Sums: differences of cumulative kernel totals, three widths of steps.
CREATE TABLE traffic_1s (
    unix_s INTEGER NOT NULL,
    sensor TEXT NOT NULL,
    interface TEXT NOT NULL,
    rx_bytes INTEGER NOT NULL,
    tx_bytes INTEGER NOT NULL,
    rx_packets INTEGER NOT NULL,
    tx_packets INTEGER NOT NULL,
    lost_packets INTEGER NOT NULL,
    PRIMARY KEY (unix_s, sensor, interface)
) STRICT, WITHOUT ROWID;

CREATE TABLE traffic_1m (
    unix_s INTEGER NOT NULL,
    sensor TEXT NOT NULL,
    interface TEXT NOT NULL,
    rx_bytes INTEGER NOT NULL,
    tx_bytes INTEGER NOT NULL,
    rx_packets INTEGER NOT NULL,
    tx_packets INTEGER NOT NULL,
    lost_packets INTEGER NOT NULL,
    PRIMARY KEY (unix_s, sensor, interface)
) STRICT, WITHOUT ROWID;

CREATE TABLE traffic_1h (
    unix_s INTEGER NOT NULL,
    sensor TEXT NOT NULL,
    interface TEXT NOT NULL,
    rx_bytes INTEGER NOT NULL,
    tx_bytes INTEGER NOT NULL,
    rx_packets INTEGER NOT NULL,
    tx_packets INTEGER NOT NULL,
    lost_packets INTEGER NOT NULL,
    PRIMARY KEY (unix_s, sensor, interface)
) STRICT, WITHOUT ROWID;

-- Greatest talkers of a minute by dimension; the key '' is the rest, so that sums balance.
CREATE TABLE talkers (
    minute INTEGER NOT NULL,
    dimension INTEGER NOT NULL,
    key TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    packets INTEGER NOT NULL,
    flows INTEGER NOT NULL,
    PRIMARY KEY (minute, dimension, key)
) STRICT, WITHOUT ROWID;
