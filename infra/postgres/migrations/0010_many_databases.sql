-- A ledger may live in several databases: each shard in one of them. Which one says so itself, in the row that every writer of the
-- shard locks: so a writer with an old map is refused in the very transaction that would have written to the wrong place.

-- A shard is written here only where it lives. moved_to: the database that it left for; it stays when the rows left behind are gone.
ALTER TABLE shard_log ADD COLUMN lives_here boolean NOT NULL DEFAULT true;
ALTER TABLE shard_log ADD COLUMN moved_to text;
ALTER TABLE shard_log ADD CONSTRAINT shard_log_one_home CHECK (NOT lives_here OR moved_to IS NULL);

-- What this database is called in the maps of all processes. The first one also holds what belongs to no shard: catalogue, API keys.
ALTER TABLE installation ADD COLUMN database_name text NOT NULL DEFAULT 'first';

-- Every database that ever joined the ledger, kept in the first one. The number tells their dead letters apart.
CREATE TABLE ledger_database (
    name     text        PRIMARY KEY,
    number   integer     NOT NULL UNIQUE,
    added_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO ledger_database (name, number) VALUES ('first', 0);

-- A shard that is on its way to this database: how far its contexts have come; the events say it themselves. complete_position: all
-- of it is here as of that position of its log, and only its old home has to let go.
CREATE TABLE shard_arrival (
    shard             integer     PRIMARY KEY,
    source            text        NOT NULL,
    contexts_position bigint      NOT NULL DEFAULT 0,
    complete_position bigint,
    begun_at          timestamptz NOT NULL DEFAULT now()
);
