"""What planned use comes to: charged day by day on a copy of the account by the rules that charge, while time passes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Literal

import msgspec

from domain.account.charging import PricedUsage, charge_priced, price_for
from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.estimating import NOBODY, SOURCE, charge_planned
from domain.account.events import (
    AllowanceGranted,
    CardPin,
    CostBasis,
    CreditsCharged,
    CreditsExpired,
    CreditsRolledOver,
    DebtRepaid,
    LotTerms,
)
from domain.account.funding import top_up_credits
from domain.account.index import AccountIndex, IndexOverlay
from domain.account.limiting import Room, rooms
from domain.account.state import TeamAccount, published_terms
from domain.catalogue import Catalogue
from domain.errors import LedgerError, Malformed
from domain.pricing import Price
from domain.spending.authority import who_may
from domain.spending.buying import Buying, buying_of, known_price
from domain.spending.laying import Step, day_ends, spread
from domain.team.state import Team
from domain.terms import LimitWindow
from domain.usage import UsageRecord
from domain.volumes import Path, VolumeLine

HORIZON_DAYS_MAX = 92
LINES_MAX = 50
TIMES_MAX = 1_000_000_000
GRADUATED_TIMES_MAX = 2_000
"""Uses at tiered rates are charged one by one, so a plan has at most so many of them."""

ROUNDS_MAX = 3
LEARNED = CardPin("learned", 1, "")
"""Stands for the card of a use whose price is that of the past."""


class Bite(msgspec.Struct, frozen=True, kw_only=True):
    """The first limit that stands in the way: when, for which use, and who would be stopped (None: everyone it counts).

    ``code`` and the numbers are those of the denial that a hold of this use would be answered, were there credits enough: what is
    used and held of its window by then, and what it asks for. ``window_end`` is None for a window that never ends.
    """

    code: Literal["limit"] = "limit"
    limit_id: str
    at: datetime
    window: LimitWindow
    window_start: datetime
    window_end: datetime | None
    cap_micros: int
    used_micros: int
    held_micros: int
    requested_micros: int
    action: str
    member: str | None
    project: str | None
    limit_member: str | None
    limit_project: str | None
    limit_action: str | None


class Covered(msgspec.Struct, frozen=True):
    """What a lot pays of the plan, debt that it repays included."""

    lot: LotTerms
    amount_micros: int


class Expiring(msgspec.Struct, frozen=True):
    """What of a lot expires unused within the horizon."""

    lot: LotTerms
    amount_micros: int


class Course(msgspec.Struct, frozen=True, kw_only=True):
    """What one path comes to.

    ``run_out_at`` is when the first use is not covered, ``uncovered_micros`` what uses made debt in all, ``debt_peak_micros``
    the most there is at a time, ``debt_micros`` what is left of it at the end. ``top_up_micros`` bought at the start would cover
    every use, and ``buying`` says what that costs and who may see to it. ``first_limit`` is the first hard limit
    that would refuse a request.
    """

    cost_micros: int
    uses: int
    waived: int
    costs: list[int]
    covered: list[Covered]
    uncovered_micros: int
    debt_peak_micros: int
    debt_micros: int
    run_out_at: datetime | None
    expiring: list[Expiring]
    first_limit: Bite | None
    settled_micros: int
    top_up_micros: int = 0
    buying: Buying | None = None


class SpendingPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Three paths over one horizon, and who may buy the top-up or raise the limit that stands in the way."""

    starts_at: datetime
    ends_at: datetime
    version: int
    lines: list[VolumeLine]
    low: Course
    expected: Course
    high: Course
    may_top_up: list[str]
    may_set_limits: list[str]

    def path(self, path: Path) -> Course:
        """One of the three."""
        return {"low": self.low, "expected": self.expected, "high": self.high}[path]


def plan_spending(
    account: TeamAccount,
    team: Team,
    catalogue: Catalogue,
    index: AccountIndex,
    at: datetime,
    lines: Sequence[VolumeLine],
    days: int,
) -> SpendingPlan:
    """What these volumes, laid from ``at`` to the end of the last day (``laying.py``), come to. Nothing is changed.

    ``days`` are those of the team's zone, today included, at most ``HORIZON_DAYS_MAX``.
    Raises: Malformed, naming the field; as charging does (UnknownAction, UnknownPrice, PriceOutOfRange, AccountClosed).
    """
    at = max(at, account.recorded_at)
    check_volumes(lines, days)
    ends = day_ends(account, index, at, days)
    # Looked up first: an index may have to be read for it, and then all is worked out again.
    price = known_price(account, index)

    def course(path: Path) -> Course:
        steps = spread(account, index, lines, path, at, ends)
        found = _covering(account, catalogue, index, at, steps, ends[-1])
        return msgspec.structs.replace(found, buying=buying_of(team, price, found.top_up_micros))

    return SpendingPlan(
        starts_at=at,
        ends_at=ends[-1],
        version=account.version,
        lines=list(lines),
        low=course("low"),
        expected=course("expected"),
        high=course("high"),
        may_top_up=who_may(team, "top_up"),
        may_set_limits=who_may(team, "set_limit"),
    )


def check_volumes(lines: Sequence[VolumeLine], days: int) -> None:
    """The plan is one that can be worked out. Raises: Malformed, naming the field."""
    if not 1 <= days <= HORIZON_DAYS_MAX:
        raise Malformed(f"days {days}: 1 to {HORIZON_DAYS_MAX} would be right", field="days")
    if not 1 <= len(lines) <= LINES_MAX:
        raise Malformed(f"volumes has {len(lines)} lines: 1 to {LINES_MAX} would be right", field="volumes")
    for line in lines:
        if not 0 <= line.low <= line.expected <= line.high <= TIMES_MAX:
            raise Malformed(
                f"volumes of {line.action}: {line.low}, {line.expected}, {line.high} do not rise from 0 to {TIMES_MAX}",
                field="volumes",
            )


def _covering(
    account: TeamAccount,
    catalogue: Catalogue,
    index: AccountIndex,
    at: datetime,
    steps: Sequence[Step],
    until: datetime,
) -> Course:
    """The course of the steps, with the top-up that would cover all of them: found by buying it and looking again."""
    found = run_course(account, catalogue, index, at, steps, until)
    if not found.uncovered_micros:
        return found
    top_up = found.debt_peak_micros
    for _ in range(ROUNDS_MAX):
        try:
            after = run_course(account, catalogue, index, at, steps, until, top_up)
        except LedgerError:
            # So much cannot be bought, or not by this account: it is told all the same.
            break
        if not after.uncovered_micros:
            break
        top_up += after.debt_peak_micros
    return msgspec.structs.replace(found, top_up_micros=top_up)


def run_course(
    account: TeamAccount,
    catalogue: Catalogue,
    index: AccountIndex,
    at: datetime,
    steps: Iterable[Step],
    until: datetime,
    top_up_micros: int = 0,
) -> Course:
    """What these steps, in the order of time, come to on a copy of the account, with so much bought at the start.

    Raises: as charging does.
    """
    course = _Running(account, catalogue, index, at)
    if top_up_micros:
        course.top_up(top_up_micros)
    for step in steps:
        course.take(step)
    return course.ended(until)


class _Running:
    """A course that is being run: the copy of the account, and what was seen on the way."""

    def __init__(self, account: TeamAccount, catalogue: Catalogue, index: AccountIndex, at: datetime) -> None:
        self._account = copy_of(account)
        self._index = IndexOverlay(index)
        self._catalogue = catalogue
        self._starts_at = at
        self._number = 0
        self._costs: list[int] = []
        self._waived = 0
        self._paid: dict[str, int] = {}
        self._expired: dict[str, int] = {}
        self._terms: dict[str, LotTerms] = {}
        self._uncovered = self._peak = self._graduated = self._uses = 0
        self._run_out_at: datetime | None = None
        self._bite: Bite | None = None
        # Before time passes: a lot that becomes effective may repay debt to its last micro-credit, and be gone.
        self._seen()
        self._keep(self._decision(at))

    def top_up(self, amount_micros: int) -> None:
        """So much was bought now."""
        decision = self._decision(self._starts_at)
        top_up_credits(
            decision, amount_micros, payment_reference=f"{SOURCE}#top-up", cost_basis=CostBasis(0, "XXX")
        )
        self._keep(decision)

    def take(self, step: Step) -> None:
        """The step's uses are charged."""
        decision = self._decision(step.at)
        self._seen()
        priced = self._priced(decision, step)
        if priced is None:
            self._costs.append(0)
            self._waived += step.times
        elif priced.counters:
            self._graduated += step.times
            if self._graduated > GRADUATED_TIMES_MAX:
                raise Malformed(
                    f"volumes: more than {GRADUATED_TIMES_MAX} uses at tiered rates; plan fewer and larger ones",
                    field="volumes",
                )
            self._costs.append(sum(self._charge_one(decision, step) for _ in range(step.times)))
        else:
            self._costs.append(self._charge_all(decision, step, priced))
        self._uses += step.times
        self._keep(decision)

    def ended(self, until: datetime) -> Course:
        """The course, once all that is due by ``until`` has happened."""
        decision = self._decision(max(until, self._account.recorded_at))
        self._seen()
        self._keep(decision)
        for lot in self._account.lots:
            expires_at = lot.terms.expires_at
            if expires_at is not None and self._starts_at < expires_at <= until and lot.free_micros:
                # Lapsed, and not booked before late grace is over.
                self._expired[lot.terms.lot_id] = self._expired.get(lot.terms.lot_id, 0) + lot.free_micros
        return Course(
            cost_micros=sum(self._costs),
            uses=self._uses,
            waived=self._waived,
            costs=self._costs,
            covered=[Covered(self._terms[lot_id], paid) for lot_id, paid in self._paid.items()],
            uncovered_micros=self._uncovered,
            debt_peak_micros=self._peak,
            debt_micros=self._account.debt_micros,
            run_out_at=self._run_out_at,
            expiring=[
                Expiring(self._terms[lot_id], amount) for lot_id, amount in self._expired.items() if amount
            ],
            first_limit=self._bite,
            settled_micros=self._account.settled_micros,
        )

    def _decision(self, at: datetime) -> Decision:
        decision = Decision(self._account, at, NOBODY, self._index)
        pass_time(decision)
        return decision

    def _keep(self, decision: Decision) -> None:
        """What the decision led to is noted."""
        for event in decision.events:
            # One that comes and is drawn empty within a decision is never seen in the state.
            if isinstance(event, AllowanceGranted) and event.lot is not None:
                self._terms[event.lot.lot_id] = event.lot
            elif isinstance(event, CreditsRolledOver):
                self._terms |= {terms.lot_id: terms for terms in event.lots}
            elif isinstance(event, CreditsCharged):
                self._uncovered += event.debt_micros
                if event.debt_micros and self._run_out_at is None:
                    self._run_out_at = event.occurred_at
            elif isinstance(event, CreditsExpired):
                terms = self._terms.get(event.lot_id)
                # What had expired before the plan begins is none of its matter.
                if terms is not None and terms.expires_at is not None and terms.expires_at > self._starts_at:
                    self._expired[event.lot_id] = self._expired.get(event.lot_id, 0) + event.amount_micros
            if isinstance(event, CreditsCharged | DebtRepaid):
                for line in event.lines:
                    self._paid[line.lot_id] = self._paid.get(line.lot_id, 0) + line.amount_micros
        self._peak = max(self._peak, self._account.debt_micros)
        self._index.usages.clear()
        self._seen()

    def _seen(self) -> None:
        """Terms of lots are kept: one that is drawn empty leaves the state."""
        for lot in self._account.lots:
            if lot.terms.lot_id not in self._terms:
                self._terms[lot.terms.lot_id] = published_terms(lot.terms)

    def _priced(self, decision: Decision, step: Step) -> PricedUsage | None:
        if step.amount_micros is not None:
            return PricedUsage(LEARNED, Price(step.amount_micros, b"{}"), [])
        use = step.use
        at = use.occurred_at or decision.at
        return price_for(
            decision.account, self._catalogue, decision.index, use.action, use.meters, use.dimensions, at
        )

    def _charge_one(self, decision: Decision, step: Step) -> int:
        """One use at a tiered rate, whose price depends on those before it."""
        priced = self._priced(decision, step)
        assert priced is not None
        self._look(decision, step, priced.price.amount_micros)
        self._number += 1
        event = charge_planned(decision, self._catalogue, step.use, str(self._number))
        return event.amount_micros if event else 0

    def _charge_all(self, decision: Decision, step: Step, priced: PricedUsage) -> int:
        """Equal uses at one instant: the same lots, windows and debt as one after the other."""
        amount = priced.price.amount_micros * step.times
        self._look(decision, step, priced.price.amount_micros, step.times)
        self._number += 1
        use = step.use
        record = UsageRecord(
            team_id=decision.account.team_id,
            source=SOURCE,
            id=str(self._number),
            occurred_at=use.occurred_at or decision.at,
            arrived_at=decision.at,
            action=use.action,
            status="succeeded",
            meters=use.meters,
            dimensions=use.dimensions,
            member=use.member,
            project=use.project,
        )
        charge_priced(decision, record, PricedUsage(priced.card, Price(amount, priced.price.computation), []))
        return amount

    def _look(self, decision: Decision, step: Step, amount_micros: int, times: int = 1) -> None:
        """Whether a limit would refuse one of so many uses, each of the amount, for the first time.

        Asked as a hold asks, but for the credits: a path goes on where they have run out, and limits bite there, too.
        """
        if self._bite is not None or not amount_micros:
            return
        use = step.use
        asked = rooms(decision.account, decision.index, decision.at, use.member, use.project, use.action)
        fitting = [(max(0, room.left_micros) // amount_micros, room) for room in asked]
        biting = [(fits, room) for fits, room in fitting if fits < times]
        if biting:
            fits, room = min(
                biting, key=lambda each: (each[0], each[1].left_micros, each[1].limit.terms.limit_id)
            )
            self._bite = _bite(room, step, decision.at, fits * amount_micros, amount_micros)


def _bite(room: Room, step: Step, at: datetime, before_micros: int, amount_micros: int) -> Bite:
    """The limit stops the use that follows uses of ``before_micros`` at the instant."""
    terms, use = room.limit.terms, step.use
    return Bite(
        limit_id=terms.limit_id,
        at=at,
        window=terms.window,
        window_start=room.start,
        window_end=room.end,
        cap_micros=terms.cap_micros,
        used_micros=room.used_micros + before_micros,
        held_micros=room.held_micros,
        requested_micros=amount_micros,
        action=use.action,
        member=use.member,
        project=use.project,
        limit_member=terms.member,
        limit_project=terms.project,
        limit_action=terms.action,
    )
