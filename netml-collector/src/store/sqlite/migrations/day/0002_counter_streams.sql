-- Which start of the sensor a counter is of; 0: stored before this was kept.
ALTER TABLE counter_bases ADD COLUMN stream_id INTEGER NOT NULL DEFAULT 0;
