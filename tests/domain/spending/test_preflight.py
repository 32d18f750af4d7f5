"""One checklist before the start: what fails says why, what would make it pass, and who may do that."""

from __future__ import annotations

from typing import Any

import pytest

from domain.account.estimating import PlannedUse
from domain.account.events import LimitTerms
from domain.billing import BillingDetails
from domain.commands import PaymentMethod, SetLimit, SuspendAccount
from domain.spending.preflight import Check, PlannedTask, preflight
from domain.team.state import Member, Team
from tests.builders import AnAccount, a_catalogue, a_plan, micros, unit_card, when

AT = "2026-11-03 12:00"
NAMES = ["plan", "price", "available_credits", "limits", "role", "payment_details", "task_volume"]


def a_team(**changes: Any) -> Team:
    """Olga owns it, Adam administers it, Mira works, Vera looks on."""
    roles: Any = {"olga": "owner", "adam": "admin", "mira": "member", "vera": "viewer"}
    fields: dict[str, Any] = {
        "team_id": "acme",
        "members": {member: Member(role, when(AT)) for member, role in roles.items()},
        "billing_details": BillingDetails(name="Acme", address_lines=["Street 1"], country="DE"),
        "payment_method": PaymentMethod(
            token="tok", brand="visa", last_four="4242", expires_month=11, expires_year=2026
        ),
    }
    return Team(**(fields | changes))


def an_account() -> AnAccount:
    account = AnAccount(catalogue=a_catalogue(unit_card(), plans=[a_plan("studio", 20)]))
    account.planned("studio", "2026-11-01 00:00")
    return account


def asked(
    account: AnAccount, team: Team, times: int = 1, member: str | None = "mira", **use: Any
) -> dict[str, Check]:
    planned = PlannedUse(**({"action": "image.generate", "meters": {"units": "4"}} | use))
    found = preflight(
        account.account,
        team,
        account.catalogue,
        account.index,
        when(AT),
        [PlannedTask(planned, times)],
        member,
    )
    assert [check.name for check in found.checks] == NAMES
    assert found.passes == all(check.passes for check in found.checks)
    return {check.name: check for check in found.checks}


def failing(checks: dict[str, Check]) -> list[str]:
    return [name for name, check in checks.items() if not check.passes]


def test_a_team_with_plan_credits_and_papers_may_start() -> None:
    checks = asked(an_account(), a_team(), times=5)

    assert failing(checks) == []
    assert checks["price"].why == "20 credits by the cards in force"


def test_credits_that_lack_are_told_to_the_micro_credit_with_who_may_buy_them() -> None:
    check = asked(an_account(), a_team(), times=6)["available_credits"]

    assert (check.passes, check.missing_micros, check.who) == (False, micros(4), ["olga", "adam"])
    assert check.remedy == "buy at least 4 credits"


def test_what_would_make_a_check_pass_makes_it_pass() -> None:
    account = an_account()
    account.bought("more", 4, "2026-11-02 00:00")

    assert failing(asked(account, a_team(), times=6)) == []


def test_a_limit_that_bites_says_whom_to_ask_and_how_far_to_raise_it() -> None:
    account = an_account()
    terms = LimitTerms(limit_id="miras", window="day", cap_micros=micros(10), member="mira")
    account.asked("2026-11-02 00:00", SetLimit(team_id="acme", limit=terms))

    check = asked(account, a_team(), times=3)["limits"]
    raised = LimitTerms(limit_id="miras", window="day", cap_micros=micros(12), member="mira")
    account.asked("2026-11-02 01:00", SetLimit(team_id="acme", limit=raised))

    assert (check.passes, check.who, check.missing_micros) == (False, ["olga", "adam"], micros(2))
    assert "raise limit miras to at least 12, or wait until 2026-11-04T00:00:00" in str(check.remedy)
    assert failing(asked(account, a_team(), times=3)) == []


@pytest.mark.parametrize(
    ("member", "why"),
    [("vera", "vera is viewer, who may not spend"), ("zoe", "zoe is no member of the team")],
)
def test_who_may_not_spend_is_told_who_may_change_that(member: str, why: str) -> None:
    check = asked(an_account(), a_team(), member=member)["role"]

    assert (check.passes, check.why, check.who) == (False, why, ["olga", "adam"])


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"billing_details": None}, "the team lacks billing details"),
        ({"payment_method": None}, "the team lacks a payment method"),
        (
            {
                "payment_method": PaymentMethod(
                    token="t", brand="visa", last_four="1", expires_month=10, expires_year=2026
                )
            },
            "the team lacks a card that is valid: the one on file ended 2026-10",
        ),
    ],
)
def test_payment_details_that_lack_are_named(changes: dict[str, Any], why: str) -> None:
    check = asked(an_account(), a_team(**changes))["payment_details"]

    assert (check.passes, check.why) == (False, why)


def test_an_action_without_a_price_fails_with_the_code_of_charging_and_hides_no_other_check() -> None:
    checks = asked(an_account(), a_team(), action="music.generate")

    assert checks["price"].code == "unknown_action"
    assert failing(checks) == ["price", "available_credits", "limits"]


def test_a_suspended_account_fails_and_no_member_can_help() -> None:
    account = an_account()
    account.asked("2026-11-02 00:00", SuspendAccount(team_id="acme", reason="unpaid"))

    check = asked(account, a_team())["plan"]

    assert (check.passes, check.code, check.who) == (False, "account_suspended", [])
    assert check.remedy == "let the account be resumed (the platform's operator does that)"


def test_a_team_without_owner_is_told_that_nobody_may() -> None:
    team = a_team(members={"mira": Member("member", when(AT))})

    check = asked(an_account(), team, times=6)["available_credits"]

    assert check.remedy == "buy at least 4 credits (nobody in the team is owner or admin)"


def test_more_tasks_than_may_hold_at_once_are_told_how_many_may_start() -> None:
    account = an_account()
    account.held(1, "2026-11-03 11:30")

    check = asked(account, a_team(), times=1_000, meters={"units": "0"})["task_volume"]

    assert (check.passes, check.code, check.remedy) == (
        False,
        "too_many_holds",
        "start at most 999, or wait until some have ended",
    )


def test_a_team_without_plan_pays_with_what_it_has_or_must_choose_one() -> None:
    bare = AnAccount()
    poor = asked(bare, a_team())["plan"]
    bare.bought("A", 5, "2026-11-02 00:00")

    assert (poor.passes, poor.who) == (False, ["olga", "adam"])
    assert asked(bare, a_team())["plan"].passes
