"""Answers about use that is planned and credits that were spent."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, Any

import msgspec
from pydantic import Field

from api.answers import CardAnswer, Instant, LineAnswer, Micros, Place, Told
from api.answers_limits import LimitAnswer
from domain.account.estimating import Estimate, LimitAfter
from domain.account.events import HoldDenied
from domain.account.standing import InvoiceOnFile
from domain.spending.buying import Basis, Buying
from domain.spending.forecasting import Forecast
from domain.spending.planning import Bite, Course
from domain.spending.preflight import Check
from domain.spending.saving import PlanActual
from domain.volumes import PlannedPath, SavedPlan, VolumeLine


class LimitAfterAnswer(Told):
    """A limit that counts a use, and its window after it."""

    limit_id: str
    window: str
    hard: bool
    cap: Micros
    used_after: Micros
    held: Micros
    left: Micros
    is_passed: bool
    resets_at: Instant | None

    @classmethod
    def of(cls, limit: LimitAfter) -> LimitAfterAnswer:
        """The answer for a limit."""
        return cls(
            limit_id=limit.limit_id,
            window=limit.window,
            hard=limit.hard,
            cap=limit.cap_micros,
            used_after=limit.used_after_micros,
            held=limit.held_micros,
            left=limit.left_micros,
            is_passed=limit.is_passed,
            resets_at=limit.window_end,
        )


class WouldBeDenied(Told):
    """What a hold of the amount would be answered: the rule that leaves least room, or the code of the refusal."""

    code: Annotated[str, Field(examples=["limit", "available", "account_suspended"])]
    detail: str
    limit_id: str | None = None
    used: Micros | None = None
    held: Micros | None = None
    limit: Micros | None = None
    requested: Micros | None = None

    @classmethod
    def of(cls, estimate: Estimate) -> WouldBeDenied | None:
        """The answer; None when the hold would be given."""
        if estimate.refusal is not None:
            return cls(code=estimate.refusal.code, detail=estimate.refusal.detail)
        return None if estimate.denial is None else cls._denied(estimate.denial)

    @classmethod
    def _denied(cls, denial: HoldDenied) -> WouldBeDenied:
        what = f"limit {denial.limit_id}" if denial.limit_id else "the credits available"
        return cls(
            code=denial.rule,
            detail=f"{what} would leave no room for it",
            limit_id=denial.limit_id,
            used=denial.used_micros,
            held=denial.held_micros,
            limit=denial.limit_micros,
            requested=denial.requested_micros,
        )


class UseEstimateAnswer(Told):
    """One use as the charge that it would be, and the account after it."""

    action: str
    priced: bool
    amount: Micros
    lines: list[LineAnswer]
    debt: Micros
    settled_after: Micros
    debt_after: Micros
    available_after: Annotated[Micros, Field(description="What may then be spent on such a use.")]
    limits: list[LimitAfterAnswer]
    denied: Annotated[
        WouldBeDenied | None, Field(description="What a hold before it would be answered; null: it is given.")
    ]
    card: CardAnswer | None
    computation: dict[str, Any] | None

    @classmethod
    def of(cls, estimate: Estimate) -> UseEstimateAnswer:
        """The answer for one use."""
        priced = estimate.priced
        card = priced.card if priced else None
        return cls(
            action=estimate.use.action,
            priced=priced is not None,
            amount=estimate.amount_micros,
            lines=[LineAnswer(lot_id=line.lot_id, amount=line.amount_micros) for line in estimate.lines],
            debt=estimate.debt_micros,
            settled_after=estimate.settled_after_micros,
            debt_after=estimate.debt_after_micros,
            available_after=estimate.available_after_micros,
            limits=[LimitAfterAnswer.of(limit) for limit in estimate.limits],
            denied=WouldBeDenied.of(estimate),
            card=CardAnswer(card_id=card.card_id, version=card.version, digest=card.digest) if card else None,
            computation=msgspec.json.decode(priced.price.computation, type=dict[str, Any])
            if priced
            else None,
        )


class EstimatesAnswer(Place):
    """Uses in the order given, each on the account as the one before it would leave it."""

    team_id: str
    mode: str
    amount: Micros
    debt: Micros
    data: list[UseEstimateAnswer]


class CheckAnswer(Told):
    """One check; where it fails, what would make it pass, and who in the team may do that."""

    check: str
    passes: bool
    why: str
    remedy: str | None
    who: Annotated[list[str], Field(description="Members who may do it.")]
    code: str | None
    missing: Annotated[Micros | None, Field(description="The credits that lack.")]

    @classmethod
    def of(cls, check: Check) -> CheckAnswer:
        """The answer for a check."""
        return cls(
            check=check.name,
            passes=check.passes,
            why=check.why,
            remedy=check.remedy,
            who=check.who,
            code=check.code,
            missing=check.missing_micros,
        )


class PreflightAnswer(Place):
    """May these tasks run now? Every check, whatever the others say."""

    team_id: str
    passes: bool
    amount: Annotated[Micros | None, Field(description="What all tasks cost; null when one has no price.")]
    checks: list[CheckAnswer]


class SpentAnswer(Told):
    """What was used, by what was asked for; a part that was not asked for, or that a use did not name, is null."""

    day: dt.date | None
    action: str | None
    member: str | None
    project: str | None
    work: str | None
    uses: int
    waived: Annotated[int, Field(description="Uses that cost nothing: failed, corrected, nothing to price.")]
    charged: Micros
    refunded: Annotated[Micros, Field(description="Given back, whenever, of the charges of this row.")]
    net: Micros


class ForecastAnswer(Told):
    """What the next days cost, if the team goes on as it did."""

    days: int
    low: Micros
    expected: Micros
    high: Micros
    stated_percent: Annotated[int, Field(description="So many of a hundred such intervals hold what comes.")]
    other_teams: Annotated[
        int,
        Field(
            description="Of how many other teams of this ledger it was learned how teams go on; 0: too few have spent"
            " enough, so it is built in, as a public trace taught it."
        ),
    ]

    @classmethod
    def of(cls, told: Forecast, days: int) -> ForecastAnswer:
        """The answer for a forecast."""
        return cls(
            days=days,
            low=told.low_micros,
            expected=told.expected_micros,
            high=told.high_micros,
            stated_percent=told.stated_percent,
            other_teams=told.pool_teams,
        )


class SpendingAnswer(Place):
    """Spending of days in the team's zone, what is spent a day of late, and a forecast."""

    team_id: str
    zone: str
    since: dt.date
    until: Annotated[dt.date, Field(description="The first day that does not count.")]
    charged: Micros
    refunded: Micros
    net: Micros
    burn_rate: Annotated[
        Micros, Field(description="Spent a day in the last four weeks, or since the first use.")
    ]
    forecast: ForecastAnswer
    data: list[SpentAnswer]


class VolumeAnswer(Told):
    """So many uses of one kind over the horizon."""

    action: str
    meters: dict[str, str]
    dimensions: dict[str, str]
    member: str | None
    project: str | None
    low: int
    expected: int
    high: int
    amount: Annotated[Micros | None, Field(description="What one costs, where the past said so.")]

    @classmethod
    def of(cls, line: VolumeLine) -> VolumeAnswer:
        """The answer for a line."""
        return cls(
            action=line.action,
            meters=line.meters,
            dimensions=line.dimensions,
            member=line.member,
            project=line.project,
            low=line.low,
            expected=line.expected,
            high=line.high,
            amount=line.amount_micros,
        )


class LotShareAnswer(Told):
    """Credits of one lot."""

    lot_id: str
    source: str
    expires_at: Instant | None
    amount: Micros


class BiteAnswer(Told):
    """The first limit that would refuse a request: when, in which window, whose, and whom it counts (null: everyone).

    The numbers are those of the denial that a hold of the use would then be answered.
    """

    code: Annotated[str, Field(description="That of the denial.", examples=["limit"])]
    limit_id: str
    at: Instant
    window: Annotated[str, Field(examples=["hour", "day"])]
    window_start: Instant
    window_end: Annotated[Instant | None, Field(description="When it resets; null for a lifetime.")]
    cap: Micros
    used: Annotated[Micros, Field(description="Of the window by then, planned uses included.")]
    held: Micros
    requested: Micros
    action: str
    member: str | None
    project: str | None
    counts_member: str | None
    counts_project: str | None
    counts_action: str | None

    @classmethod
    def of(cls, bite: Bite) -> BiteAnswer:
        """The answer for a limit."""
        return cls(
            code=bite.code,
            limit_id=bite.limit_id,
            at=bite.at,
            window=bite.window,
            window_start=bite.window_start,
            window_end=bite.window_end,
            cap=bite.cap_micros,
            used=bite.used_micros,
            held=bite.held_micros,
            requested=bite.requested_micros,
            action=bite.action,
            member=bite.member,
            project=bite.project,
            counts_member=bite.limit_member,
            counts_project=bite.limit_project,
            counts_action=bite.limit_action,
        )


class BuyingAnswer(Told):
    """The top-up that would cover a path: what it costs by a price that is known, and who may see to it."""

    amount: Micros
    price_minor: Annotated[
        int | None, Field(description="In minor units, rounded up; null when no price is known.")
    ]
    tax_minor: Annotated[int | None, Field(description="Tax on it, where the price says so.")]
    currency: str | None
    basis: Annotated[
        Basis | None,
        Field(
            description="What the price is taken from: automatic top-up, else the last one paid, else the plan."
        ),
    ]
    why: Annotated[str, Field(description="The price that is taken, or why none is known.")]
    may_buy: Annotated[list[str], Field(description="Members who may buy so much alone.")]
    may_ask: Annotated[list[str], Field(description="Members who may ask for it and need an approval.")]
    may_approve: Annotated[list[str], Field(description="Members who may approve what another asks for.")]

    @classmethod
    def of(cls, buying: Buying) -> BuyingAnswer:
        """The answer for a top-up."""
        return cls(
            amount=buying.amount_micros,
            price_minor=buying.price_minor,
            tax_minor=buying.tax_minor,
            currency=buying.currency,
            basis=buying.price.basis if buying.price is not None else None,
            why=buying.why,
            may_buy=buying.may_buy,
            may_ask=buying.may_ask,
            may_approve=buying.may_approve,
        )


class CourseAnswer(Told):
    """What one path comes to."""

    cost: Micros
    uses: int
    covered: Annotated[list[LotShareAnswer], Field(description="Which lots pay how much.")]
    uncovered: Micros
    run_out_at: Annotated[Instant | None, Field(description="The first use that is not covered.")]
    expiring: Annotated[list[LotShareAnswer], Field(description="What expires unused within the horizon.")]
    first_limit: BiteAnswer | None
    top_up: Annotated[Micros, Field(description="Bought now, it would cover every use.")]
    buying: Annotated[
        BuyingAnswer | None,
        Field(description="What the top-up costs and who may buy it; null when none is needed."),
    ]

    @classmethod
    def of(cls, course: Course) -> CourseAnswer:
        """The answer for a path."""
        return cls(
            cost=course.cost_micros,
            uses=course.uses,
            covered=[
                _share(each.lot.lot_id, each.lot.source, each.lot.expires_at, each.amount_micros)
                for each in course.covered
            ],
            uncovered=course.uncovered_micros,
            run_out_at=course.run_out_at,
            expiring=[
                _share(each.lot.lot_id, each.lot.source, each.lot.expires_at, each.amount_micros)
                for each in course.expiring
            ],
            first_limit=BiteAnswer.of(course.first_limit) if course.first_limit else None,
            top_up=course.top_up_micros,
            buying=BuyingAnswer.of(course.buying) if course.buying else None,
        )


def _share(lot_id: str, source: str, expires_at: dt.datetime | None, amount_micros: int) -> LotShareAnswer:
    return LotShareAnswer(lot_id=lot_id, source=source, expires_at=expires_at, amount=amount_micros)


class SpendingPlanAnswer(Place):
    """What planned volumes come to, on three paths; with what is learned from the past when no volumes were given."""

    team_id: str
    starts_at: Instant
    ends_at: Instant
    is_learned: bool
    forecast: Annotated[ForecastAnswer | None, Field(description="What the volumes were learned from.")]
    volumes: list[VolumeAnswer]
    low: CourseAnswer
    expected: CourseAnswer
    high: CourseAnswer
    may_top_up: Annotated[list[str], Field(description="Members who may buy credits, or ask for them.")]
    may_set_limits: Annotated[list[str], Field(description="Members who may raise the limit.")]


class PlannedPathAnswer(Told):
    """What one path of a saved plan came to when it was saved."""

    cost: Micros
    run_out_at: Instant | None
    top_up: Micros

    @classmethod
    def of(cls, path: PlannedPath) -> PlannedPathAnswer:
        """The answer for a path."""
        return cls(cost=path.cost_micros, run_out_at=path.run_out_at, top_up=path.top_up_micros)


class SavedPlanAnswer(Told):
    """A spending plan as it was saved."""

    plan_id: str
    audience: str
    starts_at: Instant
    ends_at: Instant
    account_version: int
    is_learned: bool
    volumes: list[VolumeAnswer]
    low: PlannedPathAnswer
    expected: PlannedPathAnswer
    high: PlannedPathAnswer

    @classmethod
    def of(cls, plan: SavedPlan) -> SavedPlanAnswer:
        """The answer for a plan."""
        return cls(
            plan_id=plan.plan_id,
            audience=plan.audience,
            starts_at=plan.starts_at,
            ends_at=plan.ends_at,
            account_version=plan.account_version,
            is_learned=plan.is_learned,
            volumes=[VolumeAnswer.of(line) for line in plan.lines],
            low=PlannedPathAnswer.of(plan.low),
            expected=PlannedPathAnswer.of(plan.expected),
            high=PlannedPathAnswer.of(plan.high),
        )


class SavedPlansAnswer(Place):
    """The plans that were saved, the newest last; at most twenty."""

    team_id: str
    data: list[SavedPlanAnswer]


class ActualLineAnswer(Told):
    """What was planned and used of one action so far."""

    action: str
    is_planned: bool
    low: int
    expected: int
    high: int
    uses: int
    net: Micros


class PlanActualAnswer(Place):
    """A plan against what came: whole days of the team's zone, the day on which it starts included."""

    team_id: str
    plan: SavedPlanAnswer
    until: Instant
    is_over: bool
    spent: Micros
    due: Annotated[Micros, Field(description="The part of the expected cost for the time that has passed.")]
    is_within: Annotated[
        bool, Field(description="Whether what was spent lies between the parts of low and high.")
    ]
    data: list[ActualLineAnswer]

    @classmethod
    def told(cls, place: dict[str, Any], actual: PlanActual) -> PlanActualAnswer:
        """The answer for a plan."""
        return cls(
            **place,
            plan=SavedPlanAnswer.of(actual.plan),
            until=actual.until,
            is_over=actual.is_over,
            spent=actual.spent_micros,
            due=actual.due_micros,
            is_within=actual.is_within,
            data=[
                ActualLineAnswer(
                    action=line.action,
                    is_planned=line.is_planned,
                    low=line.low,
                    expected=line.expected,
                    high=line.high,
                    uses=line.uses,
                    net=line.net_micros,
                )
                for line in actual.lines
            ],
        )


class RecentChargeAnswer(Told):
    """A charge of late."""

    version: int
    charge_id: str | None
    occurred_at: Instant
    action: str | None
    member: str | None
    project: str | None
    work: str | None
    amount: Micros


class OpenInvoiceAnswer(Told):
    """An invoice that is issued and not settled, as of the version of the answer."""

    invoice: str
    status: str
    period_start: Instant
    due_minor: Annotated[dict[str, int], Field(description="What is still to be paid, by currency.")]

    @classmethod
    def of(cls, invoice: InvoiceOnFile) -> OpenInvoiceAnswer:
        """The answer for an invoice."""
        return cls(
            invoice=invoice.invoice,
            status=invoice.status,
            period_start=invoice.period_start,
            due_minor=invoice.due_minor,
        )


class MemberMayAnswer(Told):
    """A member, and what the role may do."""

    member: str
    role: str
    may: list[str]


class ReviewAnswer(Place):
    """May I hand this over? Charges, limits, invoices, permissions, and the price of what comes next."""

    team_id: str
    ready: Annotated[bool, Field(description="Whether every check passes.")]
    checks: list[CheckAnswer]
    available: Micros
    debt: Micros
    charges: Annotated[list[RecentChargeAnswer], Field(description="The newest, newest first.")]
    limits_near: Annotated[list[LimitAnswer], Field(description="Limits at 80 % of their cap or beyond.")]
    open_invoices: list[OpenInvoiceAnswer]
    members: list[MemberMayAnswer]
    next_use: UseEstimateAnswer | None
