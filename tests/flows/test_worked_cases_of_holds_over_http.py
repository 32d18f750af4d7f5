"""The worked cases of holds, limits, plans, chargebacks and quotes over the real HTTP application; usage from the stream."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.builders import a_plan, unit_card
from tests.flows.http_story import LedgerOverHttp, Story, Tell, booked, on

NOON = "2026-11-10 12:00"


def parts(team: Story, at: str) -> dict[str, str]:
    """The parts of the balance at an instant that are not zero."""
    told = team.at(at).get("balance")
    names = ("settled", "available", "held", "lapsed", "withheld", "upcoming", "debt")
    return {name: told[name] for name in names if told[name] != "0"}


def on_a_plan(tell: Tell, name: str, allowance: int = 100, rollover_cap: int = 50) -> Story:
    """A team that has a plan from the beginning of November: its first allowance is L1."""
    team = tell(name)
    team.planned(a_plan("monthly", allowance, rollover_cap), "2026-11-01 00:00")
    assert team.left == {"L1": str(allowance)}
    return team


def held_lines(team: Story) -> dict[str, dict[str, str]]:
    """What every open hold sets aside, by lot."""
    holds = team.get("holds")["data"]
    return {
        hold["hold_id"]: {team.name_of(line["lot_id"]): line["amount"] for line in hold["lines"]}
        for hold in holds
    }


# --- E3, E4: holds ---


def test_e3_unrelated_usage_becomes_debt_beside_a_hold_and_its_release_repays_it(tell: Tell) -> None:
    team = tell("e3")
    team.bought("A", 100)
    hold = team.held(80, "2026-11-10 10:00")

    team.used("u", 30, occurred="2026-11-10 10:01")

    assert parts(team, "2026-11-10 10:01") == {"settled": "80", "held": "80", "debt": "10"}
    charge = team.captured(hold, 50, "2026-11-10 10:02")
    released = team.released(hold, "2026-11-10 10:03")
    assert (charge["amount"], released["amount"]) == ("50", "30")
    assert (team.left, team.debt) == ({"A": "20"}, "0")
    assert booked(team, "DebtRepaid") == [("10", on("2026-11-10 10:03"))]
    assert team.get(f"charges/{charge['charge_id']}")["hold_id"] == hold


def e4(tell: Tell, name: str) -> tuple[Story, str]:
    team = tell(name)
    team.bought("A", 50, expires_at=NOON)
    team.bought("B", 100)
    return team, team.held(40, "2026-11-10 11:30")


def test_e4_a_lot_that_expires_inside_a_hold_lives_on_for_that_hold_only(tell: Tell) -> None:
    team, hold = e4(tell, "e4")

    assert parts(team, NOON) == {"settled": "150", "available": "100", "held": "40", "lapsed": "10"}
    team.captured(hold, 25, "2026-11-10 12:10")
    after = {"settled": "125", "available": "100", "held": "15", "lapsed": "10"}
    assert parts(team, "2026-11-10 12:10") == after
    assert parts(team, "2026-11-10 12:30") == {"settled": "125", "available": "100", "lapsed": "25"}
    assert team.get(f"holds/{hold}")["state"] == "expired"
    assert parts(team, "2026-11-11 12:29")["settled"] == "125"
    team.ticked("2026-11-11 12:30")
    team.ticked("2026-11-20 00:00")
    assert booked(team, "CreditsExpired") == [("25", on("2026-11-11 12:30"))]
    assert team.left == {"A": "0", "B": "100"}


def test_e4b_credit_that_a_hold_gives_back_repays_debt_as_of_its_end_whoever_looks_later(tell: Tell) -> None:
    team = tell("e4b")
    team.bought("A", 50, expires_at="2026-11-10 11:00")
    team.held(50, "2026-11-10 09:00")
    team.used("u", 20, occurred="2026-11-10 09:30")
    assert team.debt == "20"

    assert parts(team, NOON) == {"settled": "30", "lapsed": "30"}
    team.ticked(NOON)
    assert booked(team, "DebtRepaid") == [("20", on("2026-11-10 10:00"))]
    assert parts(team, NOON) == {"settled": "30", "lapsed": "30"}


@pytest.mark.parametrize("recorded", ["2026-11-10 12:10", "2026-11-10 12:40"])
def test_e4c_usage_takes_its_own_hold_also_when_it_is_recorded_after_its_end(
    tell: Tell, recorded: str
) -> None:
    team, hold = e4(tell, "e4c")

    charge = team.used("u", 25, occurred="2026-11-10 12:10", recorded=recorded, hold_id=hold)

    assert (charge["hold_id"], charge["from_hold"]) == (hold, charge["lines"])
    assert parts(team, "2026-11-10 12:40") == {"settled": "125", "available": "100", "lapsed": "25"}
    team.ticked("2026-11-20 00:00")
    assert [amount for amount, _ in booked(team, "CreditsExpired")] == ["25"]
    assert team.left == {"A": "0", "B": "100"}


# --- E8, E17: limits ---


def e8(tell: Tell, name: str) -> tuple[Story, str]:
    team = tell(name, zone="Europe/Berlin", opened="2026-10-01 00:00")
    team.bought("A", 1_000, "2026-10-01 00:00")
    limit = {"limit_id": "mira-day", "window": "day", "cap": "100", "member": "mira"}
    team.did("limits", limit, "2026-10-01 00:00")
    return team, team.held(80, "2026-10-25 22:50", member="mira")


def window(team: Story, at: str) -> str:
    """The use in the window of an instant, as the team read it at the end of that day."""
    [limit] = team.at(at).get("limits")["data"]
    return str(limit["used"])


def test_e8_held_credit_counts_in_the_window_of_now_across_a_day_of_25_hours(tell: Tell) -> None:
    team, _ = e8(tell, "e8")
    [limit] = team.at("2026-10-25 12:00").get("limits")["data"]
    assert (limit["window_start"], limit["resets_at"]) == (on("2026-10-24 22:00"), on("2026-10-25 23:00"))

    denied = team.hold(30, "2026-10-25 23:05", member="mira")

    assert (denied["outcome"], denied["hold_id"]) == ("denied", None)
    denial = {
        name: denied["denial"][name] for name in ("rule", "limit_id", "used", "held", "limit", "requested")
    }
    assert denial == {
        "rule": "limit",
        "limit_id": "mira-day",
        "used": "0",
        "held": "80",
        "limit": "100",
        "requested": "30",
    }
    assert (denied["denial"]["window_start"], denied["denial"]["window_end"]) == (
        on("2026-10-25 23:00"),
        on("2026-10-26 23:00"),
    )


def test_e8b_captured_credit_counts_in_the_window_of_its_usage_and_a_refund_gives_it_back_there(
    tell: Tell,
) -> None:
    team, hold = e8(tell, "e8b")

    team.used("u", 80, occurred="2026-10-25 23:10", recorded="2026-10-25 23:20", hold_id=hold)

    assert window(team, "2026-10-26 12:00") == "80"
    [then] = team.get("limits", as_of=on("2026-10-25 22:55"))["data"]
    assert (then["used"], then["held"], then["resets_at"]) == ("0", "80", on("2026-10-25 23:00"))
    refund = team.refunded("u", None, "2026-10-27 12:00")
    assert (refund.status_code, refund.json()["amount"]) == (201, "80")
    assert window(team, "2026-10-27 12:00") == "0"
    [charge] = list(team.statement(kind="ChargeRefunded"))
    assert charge["amount"] == "80"


def test_e17_each_threshold_of_a_soft_limit_alerts_once_in_a_window(tell: Tell) -> None:
    team = tell("e17")
    team.bought("A", 1_000)
    limit = {
        "limit_id": "team",
        "window": "month",
        "cap": "100",
        "hard": False,
        "thresholds": [50, 80, 100],
    }
    team.did("limits", limit, "2026-11-01 00:00")
    reached: list[tuple[str, list[int]]] = []

    def look() -> None:
        [told] = team.get("limits")["data"]
        reached.append((told["used"], told["reached"]))

    for number, units in enumerate([49, 2, 30, 30]):
        team.used(f"u{number}", units, occurred=NOON)
        look()
    team.refunded("u0", 40, NOON)
    team.used("last", 40, occurred=NOON)
    look()

    assert reached == [
        ("49", []),
        ("51", [50]),
        ("81", [50, 80]),
        ("111", [50, 80, 100]),
        ("111", [50, 80, 100]),
    ]
    topics = [entry["topic"] for entry in team.get("history", limit=100)["data"]]
    assert topics.count("LimitThresholdReached.1") == 3


# --- E9, E22: chargebacks ---


def e9(tell: Tell, name: str) -> Story:
    team = tell(name)
    team.granted("G", 20, priority=10)
    team.bought("T", 100)
    team.used("u", 70, occurred="2026-11-02 10:00")
    assert team.left == {"G": "0", "T": "50"}
    assert team.charged_back("T", "2026-11-03 10:00")["amount"] == "50"
    assert parts(team, "2026-11-03 10:00") == {"settled": "50", "withheld": "50"}
    return team


def test_e9_a_chargeback_that_is_won_reinstates_what_was_withheld_and_repays_debt(tell: Tell) -> None:
    team = e9(tell, "e9")
    team.used("v", 10, occurred="2026-11-03 11:00")
    assert team.debt == "10"

    team.won("T", "2026-11-20 10:00")

    assert (team.left, team.debt) == ({"G": "0", "T": "40"}, "0")
    assert team.get("top-ups/pay-T")["chargeback"] == "won"


def test_e9b_a_lost_chargeback_turns_what_was_drawn_into_debt_and_a_refund_then_lowers_it(tell: Tell) -> None:
    team = e9(tell, "e9b")
    team.used("v", 10, occurred="2026-11-03 11:00")

    team.lost("T", "2026-11-20 10:00")

    assert (team.left, team.debt) == ({"G": "0", "T": "0"}, "60")
    assert team.refunded("u", None, "2026-11-21 10:00").status_code == 201
    assert (team.left, team.debt) == ({"G": "10", "T": "0"}, "0")


def test_e9c_what_becomes_debt_is_repaid_at_once_by_other_credit(tell: Tell) -> None:
    team = tell("e9c")
    team.bought("A", 100, priority=10)
    team.bought("B", 100)
    team.used("u", 40, occurred="2026-11-02 10:00")
    team.charged_back("A", "2026-11-03 10:00")

    team.lost("A", "2026-11-04 10:00")

    assert (team.left, team.debt) == ({"A": "0", "B": "60"}, "0")


def test_e22_a_lost_chargeback_takes_the_successor_of_a_refund_too(tell: Tell) -> None:
    team = tell("e22")
    team.bought("T", 100, expires_at="2026-11-20 00:00")
    team.used("u", 60, occurred="2026-11-05 10:00")
    team.refunded("u", 45, "2026-11-20 12:00")
    assert team.left == {"T": "40", "T'": "45"}
    team.charged_back("T", "2026-11-20 13:00")

    team.lost("T", "2026-11-20 14:00")

    assert (team.left, team.debt) == ({"T": "0"}, "15")
    assert parts(team, "2026-11-20 14:00") == {"debt": "15"}


# --- E10, E14, E15, E23: plans ---


@pytest.mark.parametrize(
    ("recorded", "left", "breakage"),
    [
        ("2026-12-01 12:00", {"L1": "0", "L1'": "30", "L2": "100"}, []),
        ("2026-12-02 12:00", {"L1": "0", "L1'": "10", "L2": "100"}, ["20"]),
    ],
    ids=["e10", "e10b"],
)
def test_e10_late_usage_draws_what_lapsed_at_the_turn_before_what_rolled_over(
    tell: Tell, recorded: str, left: dict[str, str], breakage: list[str]
) -> None:
    team = on_a_plan(tell, "e10")
    team.used("u", 30, occurred="2026-11-20 10:00")
    team.at("2026-12-01 00:00")
    assert team.left == {"L1": "20", "L1'": "50", "L2": "100"}
    team.ticked("2026-12-01 00:00")
    assert team.left == {"L1": "20", "L1'": "50", "L2": "100"}

    team.used("late", 40, occurred="2026-11-30 10:00", recorded=recorded)

    assert team.left == left
    team.ticked("2026-12-10 00:00")
    assert [amount for amount, _ in booked(team, "CreditsExpired")] == breakage


def test_e10d_held_credit_rolls_over_first_and_its_hold_moves_with_it(tell: Tell) -> None:
    team = on_a_plan(tell, "e10d")
    hold = team.held(80, "2026-11-30 20:00", lasts_seconds=86_400)

    team.at("2026-12-01 00:00")

    assert team.left == {"L1": "50", "L1'": "50", "L2": "100"}
    assert held_lines(team) == {hold: {"L1": "30", "L1'": "50"}}
    assert parts(team, "2026-12-01 00:00")["lapsed"] == "20"
    team.released(hold, "2026-12-01 10:00")
    assert parts(team, "2026-12-01 10:00") == {"settled": "200", "available": "150", "lapsed": "50"}


def test_e23_the_older_hold_rolls_whole_and_the_younger_with_what_the_cap_leaves(tell: Tell) -> None:
    team = on_a_plan(tell, "e23")
    older = team.held(40, "2026-11-30 20:00", lasts_seconds=86_400)
    younger = team.held(40, "2026-11-30 20:01", lasts_seconds=86_400)

    team.ticked("2026-12-01 00:00")

    assert team.left == {"L1": "50", "L1'": "50", "L2": "100"}
    assert held_lines(team) == {older: {"L1'": "40"}, younger: {"L1": "30", "L1'": "10"}}
    assert parts(team, "2026-12-01 00:00")["lapsed"] == "20"


def test_e14_an_anchor_on_the_31st_turns_on_the_last_day_of_shorter_months(tell: Tell) -> None:
    team = tell("e14", anchor_day=31, opened="2027-01-31 00:00")
    team.planned(a_plan("monthly", 100), "2027-01-31 00:00")
    assert team.left == {"L1": "100"}
    turns = [team.at(f"2027-{day} 12:00").get("plan")["next_turn"] for day in ("01-31", "02-28", "03-31")]

    team.ticked("2027-06-01 00:00")

    assert turns == [on("2027-02-28 00:00"), on("2027-03-31 00:00"), on("2027-04-30 00:00")]
    days = ["01-31", "02-28", "03-31", "04-30", "05-31"]
    assert booked(team, "AllowanceGranted") == [("100", on(f"2027-{day} 00:00")) for day in days]


def test_e15_an_upgrade_now_grants_the_difference_for_the_days_that_are_left(tell: Tell) -> None:
    team = tell("e15")
    team.planned(a_plan("small", 300), "2026-11-01 00:00")

    team.planned(a_plan("large", 600), "2026-11-11 15:00")

    assert team.left == {"L1": "300", "L2": "200"}
    team.ticked("2026-12-01 00:00")
    assert booked(team, "AllowanceGranted")[-1] == ("600", on("2026-12-01 00:00"))


# --- E16: holds at once ---


def test_e16_twenty_holds_at_once_grant_what_there_is_and_deny_the_rest(tell: Tell) -> None:
    team = tell("e16")
    team.bought("A", 500)

    def ask(number: int) -> dict[str, Any]:
        answer = team.asked(
            "holds", {"action": "image.generate", "amount": "75"}, NOON, key=f"e16-hold-{number}"
        )
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(ask, range(20)))

    outcomes = [answer["outcome"] for answer in answers]
    assert (outcomes.count("held"), outcomes.count("denied")) == (6, 14)
    assert parts(team, NOON) == {"settled": "500", "available": "50", "held": "450"}
    denials = [answer["denial"] for answer in answers if answer["denial"]]
    assert {(each["rule"], each["held"], each["limit"], each["requested"]) for each in denials} == {
        ("available", "450", "50", "75")
    }
    assert len({each["version"] for each in denials}) == 1


# --- E19, E20: quotes ---


def quoted(tell: Tell, name: str) -> tuple[Story, str]:
    """A quote of 12 for ten minutes from noon; at 12:05 a card that is twice as dear comes into force."""
    team = tell(name)
    team.bought("A", 100)
    quote = team.at(NOON).post("quotes", {"action": "image.generate", "meters": {"units": "12"}})
    assert (quote["total"], quote["card"]["version"], quote["expires_at"]) == (
        "12",
        1,
        on("2026-11-10 12:10"),
    )
    rate = {"action": "image.generate", "terms": [{"model": "unit", "meters": ["units"], "price": "2"}]}
    team.published(unit_card(effective_at="2026-11-10T12:05:00Z", rates=[rate]), "2026-11-10 12:01")
    return team, str(quote["token"])


def hold_with(token: str) -> dict[str, str]:
    return {"action": "image.generate", "quote": token}


def test_e19_a_quote_is_honoured_until_it_expires_and_once(tell: Tell) -> None:
    team, token = quoted(tell, "e19")

    held = team.did("holds", hold_with(token), "2026-11-10 12:09")
    again = team.asked("holds", hold_with(token), "2026-11-10 12:09")

    assert (held["outcome"], held["amount"]) == ("held", "12")
    assert (again.status_code, again.json()["code"]) == (409, "quote_used")
    charge = team.used("u", 12, occurred="2026-11-10 12:09", hold_id=held["hold_id"])
    assert (charge["amount"], charge["card"]["version"], charge["debt"]) == ("12", 1, "0")
    estimate = team.post("estimates", {"action": "image.generate", "meters": {"units": "12"}})
    assert estimate["amount"] == "24"


def test_e20_a_quote_past_its_expiry_is_refused_with_todays_price(tell: Tell) -> None:
    team, token = quoted(tell, "e20")

    refused = team.asked("holds", hold_with(token), "2026-11-10 12:11")

    told = refused.json()
    assert (refused.status_code, told["code"], told["price_today"]) == (409, "quote_expired", "24")
    assert team.get("holds")["data"] == []


# --- E24: corrections and holds ---


def test_e24_a_corrected_record_is_waived_and_lets_go_of_its_hold(tell: Tell, ledger: LedgerOverHttp) -> None:
    team = tell("e24")
    team.bought("A", 100)
    hold = team.held(50, NOON)
    team.used("8", 20, occurred="2026-11-10 12:01", status="failed", corrects="7")

    waived = team.used("7", 20, occurred="2026-11-10 12:02", hold_id=hold)

    assert (waived["outcome"], waived["waiver"], waived["hold_id"]) == ("waived", "corrected", hold)
    assert team.explained(waived["charge_id"])["corrected_by"] == "8"
    assert team.get(f"holds/{hold}")["state"] == "released"
    assert parts(team, "2026-11-10 12:02") == {"settled": "100", "available": "100"}
    assert ledger.letters() == {}


def test_twenty_holds_at_once_never_pass_a_limit(tell: Tell) -> None:
    """E16 with a limit in the way, I12: 100 a day for mira is three holds of 30, whoever comes first."""
    team = tell("e16-limit")
    team.bought("A", 5_000)
    limit = {"limit_id": "mira-day", "window": "day", "cap": "100", "member": "mira"}
    team.did("limits", limit, "2026-11-01 00:00")

    def ask(number: int) -> dict[str, Any]:
        body = {"action": "image.generate", "amount": "30", "member": "mira"}
        answer = team.asked("holds", body, NOON, key=f"e16-limited-{number}")
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(ask, range(20)))

    denials = [answer["denial"] for answer in answers if answer["denial"]]
    assert [answer["outcome"] for answer in answers].count("held") == 3
    assert {(each["rule"], each["limit_id"], each["used"], each["held"]) for each in denials} == {
        ("limit", "mira-day", "0", "90")
    }
    [told] = team.get("limits")["data"]
    assert (told["held"], told["remaining"]) == ("90", "10")
