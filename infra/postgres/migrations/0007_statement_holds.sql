-- Rows say what open holds set aside after them, and name the hold. What was written before there were holds is right as it stands:
-- nothing was set aside, no hold was named.
ALTER TABLE statement_entry ADD COLUMN hold_id text;
ALTER TABLE statement_entry ADD COLUMN held_after_micros bigint NOT NULL DEFAULT 0;
ALTER TABLE statement_entry ALTER COLUMN held_after_micros DROP DEFAULT;

-- A hold, what was captured of it and how it ended are found without reading the team's whole statement.
CREATE INDEX statement_entry_hold ON statement_entry (shard, team_id, hold_id) WHERE hold_id IS NOT NULL;

-- A half-built table of a rebuild has neither column: it is of no use, and the next rebuild begins anew.
DELETE FROM tracking WHERE projection LIKE 'statement shape % beside';
DROP TABLE IF EXISTS statement_entry_beside;
