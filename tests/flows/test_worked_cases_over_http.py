"""The worked cases of the product once more: over the real HTTP application, on PostgreSQL, usage from the stream."""

from __future__ import annotations

from typing import Any

import pytest

from tests.builders import SOURCE, unit_card
from tests.flows.http_story import OPENED, LedgerOverHttp, Story, Tell, booked, on

# --- E1: late usage and breakage ---


def e1_lots(tell: Tell) -> Story:
    team = tell("e1")
    team.bought("A", 100, expires_at="2026-12-01 00:00")
    team.bought("B", 50)
    return team


def test_e1_late_usage_within_grace_draws_the_lot_that_was_open_when_it_occurred(tell: Tell) -> None:
    team = e1_lots(tell)

    charge = team.used("u", 30, occurred="2026-11-30 23:50", recorded="2026-12-01 10:00")

    assert (charge["amount"], team.drawn(charge)) == ("30", [("A", "30")])
    assert team.left == {"A": "70", "B": "50"}
    assert team.lots["A"]["state"] == "lapsed"
    assert team.balance("settled", "available", "lapsed", "upcoming") == ("120", "50", "70", "0")
    assert team.at("2026-12-02 00:00").balance("settled", "lapsed") == ("50", "0")

    # Whatever is recorded next books what is due first.
    team.granted("next", 1, "2026-12-02 00:00")
    assert booked(team, "CreditsExpired") == [("70", on("2026-12-02 00:00"))]
    assert team.balance("settled") == ("51",)


def test_e1b_usage_later_than_the_breakage_draws_what_is_there_now(tell: Tell) -> None:
    team = e1_lots(tell)

    charge = team.used("u", 30, occurred="2026-11-30 23:50", recorded="2026-12-03 10:00")

    assert team.drawn(charge) == [("B", "30")]
    assert team.left == {"A": "0", "B": "20"}
    assert booked(team, "CreditsExpired") == [("100", on("2026-12-02 00:00"))]


# --- E2: debt ---


@pytest.mark.parametrize("recorded", ["2026-11-05 10:01", "2026-11-05 10:06"])
def test_e2_usage_before_a_top_up_ends_the_same_whenever_it_is_recorded(tell: Tell, recorded: str) -> None:
    team = tell("e2")
    team.bought("A", 10)
    if recorded < "2026-11-05 10:05":
        charge = team.used("u", 25, occurred="2026-11-05 10:00", recorded=recorded)
        assert (charge["debt"], team.debt) == ("15", "15")
    team.bought("B", 100, "2026-11-05 10:05")
    if recorded > "2026-11-05 10:05":
        charge = team.used("u", 25, occurred="2026-11-05 10:00", recorded=recorded)
        assert team.drawn(charge) == [("A", "10"), ("B", "15")]

    assert (team.left, team.debt) == ({"A": "0", "B": "85"}, "0")


def test_e2b_a_lot_becoming_effective_repays_debt_as_of_that_instant(tell: Tell) -> None:
    team = tell("e2b")
    team.used("u", 10, occurred="2026-11-05 10:00")
    team.granted("G", 10, "2026-11-05 11:00", effective_at="2026-11-06 00:00")
    assert (team.left, team.debt) == ({"G": "10"}, "10")
    assert team.balance("upcoming", "available") == ("10", "0")

    team.at("2026-11-07 09:00")
    assert (team.left, team.debt) == ({"G": "0"}, "0")

    team.granted("next", 1, "2026-11-07 09:00")
    [repaid] = team.statement(kind="DebtRepaid")
    assert (repaid["amount"], repaid["occurred_at"]) == ("10", on("2026-11-06 00:00"))
    assert repaid["recorded_at"] == on("2026-11-07 09:00")


# --- E5: refunds and debt ---


def e5(tell: Tell) -> Story:
    team = tell("e5")
    team.bought("A", 30)
    charge = team.used("u", 100, occurred="2026-11-05 10:00")
    assert (team.drawn(charge), charge["debt"], team.debt) == ([("A", "30")], "70", "70")
    return team


def test_e5_a_refund_returns_to_the_lots_that_repaid_the_debt_and_never_beyond_the_charge(
    tell: Tell,
) -> None:
    team = e5(tell)
    team.bought("B", 200, "2026-11-05 11:00")
    assert team.left == {"A": "0", "B": "130"}

    first = team.refunded("u", 80, "2026-11-05 12:00")
    assert (first.status_code, first.json()["amount"]) == (201, "80")
    assert (team.left, team.debt) == ({"A": "10", "B": "200"}, "0")
    second = team.refunded("u", 20, "2026-11-05 13:00")
    assert (second.json()["settled"], team.left) == ("230", {"A": "30", "B": "200"})

    version = team.version
    third = team.refunded("u", 1, "2026-11-05 14:00")
    assert (third.status_code, third.json()["code"]) == (409, "refund_exceeds_charge")
    assert "at most 0 is left" in third.json()["detail"]
    assert team.version == version


def test_e5b_a_refund_lowers_todays_debt_before_anything_returns(tell: Tell) -> None:
    team = e5(tell)

    team.refunded("u", 80, "2026-11-05 10:30")
    assert (team.left, team.debt) == ({"A": "10"}, "0")
    team.bought("B", 200, "2026-11-05 11:00")

    assert team.left == {"A": "10", "B": "200"}


@pytest.mark.parametrize("split", [(20,), (10, 10)])
def test_e5c_each_line_repays_todays_debt_before_the_next_returns(tell: Tell, split: tuple[int, ...]) -> None:
    team = tell("e5c")
    team.bought("A", 10, priority=10)
    team.bought("B", 10)
    charge = team.used("u", 20, occurred="2026-11-05 10:00")
    assert team.drawn(charge) == [("A", "10"), ("B", "10")]
    team.used("other", 10, occurred="2026-11-05 10:01")
    assert team.debt == "10"

    for amount in split:
        assert team.refunded("u", amount, "2026-11-05 11:00").status_code == 201

    assert (team.left, team.debt) == ({"A": "10", "B": "0"}, "0")
    assert team.get(f"charges/{charge['charge_id']}")["refunded"] == "20"


# --- E6: refunds and expiry ---


def e6(tell: Tell) -> Story:
    team = tell("e6")
    team.bought("A", 100, expires_at="2026-12-01 00:00")
    team.used("u", 60, occurred="2026-11-20 10:00")
    return team


def test_e6_a_refund_to_an_expired_lot_lives_seven_days_in_a_successor(tell: Tell) -> None:
    team = e6(tell)
    assert team.at("2026-12-02 00:00").balance("settled", "lapsed") == ("0", "0")

    team.refunded("u", 45, "2026-12-10 09:00")

    assert team.left == {"A": "0", "A'": "45"}
    successor = team.lots["A'"]
    assert successor["expires_at"] == on("2026-12-17 09:00")
    assert team.name_of(successor["origin_lot_id"]) == "A"
    # A: 100 = 15 used + 40 breakage + 45 moved to A'.
    assert booked(team, "CreditsExpired") == [("40", on("2026-12-02 00:00"))]
    [charge] = team.get("charges", source=SOURCE, id="u")["data"]
    assert (charge["amount"], charge["refunded"]) == ("60", "45")
    assert team.explained(charge["charge_id"])["kept"] == "15"


def test_e6b_a_lapsed_lot_is_not_revived_by_a_refund(tell: Tell) -> None:
    team = e6(tell)

    team.refunded("u", 45, "2026-12-01 12:00")

    assert team.left == {"A": "40", "A'": "45"}
    assert team.lots["A'"]["expires_at"] == on("2026-12-08 12:00")
    assert team.balance("available", "lapsed") == ("45", "40")
    team.at("2026-12-02 00:00")
    assert team.left == {"A": "0", "A'": "45"}
    team.granted("next", 1, "2026-12-02 00:00")
    assert booked(team, "CreditsExpired") == [("40", on("2026-12-02 00:00"))]


# --- E7: graduated prices ---


def graduated_card(first: str, then: str, **changes: Any) -> dict[str, Any]:
    """The first 100 units of a period at one price, all further ones at another; large pictures at one and a half."""
    tiers = [{"up_to": "100", "price": first}, {"price": then}]
    sizes = {"plain": "1", "large": "1.5"}
    rate = {
        "action": "image.generate",
        "terms": [{"model": "graduated", "meters": ["units"], "tiers": tiers}],
        "multipliers": [{"kind": "table", "dimension": "size", "values": sizes, "default": "1"}],
    }
    return unit_card(rates=[rate], dimensions={"size": "size of the picture"}, **changes)


@pytest.mark.parametrize(
    ("order", "amounts"),
    [(("plain", "large"), ["80", "70"]), (("large", "plain"), ["110", "40"])],
)
def test_e7_graduated_charges_sum_to_the_same_in_any_order(
    tell: Tell, order: tuple[str, str], amounts: list[str]
) -> None:
    team = tell("e7", graduated_card("1", "0.5"))
    team.bought("A", 1000)

    charges = [team.used(size, 80, occurred="2026-11-05 10:00", dimensions={"size": size}) for size in order]

    assert [charge["amount"] for charge in charges] == amounts
    assert team.left == {"A": "850"}


def test_e7b_graduated_rounding_never_gains_or_loses_a_micro_credit(tell: Tell) -> None:
    team = tell("e7b", graduated_card("0.0000004", "0.0000004"))
    team.bought("A", 1)

    charges = [team.used(str(n), 1, occurred="2026-11-05 10:00") for n in range(3)]

    assert [charge["amount"] for charge in charges] == ["0.000001", "0", "0.000001"]
    assert team.left == {"A": "0.999998"}


@pytest.mark.parametrize("late_first", [False, True])
def test_e7c_each_card_version_counts_for_itself(tell: Tell, late_first: bool) -> None:
    dearer = graduated_card("2", "1", effective_at="2026-11-15T00:00:00Z")
    team = tell("e7c", graduated_card("1", "0.5"), dearer)
    team.bought("A", 1000)
    uses = [("before", "2026-11-10 10:00"), ("after", "2026-11-20 10:00")]

    charges = {
        record_id: team.used(record_id, 80, occurred=occurred, recorded="2026-11-20 11:00")
        for record_id, occurred in (reversed(uses) if late_first else uses)
    }

    assert {name: (each["amount"], each["card"]["version"]) for name, each in charges.items()} == {
        "before": ("80", 1),
        "after": ("160", 2),
    }
    assert team.left == {"A": "760"}


# --- E10c, E12, E13, E18 ---


def test_e10c_the_first_pass_draws_what_was_there_when_the_usage_occurred(tell: Tell) -> None:
    team = tell("e10c")
    team.granted("L1", 100, source="included", expires_at="2026-12-01 00:00")
    team.bought("P", 100)
    team.used("all", 100, occurred="2026-11-20 10:00")
    assert team.left == {"L1": "0", "P": "100"}
    team.granted("L2", 100, "2026-12-01 00:00", source="included", expires_at="2027-01-01 00:00")

    late = team.used("late", 40, occurred="2026-11-30 10:00", recorded="2026-12-01 12:00")

    assert team.drawn(late) == [("P", "40")]
    assert team.left == {"L1": "0", "P": "60", "L2": "100"}


def test_e12_failed_work_refunds_the_record_it_corrects(tell: Tell) -> None:
    team = tell("e12")
    team.bought("A", 100)
    team.did("limits", {"limit_id": "mira", "window": "day", "cap": "50", "member": "mira"}, OPENED)
    seventh = team.used("7", 20, occurred="2026-11-05 10:00")
    assert (seventh["amount"], team.left) == ("20", {"A": "80"})
    assert [limit["used"] for limit in team.get("limits")["data"]] == ["20"]

    eighth = team.used("8", 20, occurred="2026-11-05 10:05", status="failed", corrects="7")

    assert (team.left, eighth["waiver"]) == ({"A": "100"}, "failed")
    assert [limit["used"] for limit in team.get("limits")["data"]] == ["0"]
    [refund] = team.explained(seventh["charge_id"])["refunds"]
    waived = team.explained(eighth["charge_id"])
    assert refund["amount"] == "20"
    assert (waived["refund_id"], waived["corrects_charge_id"]) == (
        refund["refund_id"],
        seventh["charge_id"],
    )
    assert team.get(f"charges/{seventh['charge_id']}")["refunded"] == "20"


@pytest.mark.parametrize("recorded", ["2026-11-05 11:00", "2026-11-08 10:00"])
def test_e12b_a_correction_that_comes_first_waives_its_record_whenever_it_comes(
    tell: Tell, recorded: str
) -> None:
    team = tell("e12b")
    team.bought("A", 100)

    eighth = team.used("8", 20, occurred="2026-11-05 10:05", status="failed", corrects="7")
    seventh = team.used("7", 20, occurred="2026-11-05 10:00", recorded=recorded)

    assert (eighth["waiver"], seventh["waiver"]) == ("failed", "corrected")
    assert team.explained(seventh["charge_id"])["corrected_by"] == "8"
    topics = [entry["topic"] for entry in team.get("history", limit=100)["data"]]
    assert topics.count("CorrectionAwaited.1") == 1
    assert (team.left, team.debt) == ({"A": "100"}, "0")


def test_e13_lots_burn_in_the_published_order(tell: Tell) -> None:
    team = tell("e13")
    team.bought("P", 50, priority=10)
    team.bought("Q", 50, expires_at="2027-01-05 00:00")
    team.bought("R", 50, action="video.generate")
    team.granted("S", 50, expires_at="2027-01-05 00:00")
    # The list of lots is in burn order, too.
    assert list(team.lots) == ["P", "R", "S", "Q"]

    charge = team.used("u", 170, occurred="2026-11-05 10:00", action="video.generate")

    assert team.drawn(charge) == [("P", "50"), ("R", "50"), ("S", "50"), ("Q", "20")]
    assert team.left == {"P": "0", "Q": "30", "R": "0", "S": "0"}


def test_e18_the_same_id_is_a_duplicate_and_with_another_quantity_a_conflict(
    tell: Tell, ledger: LedgerOverHttp
) -> None:
    team = tell("e18")
    team.bought("A", 100, OPENED)

    charge = team.used("7", 10, occurred="2026-11-05 10:00")
    version = team.version
    again = team.sent("7", 10, occurred="2026-11-05 10:00", recorded="2026-11-05 10:01", structured=True)
    other = team.sent("7", 11, occurred="2026-11-05 10:00", recorded="2026-11-05 10:02")

    # Both point at the first: its version in the account, its position on the stream.
    first = charge["origin"]
    for fate, kind in ((again, "duplicate"), (other, "conflict")):
        assert (fate.kind, fate.version, fate.charge_id) == (
            kind,
            charge["charged_version"],
            charge["charge_id"],
        )
        assert f"offset {first['offset']} of {first['topic']}/{first['partition']}" in fate.detail
    # Nothing was charged again and nothing is parked: the account did not move.
    assert (team.left, team.version) == ({"A": "90"}, version)
    assert ledger.letters() == {}
    assert [line["amount"] for line in team.statement(kind="CreditsCharged")] == ["10"]
