"""Spending against the statement: where both have come as far every row of every day agrees, or the first that does not is named.

The statement is compared with a replay, row by row: so what agrees with it agrees with the events. They say what it leaves out:
in which zone days are, and what of a refund fell to a voided grant.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, timedelta
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import psycopg
from psycopg.pq import Format
from psycopg.rows import TupleRow

from domain.account.events import AccountOpened, ChargeRefunded, ZoneChangeScheduled
from domain.amounts import format_credits
from domain.errors import UnknownEventShape
from infra.postgres.mapper import ACCOUNT_SHAPES
from infra.postgres.spending_model import REFUND_TOPICS, ZONE_TOPICS
from projections.spending import Place, SpendingRow, ZoneSince, day_of, refund_row, use_row, zone_since
from projections.verify import Finding, StoredEvent

FETCH_ROWS = 2_000

CLOCKS_APART_MAX = timedelta(days=2)
"""No clocks show a day that is further from that of UTC."""

_USES = """
WITH given_back AS (
    SELECT team_id, charge_id, sum(amount_micros)::bigint AS refunded FROM statement_entry
    WHERE shard = %(shard)s AND team_id = ANY(%(teams)s) AND kind = 'ChargeRefunded' GROUP BY 1, 2
)
SELECT s.team_id, s.version, s.occurred_at, s.charge_id, s.action, coalesce(s.member, ''), coalesce(s.project, ''),
       coalesce(s.work, ''),
       CASE WHEN s.kind = 'UsageWaived' THEN NULL ELSE s.amount_micros END, coalesce(g.refunded, 0)
FROM statement_entry AS s
LEFT JOIN given_back AS g ON g.team_id = s.team_id AND g.charge_id = s.charge_id AND s.kind <> 'UsageWaived'
WHERE s.shard = %(shard)s AND s.team_id = ANY(%(teams)s) AND s.kind IN ('CreditsCharged', 'HoldCaptured', 'UsageWaived')
ORDER BY s.team_id COLLATE "C", s.occurred_at
"""
_ROWS = f"""
SELECT {", ".join(SpendingRow._fields)} FROM spending_day WHERE shard = %(shard)s AND team_id = ANY(%(teams)s)
ORDER BY team_id COLLATE "C", day, action COLLATE "C", member COLLATE "C", project COLLATE "C", work COLLATE "C"
"""  # noqa: S608 - our own columns


class Seen(NamedTuple):
    """What only an account's events say: its zones, and by charge what of its refunds fell to voided grants."""

    zones: list[ZoneSince]
    voided: dict[str, int]


class EventsSeen:
    """What spending needs of events, noted while all of an account's are read, those in archives as well."""

    def __init__(self) -> None:
        self._seen: dict[str, Seen] = {}
        self._unreadable: set[str] = set()

    def noted(self, team_id: str, events: Iterable[StoredEvent]) -> Iterator[StoredEvent]:
        """The same events; what they say of zones and refunds is kept."""
        for event in events:
            if event.topic in ZONE_TOPICS or event.topic in REFUND_TOPICS:
                self._note(team_id, event)
            yield event

    def of_teams(self, beside: Collection[str]) -> dict[str, Seen]:
        """What was seen of every team whose events say its zone, but for these."""
        return {
            team_id: seen
            for team_id, seen in self._seen.items()
            if seen.zones and team_id not in self._unreadable and team_id not in beside
        }

    def _note(self, team_id: str, stored: StoredEvent) -> None:
        seen = self._seen.setdefault(team_id, Seen([], {}))
        try:
            event = ACCOUNT_SHAPES.decode(stored.topic, stored.state)
        except UnknownEventShape:
            # That is found where the events themselves are checked.
            self._unreadable.add(team_id)
            return
        if isinstance(event, AccountOpened | ZoneChangeScheduled):
            seen.zones.append(zone_since(stored.version, event))
        elif isinstance(event, ChargeRefunded):
            # The statement tells what came back to the team; a charge is refunded in full all the same.
            voided = sum(line.amount_micros for line in event.lines if line.target == "voided")
            if voided:
                seen.voided[event.charge_id] = seen.voided.get(event.charge_id, 0) + voided


def check_spending(
    connection: psycopg.Connection[TupleRow], shard: int, seen: Mapping[str, Seen]
) -> Iterator[Finding]:
    """Of each of these teams the first row, of day, action, member, project and work, that differs from the statement.

    Nothing is said while one of the two is behind the other. Asked within a transaction, which sees both at one instant.
    """
    reached = connection.execute(
        "SELECT count(DISTINCT position) = 1 AND count(*) = 2 FROM tracking"
        " WHERE shard = %s AND projection IN ('statement', 'spending')",
        (shard,),
    ).fetchone()
    if reached is None or not reached[0] or not seen:
        return
    asked = {"shard": shard, "teams": sorted(seen)}
    with (
        _fetched(connection, "spent", _USES, asked) as uses,
        _fetched(connection, "days", _ROWS, asked) as rows,
    ):
        found = (SpendingRow._make(row) for row in rows)
        named = ""
        for expected, stored in _side_by_side(_expected(uses, shard, seen), found):
            finding = None if expected == stored else _finding(shard, expected, stored)
            if finding is not None and finding.team_id != named:
                named = str(finding.team_id)
                yield finding


def _expected(uses: Iterable[TupleRow], shard: int, seen: Mapping[str, Seen]) -> Iterator[SpendingRow]:
    """The rows that the statement makes, in the order of their keys. Uses come by team and time: rows of some days are kept."""
    for team_id, of_team in groupby(uses, key=itemgetter(0)):
        zones, voided = seen[team_id]
        kept: dict[Place, SpendingRow] = {}
        since = None
        for _, version, occurred_at, charge_id, *where, amount, came_back in of_team:
            since = since or occurred_at
            if occurred_at - since > CLOCKS_APART_MAX * 2:
                # Clocks cannot show a day as early as that any more.
                yield from _taken(kept, (occurred_at - CLOCKS_APART_MAX).date())
                since = occurred_at
            place = Place(day_of(zones, version, occurred_at), *where)
            row = use_row(shard, team_id, place, amount)
            refunded = came_back + (voided.get(charge_id.hex, 0) if voided and amount is not None else 0)
            if refunded:
                row = row.plus(refund_row(shard, team_id, place, refunded))
            before = kept.get(place)
            kept[place] = row if before is None else before.plus(row)
        yield from _taken(kept, date.max)


def _taken(kept: dict[Place, SpendingRow], until: date) -> list[SpendingRow]:
    """The rows of days before, in the order of keys; they are kept no more."""
    return [kept.pop(place) for place in sorted(place for place in kept if place.day < until)]


def _side_by_side(
    expected: Iterable[SpendingRow], found: Iterable[SpendingRow]
) -> Iterator[tuple[SpendingRow | None, SpendingRow | None]]:
    """The rows of both, in the order of keys; None where one has no row of the key."""
    ours, theirs = iter(expected), iter(found)
    mine, other = next(ours, None), next(theirs, None)
    while mine is not None or other is not None:
        if other is None or (mine is not None and _key(mine) < _key(other)):
            yield mine, None
            mine = next(ours, None)
        elif mine is None or _key(other) < _key(mine):
            yield None, other
            other = next(theirs, None)
        else:
            yield mine, other
            mine, other = next(ours, None), next(theirs, None)


def _key(row: SpendingRow) -> tuple[str, date, str, str, str, str]:
    return row.team_id, row.day, row.action, row.member, row.project, row.work


def _finding(shard: int, expected: SpendingRow | None, found: SpendingRow | None) -> Finding:
    row = expected or found
    assert row is not None, "there is a row on one side"
    return Finding(
        table="spending_day",
        shard=shard,
        team_id=row.team_id,
        version=None,
        what=f"{row.day.isoformat()} {row.action}, member {row.member or 'none'}, project {row.project or 'none'},"
        f" work {row.work or 'none'}",
        expected=_told(expected),
        found=_told(found),
    )


def _told(row: SpendingRow | None) -> str:
    if row is None:
        return "none"
    charged, refunded = format_credits(row.charged_micros), format_credits(row.refunded_micros)
    return f"{row.uses} uses, {row.waived} waived, {charged} charged, {refunded} refunded"


@contextmanager
def _fetched(
    connection: psycopg.Connection[TupleRow], name: str, query: str, asked: Mapping[str, object]
) -> Iterator[Iterator[TupleRow]]:
    """The rows of a query, a portion at a time."""
    with connection.cursor(name) as cursor:
        cursor.itersize = FETCH_ROWS
        cursor.format = Format.BINARY
        cursor.execute(query.encode(), asked)
        yield iter(cursor)
