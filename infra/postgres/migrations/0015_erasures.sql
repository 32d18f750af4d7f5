-- What a member wrote was erased, by the event of that version of the account. Contexts and texts of works went in its transaction;
-- records that could not be charged lie elsewhere, in the dead letters of any database and in their topic, and go after that.
CREATE TABLE context_erasure (
    shard            integer          NOT NULL,
    team_id          text COLLATE "C" NOT NULL,
    member           text             NOT NULL,
    version          bigint           NOT NULL,
    erased_at        timestamptz      NOT NULL,
    letters_gone_at  timestamptz,               -- no dead letter names the member any more
    topic_emptied_at timestamptz,               -- nor does the topic of dead letters
    PRIMARY KEY (shard, team_id, version)
);
CREATE INDEX context_erasure_open ON context_erasure (shard, team_id) WHERE topic_emptied_at IS NULL;
