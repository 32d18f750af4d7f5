"""Spending against the statement: where both have come as far, the sums of every action, member, project and work agree."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import psycopg
from psycopg.rows import TupleRow

from projections.verify import Finding

FINDINGS_MAX = 100

# The statement is compared with a replay, row by row: so what agrees with the statement agrees with the events.
_SUMS = """
WITH charged AS (
    SELECT team_id, action, coalesce(member, '') AS member, coalesce(project, '') AS project, coalesce(work, '') AS work,
           charge_id, amount_micros, kind
    FROM statement_entry WHERE shard = %(shard)s AND kind IN ('CreditsCharged', 'HoldCaptured', 'UsageWaived')
), stated AS (
    SELECT team_id, action, member, project, work, count(*) FILTER (WHERE kind <> 'UsageWaived') AS uses,
           count(*) FILTER (WHERE kind = 'UsageWaived') AS waived,
           coalesce(sum(amount_micros) FILTER (WHERE kind <> 'UsageWaived'), 0) AS charged
    FROM charged GROUP BY 1, 2, 3, 4, 5
), given_back AS (
    SELECT c.team_id, c.action, c.member, c.project, c.work, sum(r.amount_micros) AS refunded
    FROM statement_entry r JOIN charged c ON c.team_id = r.team_id AND c.charge_id = r.charge_id AND c.kind <> 'UsageWaived'
    WHERE r.shard = %(shard)s AND r.kind = 'ChargeRefunded' GROUP BY 1, 2, 3, 4, 5
), expected AS (
    SELECT s.team_id, s.action, s.member, s.project, s.work,
           format('%%s uses, %%s waived, %%s charged, %%s refunded', uses, waived, charged, coalesce(refunded, 0)) AS told
    FROM stated s LEFT JOIN given_back USING (team_id, action, member, project, work)
), found AS (
    SELECT team_id, action, member, project, work,
           format('%%s uses, %%s waived, %%s charged, %%s refunded', sum(uses), sum(waived), sum(charged_micros),
                  sum(refunded_micros)) AS told
    FROM spending_day WHERE shard = %(shard)s GROUP BY 1, 2, 3, 4, 5
)
SELECT team_id, action, member, project, work, e.told, f.told
FROM expected e FULL JOIN found f USING (team_id, action, member, project, work)
WHERE e.told IS DISTINCT FROM f.told AND team_id <> ALL(%(misstated)s::text[]) ORDER BY 1, 2, 3, 4, 5 LIMIT %(most)s
"""


def check_spending(
    connection: psycopg.Connection[TupleRow], shard: int, misstated: Collection[str]
) -> Iterator[Finding]:
    """Sums of the shard that differ from the statement; nothing is said while one of the two is behind the other.

    ``misstated`` are teams whose statement is wrong itself: of theirs nothing is known here.
    """
    reached = connection.execute(
        "SELECT count(DISTINCT position) = 1 AND count(*) = 2 FROM tracking"
        " WHERE shard = %s AND projection IN ('statement', 'spending')",
        (shard,),
    ).fetchone()
    if reached is None or not reached[0]:
        return
    values = {"shard": shard, "misstated": sorted(misstated), "most": FINDINGS_MAX}
    for team_id, action, member, project, work, expected, found in connection.execute(
        _SUMS, values
    ).fetchall():
        yield Finding(
            table="spending_day",
            shard=shard,
            team_id=team_id,
            version=None,
            what=f"sums of {action}, member {member or 'none'}, project {project or 'none'}, work {work or 'none'}",
            expected=expected or "none",
            found=found or "none",
        )
