-- A team's people and paperwork now: the newest version of its own stream, which lives in the same log as its account's.
-- Whoever writes it holds the lock of the account's head; the version is compared and set all the same.
CREATE TABLE team_head (
    shard        integer          NOT NULL,
    team_id      text COLLATE "C" NOT NULL,
    stream_id    uuid             NOT NULL,
    version      bigint           NOT NULL,
    chain_hash   bytea            NOT NULL,
    state        bytea            NOT NULL,
    state_schema integer          NOT NULL,
    recorded_at  timestamptz      NOT NULL,
    PRIMARY KEY (shard, team_id)
);
CREATE UNIQUE INDEX team_head_stream ON team_head (shard, stream_id);
