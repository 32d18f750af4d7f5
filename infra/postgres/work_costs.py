"""What was charged for a work up to an account's head: from the statement, and from the log where the statement is behind."""

from __future__ import annotations

from psycopg import Cursor
from psycopg.rows import TupleRow

from domain.account.decision import account_id
from domain.account.events import ChargeRefunded, CreditsCharged, HoldCaptured, RecordedEvent, UsageWaived
from domain.errors import Busy
from domain.work.costs import WorkMove
from infra.postgres.mapper import ACCOUNT_SHAPES, old_topics_of, topic_of
from projections.statement import rows_of
from projections.works import CostRow, cost_row, moves_of

BEHIND_MAX = 20_000
"""So many events the statement may be behind; beyond that whoever asks waits for it."""

_TOPICS = [
    topic
    for each in (CreditsCharged, HoldCaptured, UsageWaived, ChargeRefunded)
    for topic in (topic_of(each), *old_topics_of(each))
]
_COLUMNS = "kind, version, recorded_at, charge_id, work, step, action, amount_micros, reason"


def work_moves(
    cursor: Cursor[TupleRow], shard: int, team_id: str, work_id: str, version: int
) -> list[WorkMove]:
    """What was charged, refunded, failed or waived for the work up to this version of the account.

    Raises: Busy when the statement is too far behind.
    """
    # Asked first: rows that are projected from here on are read from the log all the same, none is missed between the two.
    cursor.execute(
        "SELECT coalesce(max(version), 0) FROM statement_entry WHERE shard = %s AND team_id = %s",
        (shard, team_id),
    )
    row = cursor.fetchone()
    assert row is not None
    told: int = min(row[0], version)
    rows = [
        *_told(cursor, shard, team_id, work_id, told),
        *_behind(cursor, shard, team_id, told, version),
    ]
    return moves_of(rows, work_id)


def _told(cursor: Cursor[TupleRow], shard: int, team_id: str, work_id: str, until: int) -> list[CostRow]:
    """The statement's rows of the work, and those of refunds of its charges, in the order of the stream."""
    cursor.execute(
        f"WITH own AS MATERIALIZED (SELECT {_COLUMNS} FROM statement_entry"  # noqa: S608 - from constants
        " WHERE shard = %(shard)s AND team_id = %(team)s AND work = %(work)s AND version <= %(until)s)"
        f" SELECT * FROM own UNION ALL SELECT {_COLUMNS} FROM statement_entry WHERE shard = %(shard)s AND team_id = %(team)s"
        " AND kind = 'ChargeRefunded' AND version <= %(until)s"
        " AND charge_id IN (SELECT charge_id FROM own WHERE kind <> 'UsageWaived') ORDER BY version",
        {"shard": shard, "team": team_id, "work": work_id, "until": until},
        binary=True,
    )
    return [CostRow._make((*row[:3], row[3].hex if row[3] else None, *row[4:])) for row in cursor.fetchall()]


def _behind(cursor: Cursor[TupleRow], shard: int, team_id: str, after: int, until: int) -> list[CostRow]:
    cursor.execute(
        "SELECT originator_version, topic, state FROM ledger_events WHERE shard = %s AND originator_id = %s"
        " AND originator_version > %s AND originator_version <= %s AND topic = ANY(%s)"
        " ORDER BY originator_version LIMIT %s",
        (shard, account_id(team_id), after, until, _TOPICS, BEHIND_MAX + 1),
        binary=True,
    )
    stored = cursor.fetchall()
    if len(stored) > BEHIND_MAX:
        raise Busy(f"the statement of team {team_id!r} is more than {BEHIND_MAX} events behind")
    events = (
        RecordedEvent(None, version, ACCOUNT_SHAPES.decode(topic, state)) for version, topic, state in stored
    )
    return [cost_row(row) for event in events for row in rows_of(event, shard, team_id)]
