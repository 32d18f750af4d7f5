"""The worked cases of the product, told in their own numbers."""

from __future__ import annotations

from typing import Any

import pytest

from domain.account.events import (
    ChargeRefunded,
    CorrectionAwaited,
    CreditsCharged,
    CreditsExpired,
    DebtRepaid,
    UsageWaived,
)
from domain.errors import LotTermsRefused, RefundExceedsCharge
from projections.balance import balance_of
from tests.builders import AnAccount, a_catalogue, a_plan, a_usage_record, micros, unit_card, when


def parts(team: AnAccount, at: str) -> dict[str, int]:
    balance = balance_of(team.account, when(at), position=1, version=team.account.version)
    return {
        "settled": balance.settled_micros,
        "available": balance.available_micros,
        "lapsed": balance.lapsed_micros,
        "upcoming": balance.upcoming_micros,
    }


def e1_lots() -> AnAccount:
    team = AnAccount()
    team.bought("A", 100, "2026-11-01 00:00", expires_at="2026-12-01 00:00")
    team.bought("B", 50, "2026-11-01 00:00")
    return team


def test_e1_late_usage_within_grace_draws_the_lot_that_was_open_when_it_occurred() -> None:
    team = e1_lots()

    team.used("u", 30, occurred="2026-11-30 23:50", recorded="2026-12-01 10:00")

    assert team.left() == {"A": "70", "B": "50"}
    at_ten = parts(team, "2026-12-01 10:00")
    assert at_ten == {"settled": micros(120), "available": micros(50), "lapsed": micros(70), "upcoming": 0}
    assert parts(team, "2026-12-02 00:00")["settled"] == micros(50)
    team.ticked("2026-12-02 00:00")
    [expired] = team.events_of(CreditsExpired)
    assert (expired.amount_micros, expired.effective_at) == (micros(70), when("2026-12-02 00:00"))
    assert team.settled() == "50"


def test_e1b_usage_later_than_the_breakage_draws_what_is_there_now() -> None:
    team = e1_lots()

    team.used("u", 30, occurred="2026-11-30 23:50", recorded="2026-12-03 10:00")

    assert team.left() == {"A": "0", "B": "20"}
    assert [event.amount_micros for event in team.events_of(CreditsExpired)] == [micros(100)]


@pytest.mark.parametrize("occurred", ["2026-12-01 00:00", "2026-12-01 10:00", "2026-12-01 23:59"])
def test_h5_from_the_instant_of_its_expiry_a_lot_pays_no_new_use_also_before_its_breakage(
    occurred: str,
) -> None:
    team = e1_lots()

    team.used("u", 30, occurred=occurred)

    assert team.left() == {"A": "100", "B": "20"}


@pytest.mark.parametrize("recorded", ["2026-11-05 10:01", "2026-11-05 10:06"])
def test_e2_usage_before_a_top_up_ends_the_same_whenever_it_is_recorded(recorded: str) -> None:
    team = AnAccount()
    team.bought("A", 10, "2026-11-01 00:00")
    if recorded < "2026-11-05 10:05":
        team.used("u", 25, occurred="2026-11-05 10:00", recorded=recorded)
        assert team.debt() == "15"
    team.bought("B", 100, "2026-11-05 10:05")
    if recorded > "2026-11-05 10:05":
        team.used("u", 25, occurred="2026-11-05 10:00", recorded=recorded)

    assert (team.left(), team.debt()) == ({"A": "0", "B": "85"}, "0")


def test_e2b_a_lot_becoming_effective_repays_debt_as_of_that_instant() -> None:
    team = AnAccount()
    team.used("u", 10, occurred="2026-11-05 10:00")
    team.granted("G", 10, "2026-11-05 11:00", effective_at="2026-11-06 00:00")
    assert (team.left(), team.debt()) == ({"G": "10"}, "10")

    assert (team.left("2026-11-07 09:00"), team.debt("2026-11-07 09:00")) == ({"G": "0"}, "0")

    team.ticked("2026-11-07 09:00")
    [repaid] = team.events_of(DebtRepaid)
    assert repaid.effective_at == when("2026-11-06 00:00")
    assert repaid.recorded_at == when("2026-11-07 09:00")


def e5() -> AnAccount:
    team = AnAccount()
    team.bought("A", 30, "2026-11-01 00:00")
    team.used("u", 100, occurred="2026-11-05 10:00")
    assert team.debt() == "70"
    return team


def test_e5_a_refund_returns_to_the_lots_that_repaid_the_debt_and_never_beyond_the_charge() -> None:
    team = e5()
    team.bought("B", 200, "2026-11-05 11:00")
    assert team.left() == {"A": "0", "B": "130"}

    team.refunded("u", 80, "2026-11-05 12:00")
    assert (team.left(), team.debt()) == ({"A": "10", "B": "200"}, "0")
    team.refunded("u", 20, "2026-11-05 13:00")
    assert team.left() == {"A": "30", "B": "200"}
    version = team.account.version
    with pytest.raises(RefundExceedsCharge, match="at most 0 is left"):
        team.refunded("u", 1, "2026-11-05 14:00")
    assert team.account.version == version


def test_e5b_a_refund_lowers_todays_debt_before_anything_returns() -> None:
    team = e5()

    team.refunded("u", 80, "2026-11-05 10:30")
    assert (team.left(), team.debt()) == ({"A": "10"}, "0")
    team.bought("B", 200, "2026-11-05 11:00")

    assert team.left() == {"A": "10", "B": "200"}


@pytest.mark.parametrize("split", [(20,), (10, 10), (1, 9, 3, 7)])
def test_e5c_each_line_repays_todays_debt_before_the_next_returns(split: tuple[int, ...]) -> None:
    team = AnAccount()
    team.bought("A", 10, "2026-11-01 00:00", priority=10)
    team.bought("B", 10, "2026-11-01 00:00")
    team.used("u", 20, occurred="2026-11-05 10:00")
    team.used("other", 10, occurred="2026-11-05 10:01")

    for amount in split:
        team.refunded("u", amount, "2026-11-05 11:00")

    assert (team.left(), team.debt()) == ({"A": "10", "B": "0"}, "0")


def test_i13_one_refund_takes_no_repayment_back_twice() -> None:
    team = AnAccount()
    team.bought("T", 100, "2026-11-01 00:00")
    team.used("first", 70, occurred="2026-11-02 00:00")
    team.used("u", 50, occurred="2026-11-02 00:00")
    team.charged_back("T", "2026-11-03 00:00")
    team.lost("T", "2026-11-04 00:00")
    team.bought("B", 80, "2026-11-05 00:00")
    team.bought("C", 60, "2026-11-06 00:00")
    assert (team.left(), team.debt()) == ({"T": "0", "B": "0", "C": "20"}, "0")

    # Its debt of 20 and its line of 30 on the lost lot both return to those who repaid, the latest of whom gave 40.
    team.refunded("u", None, "2026-11-07 00:00")

    assert (team.left(), team.debt()) == ({"T": "0", "B": "10", "C": "60"}, "0")


def e6() -> AnAccount:
    team = AnAccount()
    team.bought("A", 100, "2026-11-01 00:00", expires_at="2026-12-01 00:00")
    team.used("u", 60, occurred="2026-11-20 10:00")
    return team


def test_e6_a_refund_to_an_expired_lot_lives_seven_days_in_a_successor() -> None:
    team = e6()
    team.ticked("2026-12-02 00:00")

    team.refunded("u", 45, "2026-12-10 09:00")

    assert team.left() == {"A": "0", "A'": "45"}
    assert team.expiry("A'") == when("2026-12-17 09:00")
    assert [event.amount_micros for event in team.events_of(CreditsExpired)] == [micros(40)]
    [refund] = team.refunds()
    assert [(line.drawn_lot_id, line.lot_id != line.drawn_lot_id) for line in refund.lines] == [
        ("lot-2", True)
    ]


def test_e6b_a_lapsed_lot_is_not_revived_by_a_refund() -> None:
    team = e6()

    team.refunded("u", 45, "2026-12-01 12:00")

    assert team.left() == {"A": "40", "A'": "45"}
    assert team.expiry("A'") == when("2026-12-08 12:00")
    assert parts(team, "2026-12-01 12:00")["lapsed"] == micros(40)
    team.ticked("2026-12-02 00:00")
    assert [event.amount_micros for event in team.events_of(CreditsExpired)] == [micros(40)]
    assert team.left() == {"A": "0", "A'": "45"}


def graduated_card(first: str, then: str, up_to: str = "100", **changes: Any) -> dict[str, Any]:
    rate = {
        "action": "image.generate",
        "terms": [
            {
                "model": "graduated",
                "meters": ["units"],
                "tiers": [{"up_to": up_to, "price": first}, {"price": then}],
            }
        ],
        "multipliers": [
            {"kind": "table", "dimension": "size", "values": {"plain": "1", "large": "1.5"}, "default": "1"}
        ],
    }
    return unit_card(rates=[rate], dimensions={"size": "size of the picture"}, **changes)


@pytest.mark.parametrize(
    ("order", "amounts"),
    [(("plain", "large"), [80, 70]), (("large", "plain"), [110, 40])],
)
def test_e7_graduated_charges_sum_to_the_same_in_any_order(
    order: tuple[str, str], amounts: list[int]
) -> None:
    team = AnAccount(catalogue=a_catalogue(graduated_card("1", "0.5")))
    team.bought("A", 1000, "2026-11-01 00:00")

    charges = [team.used(size, 80, occurred="2026-11-05 10:00", dimensions={"size": size}) for size in order]

    assert [charge.amount_micros for charge in charges] == [micros(n) for n in amounts]  # type: ignore[union-attr]
    assert team.left() == {"A": "850"}


def test_e7b_graduated_rounding_never_gains_or_loses_a_micro_credit() -> None:
    team = AnAccount(catalogue=a_catalogue(graduated_card("0.0000004", "0.0000004")))
    team.bought("A", 1, "2026-11-01 00:00")

    charges = [team.used(str(n), 1, occurred="2026-11-05 10:00") for n in range(3)]

    assert [charge.amount_micros for charge in charges] == [1, 0, 1]  # type: ignore[union-attr]


@pytest.mark.parametrize("late_first", [False, True])
def test_e7c_each_card_version_counts_for_itself(late_first: bool) -> None:
    first = graduated_card("1", "0.5")
    dearer = graduated_card("2", "1", effective_at="2026-11-15T00:00:00Z")
    team = AnAccount(catalogue=a_catalogue(first, dearer))
    team.bought("A", 1000, "2026-11-01 00:00")
    uses = [("before", "2026-11-10 10:00"), ("after", "2026-11-20 10:00")]

    for record_id, occurred in reversed(uses) if late_first else uses:
        team.used(record_id, 80, occurred=occurred, recorded="2026-11-20 11:00")

    assert team.left() == {"A": "760"}


def test_e10c_the_first_pass_draws_what_was_there_when_the_usage_occurred() -> None:
    team = AnAccount(catalogue=a_catalogue(unit_card(), plans=[a_plan("monthly", 100)]))
    team.planned("monthly", "2026-11-01 00:00")
    team.bought("P", 100, "2026-11-01 00:00")
    team.used("all", 100, occurred="2026-11-20 10:00")
    team.ticked("2026-12-01 00:00")

    team.used("late", 40, occurred="2026-11-30 10:00", recorded="2026-12-01 12:00")

    assert team.left() == {"L1": "0", "P": "60", "L2": "100"}


def test_e12_failed_work_refunds_the_record_it_corrects() -> None:
    team = AnAccount()
    team.bought("A", 100, "2026-11-01 00:00")
    team.used("7", 20, occurred="2026-11-05 10:00")

    waived = team.used("8", 20, occurred="2026-11-05 10:05", status="failed", corrects="7")

    assert team.left() == {"A": "100"}
    [refund] = team.refunds()
    assert isinstance(waived, UsageWaived)
    assert (waived.waiver, waived.refund_id) == ("failed", refund.refund_id)


@pytest.mark.parametrize("recorded", ["2026-11-05 11:00", "2026-11-08 10:00"])
def test_e12b_a_correction_that_comes_first_waives_its_record_whenever_it_comes(recorded: str) -> None:
    team = AnAccount()
    team.bought("A", 100, "2026-11-01 00:00")

    eighth = team.used("8", 20, occurred="2026-11-05 10:05", status="failed", corrects="7")
    seventh = team.used("7", 20, occurred="2026-11-05 10:00", recorded=recorded)

    assert isinstance(eighth, UsageWaived)
    assert isinstance(seventh, UsageWaived)
    assert (eighth.waiver, seventh.waiver, seventh.corrected_by) == ("failed", "corrected", "8")
    assert len(team.events_of(CorrectionAwaited)) == 1
    assert team.account.corrections_awaited == {}
    assert (team.left(), team.debt()) == ({"A": "100"}, "0")


def test_e13_lots_burn_in_the_published_order() -> None:
    team = AnAccount()
    team.bought("P", 50, "2026-11-01 00:00", priority=10)
    team.bought("Q", 50, "2026-11-01 00:00", expires_at="2027-01-05 00:00")
    team.bought("R", 50, "2026-11-01 00:00", action="video.generate")
    team.granted("S", 50, "2026-11-01 00:00", expires_at="2027-01-05 00:00")

    charge = team.used("u", 170, occurred="2026-11-05 10:00", action="video.generate")

    assert isinstance(charge, CreditsCharged)
    names = [(team.names[line.lot_id], line.amount_micros) for line in charge.lines]
    assert names == [("P", micros(50)), ("R", micros(50)), ("S", micros(50)), ("Q", micros(20))]
    assert team.left() == {"P": "0", "Q": "30", "R": "0", "S": "0"}


def test_e18_equal_records_are_one_and_another_quantity_under_the_same_id_is_another_content() -> None:
    """What the stream asks before it charges: whose claim it is, and whether the content is what was charged."""
    team = AnAccount()
    team.bought("A", 100, "2026-11-01 00:00")
    team.used("7", 20, occurred="2026-11-05 10:00")
    again = a_usage_record("7", 20, occurred="2026-11-05 10:00", arrived_at=when("2026-11-06 10:00"))
    other = a_usage_record("7", 21, occurred="2026-11-05 10:00")

    on_file = team.index.usage(again.usage_key())

    assert on_file is not None
    assert on_file.version == 3
    assert again.usage_key() == other.usage_key() == on_file.event.charge_id
    charged = a_usage_record("7", 20, occurred="2026-11-05 10:00").content_digest()
    assert (again.content_digest() == charged, other.content_digest() == charged) == (True, False)


def test_failed_work_that_is_itself_corrected_keeps_its_own_effects() -> None:
    team = AnAccount()
    team.bought("A", 100, "2026-11-01 00:00")
    team.used("7", 20, occurred="2026-11-05 10:00")
    team.used("9", 20, occurred="2026-11-05 10:06", status="failed", corrects="8")

    eighth = team.used("8", 20, occurred="2026-11-05 10:05", status="failed", corrects="7")

    assert isinstance(eighth, UsageWaived)
    assert eighth.waiver == "failed"
    assert team.left() == {"A": "100"}
    assert team.account.corrections_awaited == {}


def test_usage_is_charged_even_when_the_balance_is_spent() -> None:
    team = AnAccount()

    charge = team.used("u", 5, occurred="2026-11-05 10:00")

    assert isinstance(charge, CreditsCharged)
    assert (charge.lines, charge.debt_micros, team.debt()) == ([], micros(5), "5")


def test_scoped_credit_never_repays_debt() -> None:
    team = AnAccount()
    team.used("u", 5, occurred="2026-11-05 10:00")

    team.bought("V", 50, "2026-11-05 11:00", action="video.generate")

    assert (team.left(), team.debt()) == ({"V": "50"}, "5")


def test_breakage_between_two_looks_does_not_hide_a_lot_that_became_effective() -> None:
    team = AnAccount()
    team.granted("V", 5, "2026-11-05 10:00", expires_at="2026-11-06 00:00", action="video.generate")
    team.used("u", 10, occurred="2026-11-05 10:00")
    team.granted("G", 10, "2026-11-05 11:00", effective_at="2026-11-08 00:00")

    team.ticked("2026-11-10 00:00")

    assert (team.left(), team.debt()) == ({"V": "0", "G": "0"}, "0")
    kinds = [type(event) for event in team.events if isinstance(event, CreditsExpired | DebtRepaid)]
    assert kinds == [CreditsExpired, DebtRepaid]


def test_a_full_refund_restores_the_lots_that_one_charge_closed() -> None:
    team = AnAccount()
    team.bought("A", 10, "2026-11-01 00:00")
    team.bought("B", 10, "2026-11-01 00:00")
    team.used("u", 20, occurred="2026-11-05 10:00")
    assert team.account.lots == []

    team.refunded("u", None, "2026-11-05 11:00")

    assert team.left() == {"A": "10", "B": "10"}
    assert len(team.events_of(ChargeRefunded)) == 1


def test_a_lot_effective_at_the_very_instant_of_a_breakage_still_repays() -> None:
    team = AnAccount()
    team.granted("V", 5, "2026-11-05 10:00", expires_at="2026-11-07 00:00", action="video.generate")
    team.used("u", 10, occurred="2026-11-05 10:00")
    team.granted("G", 10, "2026-11-05 11:00", effective_at="2026-11-08 00:00")

    team.ticked("2026-11-10 00:00")

    assert (team.left(), team.debt()) == ({"V": "0", "G": "0"}, "0")


def test_usage_of_an_old_period_counts_on_from_where_that_period_stood() -> None:
    team = AnAccount(at="2026-07-01 00:00", catalogue=a_catalogue(graduated_card("1", "0.5")))
    team.bought("A", 1000, "2026-07-01 00:00")
    for month in ("07", "08", "09", "10"):
        team.used(month, 80, occurred=f"2026-{month}-05 10:00")
    assert len(team.account.counters) == 2

    late = [
        team.used(f"late-{n}", 40, occurred="2026-07-06 10:00", recorded="2026-10-06 10:00") for n in (1, 2)
    ]
    kept = team.used("kept", 40, occurred="2026-09-06 10:00", recorded="2026-10-06 10:00")

    assert [charge.amount_micros for charge in (*late, kept)] == [micros(30), micros(20), micros(30)]  # type: ignore[union-attr]
    assert len(team.account.counters) == 2


def test_a_refund_at_the_very_instant_of_expiry_goes_to_a_successor() -> None:
    team = e6()

    team.refunded("u", 45, "2026-12-01 00:00")

    assert team.left() == {"A": "40", "A'": "45"}


def test_an_expiry_after_which_no_breakage_could_be_booked_is_refused_i19() -> None:
    team = AnAccount()

    with pytest.raises(LotTermsRefused, match="expires_at"):
        team.granted("A", 10, "2026-11-01 00:00", expires_at="9999-12-31 00:00")

    assert team.settled() == "0"
