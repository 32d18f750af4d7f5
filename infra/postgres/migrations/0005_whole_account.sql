-- Uniqueness of a payment reference is an index entry (kind top_up), decided under the lock of the head like any other rule.
-- Its entries are made from the events when heads of the older schema are folded again, which follows this migration.
DROP TABLE payment_reference;

-- How often a denial was met again within its minute: equal denials are counted beside the event, not appended.
CREATE TABLE denial_repeat (
    shard   integer          NOT NULL,
    team_id text COLLATE "C" NOT NULL,
    version bigint           NOT NULL,   -- of the HoldDenied
    repeats bigint           NOT NULL,
    last_at timestamptz      NOT NULL,
    PRIMARY KEY (shard, team_id, version)
);

-- Due teams are met in the order of their instants, those of one instant by team, so that no portion sorts or skips.
DROP INDEX account_head_due;
CREATE INDEX account_head_due ON account_head (shard, next_due_at, team_id) WHERE next_due_at IS NOT NULL;

-- Heads that wait to be folded again are found without reading all the others.
CREATE INDEX account_head_older ON account_head (shard, team_id) WHERE state_schema < 3;

-- Holds that have ended, newest first: their ids count up, and text order would put 100 before 99.
CREATE INDEX account_index_holds ON account_index (shard, team_id, length(key), key) WHERE kind = 'hold';

-- The views read lots, holds and limits by place (domain/account/state.py). A head of another schema leaves them empty.
DROP VIEW account_lot;
DROP VIEW account_balance;

CREATE VIEW account_document AS
SELECT shard, team_id, version, recorded_at, next_due_at,
       CASE WHEN state_schema = 3 THEN convert_from(state, 'UTF8')::jsonb ELSE '{}'::jsonb END AS document
FROM account_head;

-- One row for each open lot, in burn order. The first of its values is the list of its terms: lot_id, number, source,
-- origin_lot_id, granted_at, effective_at, expires_at, priority, action, project, cost_basis, rolls_over.
CREATE VIEW account_lot AS
SELECT d.shard, d.team_id, d.version, l.place,
       l.lot -> 0 ->> 0 AS lot_id,
       l.lot -> 0 ->> 3 AS origin_lot_id,
       (l.lot ->> 1)::bigint AS remaining_micros,
       (l.lot ->> 2)::bigint AS held_micros,
       CASE WHEN l.lot ->> 4 IS NULL THEN 0 ELSE (l.lot ->> 1)::bigint - (l.lot ->> 2)::bigint END AS withheld_micros,
       l.lot -> 0 ->> 2 AS source,
       (l.lot -> 0 ->> 7)::integer AS priority,
       l.lot -> 0 ->> 8 AS action,
       l.lot -> 0 ->> 9 AS project,
       l.lot -> 0 ->> 5 AS effective_at,
       l.lot -> 0 ->> 6 AS expires_at,
       l.lot ->> 4 AS withheld_since,
       coalesce((l.lot -> 0 ->> 11)::boolean, false) AS rolls_over
FROM account_document AS d
CROSS JOIN LATERAL jsonb_array_elements(coalesce(d.document -> 'lots', '[]'::jsonb)) WITH ORDINALITY AS l (lot, place);

-- The balance read model: what the head's state says, as columns. Fields at their default are left out of the state.
CREATE VIEW account_balance AS
SELECT d.shard, d.team_id, d.version, d.recorded_at, d.next_due_at,
       (SELECT z.dated ->> 1 FROM jsonb_array_elements(d.document -> 'zones') WITH ORDINALITY AS z (dated, place)
        WHERE z.place = 1 OR (z.dated ->> 0)::timestamptz <= d.recorded_at ORDER BY z.place DESC LIMIT 1) AS zone,
       (SELECT c.dated ->> 1 FROM jsonb_array_elements(d.document -> 'cards') WITH ORDINALITY AS c (dated, place)
        WHERE c.place = 1 OR (c.dated ->> 0)::timestamptz <= d.recorded_at ORDER BY c.place DESC LIMIT 1) AS card_id,
       coalesce(d.document ->> 'status', 'open') AS status,
       coalesce((d.document ->> 'settled_micros')::bigint, 0) AS settled_micros,
       coalesce((SELECT sum((l.lot ->> 2)::bigint) FROM jsonb_array_elements(d.document -> 'lots') AS l (lot)), 0)::bigint
           AS held_micros,
       coalesce((SELECT sum((l.lot ->> 1)::bigint - (l.lot ->> 2)::bigint)
                 FROM jsonb_array_elements(d.document -> 'lots') AS l (lot) WHERE l.lot ->> 4 IS NOT NULL), 0)::bigint
           AS withheld_micros,
       coalesce((d.document ->> 'debt_micros')::bigint, 0) AS debt_micros,
       d.document -> 'plan' ->> 'plan_id' AS plan_id,
       (d.document -> 'plan' ->> 'version')::integer AS plan_version,
       (d.document ->> 'period_start')::timestamptz AS period_start,
       (d.document ->> 'period_end')::timestamptz AS period_end,
       coalesce(d.document -> 'lots', '[]'::jsonb) AS lots
FROM account_document AS d;

-- One row for each open hold, oldest first.
CREATE VIEW account_hold AS
SELECT d.shard, d.team_id, d.version, h.hold ->> 0 AS hold_id,
       (h.hold ->> 1)::timestamptz AS made_at,
       (h.hold ->> 2)::timestamptz AS expires_at,
       (SELECT coalesce(sum((p.line ->> 1)::bigint), 0)::bigint FROM jsonb_array_elements(h.hold -> 3) AS p (line)) AS held_micros,
       h.hold ->> 4 AS action,
       h.hold ->> 5 AS member,
       h.hold ->> 6 AS project,
       h.hold ->> 7 AS work,
       h.hold ->> 8 AS step
FROM account_document AS d
CROSS JOIN LATERAL jsonb_array_elements(coalesce(d.document -> 'holds', '[]'::jsonb)) AS h (hold);

-- One row for each limit, with the use of the window that runs now; no bounds while nothing was used in it.
CREATE VIEW account_limit AS
SELECT d.shard, d.team_id, d.version,
       l.held -> 0 ->> 'limit_id' AS limit_id,
       l.held -> 0 ->> 'window' AS limit_window,
       (l.held -> 0 ->> 'cap_micros')::bigint AS cap_micros,
       coalesce((l.held -> 0 ->> 'hard')::boolean, true) AS is_hard,
       l.held -> 0 ->> 'member' AS member,
       l.held -> 0 ->> 'project' AS project,
       l.held -> 0 ->> 'action' AS action,
       l.held ->> 2 AS plan_id,
       coalesce(w.used_micros, 0) AS used_micros,
       w.window_start,
       w.window_end
FROM account_document AS d
CROSS JOIN LATERAL jsonb_array_elements(coalesce(d.document -> 'limits', '[]'::jsonb)) AS l (held)
LEFT JOIN LATERAL (
    SELECT (u.used ->> 1)::bigint AS used_micros, u.start::timestamptz AS window_start,
           (u.used ->> 0)::timestamptz AS window_end
    FROM jsonb_each(l.held -> 3) AS u (start, used)
    WHERE u.start::timestamptz <= clock_timestamp() AND (u.used ->> 0 IS NULL OR (u.used ->> 0)::timestamptz > clock_timestamp())
    ORDER BY 2 DESC LIMIT 1
) AS w ON true;
