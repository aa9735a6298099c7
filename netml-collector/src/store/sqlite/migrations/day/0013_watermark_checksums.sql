-- CRC-32 of a watermark's stream, number and sensor: a changed number would make new records pass for
-- stored ones. Null: stored before this was kept.
ALTER TABLE watermarks ADD COLUMN checksum INTEGER;
