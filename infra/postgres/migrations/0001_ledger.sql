-- The ledger's tables. The shard leads every key. Statements are executed one by one: each ends with ; at the end of a line.
-- Team ids compare by bytes, so that a lock order by team is the same in SQL and in Python, whatever the locale.

-- What was fixed when the ledger was installed; exactly one row.
CREATE TABLE installation (
    singleton    boolean     PRIMARY KEY DEFAULT true CHECK (singleton),
    shards       integer     NOT NULL CHECK (shards BETWEEN 1 AND 4096),
    installed_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE ledger_events (
    shard              integer NOT NULL,
    originator_id      uuid    NOT NULL,
    originator_version bigint  NOT NULL,
    position           bigint  NOT NULL,
    topic              text    NOT NULL,
    state              bytea   NOT NULL,
    usage_key          uuid,
    previous_hash      bytea   NOT NULL,
    hash               bytea   NOT NULL,
    PRIMARY KEY (shard, originator_id, originator_version)
) WITH (autovacuum_enabled = true, autovacuum_vacuum_insert_scale_factor = 0.2, autovacuum_analyze_scale_factor = 0.02);
CREATE UNIQUE INDEX ledger_events_position ON ledger_events (shard, position);
CREATE UNIQUE INDEX ledger_events_usage_key ON ledger_events (shard, usage_key) WHERE usage_key IS NOT NULL;

-- Append-only for everyone, the owner included: a correction is a new event. (Citus refuses triggers; there REVOKE protects.)
CREATE FUNCTION ledger_events_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'ledger_events is append-only: a correction is a new event' USING ERRCODE = 'insufficient_privilege'; END $$;
CREATE TRIGGER ledger_events_no_change BEFORE UPDATE OR DELETE ON ledger_events
    FOR EACH ROW EXECUTE FUNCTION ledger_events_append_only();
CREATE TRIGGER ledger_events_no_truncate BEFORE TRUNCATE ON ledger_events
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_events_append_only();

-- The last position of each shard's log. One row a shard, updated by each writer of the shard: hence the room on its page.
CREATE TABLE shard_log (
    shard    integer PRIMARY KEY,
    position bigint  NOT NULL DEFAULT 0
) WITH (fillfactor = 10);

CREATE TABLE account_head (
    shard        integer     NOT NULL,
    team_id      text COLLATE "C"        NOT NULL,
    account_id   uuid        NOT NULL,
    version      bigint      NOT NULL,
    chain_hash   bytea       NOT NULL,
    state        bytea       NOT NULL,
    state_schema integer     NOT NULL,
    recorded_at  timestamptz NOT NULL,
    next_due_at  timestamptz,
    PRIMARY KEY (shard, team_id)
) WITH (fillfactor = 60);
CREATE UNIQUE INDEX account_head_account ON account_head (shard, account_id);
CREATE INDEX account_head_due ON account_head (shard, next_due_at) WHERE next_due_at IS NOT NULL;

-- The balance read model: what the head's state says, as columns. Fields at their default are left out of the state.
CREATE VIEW account_balance AS
SELECT h.shard, h.team_id, h.version, h.recorded_at, h.next_due_at,
       h.document ->> 'zone' AS zone,
       h.document ->> 'card_id' AS card_id,
       coalesce(h.document ->> 'status', 'open') AS status,
       coalesce((h.document ->> 'settled_micros')::bigint, 0) AS settled_micros,
       coalesce((h.document ->> 'debt_micros')::bigint, 0) AS debt_micros,
       coalesce(h.document -> 'lots', '[]'::jsonb) AS lots
FROM (SELECT *, convert_from(state, 'UTF8')::jsonb AS document FROM account_head) AS h;

-- One row for each open lot, in burn order.
CREATE VIEW account_lot AS
SELECT b.shard, b.team_id, b.version, l.place,
       l.lot -> 'terms' ->> 'lot_id' AS lot_id,
       (l.lot ->> 'remaining_micros')::bigint AS remaining_micros,
       l.lot -> 'terms' ->> 'source' AS source,
       coalesce((l.lot -> 'terms' ->> 'priority')::integer, 20) AS priority,
       l.lot -> 'terms' ->> 'action' AS action,
       l.lot -> 'terms' ->> 'project' AS project,
       l.lot -> 'terms' ->> 'effective_at' AS effective_at,
       l.lot -> 'terms' ->> 'expires_at' AS expires_at
FROM account_balance AS b CROSS JOIN LATERAL jsonb_array_elements(b.lots) WITH ORDINALITY AS l (lot, place);

CREATE TABLE account_index (
    shard   integer NOT NULL,
    team_id text COLLATE "C"    NOT NULL,
    kind    text    NOT NULL,
    key     text COLLATE "C" NOT NULL,
    entry   bytea   NOT NULL,
    PRIMARY KEY (shard, team_id, kind, key)
);

CREATE TABLE idempotency (
    shard       integer     NOT NULL,
    team_id     text COLLATE "C"        NOT NULL,
    principal   text        NOT NULL,
    key         text        NOT NULL,
    body_digest bytea       NOT NULL,
    answer      bytea       NOT NULL,
    version     bigint      NOT NULL,
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (shard, team_id, principal, key)
);

CREATE TABLE payment_reference (
    shard     integer NOT NULL,
    team_id   text COLLATE "C"    NOT NULL,
    reference text    NOT NULL,
    version   bigint  NOT NULL,
    PRIMARY KEY (shard, team_id, reference)
);

CREATE TABLE usage_context (
    shard     integer NOT NULL,
    usage_key uuid    NOT NULL,
    team_id   text COLLATE "C"    NOT NULL,
    member    text,
    salt      bytea   NOT NULL,
    context   bytea   NOT NULL,
    PRIMARY KEY (shard, usage_key)
);

-- Consumed offsets. A partition's rows live with its home shard: partition mod number of shards.
CREATE TABLE consumed (
    shard       integer NOT NULL,
    cluster_id  text    NOT NULL,
    topic_id    text    NOT NULL,
    topic       text    NOT NULL,
    part        integer NOT NULL,
    next_offset bigint  NOT NULL,
    halted      text,
    PRIMARY KEY (shard, cluster_id, topic_id, part)
);

CREATE TABLE consumed_batch (
    shard        integer     NOT NULL,
    cluster_id   text        NOT NULL,
    topic_id     text        NOT NULL,
    topic        text        NOT NULL,
    part         integer     NOT NULL,
    first_offset bigint      NOT NULL,
    next_offset  bigint      NOT NULL,
    records      integer     NOT NULL,
    outcomes     jsonb       NOT NULL,   -- {"charged": {"": n}, "waived": {"failed": n}, ...}
    positions    jsonb       NOT NULL,   -- {"<shard>": [first, last]} of the events this batch wrote
    recorded_at  timestamptz NOT NULL,
    PRIMARY KEY (shard, cluster_id, topic_id, part, first_offset)
);

-- Outcomes that are no event: duplicate, conflict, parked, rejected.
CREATE TABLE usage_outcome (
    shard       integer     NOT NULL,
    cluster_id  text        NOT NULL,
    topic_id    text        NOT NULL,
    topic       text        NOT NULL,
    part        integer     NOT NULL,
    kafka_offset bigint     NOT NULL,
    outcome     text        NOT NULL,
    reason      text        NOT NULL,
    detail      text        NOT NULL,
    team_id     text COLLATE "C",
    usage_key   uuid,
    first_version bigint,               -- duplicate, conflict: the version that holds the claim
    recorded_at timestamptz NOT NULL,
    PRIMARY KEY (shard, cluster_id, topic_id, part, kafka_offset)
);

CREATE TABLE stream_hole (
    shard        integer     NOT NULL,
    cluster_id   text        NOT NULL,
    topic_id     text        NOT NULL,
    topic        text        NOT NULL,
    part         integer     NOT NULL,
    first_offset bigint      NOT NULL,
    next_offset  bigint      NOT NULL,
    status       text        NOT NULL DEFAULT 'open',   -- open, confirmed (empty on re-reading), filled (a record was in it)
    recorded_at  timestamptz NOT NULL,
    settled_at   timestamptz,
    PRIMARY KEY (shard, cluster_id, topic_id, part, first_offset)
);

CREATE TABLE dead_letter (
    shard         integer     NOT NULL,
    dead_letter_id bigint GENERATED ALWAYS AS IDENTITY,
    cluster_id    text        NOT NULL,
    topic_id      text        NOT NULL,
    topic         text        NOT NULL,
    part          integer     NOT NULL,
    kafka_offset  bigint      NOT NULL,
    arrived_at    timestamptz NOT NULL,
    outcome       text        NOT NULL,                 -- rejected, parked
    reason        text        NOT NULL,
    detail        text        NOT NULL,
    record_key    bytea,
    record_value  bytea,
    record_headers jsonb      NOT NULL,                 -- [[name, hex value or null], ...] in order
    recorded_at   timestamptz NOT NULL,
    published_at  timestamptz,                          -- when it was written to the DLQ topic
    status        text        NOT NULL DEFAULT 'open',  -- open, retried
    retried_at    timestamptz,
    retry_outcome text,
    retry_reason  text,
    PRIMARY KEY (shard, cluster_id, topic_id, part, kafka_offset)
);
-- Unique by itself, as an identity; the shard leads because it leads every unique key.
CREATE UNIQUE INDEX dead_letter_id ON dead_letter (dead_letter_id, shard);

CREATE TABLE api_key (
    key_id     text        PRIMARY KEY,
    name       text        NOT NULL,
    role       text        NOT NULL,
    secret_mac bytea       NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz,
    revoked_at timestamptz
);

-- Read models.
CREATE TABLE tracking (
    shard      integer NOT NULL,
    projection text    NOT NULL,
    position   bigint  NOT NULL,
    PRIMARY KEY (shard, projection)
);

CREATE TABLE statement_entry (
    shard                integer     NOT NULL,
    team_id              text COLLATE "C"        NOT NULL,
    version              bigint      NOT NULL,
    kind                 text        NOT NULL,   -- the event's name
    recorded_at          timestamptz NOT NULL,
    occurred_at          timestamptz NOT NULL,   -- of the usage, else the instant it took effect
    amount_micros        bigint      NOT NULL,
    settled_after_micros bigint      NOT NULL,
    debt_after_micros    bigint      NOT NULL,
    charge_id            uuid,
    lot_id               text,
    action               text,
    member               text,
    project              text,
    work                 text,
    step                 text,
    actor_id             text        NOT NULL,
    actor_role           text        NOT NULL,
    reason               text,
    PRIMARY KEY (shard, team_id, version)
);
