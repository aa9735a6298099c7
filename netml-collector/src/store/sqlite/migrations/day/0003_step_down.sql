-- Frames and packets that the sensor's kernel counted by flow instead of recording them.
ALTER TABLE counter_bases ADD COLUMN mapped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE flows ADD COLUMN unrecorded_packets INTEGER NOT NULL DEFAULT 0;
