"""May I hand this over? What speaks against it: debt, contested charges, limits at their cap, open invoices, nobody to decide."""

from __future__ import annotations

from collections.abc import Sequence

from domain.account.state import TeamAccount
from domain.amounts import format_credits
from domain.spending.authority import who_may
from domain.spending.preflight import Check, Preflight
from domain.team.state import Team


def review(
    account: TeamAccount,
    team: Team,
    at_cap: Sequence[str],
    open_invoices: Sequence[str],
    next_use: Preflight | None,
) -> list[Check]:
    """Every check of a handover, on an account with everything booked that is due.

    ``at_cap`` are hard limits with nothing left, ``open_invoices`` those that are issued and not settled.
    """
    checks = [
        _charges(account, team),
        _limits(team, at_cap),
        _invoices(team, open_invoices),
        _permissions(team),
    ]
    return checks if next_use is None else [*checks, _next_use(next_use)]


def _charges(account: TeamAccount, team: Team) -> Check:
    if account.debt_micros:
        debt = format_credits(account.debt_micros)
        return Check(
            name="charges",
            passes=False,
            why=f"{debt} credits of debt",
            remedy=f"buy at least {debt} credits",
            kind="top_up",
            who=who_may(team, "top_up"),
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


def _limits(team: Team, at_cap: Sequence[str]) -> Check:
    if not at_cap:
        return Check(name="limits", passes=True, why="every hard limit has something left")
    return Check(
        name="limits",
        passes=False,
        why=f"nothing left of {', '.join(at_cap)}",
        remedy="raise the limit, or wait for its next window",
        kind="set_limit",
        who=who_may(team, "set_limit"),
    )


def _invoices(team: Team, open_invoices: Sequence[str]) -> Check:
    if not open_invoices:
        return Check(name="invoices", passes=True, why="none is open")
    return Check(
        name="invoices",
        passes=False,
        why=f"open: {', '.join(open_invoices)}",
        remedy="pay them",
        kind="payment_details",
        who=who_may(team, "payment_details"),
    )


def _permissions(team: Team) -> Check:
    if not who_may(team, "top_up"):
        return Check(
            name="role_permissions",
            passes=False,
            why="nobody in the team may buy credits or set limits",
            remedy="let an owner join the team",
        )
    return Check(
        name="role_permissions",
        passes=True,
        why=f"{', '.join(who_may(team, 'top_up')[:5])} may buy credits and set limits",
    )


def _next_use(asked: Preflight) -> Check:
    failing = next((check for check in asked.checks if not check.passes), None)
    if failing is None:
        assert asked.estimates is not None
        return Check(
            name="next_use",
            passes=True,
            why=f"it costs {format_credits(asked.estimates.amount_micros)} credits",
        )
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
