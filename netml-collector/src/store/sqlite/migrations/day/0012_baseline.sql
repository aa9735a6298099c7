-- What the hosts' own past says of a flow (JSON; null: not told). The usual range of a reason stands
-- with the reasons.
ALTER TABLE flows ADD COLUMN baseline TEXT;
