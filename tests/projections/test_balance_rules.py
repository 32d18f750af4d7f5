"""The parts of a balance, told in the numbers of small stories."""

from __future__ import annotations

import msgspec

from domain.amounts import format_credits
from domain.commands import SuspendAccount
from projections.balance import Balance, balance_of
from tests.builders import AnAccount, when


def a_balance(account: AnAccount, at: str) -> Balance:
    return balance_of(account.account, when(at), position=7, version=account.account.version)


def parts(balance: Balance) -> dict[str, str]:
    """Every part in credits, without those that are 0."""
    names = ("settled", "available", "held", "lapsed", "withheld", "upcoming", "debt")
    amounts = {name: getattr(balance, f"{name}_micros") for name in names}
    return {name: format_credits(micros) for name, micros in amounts.items() if micros}


def test_credit_is_upcoming_then_available_then_lapsed_then_gone() -> None:
    account = AnAccount()
    account.granted(
        "A", 100, "2026-11-01 00:00", effective_at="2026-11-10 00:00", expires_at="2026-12-01 00:00"
    )

    assert parts(a_balance(account, "2026-11-09 23:59:59.999999")) == {"settled": "100", "upcoming": "100"}
    assert parts(a_balance(account, "2026-11-10 00:00")) == {"settled": "100", "available": "100"}
    assert parts(a_balance(account, "2026-12-01 00:00")) == {"settled": "100", "lapsed": "100"}
    assert parts(a_balance(account, "2026-12-01 23:59:59.999999")) == {"settled": "100", "lapsed": "100"}
    assert parts(a_balance(account, "2026-12-02 00:00")) == {}


def test_e1_late_usage_leaves_seventy_lapsed_and_fifty_available() -> None:
    account = AnAccount()
    account.bought("A", 100, "2026-11-01 00:00", expires_at="2026-12-01 00:00")
    account.bought("B", 50, "2026-11-01 00:00")
    account.used("1", 30, occurred="2026-11-30 23:50", recorded="2026-12-01 10:00")

    assert parts(a_balance(account, "2026-12-01 10:00")) == {
        "settled": "120", "available": "50", "lapsed": "70",
    }  # fmt: skip
    assert parts(a_balance(account, "2026-12-02 00:00")) == {"settled": "50", "available": "50"}


def test_e2b_debt_reads_as_repaid_once_a_granted_lot_became_effective_though_nobody_looked() -> None:
    account = AnAccount()
    account.used("1", 10, occurred="2026-11-01 09:00")
    account.granted("G", 10, "2026-11-01 10:00", effective_at="2026-11-02 00:00")

    assert parts(a_balance(account, "2026-11-01 12:00")) == {
        "settled": "10", "upcoming": "10", "debt": "10",
    }  # fmt: skip
    assert parts(a_balance(account, "2026-11-03 00:00")) == {}


def test_asking_for_a_balance_changes_nothing() -> None:
    account = AnAccount()
    account.granted("A", 100, "2026-11-01 00:00", expires_at="2026-11-05 00:00")
    before = msgspec.json.encode(account.account)

    a_balance(account, "2027-01-01 00:00")

    assert msgspec.json.encode(account.account) == before


def test_a_balance_says_what_it_knows_even_when_it_reads_further() -> None:
    account = AnAccount()
    account.granted("A", 100, "2026-11-01 00:00", expires_at="2026-11-05 00:00")

    balance = a_balance(account, "2027-01-01 00:00")

    assert (balance.position, balance.version, balance.at) == (7, 2, when("2027-01-01 00:00"))


def test_an_instant_before_the_last_event_is_answered_for_that_event() -> None:
    account = AnAccount()
    account.granted("A", 100, "2026-11-03 00:00")

    assert a_balance(account, "2026-11-01 00:00").at == when("2026-11-03 00:00")


def test_next_expiry_sums_what_lapses_first_and_leaves_out_what_is_not_open() -> None:
    account = AnAccount()
    account.granted("lapsed", 1, "2026-11-01 00:00", expires_at="2026-11-02 00:00")
    account.granted("a", 10, "2026-11-01 00:00", expires_at="2026-11-20 00:00")
    account.granted("b", 5, "2026-11-01 00:00", expires_at="2026-11-20 00:00")
    account.granted("later", 7, "2026-11-01 00:00", expires_at="2026-11-21 00:00")
    account.granted(
        "upcoming", 9, "2026-11-01 00:00", effective_at="2026-11-10 00:00", expires_at="2026-11-15 00:00"
    )

    next_expiry = a_balance(account, "2026-11-02 12:00").next_expiry

    assert next_expiry is not None
    assert (next_expiry.at, next_expiry.amount_micros) == (when("2026-11-20 00:00"), 15_000_000)
    assert a_balance(account, "2026-12-30 00:00").next_expiry is None


def test_credit_with_a_scope_is_available_but_not_unscoped() -> None:
    account = AnAccount()
    account.granted("any", 30, "2026-11-01 00:00")
    account.granted("video", 20, "2026-11-01 00:00", action="video.generate")

    balance = a_balance(account, "2026-11-02 00:00")

    assert (balance.available_micros, balance.unscoped_micros) == (50_000_000, 30_000_000)


def test_lots_are_told_in_burn_order_with_their_terms() -> None:
    account = AnAccount()
    account.bought("never", 100, "2026-11-01 00:00")
    account.granted("soon", 10, "2026-11-01 00:00", expires_at="2026-11-20 00:00")

    first, last = a_balance(account, "2026-11-02 00:00").lots

    assert (first.source, first.remaining_micros, first.state) == ("promotional", 10_000_000, "open")
    assert (last.source, last.expires_at) == ("purchased", None)
    assert last.cost_basis is not None
    assert last.cost_basis.currency == "EUR"


def test_a_hold_is_told_by_amount_whatever_the_state_of_its_lot() -> None:
    account = AnAccount()
    account.granted("A", 100, "2026-11-01 00:00", expires_at="2026-11-02 00:00")
    account.granted("B", 5, "2026-11-01 00:00")
    account.held(30, "2026-11-01 23:30")

    before, after = a_balance(account, "2026-11-01 23:45"), a_balance(account, "2026-11-02 00:10")

    assert parts(before) == {"settled": "105", "available": "75", "held": "30"}
    assert parts(after) == {"settled": "105", "available": "5", "held": "30", "lapsed": "70"}
    lot = after.lots[0]
    assert (lot.state, lot.held_micros, lot.lapsed_micros) == ("lapsed", 30_000_000, 70_000_000)


def test_a_chargeback_withholds_what_is_left_and_a_hold_keeps_its_part() -> None:
    account = AnAccount()
    account.bought("A", 100, "2026-11-01 00:00", expires_at="2026-11-05 00:00")
    account.held(30, "2026-11-01 01:00")
    account.charged_back("A", "2026-11-01 01:10")

    balance = a_balance(account, "2026-11-01 01:20")
    long_after = a_balance(account, "2026-12-24 00:00")

    assert parts(balance) == {"settled": "100", "held": "30", "withheld": "70"}
    assert balance.lots[0].state == "withheld"
    assert balance.next_expiry is None
    assert parts(long_after) == {"settled": "100", "withheld": "100"}, "its expiry stands still"


def test_next_expiry_counts_what_is_available_of_the_lot() -> None:
    account = AnAccount()
    account.granted("A", 10, "2026-11-01 00:00", expires_at="2026-11-20 00:00")
    account.granted("B", 10, "2026-11-01 00:00", expires_at="2026-11-21 00:00")
    account.held(10, "2026-11-02 00:00")
    account.held(4, "2026-11-02 00:00")

    next_expiry = a_balance(account, "2026-11-02 00:30").next_expiry

    assert next_expiry is not None
    assert (next_expiry.at, next_expiry.amount_micros) == (when("2026-11-21 00:00"), 6_000_000)


def test_a_suspended_account_says_so() -> None:
    account = AnAccount()
    account.asked("2026-11-01 01:00", SuspendAccount(team_id="acme", reason="unpaid"))

    assert a_balance(account, "2026-11-01 02:00").status == "suspended"
