"""May this work be handed over? One list at one version: charges, limits, invoices, roles, price of what comes next.

All but what the work cost is the review of the account (``spending/review.py``), which is also asked for unsigned: the two cannot
disagree. The answer is canonical JSON that is signed, so that whoever gets it can verify it later with the public key alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

import msgspec

from domain.account.estimating import PlannedUse
from domain.account.index import AccountIndex
from domain.account.standing import InvoiceOnFile
from domain.account.state import TeamAccount
from domain.amounts import format_credits
from domain.catalogue import Catalogue
from domain.spending.preflight import Check
from domain.spending.preflight import CheckName as ReviewName
from domain.spending.review import LimitNow, Review, review
from domain.team.state import Team
from domain.times import instant_text
from domain.work.costs import StepCost, WorkCost, WorkMove, cost_of
from domain.work.state import Work

FORMAT = "coffer.handover.1"
MEMBERS_MAX = 200
STEPS_MAX = 200
"""So many are listed; the totals count all."""

CheckName = Literal["charges", "limits", "invoices", "roles", "next_action"]

_NAMES: dict[ReviewName, CheckName] = {
    "limits": "limits",
    "invoices": "invoices",
    "role_permissions": "roles",
    "next_use": "next_action",
}
"""What a line of the review is called in the document: the names of its format never change."""


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
    told = review(account, team, catalogue, index, at, next_use)
    cost = cost_of(work, moves, told.account.holds)
    others = (check for check in told.checks if check.name != "charges")
    checks = [_charges(cost, told.check("charges")), *(_line(_NAMES[each.name], each) for each in others)]
    return Handover(
        format=FORMAT,
        team_id=account.team_id,
        work_id=work.work_id,
        at=instant_text(told.at),
        account_version=account.version,
        team_version=team.version,
        work_version=work.version,
        passes=all(each.passes for each in checks),
        checks=checks,
        total=_step(cost.total),
        steps=[_step(each) for each in cost.steps[:STEPS_MAX]],
        limits=[_limit(each) for each in told.limits],
        invoices=[_invoice(each) for each in told.open_invoices],
        members=[
            HandedMember(member=each.member, role=each.role, may=list(each.may))
            for each in told.members[:MEMBERS_MAX]
        ],
        next_action=None if next_use is None else _next_action(next_use, told),
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


def _limit(limit: LimitNow) -> HandedLimit:
    terms = limit.terms
    return HandedLimit(
        limit_id=terms.limit_id,
        hard=terms.hard,
        cap=format_credits(terms.cap_micros),
        used=format_credits(limit.used_micros),
        held=format_credits(limit.held_micros),
        is_near=limit.is_near,
        resets_at=None if limit.window_end is None else instant_text(limit.window_end),
    )


def _invoice(invoice: InvoiceOnFile) -> HandedInvoice:
    return HandedInvoice(
        invoice=invoice.invoice,
        period_start=instant_text(invoice.period_start),
        due_minor=invoice.due_minor,
    )


def _line(name: CheckName, check: Check) -> HandoverCheck:
    return HandoverCheck(
        check=name, passes=check.passes, why=check.why, remedy=check.remedy, who=list(check.who)
    )


def _charges(cost: WorkCost, of_account: Check) -> HandoverCheck:
    """What the work cost is settled when none of its holds is open, and nothing is owed or contested."""
    total = cost.total
    if total.holds:
        return HandoverCheck(
            check="charges",
            passes=False,
            why=f"{total.holds} holds with {format_credits(total.held_micros)} credits are open: what it costs is not settled",
            remedy="wait for the work that runs, or release its holds",
        )
    if not of_account.passes:
        return _line("charges", of_account)
    estimated = (
        "" if total.estimate_micros is None else f" of {format_credits(total.estimate_micros)} estimated"
    )
    return HandoverCheck(
        check="charges",
        passes=True,
        why=f"{format_credits(total.net_micros)} credits{estimated}, {total.failures} failures not charged",
    )


def _next_action(use: PlannedUse, told: Review) -> NextAction:
    estimates = told.next_use.estimates if told.next_use is not None else None
    return NextAction(
        action=use.action,
        meters=use.meters,
        dimensions=use.dimensions,
        amount=None if estimates is None else format_credits(estimates.amount_micros),
    )
