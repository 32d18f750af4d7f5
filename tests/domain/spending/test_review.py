"""A review and the check that is signed tell one account alike: what speaks against handing over is found once."""

from __future__ import annotations

import random
from typing import Any

import pytest

from domain.account.estimating import PlannedUse
from domain.account.events import LimitTerms
from domain.amounts import format_credits
from domain.commands import OpenChargeDispute, SetLimit
from domain.handover import Handover, HandoverCheck, check_handover
from domain.spending.preflight import Check
from domain.spending.review import Review, review
from domain.team.state import Member, Team
from domain.times import instant_text
from domain.usage import usage_key
from domain.work.costs import WorkMove
from domain.work.state import Work
from tests.builders import SOURCE, AnAccount, a_catalogue, a_plan, micros, unit_card, when
from tests.projections.lives import Life

AT = "2026-11-03 12:00"
POSTER = Work(team_id="acme", work_id="poster")
NEXT = PlannedUse("image.generate", {"units": "4"})


def a_team(**roles: Any) -> Team:
    return Team(team_id="acme", members={member: Member(role, when(AT)) for member, role in roles.items()})


FULL = a_team(olga="owner", adam="admin", mira="member", vera="viewer")


def both(
    account: AnAccount, team: Team, at: Any, use: PlannedUse | None, moves: tuple[WorkMove, ...] = ()
) -> tuple[Review, Handover]:
    asked: Any = (account.catalogue, account.index, at, use)
    return review(account.account, team, *asked), check_handover(account.account, team, POSTER, moves, *asked)


def line(check: Check | HandoverCheck) -> tuple[Any, ...]:
    return check.passes, check.why, check.remedy, check.who


def assert_alike(told: Review, handed: Handover) -> None:
    """Every word that both say is one."""
    ours = {check.name: line(check) for check in told.checks}
    theirs = {check.check: line(check) for check in handed.checks}
    names = {
        "limits": "limits",
        "invoices": "invoices",
        "role_permissions": "roles",
        "next_use": "next_action",
    }
    for mine, other in names.items():
        assert ours.get(mine) == theirs.get(other)  # type: ignore[call-overload]
    # A work may have holds open beside; what is wrong with the account's charges is wrong with its.
    if not ours["charges"][0]:
        assert not theirs["charges"][0]
    elif not theirs["charges"][0]:
        assert "holds" in theirs["charges"][1]
    assert handed.at == instant_text(told.at)
    assert handed.account_version == told.version
    assert [
        (each.limit_id, each.hard, each.cap, each.used, each.held, each.is_near) for each in handed.limits
    ] == [
        (
            each.terms.limit_id,
            each.terms.hard,
            format_credits(each.terms.cap_micros),
            format_credits(each.used_micros),
            format_credits(each.held_micros),
            each.is_near,
        )
        for each in told.limits
    ]
    assert [(each.invoice, each.due_minor) for each in handed.invoices] == [
        (each.invoice, each.due_minor) for each in told.open_invoices
    ]
    assert [(each.member, each.role, each.may) for each in handed.members] == [
        tuple(each) for each in told.members
    ]
    if told.next_use is not None and told.next_use.estimates is not None:
        assert handed.next_action is not None
        assert handed.next_action.amount == format_credits(told.next_use.estimates.amount_micros)


@pytest.mark.parametrize("seed", range(40))
def test_a_review_and_a_handover_never_disagree_on_one_account(seed: int) -> None:
    life, draw = Life(seed), random.Random(f"review {seed}")
    for _ in range(6):
        account = life.live(25)
        team = draw.choice([FULL, a_team(), a_team(adam="admin"), a_team(mira="member", olga="owner")])
        units = draw.choice(["1", "40", "5000"])
        use = draw.choice([None, NEXT, PlannedUse("image.generate", {"units": units}), PlannedUse("fly", {})])

        told, handed = both(account, team, life.at, use)

        assert_alike(told, handed)


def a_studio() -> AnAccount:
    account = AnAccount(catalogue=a_catalogue(unit_card(), plans=[a_plan("studio", 20)]))
    account.planned("studio", "2026-11-01 00:00")
    return account


def failing(told: Review) -> dict[str, str]:
    return {check.name: check.why for check in told.checks if not check.passes}


def test_a_sound_account_passes_and_says_what_the_next_use_costs() -> None:
    told, handed = both(a_studio(), FULL, when(AT), NEXT)

    assert (failing(told), told.passes, handed.passes) == ({}, True, True)
    assert told.check("next_use").why == "it costs 4 credits, covered"
    assert told.check("role_permissions").why == (
        "1 owners; olga, adam may buy credits and set limits; 3 members may spend"
    )


def test_debt_and_contested_charges_fail_both() -> None:
    account = a_studio()
    account.used("r1", 15, occurred="2026-11-02 12:00")
    contest = OpenChargeDispute(
        team_id="acme", charge_ids=[usage_key("acme", SOURCE, "r1")], evidence="it never ran"
    )
    account.asked("2026-11-02 13:00", contest)
    contested, handed = both(account, FULL, when(AT), None)
    account.used("r2", 8, occurred="2026-11-03 10:00")
    indebted, owing = both(account, FULL, when(AT), None)

    assert failing(contested)["charges"].startswith("charges are contested: ")
    assert failing(indebted) == {"charges": "3 credits of debt"}
    assert (handed.passes, owing.passes) == (False, False)
    assert indebted.check("charges").who == ["olga", "adam"]


def test_a_hard_limit_near_its_cap_fails_and_a_soft_one_is_told() -> None:
    account = a_studio()
    for limit_id, hard in (("soft", False), ("hard", True)):
        terms = LimitTerms(limit_id=limit_id, window="day", cap_micros=micros(10), hard=hard, member="mira")
        account.asked("2026-11-02 12:00", SetLimit(team_id="acme", limit=terms))
    account.used("r1", 7, occurred="2026-11-03 10:00")
    below, _ = both(account, FULL, when(AT), None)
    account.used("r2", 1, occurred="2026-11-03 11:00")
    near, handed = both(account, FULL, when(AT), None)
    account.ticked("2026-11-04 00:00")
    later, _ = both(account, FULL, when("2026-11-04 00:00"), None)

    assert (failing(below), failing(later)) == ({}, {})
    assert failing(near) == {"limits": "used to 80 % or more: hard"}
    assert [each.limit_id for each in handed.limits if each.is_near] == ["soft", "hard"]


def test_what_would_keep_the_next_use_from_running_fails_it_and_lacking_papers_do_not() -> None:
    told = review(a_studio().account, FULL, a_studio().catalogue, a_studio().index, when(AT), NEXT, "vera")

    assert failing(told) == {"next_use": "role: vera is viewer, who may not spend"}
    assert told.next_use is not None
    assert [check.name for check in told.next_use.checks if not check.passes] == ["role", "payment_details"]
