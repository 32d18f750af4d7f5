"""A team's own calendar: the zone and card in force at an instant, its billing periods, and the windows its limits count over.

A team may change its zone at a turn. Periods and windows are those of the zone in force, clipped where it changed; a period cut
shorter than ``STUB_MIN`` by a change is merged into the one after it. A lifetime is never cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Literal, NamedTuple

from domain.account.events import LimitWindow
from domain.account.index import AccountIndex
from domain.account.state import DATED_MAX, Dated, TeamAccount
from domain.periods import period_bounds, period_label
from domain.times import parse_instant
from domain.windows import Bounds, window_bounds

LATE_GRACE = timedelta(hours=24)
"""How long after an instant late usage may still change what that instant books."""

STUB_MIN = timedelta(days=2)
"""A shorter period, cut off by a change of zone, is none of its own."""


class _Span(NamedTuple):
    """A value in force, from when (None: it is the first) until when (None: nothing follows)."""

    value: str
    since: datetime | None
    until: datetime | None


def zone_at(account: TeamAccount, index: AccountIndex, at: datetime) -> str:
    """The zone in force at an instant; before the account was opened, its first."""
    zones = account.zones
    return zones[0].value if len(zones) == 1 else _span(zones, index, "zone", at).value


def card_id_at(account: TeamAccount, index: AccountIndex, at: datetime) -> str:
    """The rate card in force at an instant, also one that comes with a plan whose turn nobody has booked yet.

    Before the account was opened, its first.
    """
    pending = account.pending_plan
    if pending is not None and pending.effective_at <= at:
        return pending.plan.card_id
    cards = account.cards
    return cards[0].value if len(cards) == 1 else _span(cards, index, "card", at).value


def period_at(account: TeamAccount, index: AccountIndex, at: datetime) -> tuple[datetime, datetime]:
    """The team's billing period that holds ``at``: start included, end excluded. The periods of a team tile the time line.

    Raises: Malformed for a naive time, or one outside the years 1900 to 8999.
    """
    if len(account.zones) == 1:
        return period_bounds(at, account.zones[0].value, account.anchor_day)
    return _merged(_span(account.zones, index, "zone", at), at, account.anchor_day)


def label_at(account: TeamAccount, index: AccountIndex, start: datetime, end: datetime) -> str:
    """The name of the period with these bounds, by the clocks in force when it starts: its year and month."""
    return period_label(start, end, zone_at(account, index, start), account.anchor_day)


def period_after(account: TeamAccount, index: AccountIndex, start: datetime) -> datetime:
    """The end of the period that follows one which ended at ``start``, whatever zone data that one was computed by.

    Were the rules changed meanwhile, its end may lie a little within a period by the new ones: what is left of that is no period
    of its own when it is shorter than ``STUB_MIN``.
    """
    end = period_at(account, index, start)[1]
    return end if end - start >= STUB_MIN else period_at(account, index, end)[1]


def window_at(account: TeamAccount, index: AccountIndex, window: LimitWindow, at: datetime) -> Bounds:
    """The team's window of that kind that holds ``at``, None for no end. Raises: as ``period_at``."""
    zones = account.zones
    if len(zones) == 1:
        return window_bounds(window, at, zones[0].value, account.anchor_day)
    if window == "period":
        return period_at(account, index, at)
    span = _span(account.zones, index, "zone", at)
    start, end = window_bounds(window, at, span.value, account.anchor_day)
    return (start, end) if end is None else _clipped(span, start, end)


def _merged(span: _Span, at: datetime, anchor_day: int) -> tuple[datetime, datetime]:
    start, end = _period(span, at, anchor_day)
    if span.since is None:
        return start, end
    # Whole periods are longer than a stub by weeks: what is this short was cut, and begins with the change.
    if end - start < STUB_MIN and end != span.until:
        return start, _period(span, end, anchor_day)[1]
    return (span.since if start - span.since < STUB_MIN else start), end


def _period(span: _Span, at: datetime, anchor_day: int) -> tuple[datetime, datetime]:
    return _clipped(span, *period_bounds(at, span.value, anchor_day))


def _clipped(span: _Span, start: datetime, end: datetime) -> tuple[datetime, datetime]:
    if span.since is not None and span.since > start:
        start = span.since
    if span.until is not None and span.until < end:
        end = span.until
    return start, end


def _span(dated: list[Dated], index: AccountIndex, kind: Literal["zone", "card"], at: datetime) -> _Span:
    entries = _latest_first(dated, index, kind)
    until, current = None, next(entries)
    # What came before an entry is asked for even when the entry counts: only then is its start a change.
    for earlier in entries:
        if current.since <= at:
            return _Span(current.value, current.since, until)
        until, current = current.since, earlier
    return _Span(current.value, None, until)


def _latest_first(dated: list[Dated], index: AccountIndex, kind: Literal["zone", "card"]) -> Iterator[Dated]:
    yield from reversed(dated)
    if len(dated) >= DATED_MAX:
        for since, value in index.latest(kind):
            yield Dated(parse_instant(since, "since"), value.decode())
