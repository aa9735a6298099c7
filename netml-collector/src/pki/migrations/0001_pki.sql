-- Certificate authorities. state: 0 trusted and not issuing yet, 1 issuing, 2 trusted until retired.
CREATE TABLE authorities (
    id INTEGER PRIMARY KEY,
    certificate BLOB NOT NULL,       -- X.509, DER
    key TEXT NOT NULL,               -- PKCS#8, PEM
    state INTEGER NOT NULL,
    created_unix_ms INTEGER NOT NULL
) STRICT;

-- Names and addresses by which sensors reach the collector.
CREATE TABLE hosts (host TEXT PRIMARY KEY) STRICT;

CREATE TABLE tokens (
    hash BLOB PRIMARY KEY,           -- SHA-256 of the secret
    sensor TEXT NOT NULL,
    expires_unix_ms INTEGER NOT NULL,
    used_unix_ms INTEGER             -- NULL: not yet
) STRICT;

-- Every certificate given to a sensor, until it can be of no use any more.
CREATE TABLE certificates (
    fingerprint BLOB PRIMARY KEY,    -- SHA-256 of the certificate in DER
    sensor TEXT NOT NULL,
    public_key BLOB NOT NULL,        -- SHA-256 of the public key
    authority INTEGER NOT NULL,
    issued_unix_ms INTEGER NOT NULL,
    not_after_unix_ms INTEGER NOT NULL,
    revoked_unix_ms INTEGER          -- NULL: not revoked
) STRICT;
CREATE INDEX certificates_sensor ON certificates (sensor);
