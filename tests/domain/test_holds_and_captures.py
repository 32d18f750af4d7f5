"""Holds and captures beyond the worked cases: policies, bounds, rollover, refunds, resolve once (I12)."""

from __future__ import annotations

from typing import Any

import pytest

from domain.account.events import CreditsHeld, HoldCaptured, HoldExpired, LimitTerms
from domain.commands import (
    CaptureHold,
    ExtendHold,
    PlaceHold,
    RefundCharge,
    ReleaseHold,
    SetLimit,
    SuspendAccount,
)
from domain.errors import (
    AccountSuspended,
    CaptureExceedsHold,
    HoldNotOpen,
    HoldTermsRefused,
    InsufficientCredits,
    LimitExceeded,
    Malformed,
    UnknownHold,
)
from tests.builders import AnAccount, a_catalogue, a_plan, micros, unit_card, when

TEN = "2026-11-10 10:00"


def a_team(bought: int = 100, **plan: Any) -> AnAccount:
    """A team with bought credit A, and, if told, a plan without an allowance."""
    plans = [a_plan("told", 0, **plan)] if plan else []
    team = AnAccount(catalogue=a_catalogue(unit_card(), plans=plans))
    team.bought("A", bought, "2026-11-01 00:00")
    if plan:
        team.planned("told", "2026-11-01 00:00")
    return team


def test_i12_a_hold_is_captured_several_times_and_has_ended_with_its_last_credit() -> None:
    team = a_team()
    hold = team.held(50, TEN)

    team.captured(hold, 20, "2026-11-10 10:10")
    team.captured(hold, 30, "2026-11-10 10:20")

    assert team.parts("2026-11-10 10:20") == {"settled": "50", "available": "50"}
    with pytest.raises(HoldNotOpen, match="captured"):
        team.captured(hold, 1, "2026-11-10 10:30")


@pytest.mark.parametrize("ending", ["released", "expired"])
def test_i12_a_hold_resolves_once(ending: str) -> None:
    team = a_team()
    hold = team.held(50, TEN)
    if ending == "released":
        team.released(hold, "2026-11-10 10:10")
    at = "2026-11-10 11:00"

    for command in (
        ReleaseHold(team_id="acme", hold_id=hold),
        CaptureHold(team_id="acme", hold_id=hold, amount_micros=1),
        ExtendHold(team_id="acme", hold_id=hold),
    ):
        with pytest.raises(HoldNotOpen, match=ending):
            team.asked(at, command)
    team.ticked(at)
    assert len(team.events_of(HoldExpired)) == (ending == "expired")


def test_a_hold_of_another_team_is_unknown() -> None:
    with pytest.raises(UnknownHold):
        a_team().released("hold-3", TEN)


@pytest.mark.parametrize("amount", [-1, 0])
def test_a_capture_takes_more_than_nothing(amount: int) -> None:
    team = a_team()
    hold = team.held(50, TEN)

    with pytest.raises(Malformed):
        team.asked(TEN, CaptureHold(team_id="acme", hold_id=hold, amount_micros=amount))

    assert team.parts(TEN) == {"settled": "100", "available": "50", "held": "50"}


@pytest.mark.parametrize("occurred", ["2026-11-10 09:59", "2026-11-10 10:31"])
def test_a_capture_is_for_work_done_since_the_hold_was_made(occurred: str) -> None:
    team = a_team()
    hold = team.held(50, TEN)
    command = CaptureHold(team_id="acme", hold_id=hold, amount_micros=micros(1), occurred_at=when(occurred))

    with pytest.raises(Malformed, match="occurred_at"):
        team.asked("2026-11-10 10:30", command)


def test_a_capture_above_the_hold_takes_what_is_available_and_no_more() -> None:
    team = a_team()
    hold = team.held(50, TEN)

    with pytest.raises(InsufficientCredits):
        team.captured(hold, 101, TEN)

    team.captured(hold, 100, TEN)
    assert team.parts(TEN) == {}


def test_an_action_may_reject_captures_above_the_hold() -> None:
    team = a_team(captures={"image.generate": "reject"})
    hold = team.held(50, TEN)

    with pytest.raises(CaptureExceedsHold):
        team.captured(hold, 51, TEN)

    team.captured(hold, 50, TEN)


def test_an_overdraft_leaves_debt_up_to_the_cap_of_the_plan() -> None:
    team = a_team(captures={"image.generate": "overdraft"}, overdraft_cap="10")
    hold = team.held(100, TEN)

    with pytest.raises(InsufficientCredits, match="debt may reach 10"):
        team.captured(hold, "110.000001", TEN)

    team.captured(hold, 110, TEN)
    assert (team.left(), team.debt()) == ({"A": "0"}, "10")


def test_a_capture_above_the_hold_stays_within_hard_limits() -> None:
    team = a_team(1_000)
    limit = LimitTerms(limit_id="hours", window="hour", cap_micros=micros(100))
    team.asked("2026-11-01 00:00", SetLimit(team_id="acme", limit=limit))
    team.used("u", 30, occurred="2026-11-10 10:05")
    hold = team.held(50, "2026-11-10 10:10", lasts_seconds=7_200)

    with pytest.raises(LimitExceeded, match="hours"):
        team.captured(hold, 71, "2026-11-10 10:20")
    late = CaptureHold(
        team_id="acme", hold_id=hold, amount_micros=micros(71), occurred_at=when("2026-11-10 10:20")
    )
    with pytest.raises(LimitExceeded, match="71 more"):
        team.asked("2026-11-10 11:20", late)

    team.captured(hold, 70, "2026-11-10 10:20")
    assert team.window("hours", "2026-11-10 10:30") == "100"


def test_a_captured_charge_is_refunded_line_by_line_like_any_other() -> None:
    team = a_team()
    hold = team.held(50, TEN)
    charge = team.captured(hold, 60, TEN)

    team.asked(TEN, RefundCharge(team_id="acme", charge_id=charge, reason="bad picture"))

    assert team.parts(TEN) == {"settled": "100", "available": "100"}
    [captured] = team.events_of(HoldCaptured)
    assert (sum(line.amount_micros for line in captured.hold_lines), captured.amount_micros) == (
        micros(50),
        micros(60),
    )


def test_extensions_never_shorten_and_end_seven_days_after_the_making() -> None:
    team = a_team()
    hold = team.held(50, TEN, lasts_seconds=86_400)
    team.asked(TEN, ExtendHold(team_id="acme", hold_id=hold, lasts_seconds=60))
    assert team.account.holds[0].expires_at == when("2026-11-11 10:00")
    for day in range(11, 17):
        team.asked(
            f"2026-11-{day} 09:{70 - day}", ExtendHold(team_id="acme", hold_id=hold, lasts_seconds=86_400)
        )

    with pytest.raises(HoldTermsRefused, match="seven days"):
        team.asked("2026-11-17 09:53", ExtendHold(team_id="acme", hold_id=hold, lasts_seconds=421))
    team.asked("2026-11-17 09:53", ExtendHold(team_id="acme", hold_id=hold, lasts_seconds=420))


@pytest.mark.parametrize("seconds", [0, -1, 86_401])
def test_a_hold_lasts_a_second_to_a_day(seconds: int) -> None:
    with pytest.raises(HoldTermsRefused, match="lasts_seconds"):
        a_team().held(1, TEN, lasts_seconds=seconds)


def test_a_suspended_account_makes_no_hold_but_charges_usage_and_lets_go() -> None:
    team = a_team()
    hold = team.held(50, TEN)
    team.asked(TEN, SuspendAccount(team_id="acme", reason="unpaid"))

    with pytest.raises(AccountSuspended):
        team.held(1, TEN)
    with pytest.raises(AccountSuspended):
        team.asked(TEN, ExtendHold(team_id="acme", hold_id=hold))

    team.used("u", 10, occurred=TEN)
    team.released(hold, TEN)
    assert team.parts(TEN) == {"settled": "90", "available": "90"}


def test_an_equal_denial_within_a_minute_is_counted_and_a_later_one_appended() -> None:
    team = a_team(10)
    team.denied(50, "2026-11-10 10:00:00")
    version = team.account.version

    team.denied(50, "2026-11-10 10:00:59")
    assert team.account.version == version
    team.denied(51, "2026-11-10 10:00:59")
    team.denied(50, "2026-11-10 10:01:00")

    assert team.account.version == version + 2


def test_the_tightest_rule_is_the_one_that_a_denial_names() -> None:
    team = a_team(100)
    for limit_id, cap in (("wide", 90), ("narrow", 60)):
        limit = LimitTerms(limit_id=limit_id, window="day", cap_micros=micros(cap))
        team.asked(TEN, SetLimit(team_id="acme", limit=limit))

    assert team.denied(95, TEN).limit_id == "narrow"
    team.held(50, TEN)
    assert (team.denied(20, TEN).limit_id, team.denied(20, TEN).held_micros) == ("narrow", micros(50))


def test_an_open_hold_pays_even_outside_the_scope_of_its_lots() -> None:
    team = AnAccount()
    team.bought("V", 50, "2026-11-01 00:00", action="video.generate")
    hold = team.held(50, TEN, action="video.generate")

    team.used("u", 30, occurred=TEN, action="image.generate", hold_id=hold)

    assert (team.left(), team.debt()) == ({"V": "20"}, "0")


def test_an_ended_hold_gives_late_usage_only_what_it_had_and_what_is_still_there() -> None:
    team = AnAccount()
    team.bought("A", 50, "2026-11-01 00:00", expires_at="2026-11-10 10:30")
    hold = team.held(40, TEN)
    team.ticked("2026-11-10 11:00")

    team.used("u", 45, occurred="2026-11-10 10:45", recorded="2026-11-10 12:00", hold_id=hold)

    assert (team.left(), team.debt()) == ({"A": "10"}, "5")
    team.used("v", 5, occurred="2026-11-10 10:50", recorded="2026-11-10 12:01", hold_id=hold)
    assert (team.left(), team.debt()) == ({"A": "10"}, "10")


@pytest.mark.parametrize("looked", [(), ("2026-12-01 00:00",), ("2026-12-01 10:00", "2026-12-01 20:30")])
def test_h5_late_usage_finds_its_ended_hold_where_the_turn_moved_it_whoever_looked(
    looked: tuple[str, ...],
) -> None:
    team = AnAccount(catalogue=a_catalogue(unit_card(), plans=[a_plan("monthly", 60, 20)]))
    team.planned("monthly", "2026-11-01 00:00")
    hold = team.held(15, "2026-11-30 20:00", lasts_seconds=86_400)
    for at in looked:
        team.ticked(at)

    team.used("u", 15, occurred="2026-11-30 21:00", recorded="2026-12-01 21:00", hold_id=hold)

    assert team.left() == {"L1": "40", "L1'": "5", "L2": "60"}


def test_a_hold_names_the_work_it_is_for() -> None:
    team = a_team()

    team.asked(
        TEN,
        PlaceHold(
            team_id="acme",
            action="image.generate",
            amount_micros=1,
            member="mira",
            project="p",
            work="w",
            step="s",
        ),
    )

    [held] = team.events_of(CreditsHeld)
    assert (held.member, held.project, held.work, held.step) == ("mira", "p", "w", "s")
