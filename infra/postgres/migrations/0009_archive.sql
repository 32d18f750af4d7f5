-- Events of months long closed may leave for Parquet files. What left, and what is on its way, is written down here.

-- The events of one shard up to the end of one month, of those that no earlier archive holds: positions without gaps, in files.
-- status: written (files and manifest are on disk), verified (read back and found equal), removed (gone from ledger_events),
-- restored (all of it, or of some teams, is back until somebody says otherwise).
CREATE TABLE archive (
    shard           integer     NOT NULL,
    month           text        NOT NULL CHECK (month ~ '^[0-9]{4}-[0-9]{2}$'),
    first_position  bigint      NOT NULL,
    last_position   bigint      NOT NULL CHECK (last_position >= first_position),
    manifest        text        NOT NULL,   -- where it was written
    manifest_digest bytea       NOT NULL,   -- SHA-256 of the manifest's bytes
    status          text        NOT NULL DEFAULT 'written' CHECK (status IN ('written', 'verified', 'removed', 'restored')),
    written_at      timestamptz NOT NULL DEFAULT now(),
    verified_at     timestamptz,
    removed_at      timestamptz,
    PRIMARY KEY (shard, month)
);
CREATE UNIQUE INDEX archive_position ON archive (shard, first_position);

-- The part of a stream that an archive holds. Versions beyond gone_after, up to gone_through, are in its files only; the rest of
-- the part is in ledger_events. Both grow with the chunk that moves the rows, so they say so at any instant.
CREATE TABLE archive_stream (
    shard         integer          NOT NULL,
    stream_id     uuid             NOT NULL,
    first_version bigint           NOT NULL,
    last_version  bigint           NOT NULL CHECK (last_version >= first_version),
    gone_after    bigint           NOT NULL,
    gone_through  bigint           NOT NULL,
    month         text             NOT NULL,
    team_id       text COLLATE "C" NOT NULL,
    last_hash     bytea            NOT NULL,
    PRIMARY KEY (shard, stream_id, first_version),
    FOREIGN KEY (shard, month) REFERENCES archive (shard, month),
    CHECK (first_version - 1 <= gone_after AND gone_after <= gone_through AND gone_through <= last_version)
);
CREATE INDEX archive_stream_month ON archive_stream (shard, month, team_id, stream_id);

-- Claims whose events are in files only: a duplicate is one for ever. Columns in the order that leaves no room between them.
CREATE TABLE archived_claim (
    usage_key          uuid    NOT NULL,
    content            uuid,               -- the first half of the content digest of a usage record
    originator_version bigint  NOT NULL,
    shard              integer NOT NULL,
    owner              integer NOT NULL,   -- the first four bytes of the stream's id
    topic              text,               -- of an event that a record of the payments stream became, kept whole
    state              bytea,
    PRIMARY KEY (shard, usage_key)
);

-- An event leaves ledger_events by one door, and only when both are there: a verified archive that holds it, and its claim.
-- The row trigger still refuses every UPDATE; a DELETE is refused before it begins unless the door opened it, and undone after it
-- unless each row that it took is one that may leave. The setting prevents accidents, the second look prevents everything else.
CREATE FUNCTION ledger_events_door_shut() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN
    IF coalesce(current_setting('coffer.archiving', true), '') <> 'on' THEN
        RAISE EXCEPTION 'ledger_events is append-only: a correction is a new event' USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION ledger_events_only_archived() RETURNS trigger LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS
$$ BEGIN
    PERFORM FROM removed AS r WHERE NOT EXISTS (
        SELECT FROM archive_stream AS s JOIN archive AS a ON a.shard = s.shard AND a.month = s.month
        WHERE s.shard = r.shard AND s.stream_id = r.originator_id AND a.status <> 'written'
        AND r.originator_version > s.gone_after AND r.originator_version <= s.gone_through
        AND (r.originator_version < s.last_version OR r.hash = s.last_hash)
    ) OR r.usage_key IS NOT NULL AND NOT EXISTS (
        SELECT FROM archived_claim AS c WHERE c.shard = r.shard AND c.usage_key = r.usage_key
    ) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'ledger_events is append-only: an event leaves only when a verified archive holds it and its claim is kept'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER ledger_events_no_change ON ledger_events;
CREATE TRIGGER ledger_events_no_change BEFORE UPDATE ON ledger_events
    FOR EACH ROW EXECUTE FUNCTION ledger_events_append_only();
CREATE TRIGGER ledger_events_no_removal BEFORE DELETE ON ledger_events
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_events_door_shut();
CREATE TRIGGER ledger_events_only_archived AFTER DELETE ON ledger_events REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_events_only_archived();

-- A claim leaves only when its event is back.
CREATE FUNCTION archived_claim_kept() RETURNS trigger LANGUAGE plpgsql
SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS
$$ BEGIN
    PERFORM FROM removed AS r WHERE NOT EXISTS (
        SELECT FROM ledger_events AS e WHERE e.shard = r.shard AND e.usage_key = r.usage_key
    ) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'archived_claim: a claim is kept for ever, it leaves only when its event is back in ledger_events'
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END $$;
CREATE FUNCTION archived_claim_append_only() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN RAISE EXCEPTION 'archived_claim: a claim is kept for ever' USING ERRCODE = 'insufficient_privilege'; END $$;
CREATE TRIGGER archived_claim_kept AFTER DELETE ON archived_claim REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION archived_claim_kept();
CREATE TRIGGER archived_claim_no_change BEFORE UPDATE ON archived_claim
    FOR EACH ROW EXECUTE FUNCTION archived_claim_append_only();
CREATE TRIGGER archived_claim_no_truncate BEFORE TRUNCATE ON archived_claim
    FOR EACH STATEMENT EXECUTE FUNCTION archived_claim_append_only();

-- The door. Claims of these parts of streams are kept and their events leave, versions above each `after` up to each `upto`.
CREATE FUNCTION remove_archived(asked_shard integer, streams uuid[], firsts bigint[], afters bigint[], uptos bigint[])
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER
SET search_path = public, pg_temp SET enable_hashjoin = off SET enable_mergejoin = off SET enable_seqscan = off AS
$$ DECLARE
    gone bigint;
BEGIN
    UPDATE archive_stream AS s SET
        gone_after = CASE WHEN s.gone_after = s.gone_through THEN n.after ELSE least(s.gone_after, n.after) END,
        gone_through = CASE WHEN s.gone_after = s.gone_through THEN n.upto ELSE greatest(s.gone_through, n.upto) END
    FROM unnest(streams, firsts, afters, uptos) AS n (stream_id, first_version, after, upto)
    WHERE s.shard = asked_shard AND s.stream_id = n.stream_id AND s.first_version = n.first_version
    AND (s.gone_after = s.gone_through OR s.gone_after = n.upto OR s.gone_through = n.after);
    GET DIAGNOSTICS gone = ROW_COUNT;
    IF gone <> cardinality(streams) THEN
        RAISE EXCEPTION 'of % parts of streams only % can leave as asked', cardinality(streams), gone;
    END IF;
    INSERT INTO archived_claim (usage_key, content, originator_version, shard, owner, topic, state)
    SELECT e.usage_key, left(d.document ->> 'content_digest', 32)::uuid, e.originator_version, e.shard,
        ('x' || left(e.originator_id::text, 8))::bit(32)::integer, p.topic, p.state
    FROM unnest(streams, afters, uptos) AS n (stream_id, after, upto)
    JOIN ledger_events AS e ON e.shard = asked_shard AND e.originator_id = n.stream_id
        AND e.originator_version > n.after AND e.originator_version <= n.upto AND e.usage_key IS NOT NULL
    CROSS JOIN LATERAL (SELECT convert_from(e.state, 'UTF8')::jsonb AS document) AS d
    LEFT JOIN LATERAL (SELECT e.topic, e.state WHERE d.document ->> 'record_key' IS NOT NULL) AS p ON true;
    PERFORM set_config('coffer.archiving', 'on', true);
    DELETE FROM ledger_events AS e USING unnest(streams, afters, uptos) AS n (stream_id, after, upto)
    WHERE e.shard = asked_shard AND e.originator_id = n.stream_id
    AND e.originator_version > n.after AND e.originator_version <= n.upto;
    GET DIAGNOSTICS gone = ROW_COUNT;
    PERFORM set_config('coffer.archiving', '', true);
    RETURN gone;
END $$;
REVOKE ALL ON FUNCTION remove_archived(integer, uuid[], bigint[], bigint[], bigint[]) FROM PUBLIC;
