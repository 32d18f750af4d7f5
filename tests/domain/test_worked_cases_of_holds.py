"""The worked cases of holds, limits, plans, chargebacks and quotes, told in their own numbers."""

from __future__ import annotations

from typing import Any

import pytest

from domain.account.events import (
    AllowanceGranted,
    CreditsExpired,
    CreditsHeld,
    DebtRepaid,
    HoldReleased,
    LimitTerms,
    LimitThresholdReached,
    UsageWaived,
)
from domain.account.quoting import quote_usage
from domain.amounts import format_credits
from domain.catalogue import apply, publish_rate_card
from domain.commands import PlaceHold, SetLimit
from domain.errors import QuoteExpired, QuoteUsed
from domain.quotes import sign_quote
from tests.builders import QUOTE_KEY, TESTER, AnAccount, a_catalogue, a_plan, micros, unit_card, when

NOON = "2026-11-10 12:00"


def on_a_plan(allowance: int = 100, rollover_cap: int = 50, *more: dict[str, Any], **terms: Any) -> AnAccount:
    """A team that has the plan "monthly" from the beginning of November: its first allowance is L1."""
    plans = [a_plan("monthly", allowance, rollover_cap), *more]
    team = AnAccount(catalogue=a_catalogue(unit_card(), plans=plans), **terms)
    team.planned("monthly", "2026-11-01 00:00")
    return team


def test_e3_unrelated_usage_becomes_debt_beside_a_hold_and_its_release_repays_it() -> None:
    team = AnAccount()
    team.bought("A", 100, "2026-11-01 00:00")
    hold = team.held(80, "2026-11-10 10:00")

    team.used("u", 30, occurred="2026-11-10 10:01")

    assert team.parts("2026-11-10 10:01") == {"settled": "80", "held": "80", "debt": "10"}
    team.captured(hold, 50, "2026-11-10 10:02")
    team.released(hold, "2026-11-10 10:03")
    assert (team.left(), team.debt()) == ({"A": "20"}, "0")


def e4() -> tuple[AnAccount, str]:
    team = AnAccount()
    team.bought("A", 50, "2026-11-01 00:00", expires_at=NOON)
    team.bought("B", 100, "2026-11-01 00:00")
    return team, team.held(40, "2026-11-10 11:30")


def test_e4_a_lot_that_expires_inside_a_hold_lives_on_for_that_hold_only() -> None:
    """H5: the tick comes late and twice, the breakage is booked once, as of its instant."""
    team, hold = e4()

    assert team.parts(NOON) == {"settled": "150", "available": "100", "held": "40", "lapsed": "10"}
    team.captured(hold, 25, "2026-11-10 12:10")
    assert team.parts("2026-11-10 12:10") == {
        "settled": "125",
        "available": "100",
        "held": "15",
        "lapsed": "10",
    }
    assert team.parts("2026-11-10 12:30") == {"settled": "125", "available": "100", "lapsed": "25"}
    assert team.parts("2026-11-11 12:29")["settled"] == "125"
    team.ticked("2026-11-11 12:30")
    team.ticked("2026-11-20 00:00")
    [expired] = team.events_of(CreditsExpired)
    assert (expired.amount_micros, expired.effective_at) == (micros(25), when("2026-11-11 12:30"))
    assert team.left() == {"A": "0", "B": "100"}


def test_e4b_credit_that_a_hold_gives_back_repays_debt_as_of_its_end_whoever_looks_later() -> None:
    team = AnAccount()
    team.bought("A", 50, "2026-11-01 00:00", expires_at="2026-11-10 11:00")
    team.held(50, "2026-11-10 09:00")
    team.used("u", 20, occurred="2026-11-10 09:30")
    assert team.debt() == "20"

    team.ticked(NOON)

    [repaid] = team.events_of(DebtRepaid)
    assert (repaid.amount_micros, repaid.effective_at) == (micros(20), when("2026-11-10 10:00"))
    assert team.parts(NOON) == {"settled": "30", "lapsed": "30"}


@pytest.mark.parametrize("recorded", ["2026-11-10 12:10", "2026-11-10 12:40"])
def test_e4c_usage_takes_its_own_hold_also_when_it_is_recorded_after_its_end(recorded: str) -> None:
    team, hold = e4()

    team.used("u", 25, occurred="2026-11-10 12:10", recorded=recorded, hold_id=hold)

    assert team.parts("2026-11-10 12:40") == {"settled": "125", "available": "100", "lapsed": "25"}
    team.ticked("2026-11-20 00:00")
    assert [event.amount_micros for event in team.events_of(CreditsExpired)] == [micros(25)]
    assert team.left() == {"A": "0", "B": "100"}


def e8() -> tuple[AnAccount, str]:
    team = AnAccount(zone="Europe/Berlin", at="2026-10-01 00:00")
    team.bought("A", 1_000, "2026-10-01 00:00")
    limit = LimitTerms(limit_id="mira-day", window="day", cap_micros=micros(100), member="mira")
    team.asked("2026-10-01 00:00", SetLimit(team_id="acme", limit=limit))
    return team, team.held(80, "2026-10-25 22:50")


def test_e8_held_credit_counts_in_the_window_of_now_across_a_day_of_25_hours() -> None:
    team, _ = e8()

    denial = team.denied(30, "2026-10-25 23:05")

    assert (denial.rule, denial.limit_id, denial.used_micros) == ("limit", "mira-day", 0)
    assert (denial.window_start, denial.window_end) == (when("2026-10-25 23:00"), when("2026-10-26 23:00"))
    asked = (denial.held_micros, denial.limit_micros, denial.requested_micros)
    assert asked == (micros(80), micros(100), micros(30))


def test_e8b_captured_credit_counts_in_the_window_of_its_usage_and_a_refund_gives_it_back_there() -> None:
    team, hold = e8()

    team.used("u", 80, occurred="2026-10-25 23:10", recorded="2026-10-25 23:20", hold_id=hold)

    assert team.window("mira-day", "2026-10-26 12:00") == "80"
    team.refunded("u", None, "2026-10-27 12:00")
    used = {day: team.window("mira-day", f"2026-10-{day} 12:00") for day in (25, 26, 27)}
    assert used == {25: "0", 26: "0", 27: "0"}


def e9() -> AnAccount:
    team = AnAccount()
    team.granted("G", 20, "2026-11-01 00:00", priority=10)
    team.bought("T", 100, "2026-11-01 00:00")
    team.used("u", 70, occurred="2026-11-02 10:00")
    assert team.left() == {"G": "0", "T": "50"}
    team.charged_back("T", "2026-11-03 10:00")
    assert team.parts("2026-11-03 10:00") == {"settled": "50", "withheld": "50"}
    return team


def test_e9_a_chargeback_that_is_won_reinstates_what_was_withheld_and_repays_debt() -> None:
    team = e9()
    team.used("v", 10, occurred="2026-11-03 11:00")
    assert team.debt() == "10"

    team.won("T", "2026-11-20 10:00")

    assert (team.left(), team.debt()) == ({"G": "0", "T": "40"}, "0")


def test_e9b_a_lost_chargeback_turns_what_was_drawn_into_debt_and_a_refund_then_lowers_it() -> None:
    team = e9()
    team.used("v", 10, occurred="2026-11-03 11:00")

    team.lost("T", "2026-11-20 10:00")

    assert (team.left(), team.debt()) == ({"G": "0", "T": "0"}, "60")
    team.refunded("u", None, "2026-11-21 10:00")
    assert (team.left(), team.debt()) == ({"G": "10", "T": "0"}, "0")


def test_e9c_what_becomes_debt_is_repaid_at_once_by_other_credit() -> None:
    team = AnAccount()
    team.bought("A", 100, "2026-11-01 00:00", priority=10)
    team.bought("B", 100, "2026-11-01 00:00")
    team.used("u", 40, occurred="2026-11-02 10:00")
    team.charged_back("A", "2026-11-03 10:00")

    team.lost("A", "2026-11-04 10:00")

    assert (team.left(), team.debt()) == ({"A": "0", "B": "60"}, "0")


def test_r3_a_refund_after_a_lost_chargeback_goes_to_who_repaid_and_never_to_the_lot_that_is_gone() -> None:
    team = AnAccount()
    team.bought("T", 100, "2026-11-01 00:00")
    team.used("u", 70, occurred="2026-11-02 10:00")
    team.charged_back("T", "2026-11-03 10:00")
    team.lost("T", "2026-11-04 10:00")
    team.bought("B", 100, "2026-11-05 10:00")
    assert (team.left(), team.debt()) == ({"T": "0", "B": "30"}, "0")

    team.refunded("u", None, "2026-11-06 10:00")

    assert (team.left(), team.debt()) == ({"T": "0", "B": "100"}, "0")


@pytest.mark.parametrize(
    ("recorded", "left", "breakage"),
    [
        ("2026-12-01 12:00", {"L1": "0", "L1'": "30", "L2": "100"}, []),
        ("2026-12-02 12:00", {"L1": "0", "L1'": "10", "L2": "100"}, [micros(20)]),
    ],
    ids=["e10", "e10b"],
)
def test_e10_late_usage_draws_what_lapsed_at_the_turn_before_what_rolled_over(
    recorded: str, left: dict[str, str], breakage: list[int]
) -> None:
    team = on_a_plan()
    team.used("u", 30, occurred="2026-11-20 10:00")
    team.ticked("2026-12-01 00:00")
    assert team.left() == {"L1": "20", "L1'": "50", "L2": "100"}

    team.used("late", 40, occurred="2026-11-30 10:00", recorded=recorded)

    assert team.left() == left
    team.ticked("2026-12-10 00:00")
    assert [event.amount_micros for event in team.events_of(CreditsExpired)] == breakage


def test_e10d_held_credit_rolls_over_first_and_its_hold_moves_with_it() -> None:
    team = on_a_plan()
    hold = team.held(80, "2026-11-30 20:00", lasts_seconds=86_400)

    team.ticked("2026-12-01 00:00")

    assert team.left() == {"L1": "50", "L1'": "50", "L2": "100"}
    held = {team._name(line.lot_id): line.amount_micros for line in team.account.holds[0].lines}
    assert held == {"L1": micros(30), "L1'": micros(50)}
    assert team.parts("2026-12-01 00:00")["lapsed"] == "20"
    team.released(hold, "2026-12-01 10:00")
    assert team.parts("2026-12-01 10:00") == {"settled": "200", "available": "150", "lapsed": "50"}


def test_e23_the_older_hold_rolls_whole_and_the_younger_with_what_the_cap_leaves() -> None:
    team = on_a_plan()
    older = team.held(40, "2026-11-30 20:00", lasts_seconds=86_400)
    younger = team.held(40, "2026-11-30 20:01", lasts_seconds=86_400)

    team.ticked("2026-12-01 00:00")

    held = {
        hold.hold_id: {team._name(line.lot_id): format_credits(line.amount_micros) for line in hold.lines}
        for hold in team.account.holds
    }
    assert held == {older: {"L1'": "40"}, younger: {"L1": "30", "L1'": "10"}}
    assert team.parts("2026-12-01 00:00")["lapsed"] == "20"


def test_e14_an_anchor_on_the_31st_turns_on_the_last_day_of_shorter_months() -> None:
    catalogue = a_catalogue(unit_card(), plans=[a_plan("monthly", 100)])
    team = AnAccount("2027-01-31 00:00", catalogue, anchor_day=31)
    team.planned("monthly", "2027-01-31 00:00")

    team.ticked("2027-06-01 00:00")

    allowances = team.events_of(AllowanceGranted)
    assert [event.amount_micros for event in allowances] == [micros(100)] * 5
    turns = [event.effective_at for event in allowances]
    days = ["01-31", "02-28", "03-31", "04-30", "05-31"]
    assert turns == [when(f"2027-{day} 00:00") for day in days]


def test_e15_an_upgrade_now_grants_the_difference_for_the_days_that_are_left() -> None:
    catalogue = a_catalogue(unit_card(), plans=[a_plan("small", 300), a_plan("large", 600)])
    team = AnAccount("2026-11-01 00:00", catalogue)
    team.planned("small", "2026-11-01 00:00")

    team.planned("large", "2026-11-11 15:00")

    assert team.left() == {"L1": "300", "L2": "200"}
    team.ticked("2026-12-01 00:00")
    assert team.events_of(AllowanceGranted)[-1].amount_micros == micros(600)


def test_e16_twenty_holds_at_once_grant_what_there_is_and_deny_the_rest() -> None:
    team = AnAccount()
    team.bought("A", 500, "2026-11-01 00:00")

    outcomes = [
        team.asked(NOON, PlaceHold(team_id="acme", action="image.generate", amount_micros=micros(75)))
        for _ in range(20)
    ]

    denials = [given.denied.denial for given in outcomes if given.denied]
    assert (len(team.events_of(CreditsHeld)), len(denials)) == (6, 14)
    assert team.parts(NOON) == {"settled": "500", "available": "50", "held": "450"}
    said = {(each.rule, each.held_micros, each.limit_micros, each.requested_micros) for each in denials}
    assert said == {("available", micros(450), micros(50), micros(75))}


def test_e17_each_threshold_of_a_soft_limit_alerts_once_in_a_window() -> None:
    team = AnAccount()
    team.bought("A", 1_000, "2026-11-01 00:00")
    limit = LimitTerms(
        limit_id="team", window="month", cap_micros=micros(100), hard=False, thresholds=[50, 80, 100]
    )
    team.asked("2026-11-01 00:00", SetLimit(team_id="acme", limit=limit))

    for number, units in enumerate([49, 2, 30, 30]):
        team.used(f"u{number}", units, occurred=NOON)
    team.refunded("u0", 40, NOON)
    team.used("last", 40, occurred=NOON)

    reached = [
        (event.threshold_percent, event.used_micros) for event in team.events_of(LimitThresholdReached)
    ]
    assert reached == [(50, micros(51)), (80, micros(81)), (100, micros(111))]


def test_e19_a_quote_is_honoured_until_it_expires_and_once() -> None:
    team, token = quoted()

    team.asked("2026-11-10 12:09", hold_with(token))

    [held] = team.events_of(CreditsHeld)
    assert (held.amount_micros, held.quote.card.version) == (micros(12), 1)
    with pytest.raises(QuoteUsed):
        team.asked("2026-11-10 12:09", hold_with(token))
    charge: Any = team.used("u", 12, occurred="2026-11-10 12:09", hold_id=held.hold_id)
    assert (charge.amount_micros, charge.card.version) == (micros(12), 1)


def test_e20_a_quote_past_its_expiry_is_refused_with_todays_price() -> None:
    team, token = quoted()

    with pytest.raises(QuoteExpired) as refused:
        team.asked("2026-11-10 12:11", hold_with(token))

    assert refused.value.asked["price_today"] == "24"


def quoted() -> tuple[AnAccount, str]:
    """A quote of 12 for ten minutes from noon; at 12:05 a card that is twice as dear comes into force."""
    catalogue = a_catalogue(unit_card())
    team = AnAccount("2026-11-01 00:00", catalogue)
    team.bought("A", 100, "2026-11-01 00:00")
    quote = quote_usage(
        team.account,
        catalogue,
        team.index,
        when(NOON),
        "quote-1",
        action="image.generate",
        meters={"units": "12"},
        dimensions={},
    )
    dearer = unit_card(
        effective_at="2026-11-10T12:05:00Z",
        rates=[
            {
                "action": "image.generate",
                "terms": [{"model": "unit", "meters": ["units"], "price": "2"}],
            }
        ],
    )
    for event in publish_rate_card(catalogue, dearer, when(NOON), TESTER):
        apply(catalogue, event)
    return team, sign_quote(quote, QUOTE_KEY)


def hold_with(token: str) -> PlaceHold:
    return PlaceHold(team_id="acme", action="image.generate", quote=token)


def test_e22_a_lost_chargeback_takes_the_successor_of_a_refund_too() -> None:
    team = AnAccount()
    team.bought("T", 100, "2026-11-01 00:00", expires_at="2026-11-20 00:00")
    team.used("u", 60, occurred="2026-11-05 10:00")
    team.refunded("u", 45, "2026-11-20 12:00")
    assert team.left() == {"T": "40", "T'": "45"}
    team.charged_back("T", "2026-11-20 13:00")

    team.lost("T", "2026-11-20 14:00")

    assert (team.left(), team.debt()) == ({"T": "0"}, "15")
    assert team.parts("2026-11-20 14:00") == {"debt": "15"}


def test_e24_a_corrected_record_is_waived_and_lets_go_of_its_hold() -> None:
    team = AnAccount()
    team.bought("A", 100, "2026-11-01 00:00")
    hold = team.held(50, NOON)
    team.used("8", 20, occurred="2026-11-10 12:01", status="failed", corrects="7")

    waived: Any = team.used("7", 20, occurred="2026-11-10 12:02", hold_id=hold)

    assert isinstance(waived, UsageWaived)
    assert (waived.waiver, waived.corrected_by) == ("corrected", "8")
    assert [event.hold_id for event in team.events_of(HoldReleased)] == [hold]
    assert team.parts("2026-11-10 12:02") == {"settled": "100", "available": "100"}
