"""What may be asked of a team's works and contexts, for HTTP and the command line alike; each answer is of one instant."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from typing import NamedTuple
from uuid import UUID

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
"""So many contexts are fetched together."""


class _Reading(NamedTuple):
    cursor: Cursor[TupleRow]
    shard: int
    account: TeamAccount
    position: int


class WorkDesk:
    """Answers about works and contexts. Raises, everywhere: UnknownTeam, Busy."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards

    def works(self, team_id: str, *, after: str = "", limit: int = 100) -> WorksOnFile:
        """The team's works by id, from the one after ``after``."""
        with self._team(team_id) as reading:
            reading.cursor.execute(
                "SELECT work_id FROM work_head WHERE shard = %s AND team_id = %s AND work_id > %s ORDER BY work_id LIMIT %s",
                (reading.shard, team_id, after, limit + 1),
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
        self,
        team_id: str,
        asked: ContextQuery,
        *,
        after: str | None = None,
        limit: int = 100,
        looked_max: int | None = None,
    ) -> ContextsOnFile:
        """Texts of works, then contexts of usage, in which the words are found; in no other team's.

        At most so many are looked at, and the search goes on from the place of the answer: what lies before it is passed over by
        an index, and what is erased meanwhile moves nothing.
        """
        found: list[ContextFound] = []
        place = None
        with (
            self._team(team_id) as reading,
            closing(_contexts(reading, team_id, asked, after)) as contexts,
        ):
            for looked, (at, context) in enumerate(contexts):
                if len(found) == limit or looked == looked_max:
                    place = after
                    break
                after = at
                if context is not None and found_in(context.context, asked.text, asked.field):
                    found.append(context)
        return ContextsOnFile(found, reading.account.version, reading.position, place)

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


def _contexts(
    reading: _Reading, team_id: str, asked: ContextQuery, after: str | None
) -> Generator[tuple[str, ContextFound | None], None, None]:
    """Each context beyond the place, by its own place, in a fixed order; only those that may hold the words are told."""
    pattern = asked.text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    values = {"shard": reading.shard, "team": team_id, "member": asked.member, "pattern": f"%{pattern}%"}
    begun = "" if after is None else after[0]
    for kind, (query, beginning) in _IN_ORDER.items():
        if kind < begun or (kind == _NOBODYS and asked.member is not None):
            continue
        first, second = _read_place(after) if after is not None and kind == begun else beginning
        with reading.cursor.connection.cursor(f"contexts {kind}", row_factory=tuple_row) as rows:
            rows.itersize = SCAN_ROWS
            rows.execute(query.encode(), values | {"first": first, "second": second})
            for own_first, own_second, *row, context in rows:
                told = None if context is None else ContextFound._make((*row, bytes(context)))
                yield f"{kind} {own_first} {own_second}", told


def _read_place(place: str) -> tuple[str, str]:
    """Where in its part of the order the place lies."""
    _, _, rest = place.partition(" ")
    first, _, second = rest.rpartition(" ")
    return first, second


# A text that is escaped in JSON does not read as it is sought: whatever has a backslash is looked at by us.
_IF_IT_HOLDS = (
    "CASE WHEN convert_from(context, 'UTF8') ILIKE %(pattern)s OR position('\\x5c'::bytea IN context) > 0"
    " THEN context END"
)
_OF_WORKS = (
    f"SELECT work_id, version::text, work_id, version, step, NULL, member, {_IF_IT_HOLDS} FROM work_context AS c"  # noqa: S608 - from constants
    " WHERE shard = %(shard)s AND team_id = %(team)s AND (%(member)s::text IS NULL OR member = %(member)s)"
    " AND (work_id, version) > (%(first)s, %(second)s::bigint) ORDER BY c.work_id, c.version"
)
_OF_USAGE = (
    "SELECT coalesce(member, ''), usage_key::text, NULL, NULL, NULL, replace(usage_key::text, '-', ''), member,"  # noqa: S608 - from constants
    f" {_IF_IT_HOLDS} FROM usage_context AS c WHERE shard = %(shard)s AND team_id = %(team)s AND {{}}"
    " ORDER BY c.member, c.usage_key"
)
_OF_MEMBERS = _OF_USAGE.format(
    "(member, usage_key) > (%(first)s, %(second)s::uuid) AND (%(member)s::text IS NULL OR member = %(member)s)"
)
_OF_NOBODY = _OF_USAGE.format("member IS NULL AND usage_key > %(second)s::uuid")
_NOBODYS, _FIRST_KEY = "3", str(UUID(int=0))
# The parts of the order: how the rest of each is read, and where it begins. Nobody's come last, as NULL comes after every member.
_IN_ORDER = {
    "1": (_OF_WORKS, ("", "0")),
    "2": (_OF_MEMBERS, ("", _FIRST_KEY)),
    _NOBODYS: (_OF_NOBODY, ("", _FIRST_KEY)),
}
