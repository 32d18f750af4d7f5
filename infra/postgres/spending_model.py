"""The spending read model on PostgreSQL: sums by day that a projection adds to, and the questions that are asked of them."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple
from uuid import UUID

import msgspec
from psycopg import Cursor
from psycopg.rows import TupleRow, tuple_row

from domain.account.events import (
    AccountOpened,
    ChargeRefunded,
    CreditsCharged,
    HoldCaptured,
    UsageWaived,
    ZoneChangeScheduled,
)
from infra.postgres.mapper import ACCOUNT_SHAPES, old_topics_of, topic_of
from infra.postgres.read_models import CannotProject, StoredEvent, Taking, Teams
from infra.postgres.shards import ShardMap
from projections.spending import (
    SAMPLE_TEAMS_MAX,
    SPENDING_KEY,
    SPENDING_SHAPE,
    History,
    Place,
    RefundFields,
    SpendingPage,
    SpendingRow,
    UseFields,
    ZoneSince,
    day_of,
    history_of,
    place_of,
    refund_row,
    summed,
    use_row,
    zone_since,
)

ZONES_REMEMBERED_MAX = 200_000
SAMPLE_SECONDS = 900
"""How teams spent on days that are over changes little in a quarter of an hour."""


def _topics(*kinds: type) -> frozenset[str]:
    return frozenset(topic for each in kinds for topic in (topic_of(each), *old_topics_of(each)))


_USES = _topics(CreditsCharged, HoldCaptured, UsageWaived)
_CHARGES = _topics(CreditsCharged, HoldCaptured)
REFUND_TOPICS = _topics(ChargeRefunded)
ZONE_TOPICS = _topics(AccountOpened, ZoneChangeScheduled)
"""The topics of events that say in which zone a team's days are."""

_OURS = _USES | REFUND_TOPICS | ZONE_TOPICS

_read_use = msgspec.json.Decoder(UseFields).decode
_read_refund = msgspec.json.Decoder(RefundFields).decode


class _Charge(msgspec.Struct, frozen=True):
    """A charge that a refund names, as it is on file."""

    version: int
    use: UseFields


class SpendingModel:
    """The spending read model: the sums of each day grow by what a batch of events adds to them."""

    name = "spending"
    table = "spending_day"
    shape = SPENDING_SHAPE
    key: Sequence[str] = SPENDING_KEY
    columns: Sequence[tuple[str, str]] = tuple(
        zip(
            SpendingRow._fields,
            ("int4", "text", "date", "text", "text", "text", "text", "int8", "int8", "int8", "int8"),
            strict=True,
        )
    )

    def __init__(self) -> None:
        self._teams = Teams()
        self._zones = _Zones()

    def rows(self, cursor: Cursor[TupleRow], taking: Taking) -> Sequence[tuple[object, ...]]:
        """As the protocol says; a row is what the events add to the sums of its key."""
        events = [event for event in taking.events if event.topic in _OURS]
        if not events:
            return ()
        streams = {event.stream for event in events}
        teams = self._teams.of(cursor, taking.shard, streams)
        self._zones.load(cursor, taking.shard, streams)
        charges = _charges(
            cursor, taking.shard, events, [teams[stream] for stream in streams if stream in teams]
        )
        rows: list[SpendingRow] = []
        for event in events:
            try:
                row = self._row(event, taking.shard, teams[event.stream], charges)
            except Exception as error:
                # Whatever it is, it is this event's: the projection halts here and says so, and the others go on.
                raise CannotProject(event, summed(rows), error) from error
            if row is not None:
                rows.append(row)
        return summed(rows)

    def _row(
        self, event: StoredEvent, shard: int, team_id: str, charges: Mapping[str, _Charge]
    ) -> SpendingRow | None:
        if event.topic in ZONE_TOPICS:
            self._zones.take(event)
            return None
        zones = self._zones.of(event.stream)
        if event.topic in REFUND_TOPICS:
            refund = _read_refund(event.state)
            charge = charges[refund.charge_id]
            return refund_row(shard, team_id, _place(zones, charge.version, charge.use), refund.amount_micros)
        use = _read_use(event.state)
        return use_row(shard, team_id, _place(zones, event.version, use), use.amount_micros)


def _place(zones: Sequence[ZoneSince], version: int, use: UseFields) -> Place:
    return place_of(use, day_of(zones, version, use.occurred_at))


def _charges(
    cursor: Cursor[TupleRow], shard: int, events: Iterable[StoredEvent], teams: Sequence[str]
) -> dict[str, _Charge]:
    """The charges that these events refund, whenever they were made, by their id."""
    wanted = {_read_refund(event.state).charge_id for event in events if event.topic in REFUND_TOPICS}
    if not wanted:
        return {}
    cursor.execute(
        "SELECT originator_version, state FROM ledger_events"
        " WHERE shard = %s AND usage_key = ANY(%s) AND topic = ANY(%s)",
        (shard, [UUID(charge_id) for charge_id in wanted], sorted(_CHARGES)),
        binary=True,
    )
    found = {
        (use := _read_use(state)).charge_id: _Charge(version, use) for version, state in cursor.fetchall()
    }
    if missing := wanted - found.keys():
        found |= _stated(cursor, shard, missing, teams)
    return found


def _stated(
    cursor: Cursor[TupleRow], shard: int, charge_ids: Iterable[str], teams: Sequence[str]
) -> dict[str, _Charge]:
    """Charges whose events are in an archive, as the statement still tells them."""
    cursor.execute(
        "SELECT version, charge_id, occurred_at, action, member, project, work, amount_micros FROM statement_entry"
        " WHERE shard = %s AND team_id = ANY(%s) AND charge_id = ANY(%s) AND kind IN ('CreditsCharged', 'HoldCaptured')",
        (shard, teams, [UUID(charge_id) for charge_id in charge_ids]),
        binary=True,
    )
    return {
        charge_id.hex: _Charge(
            version,
            UseFields(
                charge_id=charge_id.hex,
                occurred_at=occurred_at,
                action=action,
                member=member,
                project=project,
                work=work,
                amount_micros=amount,
            ),
        )
        for version, charge_id, occurred_at, action, member, project, work, amount in cursor.fetchall()
    }


class _Zones:
    """The zones of each account with the versions that said so, remembered within a bound."""

    def __init__(self) -> None:
        self._zones: dict[bytes, list[ZoneSince]] = {}

    def of(self, stream: bytes) -> Sequence[ZoneSince]:
        """The account's zones, in the order of versions."""
        return self._zones[stream]

    def take(self, event: StoredEvent) -> None:
        """The event said a zone; it may have been read before."""
        zones = self._zones.setdefault(event.stream, [])
        if all(each.version != event.version for each in zones):
            zones.append(_zone(event.version, event.topic, event.state))
            zones.sort()

    def load(self, cursor: Cursor[TupleRow], shard: int, streams: set[bytes]) -> None:
        """The zones of these accounts are known."""
        unknown = {stream for stream in streams if stream not in self._zones}
        if unknown and len(self._zones) + len(unknown) > ZONES_REMEMBERED_MAX:
            self._zones.clear()
            unknown = streams
        if not unknown:
            return
        # A first event is found by its key. Others are looked for only where the head says that there were some.
        cursor.execute(
            "SELECT uuid_send(h.account_id), jsonb_array_length(d.document -> 'zones') = 1 FROM account_head h"
            " JOIN account_document d ON d.shard = h.shard AND d.team_id = h.team_id"
            " WHERE h.shard = %s AND h.account_id = ANY(%s)",
            (shard, [UUID(bytes=stream) for stream in unknown]),
            binary=True,
        )
        once = [stream for stream, has_one in cursor.fetchall() if has_one]
        self._read(cursor, shard, once, 1)
        self._read(cursor, shard, unknown.difference(once), 2**62)

    def _read(self, cursor: Cursor[TupleRow], shard: int, streams: Iterable[bytes], last: int) -> None:
        ids = [UUID(bytes=stream) for stream in streams]
        if not ids:
            return
        cursor.execute(
            "SELECT uuid_send(originator_id), originator_version, topic, state FROM ledger_events WHERE shard = %s"
            " AND originator_id = ANY(%s) AND originator_version <= %s AND topic = ANY(%s) ORDER BY originator_version",
            (shard, ids, last, sorted(ZONE_TOPICS)),
            binary=True,
        )
        for stream, version, topic, state in cursor.fetchall():
            self._zones.setdefault(stream, []).append(_zone(version, topic, state))


def _zone(version: int, topic: str, state: bytes) -> ZoneSince:
    event = ACCOUNT_SHAPES.decode(topic, state)
    assert isinstance(event, AccountOpened | ZoneChangeScheduled)
    return zone_since(version, event)


class _Sample(NamedTuple):
    """Histories of a sample of teams, of the days from the first (included) to the second, and until when they do."""

    days: tuple[date, date]
    good_until: float
    histories: list[History]


class PostgresSpending:
    """The spending read model's view."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards
        self._samples: dict[int, _Sample] = {}

    def spent(self, team_id: str, since: date, until: date) -> SpendingPage:
        """As the port says."""
        shard = self._shards.shard_of(team_id)
        with (
            self._shards.connection_for(shard) as connection,
            connection.cursor(row_factory=tuple_row) as cursor,
        ):
            # The position is read first: sums that grow between are of later events, never missing earlier ones.
            cursor.execute(
                "SELECT position FROM tracking WHERE shard = %s AND projection = %s",
                (shard, SpendingModel.name),
            )
            position = cursor.fetchone()
            cursor.execute(
                f"SELECT {', '.join(SpendingRow._fields)} FROM spending_day"  # noqa: S608 - our own columns
                " WHERE shard = %s AND team_id = %s AND day >= %s AND day < %s"
                " ORDER BY day, action, member, project, work",
                (shard, team_id, since, until),
                binary=True,
            )
            rows = [SpendingRow._make(row) for row in cursor.fetchall()]
        return SpendingPage(rows, position[0] if position else 0)

    def sample(self, team_id: str, since: date, until: date) -> Sequence[History]:
        """As the port says; kept for a while: 3 200 teams of 84 days are 2 MB."""
        shards = (self._sampled(shard, since, until) for shard in range(self._shards.count))
        return [history for histories in shards for history in histories if history.team_id != team_id]

    def _sampled(self, shard: int, since: date, until: date) -> list[History]:
        kept = self._samples.get(shard)
        if kept is None or kept.days != (since, until) or kept.good_until < time.monotonic():
            read = self._read_sample(shard, since, until)
            kept = _Sample((since, until), time.monotonic() + SAMPLE_SECONDS, read)
            self._samples[shard] = kept
        return kept.histories

    def _read_sample(self, shard: int, since: date, until: date) -> list[History]:
        with (
            self._shards.connection_for(shard) as connection,
            connection.cursor(row_factory=tuple_row) as cursor,
        ):
            cursor.execute(
                "SELECT s.team_id, s.day, sum(s.charged_micros - s.refunded_micros)::bigint"
                " FROM (SELECT team_id FROM account_head WHERE shard = %(shard)s ORDER BY account_id LIMIT %(most)s) AS h"
                " JOIN spending_day AS s ON s.shard = %(shard)s AND s.team_id = h.team_id"
                " AND s.day >= %(since)s AND s.day < %(until)s GROUP BY 1, 2 ORDER BY 1",
                {
                    "shard": shard,
                    "most": max(1, SAMPLE_TEAMS_MAX // self._shards.count),
                    "since": since,
                    "until": until,
                },
                binary=True,
            )
            teams = groupby(cursor.fetchall(), key=itemgetter(0))
        found = (history_of(team, {day: net for _, day, net in rows}, until) for team, rows in teams)
        return [history for history in found if history is not None]
