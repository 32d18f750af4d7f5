"""A spending plan is what would really happen: the same charges, the same lots, while time passes."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest

from domain.account.decision import copy_of
from domain.account.estimating import PlannedUse
from domain.account.events import CreditsCharged, DebtRepaid, LimitTerms
from domain.account.state import TeamAccount
from domain.amounts import format_credits
from domain.commands import PlaceHold, SetLimit
from domain.errors import Malformed
from domain.spending.laying import Step, day_ends, hours_to_work, spread
from domain.spending.planning import Course, plan_spending, run_course
from domain.team.state import Member, Team
from domain.volumes import VolumeLine
from tests.builders import AnAccount, a_catalogue, a_plan, micros, unit_card, when
from tests.projections.lives import Life

AT = "2026-11-03 12:00"
TEAM = Team(team_id="acme", members={"olga": Member("owner", when(AT)), "mira": Member("member", when(AT))})


def text(at: datetime) -> str:
    return at.replace(tzinfo=None).isoformat(sep=" ")


def tiered() -> dict[str, Any]:
    """Pictures get cheaper after the first twenty units of a period; films cost two and a half credits a unit."""
    tiers = [{"up_to": "20", "price": "2"}, {"price": "0.333333"}]
    pictures = [{"model": "graduated", "meters": ["units"], "tiers": tiers}]
    films = [{"model": "unit", "meters": ["units"], "price": "2.5"}]
    return unit_card(
        rates=[{"action": "image.generate", "terms": pictures}, {"action": "video.generate", "terms": films}]
    )


def happened(account: AnAccount, steps: list[Step]) -> list[CreditsCharged]:
    """The steps as usage records, one by one; the charges."""
    charges: list[CreditsCharged] = []
    for number, step in enumerate(steps):
        for again in range(step.times):
            use = step.use
            charge = account.used(
                f"really-{number}-{again}",
                occurred=text(use.occurred_at or step.at),
                recorded=text(step.at),
                action=use.action,
                meters=use.meters,
                member=use.member,
                project=use.project,
            )
            if isinstance(charge, CreditsCharged):
                charges.append(charge)
    return charges


def assert_equals(course: Course, charges: list[CreditsCharged], account: TeamAccount) -> None:
    assert course.cost_micros == sum(charge.amount_micros for charge in charges)
    assert course.uncovered_micros == sum(charge.debt_micros for charge in charges)
    assert course.settled_micros == account.settled_micros
    assert course.debt_micros == account.debt_micros


def random_steps(draw: random.Random, at: datetime) -> list[Step]:
    steps: list[Step] = []
    for _ in range(draw.randint(1, 40)):
        at += timedelta(seconds=draw.choice([0, 60, 7_000, 50_000, 190_000]))
        late = draw.choice([0, 0, 0, 3_000, 90_000])
        use = PlannedUse(
            draw.choice(["image.generate", "video.generate"]),
            {"units": draw.choice(["0", "1", "3.5", "12"])},
            member=draw.choice(["mira", "noor", None]),
            project=draw.choice(["film", None]),
            occurred_at=at - timedelta(seconds=late),
        )
        steps.append(Step(at, use, draw.choice([1, 1, 2, 5])))
    return steps


@pytest.mark.parametrize("seed", range(60))
def test_i10_a_plan_of_what_then_really_happens_equals_the_charges_to_the_micro_credit(seed: int) -> None:
    life = Life(seed)
    account = life.live(60)
    if account.account.status != "open":
        pytest.skip("a life that closed its account spends nothing more")
    draw = random.Random(seed)
    start = max(life.at, account.account.recorded_at)
    steps = random_steps(draw, start)
    before, index = copy_of(account.account), frozen(account)

    course = run_course(before, account.catalogue, index, start, steps, steps[-1].at)
    charges = happened(account, steps)

    assert_equals(course, charges, account.account)
    lots = {lot.lot.lot_id: lot.amount_micros for lot in course.covered}
    assert sum(lots.values()) == sum(
        sum(line.amount_micros for line in event.lines)
        for event in account.events[before.version :]
        if isinstance(event, CreditsCharged | DebtRepaid)
    )


def frozen(account: AnAccount) -> Any:
    kept = type(account.index)()
    kept.usages = dict(account.index.usages)
    kept.entries = {kind: dict(entries) for kind, entries in account.index.entries.items()}
    return kept


@pytest.mark.parametrize("seed", range(12))
def test_with_zero_spread_the_three_paths_are_one_and_equal_what_then_happens(seed: int) -> None:
    draw = random.Random(seed)
    account = AnAccount(
        catalogue=a_catalogue(tiered(), plans=[a_plan("studio", 90, 20)]), zone="Europe/Berlin"
    )
    account.planned("studio", "2026-11-01 00:00")
    account.bought("A", draw.randint(1, 200), "2026-11-02 00:00")
    lines = [
        VolumeLine(action=action, meters={"units": units}, low=times, expected=times, high=times)
        for action, units in (("image.generate", "1.7"), ("video.generate", "2"))
        for times in [draw.randint(0, 60)]
    ]
    days = draw.randint(1, 45)

    plan = plan_spending(account.account, TEAM, account.catalogue, account.index, when(AT), lines, days)
    charges = happened(account, all_steps(account, lines, days))
    account.ticked(text(plan.ends_at))

    assert plan.low == plan.expected == plan.high
    assert plan.expected.uses == sum(line.expected for line in lines)
    assert_equals(plan.expected, charges, account.account)


def all_steps(account: AnAccount, lines: list[VolumeLine], days: int) -> list[Step]:
    ends = day_ends(account.account, account.index, when(AT), days)
    return spread(account.account, account.index, lines, "expected", when(AT), ends)


def a_plan_of(
    account: AnAccount, low: int, expected: int, high: int, days: int = 10, at: str = AT, **line: Any
) -> Any:
    volume = VolumeLine(
        **({"action": "image.generate", "meters": {"units": "1"}, "member": "mira"} | line),
        low=low,
        expected=expected,
        high=high,
    )
    return plan_spending(account.account, TEAM, account.catalogue, account.index, when(at), [volume], days)


def test_a_plan_changes_nothing() -> None:
    account = AnAccount()
    before = msgspec.json.encode(account.account)

    a_plan_of(account, 1, 20, 300)

    assert msgspec.json.encode(account.account) == before


def test_the_day_credits_run_out_and_the_top_up_that_covers_it_are_told_for_each_path() -> None:
    account = AnAccount()
    account.bought("A", 50, "2026-11-02 00:00")

    plan = a_plan_of(account, 40, 95, 190, days=10)

    assert [plan.low.run_out_at, plan.low.top_up_micros] == [None, 0]
    assert plan.expected.run_out_at.date() == when("2026-11-08 00:00").date()
    assert [format_credits(path.top_up_micros) for path in (plan.expected, plan.high)] == ["45", "140"]
    assert [format_credits(path.cost_micros) for path in (plan.low, plan.expected, plan.high)] == [
        "40",
        "95",
        "190",
    ]
    assert plan.may_top_up == ["olga"]


def test_the_top_up_that_is_told_covers_every_use_and_a_micro_credit_less_does_not() -> None:
    account = AnAccount(catalogue=a_catalogue(unit_card(), plans=[a_plan("studio", 30)]), anchor_day=10)
    account.planned("studio", "2026-11-01 00:00")
    plan = a_plan_of(account, 0, 150, 150, days=30)
    needed = plan.expected.top_up_micros

    def left_uncovered(top_up: int) -> int:
        steps = all_steps(account, plan.lines, 30)
        course = run_course(
            account.account, account.catalogue, account.index, when(AT), steps, plan.ends_at, top_up
        )
        return course.uncovered_micros

    assert needed > 0
    assert (left_uncovered(needed), left_uncovered(needed - 1)) == (0, 1)


def test_what_expires_unused_is_named_by_lot_and_what_rolls_over_is_not() -> None:
    account = AnAccount(catalogue=a_catalogue(unit_card(), plans=[a_plan("studio", 30, 5)]), anchor_day=10)
    account.planned("studio", "2026-11-01 00:00")
    account.granted("gift", 8, "2026-11-02 00:00", expires_at="2026-11-05 00:00")

    plan = a_plan_of(account, 1, 1, 1, days=10)

    expiring = {each.lot.source: format_credits(each.amount_micros) for each in plan.expected.expiring}
    assert expiring == {"promotional": "8", "included": "25"} or expiring == {
        "promotional": "8",
        "included": "24",
    }


def test_coverage_tells_which_lot_pays_how_much() -> None:
    account = AnAccount()
    account.bought("A", 7, "2026-11-02 00:00")
    account.granted("gift", 3, "2026-11-02 00:00", expires_at="2026-12-05 00:00")

    covered = a_plan_of(account, 9, 9, 9).expected.covered

    assert {each.lot.source: format_credits(each.amount_micros) for each in covered} == {
        "promotional": "3",
        "purchased": "6",
    }


def test_a_lot_that_begins_before_the_plan_and_repays_debt_to_its_end_is_told_with_its_terms() -> None:
    account = AnAccount()
    account.granted("later", 3, "2026-11-01 00:00", effective_at="2026-11-02 00:00")
    account.used("r1", 10, occurred="2026-11-01 06:00")
    steps = all_steps(account, [], 1)

    course = run_course(account.account, account.catalogue, account.index, when(AT), steps, when(AT))

    assert [(each.lot.effective_at, each.amount_micros) for each in course.covered] == [
        (when("2026-11-02 00:00"), micros(3))
    ]
    assert course.debt_micros == micros(7)


def test_the_first_limit_to_bite_is_named_with_the_day_and_whom_it_stops() -> None:
    account = AnAccount()
    account.bought("A", 500, "2026-11-02 00:00")
    for limit_id, cap, member in (("miras", 12, "mira"), ("noors", 1, "noor"), ("all", 80, None)):
        terms = LimitTerms(limit_id=limit_id, window="month", cap_micros=micros(cap), member=member)
        account.asked("2026-11-02 01:00", SetLimit(team_id="acme", limit=terms))

    plan = a_plan_of(account, 5, 30, 30, days=6)

    assert plan.low.first_limit is None
    bite = plan.expected.first_limit
    assert (bite.limit_id, bite.limit_member, bite.member) == ("miras", "mira", "mira")
    assert bite.at.date() == when("2026-11-05 00:00").date()
    assert plan.may_set_limits == ["olga"]


def limited(
    account: AnAccount, limit_id: str, window: Any, cap: int, at: str = "2026-11-02 01:00", **scope: Any
) -> None:
    terms = LimitTerms(limit_id=limit_id, window=window, cap_micros=micros(cap), **scope)
    account.asked(at, SetLimit(team_id="acme", limit=terms))


def test_a_limit_by_the_hour_sees_a_days_uses_over_its_working_hours_not_all_in_one() -> None:
    """45 uses a day in nine hours are five an hour: a cap of five holds all month, one of four bites in the first hour."""
    account = AnAccount(zone="Europe/Berlin")
    account.bought("A", 5_000, "2026-11-02 00:00")
    limited(account, "roomy", "hour", 5, member="mira")
    account.ticked("2026-11-03 23:00")
    a_day: dict[str, Any] = {"low": 45 * 30, "expected": 45 * 30, "high": 45 * 30, "days": 30}

    roomy = a_plan_of(account, **a_day, at="2026-11-03 23:00")
    limited(account, "tight", "hour", 4, action="image.generate", at="2026-11-03 23:00")
    bite = a_plan_of(account, **a_day, at="2026-11-03 23:00").expected.first_limit

    assert roomy.expected.first_limit is None
    assert (bite.code, bite.limit_id, bite.window) == ("limit", "tight", "hour")
    # Berlin is an hour ahead: it is nine there.
    assert (bite.window_start, bite.window_end) == (when("2026-11-04 08:00"), when("2026-11-04 09:00"))
    assert bite.at == when("2026-11-04 08:30")
    assert [bite.used_micros, bite.requested_micros, bite.cap_micros] == [micros(4), micros(1), micros(4)]
    assert (bite.limit_action, bite.limit_member, bite.member) == ("image.generate", None, "mira")


def test_working_hours_are_nine_to_six_by_the_teams_clocks_and_only_whole_ones_that_are_left() -> None:
    def told(start: str, end: str) -> list[str]:
        return [f"{hour.start:%H:%M}" for hour in hours_to_work("Asia/Kolkata", when(start), when(end))]

    day = ("2026-11-03 18:30", "2026-11-04 18:30")

    assert told(*day) == ["03:30", "04:30", "05:30", "06:30", "07:30", "08:30", "09:30", "10:30", "11:30"]
    assert told("2026-11-04 09:45", day[1]) == ["10:30", "11:30"]
    # After six what is left of the day counts, the hour that runs included.
    assert told("2026-11-04 16:45", day[1]) == ["16:45", "17:30"]


def test_hours_do_not_matter_to_what_a_plan_costs_and_the_days_share_stays() -> None:
    account = AnAccount(zone="America/New_York")
    account.bought("A", 10, "2026-11-02 00:00")
    plain = a_plan_of(account, 7, 31, 200, days=9)
    limited(account, "hourly", "hour", 1_000)

    hourly = a_plan_of(account, 7, 31, 200, days=9)

    for path in ("low", "expected", "high"):
        before, after = getattr(plain, path), getattr(hourly, path)
        assert (after.cost_micros, after.uses) == (before.cost_micros, before.uses)
        assert (after.uncovered_micros, after.top_up_micros) == (
            before.uncovered_micros,
            before.top_up_micros,
        )
        assert (after.run_out_at and after.run_out_at.date()) == (
            before.run_out_at and before.run_out_at.date()
        )


def test_a_limit_that_bites_after_credits_have_run_out_is_named_all_the_same() -> None:
    account = AnAccount()
    account.bought("A", 10, "2026-11-02 00:00")
    limited(account, "month", "month", 50)

    plan = a_plan_of(account, 30, 95, 95, days=10)

    bite = plan.expected.first_limit
    assert plan.expected.run_out_at < bite.at
    assert (bite.limit_id, bite.used_micros, plan.low.first_limit) == ("month", micros(50), None)


@pytest.mark.parametrize("seed", range(20))
def test_the_first_limit_says_what_a_hold_of_that_use_is_then_denied_with(seed: int) -> None:
    """Any limits, windows, zones, volumes: what is planned comes, and a hold meets limit, window and numbers as told."""
    draw = random.Random(f"bite {seed}")
    account = AnAccount(zone=draw.choice(["UTC", "Europe/Berlin", "Asia/Kolkata", "Australia/Lord_Howe"]))
    account.bought("A", 1_000_000, "2026-11-02 00:00")
    for number in range(draw.randint(1, 4)):
        window = draw.choice(["hour", "hour", "day", "week", "month", "period", "lifetime"])
        scope: dict[str, Any] = {
            part: draw.choice([None, each])
            for part, each in (("member", "mira"), ("project", "film"), ("action", "image.generate"))
        }
        limited(account, f"limit-{number}", window, draw.randint(1, 40), **scope)
    lines = [
        VolumeLine(
            action=draw.choice(["image.generate", "video.generate"]),
            meters={"units": draw.choice(["1", "2.5"])},
            member=draw.choice(["mira", "noor"]),
            project=draw.choice(["film", None]),
            low=times,
            expected=times,
            high=times,
        )
        for times in [draw.randint(1, 60) for _ in range(draw.randint(1, 3))]
    ]
    days = draw.randint(1, 12)

    plan = plan_spending(account.account, TEAM, account.catalogue, account.index, when(AT), lines, days)
    denial = first_denial(account, all_steps(account, lines, days))

    bite = plan.expected.first_limit
    assert (bite is None) == (denial is None)
    if bite is not None:
        told = [bite.code, bite.limit_id, bite.at, bite.window_start, bite.window_end]
        assert told == [
            denial.rule,
            denial.limit_id,
            denial.recorded_at,
            denial.window_start,
            denial.window_end,
        ]
        numbers = [bite.cap_micros, bite.used_micros, bite.held_micros, bite.requested_micros]
        assert numbers == [
            denial.limit_micros,
            denial.used_micros,
            denial.held_micros,
            denial.requested_micros,
        ]
        assert [bite.action, bite.member, bite.project] == [denial.action, denial.member, denial.project]


def first_denial(account: AnAccount, steps: list[Step]) -> Any:
    """The steps come one by one, each asked for by a hold first; the first that is denied."""
    for number, step in enumerate(steps):
        use, at = step.use, text(step.at)
        for again in range(step.times):
            asked = PlaceHold(
                team_id="acme",
                action=use.action,
                member=use.member,
                project=use.project,
                amount_micros=micros(use.meters["units"]),
            )
            given = account.asked(at, asked)
            if given.denied is not None:
                return given.denied.denial
            account.released(given.fields["hold_id"], at)
            fields = {"action": use.action, "member": use.member, "project": use.project}
            account.used(f"step-{number}-{again}", use.meters["units"], occurred=at, **fields)
    return None


@pytest.mark.parametrize(
    ("changes", "field"),
    [({"days": 0}, "days"), ({"days": 93}, "days"), ({"low": 3, "expected": 2, "high": 5}, "volumes")],
)
def test_a_plan_that_cannot_be_is_refused_with_its_field(changes: dict[str, Any], field: str) -> None:
    with pytest.raises(Malformed) as refused:
        a_plan_of(AnAccount(), **({"low": 1, "expected": 1, "high": 1} | changes))

    assert refused.value.asked["field"] == field


def test_volumes_learned_from_the_past_cost_what_they_cost_then() -> None:
    plan = a_plan_of(AnAccount(), 2, 3, 4, amount_micros=micros("1.25"), meters={})

    assert format_credits(plan.expected.cost_micros) == "3.75"
