"""What the API answers about charges that a customer contests; support brings them, somebody else decides."""

from __future__ import annotations

from typing import Any

import pytest

from domain.usage import usage_key
from tests.api.conftest import Caller
from tests.builders import SOURCE, a_usage_record
from tests.memory_store import MemoryLedger

DISPUTES = "/v1/accounts/acme/disputes"
CHARGE = usage_key("acme", SOURCE, "r1")
CASE = {"charge_ids": [CHARGE], "evidence": "the picture\nnever arrived"}


@pytest.fixture
def contested(acme: Caller, ledger: MemoryLedger) -> Caller:
    """Team acme, which contests a charge of 30."""
    ledger.use(a_usage_record("r1", 30, occurred="2026-11-01 12:00"))
    opened = acme.post(DISPUTES, CASE)
    assert (opened.status_code, opened.json()["dispute_id"]) == (201, "dispute-4"), opened.text
    return acme


def available(acme: Caller, **asked: Any) -> str:
    return str(acme.get("/v1/accounts/acme/balance", **asked).json()["available"])


def test_an_open_dispute_moves_nothing_and_is_told_with_its_evidence(contested: Caller) -> None:
    [listed] = contested.get(DISPUTES).json()["data"]
    one = contested.get(f"{DISPUTES}/dispute-4").json()

    assert (listed["dispute_id"], listed["charge_ids"]) == ("dispute-4", [CHARGE])
    assert (one["state"], one["evidence"], one["opened_by"]) == ("open", CASE["evidence"], "the operator")
    assert available(contested) == "70"


def test_an_upheld_dispute_refunds_what_is_left_and_the_past_reads_as_it_was(contested: Caller) -> None:
    refunds = f"/v1/accounts/acme/charges/{CHARGE}/refunds"
    contested.post(refunds, {"amount": "10", "reason": "goodwill"})

    upheld = contested.post(f"{DISPUTES}/dispute-4/uphold", {"reason": "right"})
    again = contested.post(f"{DISPUTES}/dispute-4/reject", {"reason": "wrong"})

    assert (upheld.status_code, upheld.json()["amount"]) == (201, "20")
    assert upheld.json()["refund_id"]
    assert (again.status_code, again.json()["code"]) == (409, "dispute_refused")
    assert (available(contested), available(contested, at_version=4)) == ("100", "70")
    assert contested.get(f"{DISPUTES}/dispute-4").json()["state"] == "upheld"
    assert contested.get(f"{DISPUTES}/dispute-4", at_version=4).json()["state"] == "open"
    assert contested.get(DISPUTES).json()["data"] == []


def test_a_rejected_dispute_lets_the_charge_stand_and_it_may_be_contested_again(contested: Caller) -> None:
    meanwhile = contested.post(DISPUTES, CASE)
    rejected = contested.post(f"{DISPUTES}/dispute-4/reject", {"reason": "downloaded twice"})
    again = contested.post(DISPUTES, CASE)

    assert (meanwhile.status_code, meanwhile.json()["code"]) == (409, "dispute_refused")
    assert (rejected.status_code, again.status_code) == (201, 201)
    assert available(contested) == "70"


def test_support_brings_a_case_and_does_not_decide_it(
    acme: Caller, callers: dict[str, Caller], ledger: MemoryLedger
) -> None:
    ledger.use(a_usage_record("r1", 30, occurred="2026-11-01 12:00"))

    opened = callers["support"].post(DISPUTES, CASE)
    decided = callers["support"].post(f"{DISPUTES}/dispute-4/uphold", {"reason": "right"})

    assert (opened.status_code, decided.status_code) == (201, 403)
    assert decided.json()["code"] == "not_allowed"


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"charge_ids": []}, 422, "malformed"),
        ({"charge_ids": ["x"]}, 422, "malformed"),
        ({"evidence": " \n "}, 422, "malformed"),
        ({"evidence": "red \x1b[31m"}, 422, "malformed"),
        ({"evidence": "x" * 4_001}, 422, "malformed"),
        ({"charge_ids": ["0" * 32]}, 404, "unknown_charge"),
    ],
)
def test_a_case_that_is_none_is_refused(
    acme: Caller, changes: dict[str, Any], status: int, code: str
) -> None:
    answer = acme.post(DISPUTES, CASE | changes)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def test_a_dispute_that_nobody_opened_is_unknown(acme: Caller) -> None:
    decided = acme.post(f"{DISPUTES}/dispute-2/uphold", {"reason": "x"})
    read = acme.get(f"{DISPUTES}/dispute-2")
    odd = acme.get(f"{DISPUTES}/2")

    assert [(each.status_code, each.json()["code"]) for each in (decided, read)] == [
        (404, "unknown_dispute")
    ] * 2
    assert odd.status_code == 422
