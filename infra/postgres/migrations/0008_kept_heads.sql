-- Accounts as they were at some of their versions: a cache of folds, so that a question about the past need not begin at the first
-- event. Nothing is decided on it. Every row may be deleted at any time; what is missing is folded again.

-- An account right after the event of that version, whose hash is kept beside it. Rows of another schema are ignored and made again.
CREATE TABLE kept_head (
    shard       integer     NOT NULL,
    team_id     text COLLATE "C" NOT NULL,
    version     bigint      NOT NULL,
    position    bigint      NOT NULL,
    chain_hash  bytea       NOT NULL,
    recorded_at timestamptz NOT NULL,
    state       bytea       NOT NULL,
    kept_schema integer     NOT NULL,
    PRIMARY KEY (shard, team_id, version)
);

-- An entry of the account's index as it was at a kept version, where it had changed since the kept version before; none when it was
-- gone. Kinds that begin with told_ sum what had happened by then, lot by lot and month by month.
CREATE TABLE kept_entry (
    shard   integer NOT NULL,
    team_id text COLLATE "C" NOT NULL,
    kind    text    NOT NULL,
    key     text COLLATE "C" NOT NULL,
    version bigint  NOT NULL,
    entry   bytea,
    PRIMARY KEY (shard, team_id, kind, key, version)
);

-- How far the log of each shard was looked through for accounts that have come to a version that is kept.
CREATE TABLE kept_place (
    shard       integer PRIMARY KEY,
    position    bigint  NOT NULL,
    kept_schema integer NOT NULL
);
