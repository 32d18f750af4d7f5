"""What uses would cost now, which lots would pay and what would refuse them: the functions of charging, without an effect."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from domain.account import lots
from domain.account.charging import PricedUsage, charge_usage, price_for
from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.events import CreditsCharged, HoldDenied, LotLine
from domain.account.holding import Denied, Use, place_hold
from domain.account.index import AccountIndex, IndexOverlay
from domain.account.limiting import held_micros
from domain.account.opening import require_open
from domain.account.state import TeamAccount
from domain.account.turning import grant_allowance
from domain.actors import Actor
from domain.catalogue import Catalogue
from domain.errors import LedgerError
from domain.terms import LimitWindow
from domain.usage import UsageRecord

NOBODY = Actor("estimate", "reader")
SOURCE = "urn:coffer:estimate"
HOLD_SECONDS = 3_600
"""How long the hold lasts that an estimate asks for: a denial does not depend on it."""

USES_MAX = 100
"""So many uses are estimated in one call."""

Mode = Literal["add", "replace"]
"""``add``: on top of what this period has used. ``replace``: a period with the plan's allowance in which nothing happened."""


class PlannedUse(msgspec.Struct, frozen=True):
    """A use that is planned: what a usage record would say of it."""

    action: str
    meters: dict[str, str]
    dimensions: dict[str, str] = {}
    member: str | None = None
    project: str | None = None
    occurred_at: datetime | None = None
    """When it occurs; when it is recorded, where nothing is said."""


class LimitAfter(msgspec.Struct, frozen=True, kw_only=True):
    """A limit that counts the use, and its window after it."""

    limit_id: str
    window: LimitWindow
    window_start: datetime
    window_end: datetime | None
    hard: bool
    cap_micros: int
    used_after_micros: int
    held_micros: int

    @property
    def left_micros(self) -> int:
        """What a request may still ask for; never below zero."""
        return max(0, self.cap_micros - self.used_after_micros - self.held_micros)

    @property
    def is_passed(self) -> bool:
        """Whether use is beyond the cap."""
        return self.used_after_micros > self.cap_micros


class Estimate(msgspec.Struct, frozen=True, kw_only=True):
    """One use as the charge that it would be, and the account after it.

    ``priced`` is None when there is nothing to price. ``lines`` are the lots drawn, in burn order; ``debt_micros`` is what none
    would cover. ``available_after_micros`` is what may then be spent on such a use. ``denial`` is the answer that a hold of the
    amount would get before the use, ``refusal`` the error; both None when it would be given, or the use costs nothing.
    """

    use: PlannedUse
    priced: PricedUsage | None
    amount_micros: int
    lines: list[LotLine]
    debt_micros: int
    settled_after_micros: int
    debt_after_micros: int
    available_after_micros: int
    limits: list[LimitAfter]
    denial: HoldDenied | None
    refusal: LedgerError | None
    version: int


class Estimates(msgspec.Struct, frozen=True):
    """Uses in the order given, each on the account as the one before it would leave it."""

    mode: Mode
    at: datetime
    version: int
    uses: list[Estimate]

    @property
    def amount_micros(self) -> int:
        """What all of them would cost."""
        return sum(use.amount_micros for use in self.uses)

    @property
    def debt_micros(self) -> int:
        """What no lot would cover of them."""
        return sum(use.debt_micros for use in self.uses)


def account_at(account: TeamAccount, at: datetime, index: AccountIndex | None = None) -> TeamAccount:
    """A copy of the account with everything booked that is due at ``at``; nothing is written."""
    decision = Decision(copy_of(account), at, NOBODY, index)
    pass_time(decision)
    return decision.account


def estimate(
    account: TeamAccount,
    catalogue: Catalogue,
    index: AccountIndex,
    at: datetime,
    action: str,
    meters: dict[str, str],
    dimensions: dict[str, str],
    project: str | None = None,
) -> Estimate:
    """The charge that usage of this kind, occurring and recorded at ``at``, would be. Raises: as ``estimate_uses``."""
    use = PlannedUse(action, meters, dimensions, project=project)
    return estimate_uses(account, catalogue, index, at, [use]).uses[0]


def estimate_uses(
    account: TeamAccount,
    catalogue: Catalogue,
    index: AccountIndex,
    at: datetime,
    uses: Sequence[PlannedUse],
    mode: Mode = "add",
) -> Estimates:
    """The charges that these uses, recorded at ``at`` one after the other, would be. Nothing is changed.

    Each is charged on a copy by the functions that charge: tiers, windows, lots and debt move along the list.
    Raises: as charging does (UnknownAction, UnknownPrice, PriceOutOfRange, AmountOutOfRange, AccountClosed).
    """
    require_open(account)
    version = account.version
    decision = Decision(copy_of(account), at, NOBODY, IndexOverlay(index))
    pass_time(decision)
    if mode == "replace":
        decision = _fresh_period(decision)
    told = [_estimated(decision, catalogue, use, str(n), version) for n, use in enumerate(uses)]
    return Estimates(mode, decision.at, version, told)


def _estimated(
    decision: Decision, catalogue: Catalogue, use: PlannedUse, name: str, version: int
) -> Estimate:
    account, occurred_at = decision.account, use.occurred_at or decision.at
    priced = price_for(
        account, catalogue, decision.index, use.action, use.meters, use.dimensions, occurred_at
    )
    denial, refusal = _asked(decision, use, priced.price.amount_micros if priced else 0)
    event = charge_planned(decision, catalogue, use, name)
    return Estimate(
        use=use,
        priced=priced,
        amount_micros=event.amount_micros if event else 0,
        lines=event.lines if event else [],
        debt_micros=event.debt_micros if event else 0,
        settled_after_micros=account.settled_micros,
        debt_after_micros=account.debt_micros,
        available_after_micros=lots.available_micros(account, decision.at, use.action, use.project),
        limits=_limits(account, event),
        denial=denial,
        refusal=refusal,
        version=version,
    )


def charge_planned(
    decision: Decision, catalogue: Catalogue, use: PlannedUse, name: str
) -> CreditsCharged | None:
    """The use is charged in the decision, as a usage record that says the same would be; None when there is nothing to price."""
    record = UsageRecord(
        team_id=decision.account.team_id,
        source=SOURCE,
        id=name,
        occurred_at=use.occurred_at or decision.at,
        arrived_at=decision.at,
        action=use.action,
        status="succeeded",
        meters=use.meters,
        dimensions=use.dimensions,
        member=use.member,
        project=use.project,
    )
    made = len(decision.events)
    charge_usage(decision, record, catalogue)
    return next((event for event in decision.events[made:] if isinstance(event, CreditsCharged)), None)


def _asked(
    decision: Decision, use: PlannedUse, amount_micros: int
) -> tuple[HoldDenied | None, LedgerError | None]:
    """What a hold of the amount would be answered now; nothing for nothing."""
    if not amount_micros:
        return None, None
    asking = Decision(copy_of(decision.account), decision.at, NOBODY, IndexOverlay(decision.index))
    try:
        given = place_hold(asking, amount_micros, Use(use.action, use.member, use.project), HOLD_SECONDS)
    except LedgerError as refusal:
        return None, refusal
    return (given.denial if isinstance(given, Denied) else None), None


def _limits(account: TeamAccount, event: CreditsCharged | None) -> list[LimitAfter]:
    moves = {move.limit_id: move for move in event.windows} if event else {}
    return [
        LimitAfter(
            limit_id=limit.terms.limit_id,
            window=limit.terms.window,
            window_start=moves[limit.terms.limit_id].start,
            window_end=moves[limit.terms.limit_id].end,
            hard=limit.terms.hard,
            cap_micros=limit.terms.cap_micros,
            used_after_micros=moves[limit.terms.limit_id].used_after_micros,
            held_micros=held_micros(account, limit.terms),
        )
        for limit in account.limits
        if limit.terms.limit_id in moves
    ]


def _fresh_period(decision: Decision) -> Decision:
    """The account as if the running period had just begun and nothing had come before: the plan's allowance, no use, no debt."""
    account, at = decision.account, decision.at
    account.lots, account.holds, account.counters, account.denials = [], [], {}, {}
    account.corrections_awaited = {}
    account.settled_micros = account.debt_micros = 0
    for limit in account.limits:
        limit.windows = {}
    if account.plan is not None:
        assert account.period_start is not None
        assert account.period_end is not None
        grant_allowance(
            decision,
            account.plan,
            account.plan.allowance_micros,
            at,
            (account.period_start, account.period_end),
            None,
        )
    # Of the past nothing is looked up either.
    fresh = Decision(account, at, NOBODY, IndexOverlay())
    fresh.has_time_passed = True
    return fresh
