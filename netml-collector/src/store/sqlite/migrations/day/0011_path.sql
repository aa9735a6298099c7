-- Where else a flow was seen, the tunnel that carried it, ICMP errors about it, numbers of its DNS
-- messages. JSON but for the count; null: nothing.
ALTER TABLE flows ADD COLUMN also_seen_on TEXT;
ALTER TABLE flows ADD COLUMN tunnel TEXT;
ALTER TABLE flows ADD COLUMN icmp_errors INTEGER NOT NULL DEFAULT 0;
ALTER TABLE flows ADD COLUMN icmp_last TEXT;
ALTER TABLE flows ADD COLUMN dns TEXT;
