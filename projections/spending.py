"""Spending: what a team used per day, action, member, project and work; a refund counts on the day of the charge it gives back.

Days are those of the team's zone in force when the use occurred, as it was known when the charge was recorded.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple, Protocol

import msgspec

from domain.account.events import (
    AccountOpened,
    ChargeRefunded,
    CreditsCharged,
    HoldCaptured,
    UsageWaived,
    ZoneChangeScheduled,
)
from domain.zones import shown, zone_named

SPENDING_SHAPE = 1
"""Counts up when the rows of the same events would look different."""

SPENDING_EVENTS = (CreditsCharged, HoldCaptured, UsageWaived, ChargeRefunded)
"""The events that add to a row."""

ZONE_EVENTS = (AccountOpened, ZoneChangeScheduled)
"""The events that say in which zone a team's days are."""

SPENDING_KEY = ("shard", "team_id", "day", "action", "member", "project", "work")
"""The columns that name a row; the others are sums."""


class SpendingRow(NamedTuple):
    """What one team used on one day for one action, member, project and work; an empty text where a use named none.

    ``uses`` counts charges, ``waived`` uses that cost nothing (failed, corrected, nothing to price). ``refunded_micros`` is what
    was given back, whenever, of the charges of this day: net spending is ``charged_micros`` less that.
    """

    shard: int
    team_id: str
    day: date
    action: str
    member: str
    project: str
    work: str
    uses: int
    waived: int
    charged_micros: int
    refunded_micros: int

    @property
    def net_micros(self) -> int:
        """What was charged and not given back."""
        return self.charged_micros - self.refunded_micros

    def plus(self, other: SpendingRow) -> SpendingRow:
        """Both together; they have one key."""
        return self._replace(
            uses=self.uses + other.uses,
            waived=self.waived + other.waived,
            charged_micros=self.charged_micros + other.charged_micros,
            refunded_micros=self.refunded_micros + other.refunded_micros,
        )


class UseFields(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What spending tells of a charge or a waived use, under the names of their events; what else is stored is passed over."""

    charge_id: str
    occurred_at: datetime
    action: str
    member: str | None = None
    project: str | None = None
    work: str | None = None
    amount_micros: int | None = None


class RefundFields(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """As ``UseFields``, of a refund."""

    charge_id: str
    amount_micros: int


class ZoneSince(NamedTuple):
    """A zone, from which instant on it counts, and the version of the account that said so."""

    version: int
    since: datetime | None
    zone: str


class Place(NamedTuple):
    """Where a charge counts: what a refund of it must name."""

    day: date
    action: str
    member: str
    project: str
    work: str


def day_of(zones: Sequence[ZoneSince], version: int, at: datetime) -> date:
    """The day in the team's zone that counts at ``at``, by what was known right before this version.

    ``zones`` are in the order of versions; the first counts for all that came before.
    """
    zone = zones[0].zone
    for each in zones:
        if each.version < version and each.since is not None and each.since <= at:
            zone = each.zone
    return _date_in(zone, at.replace(microsecond=0))


@lru_cache(maxsize=4_096)
def _date_in(zone: str, second: datetime) -> date:
    # Offsets of zones are whole seconds, so no day begins within one; many uses of one second are shown one after the other.
    return shown(second, zone_named(zone)).date()


def zone_since(version: int, event: AccountOpened | ZoneChangeScheduled) -> ZoneSince:
    """The zone that an event gives the account."""
    return ZoneSince(
        version, event.effective_at if isinstance(event, ZoneChangeScheduled) else None, event.zone
    )


def place_of(use: UseFields, day: date) -> Place:
    """Where a use of that day counts."""
    return Place(day, use.action, _kept(use.member), _kept(use.project), _kept(use.work))


def use_row(shard: int, team_id: str, place: Place, amount_micros: int | None) -> SpendingRow:
    """What one use adds: a charge, or (None) a use that was waived."""
    if amount_micros is None:
        return SpendingRow(shard, team_id, *place, 0, 1, 0, 0)
    return SpendingRow(shard, team_id, *place, 1, 0, amount_micros, 0)


def refund_row(shard: int, team_id: str, place: Place, amount_micros: int) -> SpendingRow:
    """What a refund adds to the row of its charge."""
    return SpendingRow(shard, team_id, *place, 0, 0, 0, amount_micros)


def summed(rows: Iterable[SpendingRow]) -> list[SpendingRow]:
    """The rows with those of one key added up, in the order of keys."""
    sums: dict[tuple[object, ...], SpendingRow] = {}
    for row in rows:
        key = row[:7]
        before = sums.get(key)
        sums[key] = row if before is None else before.plus(row)
    return [sums[key] for key in sorted(sums, key=str)]


def spending_of(events: Iterable[tuple[int, object]], shard: int, team_id: str) -> list[SpendingRow]:
    """The rows of one account from its own events, each with its version: what the read model must say."""
    zones: list[ZoneSince] = []
    places: dict[str, Place] = {}
    rows: list[SpendingRow] = []
    for version, event in events:
        if isinstance(event, ZONE_EVENTS):
            zones.append(zone_since(version, event))
        elif isinstance(event, ChargeRefunded):
            rows.append(refund_row(shard, team_id, places[event.charge_id], event.amount_micros))
        elif isinstance(event, CreditsCharged | HoldCaptured | UsageWaived):
            use = msgspec.convert(event, UseFields, from_attributes=True)
            place = place_of(use, day_of(zones, version, use.occurred_at))
            if use.amount_micros is not None:
                places[use.charge_id] = place
            rows.append(use_row(shard, team_id, place, use.amount_micros))
    return summed(rows)


class SpendingPage(NamedTuple):
    """Rows in the order of their keys, and the position of the shard up to which they are complete."""

    rows: list[SpendingRow]
    position: int


class History(NamedTuple):
    """What a team spent on each day, less refunds, the oldest first, from the first on which anything was."""

    team_id: str
    days: Sequence[int]


SAMPLE_TEAMS_MAX = 3_200
"""So many teams, of every shard alike, say how teams spend."""


class SpendingView(Protocol):
    """Reads of spending."""

    def spent(self, team_id: str, since: date, until: date) -> SpendingPage:
        """The team's rows from the day ``since`` (included) to the day ``until`` (excluded)."""
        ...

    def sample(self, team_id: str, since: date, until: date) -> Sequence[History]:
        """What a sample of the ledger's other teams spent on the days from ``since`` to before ``until``.

        At most ``SAMPLE_TEAMS_MAX``, of each shard those with the least account ids, which say nothing of how a team spends:
        nobody is chosen by what it spent. Those that spent nothing are left out.
        """
        ...


def history_of(team_id: str, net_by_day: Mapping[date, int], until: date) -> History | None:
    """The team's days up to the one before ``until``; None when it spent nothing."""
    first = min((day for day, net in net_by_day.items() if net), default=None)
    if first is None:
        return None
    length = (until - first).days
    return History(team_id, array("q", (net_by_day.get(first + timedelta(n), 0) for n in range(length))))


def _kept(text: str | None) -> str:
    """Free text as a column can hold it: JSON may carry NUL, a column may not; nothing is the empty text."""
    return text.replace("\0", "\ufffd") if text else ""
