-- A piece of work now: the newest version of its own stream, which lives in the log of its team's account. Whoever writes it holds
-- the lock of the account's head; the version is compared and set all the same.
CREATE TABLE work_head (
    shard        integer          NOT NULL,
    team_id      text COLLATE "C" NOT NULL,
    work_id      text COLLATE "C" NOT NULL,
    stream_id    uuid             NOT NULL,
    version      bigint           NOT NULL,
    chain_hash   bytea            NOT NULL,
    state        bytea            NOT NULL,
    state_schema integer          NOT NULL,
    recorded_at  timestamptz      NOT NULL,
    PRIMARY KEY (shard, team_id, work_id)
);
CREATE UNIQUE INDEX work_head_stream ON work_head (shard, stream_id);

-- What people wrote and attached along a work: beside the log, so that it can be erased. The event of that version of the work holds
-- a digest of salt and context.
CREATE TABLE work_context (
    shard   integer          NOT NULL,
    team_id text COLLATE "C" NOT NULL,
    work_id text COLLATE "C" NOT NULL,
    version bigint           NOT NULL,
    step    text,                       -- none: of the work itself, its brief or its result
    member  text             NOT NULL,  -- whose it is
    salt    bytea            NOT NULL,
    context bytea            NOT NULL,  -- JSON
    PRIMARY KEY (shard, team_id, work_id, version)
);
CREATE INDEX work_context_member ON work_context (shard, team_id, member);

-- The contexts of a team and of a member are found without reading those of all others.
CREATE INDEX usage_context_member ON usage_context (shard, team_id, member);

-- What a work cost is found without reading the team's whole statement.
CREATE INDEX statement_entry_work ON statement_entry (shard, team_id, work, version) WHERE work IS NOT NULL;
