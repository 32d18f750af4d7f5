"""May this action run now? One checklist before the start: each check says why, what would make it pass, and who may do that."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal

import msgspec

from domain.account.estimating import Estimates, PlannedUse, account_at, estimate_uses
from domain.account.index import AccountIndex
from domain.account.lots import is_open_at
from domain.account.state import OPEN_HOLDS_MAX, TeamAccount
from domain.amounts import format_credits
from domain.catalogue import Catalogue
from domain.errors import LedgerError
from domain.spending.authority import MAY, Remedy, roles_alone, who_may
from domain.team.state import Team
from domain.times import instant_text

CheckName = Literal[
    "plan",
    "price",
    "available_credits",
    "limits",
    "role",
    "payment_details",
    "task_volume",
    "charges",
    "invoices",
    "role_permissions",
    "next_use",
]
TASKS_MAX = OPEN_HOLDS_MAX
"""So many tasks are looked at in one preflight: more could not hold credits at once."""


class PlannedTask(msgspec.Struct, frozen=True):
    """A use and how many times it is to run."""

    use: PlannedUse
    times: int = 1


class Check(msgspec.Struct, frozen=True, kw_only=True):
    """One check: why it passes or fails; where it fails, what would make it pass, and who in the team may do that.

    ``missing_micros`` is what lacks, where it is credits that lack. ``code`` is that of the refusal it stands for.
    """

    name: CheckName
    passes: bool
    why: str
    remedy: str | None = None
    kind: Remedy | None = None
    who: list[str] = []
    code: str | None = None
    missing_micros: int | None = None


class Preflight(msgspec.Struct, frozen=True):
    """The checklist at an instant and a version; ``estimates`` is None when something has no price."""

    at: datetime
    version: int
    checks: list[Check]
    estimates: Estimates | None

    @property
    def passes(self) -> bool:
        """Whether every check passes."""
        return all(check.passes for check in self.checks)


def preflight(
    account: TeamAccount,
    team: Team,
    catalogue: Catalogue,
    index: AccountIndex,
    at: datetime,
    tasks: Sequence[PlannedTask],
    member: str | None = None,
) -> Preflight:
    """Whether these tasks, asked for by this member now, may run: every check, whatever the others say. Nothing is changed.

    ``member`` counts for uses that name none. Never refuses: what would be refused is a check that fails.
    """
    at = max(at, account.recorded_at)
    booked = account_at(account, at, index)
    uses = _uses(tasks, member)
    estimates, refusal = _estimated(account, catalogue, index, at, uses)
    checks = [
        _plan(booked, team, at),
        _price(estimates, refusal),
        _credits(team, estimates),
        _limits(team, estimates),
        _role(team, member),
        _payment(team, at),
        _volume(booked, tasks),
    ]
    return Preflight(at, account.version, checks, estimates)


def _uses(tasks: Sequence[PlannedTask], member: str | None) -> list[PlannedUse]:
    uses: list[PlannedUse] = []
    for task in tasks:
        use = task.use if task.use.member else msgspec.structs.replace(task.use, member=member)
        # What could not be held at once is no matter of price: the volume says so.
        uses += [use] * min(task.times, max(1, TASKS_MAX - len(uses)))
    return uses


def _estimated(
    account: TeamAccount,
    catalogue: Catalogue,
    index: AccountIndex,
    at: datetime,
    uses: Sequence[PlannedUse],
) -> tuple[Estimates | None, LedgerError | None]:
    try:
        return estimate_uses(account, catalogue, index, at, uses), None
    except LedgerError as refusal:
        return None, refusal


def _failed(
    team: Team,
    name: CheckName,
    why: str,
    remedy: str,
    kind: Remedy,
    code: str | None = None,
    missing_micros: int | None = None,
) -> Check:
    # What a limit lacks is no purchase: only buying has a bound.
    amount_micros = missing_micros or 0 if kind == "top_up" else 0
    who = who_may(team, kind, amount_micros)
    if not who:
        roles = " or ".join(roles_alone(kind, amount_micros))
        remedy += f" (nobody in the team is {roles})" if roles else " (the platform's operator does that)"
    return Check(
        name=name,
        passes=False,
        why=why,
        remedy=remedy,
        kind=kind,
        who=who,
        code=code,
        missing_micros=missing_micros,
    )


def _plan(account: TeamAccount, team: Team, at: datetime) -> Check:
    if account.status != "open":
        return _failed(
            team,
            "plan",
            f"the account is {account.status}",
            "let the account be resumed" if account.status == "suspended" else "open another account",
            "resume",
            f"account_{account.status}",
        )
    if account.plan is not None:
        assert account.period_end is not None
        until = instant_text(account.period_end)
        return Check(
            name="plan", passes=True, why=f"plan {account.plan.plan_id}, whose period runs until {until}"
        )
    if any(lot.free_micros and is_open_at(lot.terms, at) for lot in account.lots):
        return Check(name="plan", passes=True, why="no plan: the team pays with credits that it has")
    return _failed(
        team, "plan", "the team has no plan and no credits", "buy credits, or ask for a plan", "top_up"
    )


def _price(estimates: Estimates | None, refusal: LedgerError | None) -> Check:
    if estimates is not None:
        amount = format_credits(estimates.amount_micros)
        return Check(name="price", passes=True, why=f"{amount} credits by the cards in force")
    assert refusal is not None
    if refusal.code == "account_closed":
        return Check(name="price", passes=False, why=refusal.detail, code=refusal.code)
    return Check(
        name="price",
        passes=False,
        why=refusal.detail,
        remedy="ask for an action, meters and dimensions that the rate card has (/v1/rate-cards)",
        code=refusal.code,
    )


def _credits(team: Team, estimates: Estimates | None) -> Check:
    if estimates is None:
        return Check(name="available_credits", passes=False, why="nothing can be said without a price")
    missing = estimates.debt_micros
    if not missing:
        # Where each use is covered in turn, holds of all of them would be given, too.
        left = estimates.uses[-1].available_after_micros if estimates.uses else 0
        return Check(
            name="available_credits", passes=True, why=f"covered; {format_credits(left)} are left after it"
        )
    return _failed(
        team,
        "available_credits",
        f"{format_credits(missing)} of {format_credits(estimates.amount_micros)} credits are not covered",
        f"buy at least {format_credits(missing)} credits",
        "top_up",
        "available",
        missing,
    )


def _limits(team: Team, estimates: Estimates | None) -> Check:
    if estimates is None:
        return Check(name="limits", passes=False, why="nothing can be said without a price")
    denials = (use.denial for use in estimates.uses)
    denial = next((each for each in denials if each is not None and each.rule == "limit"), None)
    if denial is None:
        soft = sorted({each.limit_id for use in estimates.uses for each in use.limits if each.is_passed})
        return Check(
            name="limits",
            passes=True,
            why=f"no hard limit is passed; soft ones that would be: {', '.join(soft)}"
            if soft
            else "room in all",
        )
    # For all of them, not only for the first that would be denied.
    needed = max(
        each.used_after_micros + each.held_micros
        for use in estimates.uses
        for each in use.limits
        if each.limit_id == denial.limit_id
    )
    wait = f", or wait until {instant_text(denial.window_end)}" if denial.window_end else ""
    return _failed(
        team,
        "limits",
        f"limit {denial.limit_id}: {format_credits(denial.used_micros)} used and {format_credits(denial.held_micros)} held"
        f" of {format_credits(denial.limit_micros)}, {format_credits(denial.requested_micros)} asked for",
        f"raise limit {denial.limit_id} to at least {format_credits(needed)}{wait}",
        "set_limit",
        "limit",
        needed - denial.limit_micros,
    )


def _role(team: Team, member: str | None) -> Check:
    if member is None:
        return Check(name="role", passes=True, why="nobody is named, so no role is asked for")
    found = team.members.get(member)
    if found is None:
        return _failed(
            team, "role", f"{member} is no member of the team", f"let {member} join as member", "invite"
        )
    if found.role in MAY["spend"]:
        return Check(name="role", passes=True, why=f"{member} is {found.role}")
    return _failed(
        team,
        "role",
        f"{member} is {found.role}, who may not spend",
        f"make {member} a member, or let somebody else ask",
        "invite",
    )


def _payment(team: Team, at: datetime) -> Check:
    lacks = [] if team.billing_details is not None else ["billing details"]
    method = team.payment_method
    if method is None:
        lacks.append("a payment method")
    elif (method.expires_year, method.expires_month) < (at.year, at.month):
        lacks.append(
            f"a card that is valid: the one on file ended {method.expires_year}-{method.expires_month:02d}"
        )
    if not lacks:
        assert method is not None
        return Check(name="payment_details", passes=True, why=f"{method.brand} ending in {method.last_four}")
    return _failed(
        team,
        "payment_details",
        f"the team lacks {' and '.join(lacks)}",
        f"give {' and '.join(lacks)}",
        "payment_details",
    )


def _volume(account: TeamAccount, tasks: Sequence[PlannedTask]) -> Check:
    asked, running = sum(task.times for task in tasks), len(account.holds)
    room = OPEN_HOLDS_MAX - running
    if asked <= room:
        return Check(
            name="task_volume", passes=True, why=f"{asked} tasks; {running} run now, {OPEN_HOLDS_MAX} may"
        )
    return Check(
        name="task_volume",
        passes=False,
        why=f"{asked} tasks, and {running} run now: {OPEN_HOLDS_MAX} may hold credits at once",
        remedy=f"start at most {max(room, 0)}, or wait until some have ended",
        code="too_many_holds",
    )
