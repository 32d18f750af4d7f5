"""The running history of a team's credits: one row per event that moved or set aside credits or waived usage, with the sums
after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Literal, NamedTuple, Protocol

import msgspec

from domain.account.events import (
    AccountEvent,
    AllowanceGranted,
    BalanceLowered,
    BalanceRaised,
    ChargebackLost,
    ChargebackOpened,
    ChargebackWon,
    ChargeRefunded,
    CreditsCharged,
    CreditsExpired,
    CreditsGranted,
    CreditsHeld,
    CreditsRolledOver,
    CreditsToppedUp,
    DebtRepaid,
    GrantVoided,
    HoldCaptured,
    HoldExpired,
    HoldLeft,
    HoldReleased,
    LotLine,
    RecordedEvent,
    UsageWaived,
)
from domain.actors import Actor
from projections.moves import NOTHING, Sums, held_change_of_charge, sums_after

STATEMENT_SHAPE = 2
"""Counts up when a row of the same event would look different; a half-built table of another shape is built anew."""

StatementKind = Literal[
    "CreditsGranted",
    "CreditsToppedUp",
    "AllowanceGranted",
    "CreditsRolledOver",
    "CreditsCharged",
    "HoldCaptured",
    "UsageWaived",
    "ChargeRefunded",
    "CreditsExpired",
    "DebtRepaid",
    "GrantVoided",
    "BalanceRaised",
    "BalanceLowered",
    "CreditsHeld",
    "HoldReleased",
    "HoldExpired",
    "ChargebackOpened",
    "ChargebackWon",
    "ChargebackLost",
]

DIRECTIONS: dict[StatementKind, int] = {
    "CreditsGranted": 1,
    "CreditsToppedUp": 1,
    "AllowanceGranted": 1,
    "CreditsRolledOver": 0,
    "CreditsCharged": -1,
    "HoldCaptured": -1,
    "UsageWaived": 0,
    "ChargeRefunded": 1,
    "CreditsExpired": -1,
    "DebtRepaid": 0,
    "GrantVoided": -1,
    "BalanceRaised": 1,
    "BalanceLowered": -1,
    "CreditsHeld": 0,
    "HoldReleased": 0,
    "HoldExpired": 0,
    "ChargebackOpened": 0,
    "ChargebackWon": 0,
    "ChargebackLost": -1,
}
"""What a row's amount does to settled credits less debt: adds, takes away, or moves within (a repayment on both sides, a
rollover between lots, a hold between available and held, a chargeback between available and withheld)."""


class StatementRow(NamedTuple):
    """One row of the statement, in the order of the columns of ``statement_entry``.

    ``kind`` is the name of the event and gives ``amount_micros`` its direction. ``occurred_at`` is the time of the usage, else
    the instant the event took effect. ``charge_id`` is the usage key of a charge, of waived usage, of failed usage that released
    a hold, or of the charge refunded. ``amount_micros`` of a refund is what came back, less what fell to a voided grant; of a
    chargeback lost what was voided and what became debt; of one won 0: what it had withheld is back.
    ``held_after_micros`` is what all open holds set aside: settled less held is what was not promised. What of that may be spent
    depends on the instant that is asked for, so it is no column. ``reason`` is what a person gave; for waived usage without one,
    why it was waived.
    """

    shard: int
    team_id: str
    version: int
    kind: str
    recorded_at: datetime
    occurred_at: datetime
    amount_micros: int
    settled_after_micros: int
    debt_after_micros: int
    charge_id: str | None
    lot_id: str | None
    action: str | None
    member: str | None
    project: str | None
    work: str | None
    step: str | None
    actor_id: str
    actor_role: str
    reason: str | None
    hold_id: str | None = None
    held_after_micros: int = 0


class StatementFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which rows to show; None asks for all. Intervals include their start and exclude their end."""

    kinds: frozenset[str] | None = None
    member: str | None = None
    project: str | None = None
    action: str | None = None
    work: str | None = None
    charge_id: str | None = None
    lot_id: str | None = None
    hold_id: str | None = None
    recorded_from: datetime | None = None
    recorded_until: datetime | None = None
    occurred_from: datetime | None = None
    occurred_until: datetime | None = None

    def shows(self, row: StatementRow) -> bool:
        """Whether the row is asked for."""
        return (
            (self.kinds is None or row.kind in self.kinds)
            and all(wanted is None or wanted == getattr(row, name) for name, wanted in self.equal().items())
            and _within(row.recorded_at, self.recorded_from, self.recorded_until)
            and _within(row.occurred_at, self.occurred_from, self.occurred_until)
        )

    def equal(self) -> dict[str, str | None]:
        """The columns that must equal a value, those not asked for with None."""
        return {name: getattr(self, name) for name in EQUAL_COLUMNS}


EQUAL_COLUMNS = ("member", "project", "action", "work", "charge_id", "lot_id", "hold_id")
EVERYTHING = StatementFilter()
PAGE_ROWS_MAX = 1_000


class StatementPage(msgspec.Struct, frozen=True):
    """Rows in the order asked for, the position of the shard up to which they are complete, and whether there are more.

    The next page begins after the version of the last row.
    """

    rows: list[StatementRow]
    position: int
    more: bool


class StatementView(Protocol):
    """Reads of the statement."""

    def page(
        self,
        team_id: str,
        *,
        asked: StatementFilter = EVERYTHING,
        after: int | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> StatementPage:
        """At most ``limit`` rows (1 to ``PAGE_ROWS_MAX``) of the team beyond version ``after``, in the order asked for."""
        ...


class StatementRows:
    """A statement in memory: the view, and the place where rows are written."""

    def __init__(self) -> None:
        self._rows: dict[str, list[StatementRow]] = {}
        self._positions: dict[int, int] = {}

    def write(self, shard: int, rows: Iterable[StatementRow], position: int) -> None:
        """The rows stand, and the shard is complete up to the position."""
        for row in rows:
            self._rows.setdefault(row.team_id, []).append(row)
        self._positions[shard] = position

    def page(
        self,
        team_id: str,
        *,
        asked: StatementFilter = EVERYTHING,
        after: int | None = None,
        limit: int = 100,
        newest_first: bool = True,
    ) -> StatementPage:
        """As the port says."""
        limit = page_limit(limit)
        rows = sorted(self._rows.get(team_id, []), key=lambda row: row.version, reverse=newest_first)
        beyond = [
            row
            for row in rows
            if asked.shows(row)
            and (after is None or (row.version < after if newest_first else row.version > after))
        ]
        position = self._positions.get(rows[0].shard, 0) if rows else 0
        return StatementPage(beyond[:limit], position, len(beyond) > limit)


def page_limit(limit: int) -> int:
    """The limit within its bounds, 1 to ``PAGE_ROWS_MAX``."""
    return max(1, min(limit, PAGE_ROWS_MAX))


def rows_of(recorded: RecordedEvent, shard: int, team_id: str, before: Sums = NOTHING) -> list[StatementRow]:
    """The statement rows of one event: one for an event that moves or sets aside credits or waives usage, none for any other.

    ``before`` are the sums after the team's previous event: those that the event does not change are repeated.
    """
    event = recorded.event
    if type(event) is CreditsCharged:
        return [charge_row(event, recorded.originator_version, shard, team_id, before)]
    told = told_of(event)
    if told is None:
        return []
    after = sums_after(event, before)
    usage = event if isinstance(event, _USES) else None
    return [
        StatementRow(
            shard,
            team_id,
            recorded.originator_version,
            type(event).__name__,
            event.recorded_at,
            told.occurred_at,
            told.amount_micros,
            after.settled_micros,
            after.debt_micros,
            told.charge_id,
            told.lot_id,
            usage.action if usage else None,
            _shown(usage.member) if usage else None,
            _shown(usage.project) if usage else None,
            _shown(usage.work) if usage else None,
            _shown(usage.step) if usage else None,
            event.actor.id,
            event.actor.role,
            _shown(event.reason) or (event.waiver if isinstance(event, UsageWaived) else None),
            _shown(told.hold_id),
            after.held_micros,
        )
    ]


class ChargeFields(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the statement tells of a charge, under the names of ``CreditsCharged``; what else is stored of it is passed over."""

    recorded_at: datetime
    actor: Actor
    reason: str | None = None
    settled_after_micros: int
    debt_after_micros: int
    charge_id: str
    occurred_at: datetime
    action: str
    member: str | None = None
    project: str | None = None
    work: str | None = None
    step: str | None = None
    amount_micros: int
    hold_id: str | None = None
    hold_lines: list[LotLine] = []
    hold_left: HoldLeft | None = None


def charge_row(
    event: CreditsCharged | ChargeFields, version: int, shard: int, team_id: str, before: Sums
) -> StatementRow:
    """The statement row of a charge, which most events are: all of it from the event, but for what was held before."""
    member, project, work, step = event.member, event.project, event.work, event.step
    reason, hold_id = event.reason or None, event.hold_id
    # Asked once for all six: one question each would cost as much as the row.
    if "\0" in f"{member}{project}{work}{step}{reason}{hold_id}":
        member, project, work, step = map(_shown, (member, project, work, step))
        reason, hold_id = _shown(reason), _shown(hold_id)
    return StatementRow(
        shard,
        team_id,
        version,
        "CreditsCharged",
        event.recorded_at,
        event.occurred_at,
        event.amount_micros,
        event.settled_after_micros,
        event.debt_after_micros,
        event.charge_id,
        None,
        event.action,
        member,
        project,
        work,
        step,
        event.actor.id,
        event.actor.role,
        reason,
        hold_id,
        before.held_micros + (held_change_of_charge(event) if event.hold_lines else 0),
    )


class Told(NamedTuple):
    """What the events tell in different words: amount, instant of effect, charge, lot and hold."""

    amount_micros: int
    occurred_at: datetime
    charge_id: str | None = None
    lot_id: str | None = None
    hold_id: str | None = None


def told_of(event: AccountEvent) -> Told | None:
    """What the statement tells of an event; None for one that makes no row."""
    tell = _TELL.get(type(event))
    return None if tell is None else tell(event)


# Named once: the type written with | is made anew each time it is met.
_USES = (CreditsCharged, HoldCaptured, UsageWaived, CreditsHeld)


def _shown(text: str | None) -> str | None:
    """Free text as a column can hold it: JSON may carry NUL, a column may not, and no text may stop the statement."""
    return text.replace("\0", "\ufffd") if text and "\0" in text else text


def _within(at: datetime, start: datetime | None, end: datetime | None) -> bool:
    return (start is None or start <= at) and (end is None or at < end)


def _issued(event: CreditsGranted | CreditsToppedUp | BalanceRaised) -> Told:
    return Told(event.amount_micros, event.lot.effective_at, None, event.lot.lot_id)


def _allowed(event: AllowanceGranted) -> Told:
    return Told(event.amount_micros, event.effective_at, None, event.lot.lot_id if event.lot else None)


def _charged(event: CreditsCharged | HoldCaptured) -> Told:
    return Told(event.amount_micros, event.occurred_at, event.charge_id, None, event.hold_id)


def _waived(event: UsageWaived) -> Told:
    return Told(0, event.occurred_at, event.charge_id, None, event.hold_id)


def _refunded(event: ChargeRefunded) -> Told:
    came_back = sum(line.amount_micros for line in event.lines if line.target != "voided")
    return Told(came_back, event.recorded_at, event.charge_id)


def _expired(event: CreditsExpired) -> Told:
    return Told(event.amount_micros, event.effective_at, None, event.lot_id)


def _as_of_effect(event: DebtRepaid | CreditsRolledOver) -> Told:
    return Told(event.amount_micros, event.effective_at)


def _voided(event: GrantVoided) -> Told:
    return Told(event.amount_micros, event.recorded_at, None, event.origin_lot_id)


def _lowered(event: BalanceLowered) -> Told:
    return Told(event.amount_micros, event.recorded_at)


def _held(event: CreditsHeld) -> Told:
    return Told(event.amount_micros, event.recorded_at, None, None, event.hold_id)


def _released(event: HoldReleased) -> Told:
    return Told(event.amount_micros, event.recorded_at, event.released_by, None, event.hold_id)


def _hold_expired(event: HoldExpired) -> Told:
    return Told(event.amount_micros, event.effective_at, None, None, event.hold_id)


def _withheld(event: ChargebackOpened) -> Told:
    return Told(event.withheld_micros, event.recorded_at, None, event.origin_lot_id)


def _reinstated(event: ChargebackWon) -> Told:
    return Told(0, event.recorded_at, None, event.origin_lot_id)


def _lost(event: ChargebackLost) -> Told:
    return Told(event.voided_micros + event.drawn_micros, event.recorded_at, None, event.origin_lot_id)


_TELL: dict[type[AccountEvent], Callable[[Any], Told]] = {
    CreditsGranted: _issued,
    CreditsToppedUp: _issued,
    AllowanceGranted: _allowed,
    CreditsRolledOver: _as_of_effect,
    CreditsCharged: _charged,
    HoldCaptured: _charged,
    UsageWaived: _waived,
    ChargeRefunded: _refunded,
    CreditsExpired: _expired,
    DebtRepaid: _as_of_effect,
    GrantVoided: _voided,
    BalanceRaised: _issued,
    BalanceLowered: _lowered,
    CreditsHeld: _held,
    HoldReleased: _released,
    HoldExpired: _hold_expired,
    ChargebackOpened: _withheld,
    ChargebackWon: _reinstated,
    ChargebackLost: _lost,
}
