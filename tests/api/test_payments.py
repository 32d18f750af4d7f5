"""What the API answers about credits that are bought: requested, settled, failed, taken back; automatic top-up."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.api.asking import AUTO, BOUGHT, PAID
from tests.api.conftest import Caller
from tests.builders import a_usage_record, when
from tests.memory_store import MemoryLedger

TOP_UPS = "/v1/accounts/acme/top-ups"
AUTO_TOP_UP = "/v1/accounts/acme/auto-top-up"


def top_up(acme: Caller, reference: str = "pay-1", **asked: Any) -> dict[str, Any]:
    answer = acme.get(f"{TOP_UPS}/{reference}", **asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def balance(acme: Caller, *parts: str) -> tuple[str, ...]:
    told = acme.get("/v1/accounts/acme/balance").json()
    return tuple(told[part] for part in parts)


def test_a_top_up_is_requested_settled_and_told_by_its_reference(acme: Caller) -> None:
    requested = acme.post(f"{TOP_UPS}/requests", BOUGHT)
    before = top_up(acme)
    settled = acme.post(TOP_UPS, BOUGHT)
    after = top_up(acme)

    assert (requested.status_code, requested.json()["payment_reference"]) == (201, "pay-1")
    assert (before["status"], before["lot_id"], before["amount"]) == ("requested", None, "50")
    assert settled.status_code == 201
    assert (after["status"], after["lot_id"], after["cost_basis"]) == (
        "settled",
        settled.json()["lot_id"],
        PAID,
    )
    assert top_up(acme, at_version=3)["status"] == "requested"


def test_other_terms_than_requested_are_refused_and_a_settled_payment_does_not_fail(acme: Caller) -> None:
    acme.post(f"{TOP_UPS}/requests", BOUGHT)

    other = acme.post(TOP_UPS, BOUGHT | {"amount": "51"})
    acme.post(TOP_UPS, BOUGHT)
    failed = acme.post(f"{TOP_UPS}/pay-1/failure", {"failure": "card_declined"})
    twice = acme.post(TOP_UPS, BOUGHT)

    assert (other.status_code, other.json()["code"]) == (409, "payment_refused")
    assert (failed.status_code, failed.json()["code"]) == (409, "payment_refused")
    assert (twice.status_code, twice.json()["code"]) == (409, "payment_reference_used")


def test_a_failed_top_up_brings_nothing_and_may_still_be_settled(acme: Caller) -> None:
    acme.post(f"{TOP_UPS}/requests", BOUGHT)

    failed = acme.post(f"{TOP_UPS}/pay-1/failure", {"failure": "card_declined"})

    assert (failed.status_code, top_up(acme)["status"]) == (201, "failed")
    assert balance(acme, "settled") == ("100",)
    assert acme.post(TOP_UPS, BOUGHT).status_code == 201


@pytest.mark.parametrize("reference", ["a/b", "a/chargeback", "pay?1", "pay#1", "a/../b", "%2F", "requests"])
def test_any_reference_that_buys_can_be_asked_for_and_taken_back(acme: Caller, reference: str) -> None:
    path = f"{TOP_UPS}/{quote(reference, safe='')}"
    acme.post(TOP_UPS, BOUGHT | {"payment_reference": reference})

    opened = acme.post(f"{path}/chargeback", {})

    assert opened.status_code == 201, opened.text
    assert acme.get(path).json()["payment_reference"] == reference
    assert acme.get(path).json()["chargeback"] == "open"
    assert acme.post(f"{path}/chargeback/won", {}).status_code == 201


def test_a_chargeback_withholds_and_when_won_gives_back(acme: Caller) -> None:
    acme.post(TOP_UPS, BOUGHT)

    opened = acme.post(f"{TOP_UPS}/pay-1/chargeback", {"reason": "the bank says so"})
    [shown] = acme.get("/v1/accounts/acme/chargebacks").json()["data"]
    withheld = balance(acme, "available", "withheld")
    won = acme.post(f"{TOP_UPS}/pay-1/chargeback/won", {})

    assert (opened.json()["amount"], withheld) == ("50", ("100", "50"))
    assert (shown["payment_reference"], shown["withheld"]) == ("pay-1", "50")
    assert (won.status_code, balance(acme, "available", "withheld")) == (201, ("150", "0"))
    assert top_up(acme)["chargeback"] == "won"
    assert top_up(acme, at_version=4)["chargeback"] == "open"


def test_a_chargeback_lost_voids_what_is_left_and_is_decided_once(acme: Caller) -> None:
    acme.post(TOP_UPS, BOUGHT)
    acme.post(f"{TOP_UPS}/pay-1/chargeback", {})

    lost = acme.post(f"{TOP_UPS}/pay-1/chargeback/lost", {})
    won = acme.post(f"{TOP_UPS}/pay-1/chargeback/won", {})
    again = acme.post(f"{TOP_UPS}/pay-1/chargeback", {})

    assert (lost.status_code, balance(acme, "settled")) == (201, ("100",))
    assert {(each.status_code, each.json()["code"]) for each in (won, again)} == {(409, "chargeback_refused")}
    assert acme.get("/v1/accounts/acme/chargebacks").json()["data"] == []


def test_a_payment_that_nobody_made_is_unknown_and_one_not_settled_is_not_taken_back(acme: Caller) -> None:
    unknown = acme.post(f"{TOP_UPS}/pay-9/chargeback", {})
    asked = acme.get(f"{TOP_UPS}/pay-9")
    acme.post(f"{TOP_UPS}/requests", BOUGHT)
    not_settled = acme.post(f"{TOP_UPS}/pay-1/chargeback", {})

    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_payment")
    assert (asked.status_code, asked.json()["code"]) == (404, "unknown_payment")
    assert (not_settled.status_code, not_settled.json()["code"]) == (409, "payment_not_settled")


def test_automatic_top_up_asks_once_and_its_state_is_told(acme: Caller, ledger: MemoryLedger) -> None:
    never = acme.get(AUTO_TOP_UP).json()
    assert acme.post(AUTO_TOP_UP, AUTO).status_code == 201

    ledger.use(a_usage_record("r1", 90, occurred="2026-11-01 12:00"))
    flying = acme.get(AUTO_TOP_UP).json()
    ledger.use(a_usage_record("r2", 5, occurred="2026-11-01 12:00"))
    still = acme.get(AUTO_TOP_UP).json()

    assert (never["configured"], never["enabled"]) == (False, False)
    assert (flying["enabled"], flying["threshold"], flying["spent_minor"]) == (True, "20", 595)
    assert flying["in_flight"].startswith("auto-")
    assert still["in_flight"] == flying["in_flight"]
    settled = acme.post(TOP_UPS, BOUGHT | {"payment_reference": flying["in_flight"]})
    assert settled.status_code == 201, settled.text
    assert acme.get(AUTO_TOP_UP).json()["in_flight"] is None


def test_an_automatic_top_up_that_fails_waits_longer_each_time_and_can_be_switched_off(
    acme: Caller, ledger: MemoryLedger
) -> None:
    acme.post(AUTO_TOP_UP, AUTO)
    ledger.use(a_usage_record("r1", 90, occurred="2026-11-01 12:00"))
    reference = acme.get(AUTO_TOP_UP).json()["in_flight"]

    acme.post(f"{TOP_UPS}/{reference}/failure", {"failure": "card_declined"})
    told = acme.get(AUTO_TOP_UP).json()
    ledger.now = when("2026-11-01 12:05")
    acme.post(AUTO_TOP_UP, {"enabled": False})

    assert (told["failures"], told["retry_at"], told["in_flight"]) == (1, "2026-11-01T12:10:00.000000Z", None)
    assert acme.get(AUTO_TOP_UP).json()["enabled"] is False


@pytest.mark.parametrize(
    "changes", [{"amount": "0"}, {"cost_basis": None}, {"money_cap_minor": 594}, {"threshold": "0"}]
)
def test_automatic_top_up_needs_terms_that_can_work(acme: Caller, changes: dict[str, Any]) -> None:
    answer = acme.post(AUTO_TOP_UP, AUTO | changes)

    assert (answer.status_code, answer.json()["code"]) == (409, "auto_top_up_refused"), answer.text
