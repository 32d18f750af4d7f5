"""What may be asked of a team's works and contexts, for HTTP and the command line alike; each answer is of one instant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import NamedTuple

from psycopg import Cursor
from psycopg.rows import TupleRow, tuple_row

from api.ports import (
    ContextFound,
    ContextQuery,
    ContextsOnFile,
    CostOnFile,
    TextOnFile,
    WorkOnFile,
    WorksOnFile,
)
from domain.account.state import TeamAccount
from domain.errors import Busy, UnknownTeam, UnknownWork
from domain.work.costs import WorkCost, cost_of
from domain.work.events import HandoverChecked, WorkEvent, WorkStarted
from domain.work.state import Work, work_stream_id
from domain.work.texts import read_text
from infra.postgres.archived import refuse_archived
from infra.postgres.connections import NOT_REACHED
from infra.postgres.heads import load_heads
from infra.postgres.mapper import WORK_SHAPES
from infra.postgres.shards import ShardMap
from infra.postgres.work_costs import work_moves
from infra.postgres.work_heads import load_work_head
from projections.contexts import found_in

TEXTS_MAX = 200
"""So many of the newest texts of a work are told."""

SCAN_ROWS = 500
"""So many contexts are looked at together."""


class _Reading(NamedTuple):
    cursor: Cursor[TupleRow]
    shard: int
    account: TeamAccount
    position: int


class WorkDesk:
    """Answers about works and contexts. Raises, everywhere: UnknownTeam, Busy."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards

    def works(self, team_id: str, *, after: int = 0, limit: int = 100) -> WorksOnFile:
        """The team's works by id, beyond the first so many."""
        with self._team(team_id) as reading:
            reading.cursor.execute(
                "SELECT work_id FROM work_head WHERE shard = %s AND team_id = %s ORDER BY work_id LIMIT %s OFFSET %s",
                (reading.shard, team_id, limit + 1, after),
            )
            ids = [work_id for (work_id,) in reading.cursor.fetchall()]
            works = [
                load_work_head(reading.cursor, reading.shard, team_id, work_id).work
                for work_id in ids[:limit]
            ]
        return WorksOnFile(works, reading.account.version, reading.position, len(ids) > limit)

    def work(self, team_id: str, work_id: str) -> WorkOnFile:
        """The work with its cost, its brief and the texts that are kept. Raises: UnknownWork; EventsArchived."""
        with self._team(team_id) as reading:
            work = load_work_head(reading.cursor, reading.shard, team_id, work_id).work
            if work.status == "new":
                raise _unknown(team_id, work_id)
            started = _event(reading, work, 1)
            assert isinstance(started, WorkStarted), "a work begins with its brief"
            texts, cost = _texts(reading, work), _cost(reading, work)
        return WorkOnFile(work, started, cost, texts, reading.account.version, reading.position)

    def cost(self, team_id: str, work_id: str) -> CostOnFile:
        """What the work cost, up to the account's head; also of one that was never started, when usage names it."""
        with self._team(team_id) as reading:
            work = load_work_head(reading.cursor, reading.shard, team_id, work_id).work
            cost = _cost(reading, work)
            if work.status == "new" and not cost.steps:
                raise _unknown(team_id, work_id)
        return CostOnFile(work, cost, reading.account.version, reading.position)

    def handover(self, team_id: str, work_id: str, version: int | None = None) -> HandoverChecked:
        """A check of the handover as it was signed, the newest by default. Raises: UnknownWork; EventsArchived."""
        with self._team(team_id) as reading:
            work = load_work_head(reading.cursor, reading.shard, team_id, work_id).work
            wanted = version or work.handover_version
            event = None if wanted is None or wanted > work.version else _event(reading, work, wanted)
            if not isinstance(event, HandoverChecked):
                raise UnknownWork(
                    f"work {work_id[:128]!r} has no check of its handover"
                    + (f" at version {version}" if version else "")
                    + ": ask for one",
                    work_id=work_id[:128],
                )
            return event

    def search(
        self, team_id: str, asked: ContextQuery, *, after: int = 0, limit: int = 100
    ) -> ContextsOnFile:
        """Texts of works and contexts of usage in which the words are found, beyond the first so many; in no other team's."""
        with self._team(team_id) as reading:
            rows = _contexts(reading, team_id, asked)
            holding = (row for row in rows if found_in(row.context, asked.text, asked.field))
            found = list(islice(holding, after, after + limit + 1))
        return ContextsOnFile(found[:limit], reading.account.version, reading.position, len(found) > limit)

    def context(self, team_id: str, charge_id: str) -> bytes | None:
        """The context of a usage record of the team as it was received; None when there is none, or no more."""
        with self._team(team_id) as reading:
            reading.cursor.execute(
                "SELECT context FROM usage_context WHERE shard = %s AND team_id = %s AND usage_key = %s::uuid",
                (reading.shard, team_id, charge_id),
                binary=True,
            )
            row = reading.cursor.fetchone()
        return None if row is None else bytes(row[0])

    @contextmanager
    def _team(self, team_id: str) -> Iterator[_Reading]:
        """One snapshot of the team's shard."""
        shard = self._shards.shard_of(team_id)
        try:
            with self._shards.connection_for(shard) as connection, connection.transaction():
                connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                cursor = connection.cursor(row_factory=tuple_row)
                head = load_heads(cursor, shard, [team_id], lock=False).get(team_id)
                if head is None:
                    raise UnknownTeam(f"team {team_id!r} has no account: open one first", team_id=team_id)
                cursor.execute("SELECT position FROM shard_log WHERE shard = %s", (shard,))
                row = cursor.fetchone()
                yield _Reading(cursor, shard, head.account, row[0] if row else 0)
        except NOT_REACHED as error:
            raise Busy(f"the database could not be reached in time: {error}") from error


def _unknown(team_id: str, work_id: str) -> UnknownWork:
    return UnknownWork(
        f"team {team_id!r} has no work {work_id[:128]!r}: start it first", work_id=work_id[:128]
    )


def _cost(reading: _Reading, work: Work) -> WorkCost:
    account = reading.account
    moves = work_moves(reading.cursor, reading.shard, work.team_id, work.work_id, account.version)
    return cost_of(work, moves, account.holds)


def _event(reading: _Reading, work: Work, version: int) -> WorkEvent:
    stream_id = work_stream_id(work.team_id, work.work_id)
    reading.cursor.execute(
        "SELECT topic, state FROM ledger_events WHERE shard = %s AND originator_id = %s AND originator_version = %s",
        (reading.shard, stream_id, version),
        binary=True,
    )
    row = reading.cursor.fetchone()
    if row is None:
        refuse_archived(reading.cursor.connection, reading.shard, stream_id, version - 1, version)
    assert row is not None, f"version {version} of work {work.work_id!r} is missing"
    return WORK_SHAPES.decode(*row)


def _texts(reading: _Reading, work: Work) -> list[TextOnFile]:
    reading.cursor.execute(
        "SELECT version, step, member, context FROM work_context WHERE shard = %s AND team_id = %s AND work_id = %s"
        " ORDER BY version DESC LIMIT %s",
        (reading.shard, work.team_id, work.work_id, TEXTS_MAX),
        binary=True,
    )
    rows = reversed(reading.cursor.fetchall())
    return [TextOnFile(version, step, member, read_text(text)) for version, step, member, text in rows]


def _contexts(reading: _Reading, team_id: str, asked: ContextQuery) -> Iterator[ContextFound]:
    """Texts of works, then contexts of usage, in a fixed order; some that do not hold the words are among them."""
    pattern = asked.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    values = {"shard": reading.shard, "team": team_id, "member": asked.member, "pattern": f"%{pattern}%"}
    for name, query in _QUERIES.items():
        with reading.cursor.connection.cursor(name, row_factory=tuple_row) as rows:
            rows.itersize = SCAN_ROWS
            rows.execute(query.encode(), values)
            yield from (ContextFound._make((*row[:-1], bytes(row[-1]))) for row in rows)


# A text that is escaped in JSON does not read as it is sought: whatever has a backslash is looked at by us.
_HOLDS = (
    " WHERE shard = %(shard)s AND team_id = %(team)s AND (%(member)s::text IS NULL OR member = %(member)s)"
    " AND (convert_from(context, 'UTF8') ILIKE %(pattern)s OR position('\\x5c'::bytea IN context) > 0)"
)
_QUERIES = {
    "texts_of_works": "SELECT work_id, version, step, NULL, member, context FROM work_context"  # noqa: S608 - from constants
    f"{_HOLDS} ORDER BY work_id, version",
    "contexts_of_usage": "SELECT NULL, NULL, NULL, replace(usage_key::text, '-', ''), member, context FROM usage_context"  # noqa: S608 - from constants
    f"{_HOLDS} ORDER BY usage_key",
}
