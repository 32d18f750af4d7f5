-- A projection that met an event it cannot take stands still at that position of the shard; the others go on.
ALTER TABLE tracking ADD COLUMN halted_position bigint;
ALTER TABLE tracking ADD COLUMN halted text;

-- A charge and what was refunded of it are found without reading the team's whole statement.
CREATE INDEX statement_entry_charge ON statement_entry (shard, team_id, charge_id) WHERE charge_id IS NOT NULL;
