-- A head keeps the terms of its lots as lists of values; the views read them by place (domain/account/state.py, OpenTerms).
-- Heads of the older schema are folded again by whoever needs them next; until then the views leave their lots empty.
DROP VIEW account_lot;
DROP VIEW account_balance;

CREATE VIEW account_balance AS
SELECT h.shard, h.team_id, h.version, h.recorded_at, h.next_due_at,
       h.document ->> 'zone' AS zone,
       h.document ->> 'card_id' AS card_id,
       coalesce(h.document ->> 'status', 'open') AS status,
       coalesce((h.document ->> 'settled_micros')::bigint, 0) AS settled_micros,
       coalesce((h.document ->> 'debt_micros')::bigint, 0) AS debt_micros,
       CASE WHEN h.state_schema = 2 THEN coalesce(h.document -> 'lots', '[]'::jsonb) ELSE '[]'::jsonb END AS lots
FROM (SELECT *, convert_from(state, 'UTF8')::jsonb AS document FROM account_head) AS h;

-- One row for each open lot, in burn order. A list holds lot_id, number, source, origin_lot_id, granted_at, effective_at,
-- expires_at, priority, action, project, cost_basis.
CREATE VIEW account_lot AS
SELECT b.shard, b.team_id, b.version, l.place,
       l.lot -> 0 ->> 0 AS lot_id,
       (l.lot ->> 1)::bigint AS remaining_micros,
       l.lot -> 0 ->> 2 AS source,
       (l.lot -> 0 ->> 7)::integer AS priority,
       l.lot -> 0 ->> 8 AS action,
       l.lot -> 0 ->> 9 AS project,
       l.lot -> 0 ->> 5 AS effective_at,
       l.lot -> 0 ->> 6 AS expires_at
FROM account_balance AS b CROSS JOIN LATERAL jsonb_array_elements(b.lots) WITH ORDINALITY AS l (lot, place);

-- A head of many lots stays in its row, uncompressed: it is rewritten with every batch, and read back only when a cache is cold.
ALTER TABLE account_head SET (toast_tuple_target = 8160);
