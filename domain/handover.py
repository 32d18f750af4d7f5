"""May this work be handed over? One list at one version: charges, limits, invoices, roles, price of what comes next.

The answer is canonical JSON that is signed, so that whoever gets it can verify it later with the public key alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import islice
from typing import Literal, Protocol

import msgspec

from domain.account.calendar import window_at
from domain.account.estimating import PlannedUse, account_at
from domain.account.index import AccountIndex
from domain.account.limiting import held_micros, use_of
from domain.account.standing import invoice_on_file
from domain.account.state import Limit, TeamAccount
from domain.amounts import format_credits
from domain.catalogue import Catalogue
from domain.spending.authority import remedies_of, who_may
from domain.spending.preflight import Check, PlannedTask, preflight
from domain.team.state import Team
from domain.times import instant_text
from domain.work.costs import StepCost, WorkCost, WorkMove, cost_of
from domain.work.state import Work

FORMAT = "coffer.handover.1"
INVOICES_MAX = 100
"""So many of the newest invoices are looked at."""

MEMBERS_MAX = 200
STEPS_MAX = 200
"""So many are listed; the totals count all."""

NEAR_PERCENT = 80
"""A limit is near its cap from here on."""

CheckName = Literal["charges", "limits", "invoices", "roles", "next_action"]


class Signer(Protocol):
    """Signs with Ed25519; ``key_id`` names the key: the first 16 hex digits of the SHA-256 of its public key."""

    @property
    def key_id(self) -> str:
        """The name of the key."""
        ...

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        ...


class HandoverCheck(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line of the list: whether it is in order, why not, what would put it in order and who in the team may do that."""

    check: CheckName
    passes: bool
    why: str
    remedy: str | None = None
    who: list[str] = []


class HandedStep(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a step cost, in credits as decimal strings."""

    step: str
    charged: str
    refunded: str
    net: str
    failures: int
    held: str
    estimated: str | None = None


class HandedLimit(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A limit in its window of now, in credits as decimal strings."""

    limit_id: str
    hard: bool
    cap: str
    used: str
    held: str
    is_near: bool
    resets_at: str | None = None


class HandedInvoice(msgspec.Struct, frozen=True, kw_only=True):
    """An invoice that is still to be paid: minor units by currency."""

    invoice: str
    period_start: str
    due_minor: dict[str, int]


class HandedMember(msgspec.Struct, frozen=True, kw_only=True):
    """A member, the role, and what the role may do about spending."""

    member: str
    role: str
    may: list[str]


class NextAction(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What comes next, and what it would cost now; no amount where it has no price."""

    action: str
    meters: dict[str, str]
    dimensions: dict[str, str] = {}
    amount: str | None = None


class Handover(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was answered before a handover, all of it as of one version of the account, of the team and of the work."""

    format: str
    team_id: str
    work_id: str
    at: str
    account_version: int
    team_version: int
    work_version: int
    passes: bool
    checks: list[HandoverCheck]
    total: HandedStep
    steps: list[HandedStep]
    limits: list[HandedLimit]
    invoices: list[HandedInvoice]
    members: list[HandedMember]
    next_action: NextAction | None = None


def check_handover(
    account: TeamAccount,
    team: Team,
    work: Work,
    moves: Sequence[WorkMove],
    catalogue: Catalogue,
    index: AccountIndex,
    at: datetime,
    next_use: PlannedUse | None = None,
) -> Handover:
    """Everything that is to be known before the work is handed over, as it stands at ``at``. Never refuses, changes nothing."""
    at = max(at, account.recorded_at)
    booked = account_at(account, at, index)
    cost = cost_of(work, moves, booked.holds)
    limits = [_limit(limit, booked, index, at) for limit in booked.limits]
    invoices = _open_invoices(index)
    next_check, action = _next(account, team, catalogue, index, at, next_use)
    checks = [
        _charges(cost),
        _limits(team, limits),
        _invoices(team, invoices),
        _roles(team),
        *next_check,
    ]
    return Handover(
        format=FORMAT,
        team_id=account.team_id,
        work_id=work.work_id,
        at=instant_text(at),
        account_version=account.version,
        team_version=team.version,
        work_version=work.version,
        passes=all(each.passes for each in checks),
        checks=checks,
        total=_step(cost.total),
        steps=[_step(each) for each in cost.steps[:STEPS_MAX]],
        limits=limits,
        invoices=invoices,
        members=[
            HandedMember(member=member, role=now.role, may=list(remedies_of(now.role)))
            for member, now in islice(team.members.items(), MEMBERS_MAX)
        ],
        next_action=action,
    )


def document_of(handover: Handover) -> str:
    """The canonical JSON that is signed: names in order, no spaces, UTF-8."""
    return msgspec.json.encode(handover, order="sorted").decode()


def _step(cost: StepCost) -> HandedStep:
    return HandedStep(
        step=cost.step,
        charged=format_credits(cost.charged_micros),
        refunded=format_credits(cost.refunded_micros),
        net=format_credits(cost.net_micros),
        failures=cost.failures,
        held=format_credits(cost.held_micros),
        estimated=None if cost.estimate_micros is None else format_credits(cost.estimate_micros),
    )


def _limit(limit: Limit, account: TeamAccount, index: AccountIndex, at: datetime) -> HandedLimit:
    terms = limit.terms
    start, end = window_at(account, index, terms.window, at)
    used, held = use_of(index, limit, start, end).used_micros, held_micros(account, terms)
    return HandedLimit(
        limit_id=terms.limit_id,
        hard=terms.hard,
        cap=format_credits(terms.cap_micros),
        used=format_credits(used),
        held=format_credits(held),
        is_near=(used + held) * 100 >= terms.cap_micros * NEAR_PERCENT,
        resets_at=None if end is None else instant_text(end),
    )


def _open_invoices(index: AccountIndex) -> list[HandedInvoice]:
    # Parts of an invoice are entries as well, whose keys go on after a space.
    numbers = (key for key, _ in index.latest("invoice") if " " not in key)
    found = (invoice_on_file(index, number) for number in islice(numbers, INVOICES_MAX))
    return [
        HandedInvoice(
            invoice=each.invoice, period_start=instant_text(each.period_start), due_minor=each.due_minor
        )
        for each in found
        if each is not None and each.status == "issued" and each.due_minor
    ]


def _charges(cost: WorkCost) -> HandoverCheck:
    total = cost.total
    if total.holds:
        return HandoverCheck(
            check="charges",
            passes=False,
            why=f"{total.holds} holds with {format_credits(total.held_micros)} credits are open: what it costs is not settled",
            remedy="wait for the work that runs, or release its holds",
        )
    estimated = (
        "" if total.estimate_micros is None else f" of {format_credits(total.estimate_micros)} estimated"
    )
    return HandoverCheck(
        check="charges",
        passes=True,
        why=f"{format_credits(total.net_micros)} credits{estimated}, {total.failures} failures not charged",
    )


def _limits(team: Team, limits: Sequence[HandedLimit]) -> HandoverCheck:
    near = [each.limit_id for each in limits if each.is_near]
    if not near:
        return HandoverCheck(check="limits", passes=True, why=f"none of {len(limits)} limits is near its cap")
    return HandoverCheck(
        check="limits",
        passes=False,
        why=f"used to {NEAR_PERCENT} % or more: {', '.join(sorted(near))}",
        remedy="raise them, or wait until they reset",
        who=who_may(team, "set_limit"),
    )


def _invoices(team: Team, invoices: Sequence[HandedInvoice]) -> HandoverCheck:
    if not invoices:
        return HandoverCheck(check="invoices", passes=True, why="no invoice is open")
    return HandoverCheck(
        check="invoices",
        passes=False,
        why=f"{len(invoices)} to be paid: {', '.join(each.invoice for each in invoices)}",
        remedy="pay them",
        who=who_may(team, "payment_details"),
    )


def _roles(team: Team) -> HandoverCheck:
    if not team.owners():
        return HandoverCheck(
            check="roles",
            passes=False,
            why="the team has no owner, so nobody may decide for it",
            remedy="let somebody join as owner",
        )
    able = who_may(team, "spend")
    return HandoverCheck(
        check="roles", passes=True, why=f"{len(team.owners())} owners, {len(able)} members may spend"
    )


def _next(
    account: TeamAccount,
    team: Team,
    catalogue: Catalogue,
    index: AccountIndex,
    at: datetime,
    use: PlannedUse | None,
) -> tuple[list[HandoverCheck], NextAction | None]:
    if use is None:
        return [], None
    told = preflight(account, team, catalogue, index, at, [PlannedTask(use)])
    failed: Check | None = next(
        (
            each
            for each in told.checks
            if not each.passes and each.name in ("price", "available_credits", "limits", "plan")
        ),
        None,
    )
    amount = None if told.estimates is None else format_credits(told.estimates.amount_micros)
    action = NextAction(action=use.action, meters=use.meters, dimensions=use.dimensions, amount=amount)
    if failed is None:
        return [HandoverCheck(check="next_action", passes=True, why=f"{amount} credits, covered")], action
    return [
        HandoverCheck(check="next_action", passes=False, why=failed.why, remedy=failed.remedy, who=failed.who)
    ], action
