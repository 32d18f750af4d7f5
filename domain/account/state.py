"""What is open on an account: the small state that every decision reads and every event changes.

Bound: lots with a remainder (at most ``OPEN_LOTS_MAX``), open holds (``OPEN_HOLDS_MAX``), debt, corrections awaited
(``CORRECTIONS_AWAITED_MAX``), open disputes (``OPEN_DISPUTES_MAX``), limits (``LIMITS_MAX``) with the two latest windows used of
each, the tier counters of the two latest periods used, the plan and the latest zones and cards. What closes leaves the state as
an index entry, see ``domain.account.index``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from domain.account.events import (
    AutoTopUpConfigured,
    LimitTerms,
    LotLine,
    LotTerms,
    PlanTerms,
    QuotePin,
)
from domain.issuer.details import MAIN_ISSUER

STATE_SCHEMA = 4
"""Counts up with every change of shape; a head of another schema is discarded and folded again."""

OPEN_LOTS_MAX = 1_000
OPEN_HOLDS_MAX = 1_000
CORRECTIONS_AWAITED_MAX = 1_000
OPEN_DISPUTES_MAX = 100
LIMITS_MAX = 200
DATED_MAX = 8
"""How many zones and cards of a team's past stay in the state; older ones are index entries."""


class OpenTerms(LotTerms, frozen=True, kw_only=True, array_like=True, gc=False):
    """The terms of an open lot, kept in the state as a list of values in the order of their fields.

    A head is written with every batch: names repeated for every lot would push it past the size at which PostgreSQL
    compresses a row and moves it aside.
    """


class Lot(msgspec.Struct, array_like=True, gc=False):
    """An open lot: its terms, what is left of it, and what of that open holds set aside.

    ``held_until`` is the last instant at which a hold was on the lot, ``withheld_since`` that of the chargeback that is open on
    it: what is not held is then withheld, and its expiry and grace stand still.
    """

    terms: OpenTerms
    remaining_micros: int
    held_micros: int = 0
    held_until: datetime | None = None
    withheld_since: datetime | None = None

    @property
    def free_micros(self) -> int:
        """What may be drawn or set aside, were the lot open: neither held nor withheld."""
        return 0 if self.withheld_since is not None else self.remaining_micros - self.held_micros


class Hold(msgspec.Struct, array_like=True):
    """An open hold: what it sets aside in which lots, until when at the latest, and for what."""

    hold_id: str
    made_at: datetime
    expires_at: datetime
    lines: list[LotLine]
    action: str
    member: str | None = None
    project: str | None = None
    work: str | None = None
    step: str | None = None
    quote: QuotePin | None = None
    is_quote_charged: bool = False

    @property
    def held_micros(self) -> int:
        """All that it sets aside."""
        return sum(line.amount_micros for line in self.lines)


class WindowUse(msgspec.Struct, array_like=True, gc=False):
    """What was used in one window of a limit, and the thresholds reached in it."""

    end: datetime | None
    used_micros: int
    reached: list[int]


class Limit(msgspec.Struct, array_like=True):
    """A limit, from which instant on it counts, and its two latest windows used, by their start as text."""

    terms: LimitTerms
    since: datetime
    plan_id: str | None
    windows: dict[str, WindowUse]


class Dated(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A zone or a card and the instant from which it counts."""

    since: datetime
    value: str


class PendingPlan(msgspec.Struct, array_like=True, frozen=True):
    """A plan that follows at the turn."""

    plan: PlanTerms
    effective_at: datetime


class AutoTopUp(msgspec.Struct, array_like=True):
    """Automatic top-up: its terms, the request in flight, failures in a row, and what its window has spent."""

    terms: AutoTopUpConfigured
    in_flight: str | None = None
    failures: int = 0
    retry_at: datetime | None = None
    stopped: bool = False
    window_start: datetime | None = None
    spent_minor: int = 0


class Dispute(msgspec.Struct, array_like=True, frozen=True):
    """An open dispute of charges."""

    charge_ids: list[str]
    opened_at: datetime


class Chargeback(msgspec.Struct, array_like=True, frozen=True):
    """An open chargeback: the first lot of the line it withholds."""

    origin_lot_id: str
    opened_at: datetime


class Denial(msgspec.Struct, array_like=True, frozen=True):
    """A recent denial, so that an equal one is counted and not appended."""

    denied_at: datetime
    version: int


def open_terms(terms: LotTerms) -> OpenTerms:
    """The terms as the state keeps them."""
    return OpenTerms(**msgspec.structs.asdict(terms))


def published_terms(terms: LotTerms) -> LotTerms:
    """The terms as events and the index keep them, each value under its name."""
    return LotTerms(**msgspec.structs.asdict(terms))


class TeamAccount(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One team's credits as of ``version``.

    ``lots`` is kept in burn order. ``passed_at`` is the instant up to which due facts are booked: that of the last due fact
    within a decision, ``recorded_at`` after it. ``counters`` map a period's start to positions by counter key.
    ``corrections_awaited`` map the claim of a record not seen yet to the id of the correction that named it.
    ``zones`` and ``cards`` are in the order of time; the first counts for all that came before. ``period_start`` and
    ``period_end`` bound the plan's running period, None without a plan. ``books_start`` and ``books_end`` bound the oldest period
    of the books that is not closed; ``closed_at`` is when a closed account was closed.
    """

    team_id: str
    anchor_day: int
    zones: list[Dated]
    cards: list[Dated]
    status: Literal["open", "suspended", "closed"] = "open"
    issuer_id: str = MAIN_ISSUER
    opened_at: datetime
    books_start: datetime
    books_end: datetime
    closed_at: datetime | None = None
    recorded_at: datetime
    passed_at: datetime
    version: int = 0
    settled_micros: int = 0
    debt_micros: int = 0
    lots: list[Lot] = []
    holds: list[Hold] = []
    limits: list[Limit] = []
    corrections_awaited: dict[str, str] = {}
    counters: dict[str, dict[str, int]] = {}
    plan: PlanTerms | None = None
    period_start: datetime | None = None
    period_end: datetime | None = None
    pending_plan: PendingPlan | None = None
    auto_top_up: AutoTopUp | None = None
    disputes: dict[str, Dispute] = {}
    chargebacks: dict[str, Chargeback] = {}
    denials: dict[str, Denial] = {}

    @property
    def zone(self) -> str:
        """The zone in force at the account's last event."""
        return in_force(self.zones, self.recorded_at)

    @property
    def card_id(self) -> str:
        """The rate card in force at the account's last event."""
        return in_force(self.cards, self.recorded_at)


def in_force(dated: list[Dated], at: datetime) -> str:
    """The value that counts at an instant; the first for all that came before it."""
    for each in reversed(dated):
        if each.since <= at:
            return each.value
    return dated[0].value
