-- What a rule found (JSON; null: nothing), and the forest's own answer beside the combined one.
ALTER TABLE flows ADD COLUMN rule TEXT;
ALTER TABLE flows ADD COLUMN forest INTEGER NOT NULL DEFAULT 1;
ALTER TABLE flows ADD COLUMN forest_score REAL NOT NULL DEFAULT 0;
