"""What there is to know of an account before work is handed over: found once, for a review and for the check that is signed.

Charges, limits near their cap, open invoices, members and what each may do, the price of what comes next; and what of it speaks
against handing over.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from domain.account.calendar import window_at
from domain.account.estimating import PlannedUse, account_at
from domain.account.index import AccountIndex, IndexOverlay
from domain.account.limiting import held_micros, use_of
from domain.account.standing import InvoiceOnFile, invoice_on_file
from domain.account.state import Limit, TeamAccount
from domain.amounts import format_credits
from domain.catalogue import Catalogue
from domain.commands import MemberRole
from domain.spending.authority import Remedy, remedies_of, who_may
from domain.spending.preflight import Check, CheckName, PlannedTask, Preflight, preflight
from domain.team.state import Team
from domain.terms import LimitTerms

NEAR_PERCENT = 80
"""A limit is near its cap from here on."""

INVOICES_MAX = 100
"""So many of the newest documents are looked at."""

DECIDING: frozenset[CheckName] = frozenset({"plan", "price", "available_credits", "limits", "role"})
"""What keeps a use from running. Payment details and the number of tasks do not, where credits cover one use."""


class LimitNow(msgspec.Struct, frozen=True, kw_only=True):
    """A limit in its window of now."""

    terms: LimitTerms
    window_start: datetime
    window_end: datetime | None
    used_micros: int
    held_micros: int

    @property
    def is_near(self) -> bool:
        """Whether it is used, or held, to ``NEAR_PERCENT`` or more."""
        return (self.used_micros + self.held_micros) * 100 >= self.terms.cap_micros * NEAR_PERCENT


class MemberNow(NamedTuple):
    """A member, the role, and what the role may do about spending."""

    member: str
    role: MemberRole
    may: list[Remedy]


class Review(msgspec.Struct, frozen=True, kw_only=True):
    """An account as it stands at ``at``, with everything booked that is due, before work is handed over.

    ``limits`` are all there are, ``open_invoices`` those issued and not settled, ``next_use`` the preflight of what comes next.
    """

    at: datetime
    version: int
    account: TeamAccount
    checks: list[Check]
    limits: list[LimitNow]
    open_invoices: list[InvoiceOnFile]
    members: list[MemberNow]
    next_use: Preflight | None

    @property
    def passes(self) -> bool:
        """Whether every check passes."""
        return all(check.passes for check in self.checks)

    def check(self, name: CheckName) -> Check:
        """The check of that name, which is there."""
        return next(check for check in self.checks if check.name == name)


def review(
    account: TeamAccount,
    team: Team,
    catalogue: Catalogue,
    index: AccountIndex,
    at: datetime,
    next_use: PlannedUse | None = None,
    member: str | None = None,
) -> Review:
    """All that is to be known of the account as it stands at ``at``; ``member`` would ask for what comes next.

    Never refuses, changes nothing.
    """
    at = max(at, account.recorded_at)
    # What is due is booked over the index, not into it.
    over = IndexOverlay(index)
    booked = account_at(account, at, over)
    limits = [_limit(limit, booked, over, at) for limit in booked.limits]
    invoices = _open_invoices(index)
    asked = (
        None
        if next_use is None
        else preflight(account, team, catalogue, index, at, [PlannedTask(next_use)], member)
    )
    checks = [
        _charges(booked, team),
        _limits(team, limits),
        _invoices(team, invoices),
        _permissions(team),
        *([] if asked is None else [_next_use(asked)]),
    ]
    return Review(
        at=at,
        version=account.version,
        account=booked,
        checks=checks,
        limits=limits,
        open_invoices=invoices,
        members=[
            MemberNow(name, now.role, list(remedies_of(now.role))) for name, now in team.members.items()
        ],
        next_use=asked,
    )


def _limit(limit: Limit, account: TeamAccount, index: AccountIndex, at: datetime) -> LimitNow:
    terms = limit.terms
    start, end = window_at(account, index, terms.window, at)
    return LimitNow(
        terms=terms,
        window_start=start,
        window_end=end,
        used_micros=use_of(index, limit, start, end).used_micros,
        held_micros=held_micros(account, terms),
    )


def _open_invoices(index: AccountIndex) -> list[InvoiceOnFile]:
    """Those that are issued and have something left to pay, of the newest documents, the newest first."""
    # Read in one go: parts of a document are entries, too, whose keys are its number, a space and more, so they come before it.
    numbers: list[str] = []
    read: dict[str, bytes | None] = {}
    for key, entry in index.latest("invoice"):
        read[key] = entry
        if " " not in key:
            numbers.append(key)
            if len(numbers) == INVOICES_MAX:
                break
    newest = IndexOverlay()
    newest.entries["invoice"] = read
    found = (invoice_on_file(newest, number) for number in numbers)
    return [each for each in found if each is not None and each.status == "issued" and each.due_minor]


def _charges(account: TeamAccount, team: Team) -> Check:
    if account.debt_micros:
        debt = format_credits(account.debt_micros)
        return Check(
            name="charges",
            passes=False,
            why=f"{debt} credits of debt",
            remedy=f"buy at least {debt} credits",
            kind="top_up",
            who=who_may(team, "top_up", account.debt_micros),
            missing_micros=account.debt_micros,
        )
    if account.disputes:
        return Check(
            name="charges",
            passes=False,
            why=f"charges are contested: {', '.join(sorted(account.disputes))}",
            remedy="wait until they are decided",
        )
    return Check(name="charges", passes=True, why="no debt, and nothing is contested")


def _limits(team: Team, limits: Sequence[LimitNow]) -> Check:
    """Hard limits fail it: a soft one near its cap is told, and stops nobody."""
    near = sorted(limit.terms.limit_id for limit in limits if limit.is_near and limit.terms.hard)
    if near:
        return Check(
            name="limits",
            passes=False,
            why=f"used to {NEAR_PERCENT} % or more: {', '.join(near)}",
            remedy="raise them, or wait until they reset",
            kind="set_limit",
            who=who_may(team, "set_limit"),
        )
    soft = sorted(limit.terms.limit_id for limit in limits if limit.is_near)
    but = f", soft ones are: {', '.join(soft)}" if soft else ""
    return Check(name="limits", passes=True, why=f"no hard limit of {len(limits)} is near its cap{but}")


def _invoices(team: Team, open_invoices: Sequence[InvoiceOnFile]) -> Check:
    if not open_invoices:
        return Check(name="invoices", passes=True, why="no invoice is open")
    return Check(
        name="invoices",
        passes=False,
        why=f"{len(open_invoices)} to be paid: {', '.join(each.invoice for each in open_invoices)}",
        remedy="pay them",
        kind="payment_details",
        who=who_may(team, "payment_details"),
    )


def _permissions(team: Team) -> Check:
    if not team.owners():
        return Check(
            name="role_permissions",
            passes=False,
            why="the team has no owner, so nobody may decide for it",
            remedy="let somebody join as owner",
        )
    able = who_may(team, "top_up")
    return Check(
        name="role_permissions",
        passes=True,
        why=f"{len(team.owners())} owners; {', '.join(able[:5])} may buy credits and set limits;"
        f" {len(who_may(team, 'spend'))} members may spend",
    )


def _next_use(asked: Preflight) -> Check:
    failing = next(
        (check for check in asked.checks if not check.passes and check.name in DECIDING),
        None,
    )
    if failing is None:
        assert asked.estimates is not None, "a price that is not known fails its check"
        amount = format_credits(asked.estimates.amount_micros)
        return Check(name="next_use", passes=True, why=f"it costs {amount} credits, covered")
    return Check(
        name="next_use",
        passes=False,
        why=f"{failing.name}: {failing.why}",
        remedy=failing.remedy,
        kind=failing.kind,
        who=failing.who,
        code=failing.code,
        missing_micros=failing.missing_micros,
    )
