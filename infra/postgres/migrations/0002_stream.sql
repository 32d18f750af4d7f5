-- What became of records that were read a second time: in a hole, and of a dead letter that was retried.
ALTER TABLE stream_hole ADD COLUMN outcomes jsonb;          -- as in consumed_batch; filled holes only
ALTER TABLE stream_hole ADD COLUMN events jsonb;            -- {"<offset>": [team_id, version]}; filled holes only
ALTER TABLE dead_letter ADD COLUMN retry_detail text;
ALTER TABLE dead_letter ADD COLUMN retry_team_id text;      -- a retry that became an event, or met the one that holds the id
ALTER TABLE dead_letter ADD COLUMN retry_version bigint;
CREATE INDEX dead_letter_unpublished ON dead_letter (shard, dead_letter_id) WHERE published_at IS NULL;
CREATE INDEX stream_hole_open ON stream_hole (shard, topic) WHERE status = 'open';

-- How often a worker died while it tried the record at this offset. Going beyond it removes the row.
CREATE TABLE crash_attempt (
    shard        integer     NOT NULL,
    cluster_id   text        NOT NULL,
    topic_id     text        NOT NULL,
    topic        text        NOT NULL,
    part         integer     NOT NULL,
    kafka_offset bigint      NOT NULL,
    attempts     integer     NOT NULL,
    attempted_at timestamptz NOT NULL,
    PRIMARY KEY (shard, cluster_id, topic_id, part, kafka_offset)
);
