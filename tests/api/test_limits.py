"""What the API answers about limits: set, changed, used, held, reset, removed; now and then."""

from __future__ import annotations

from typing import Any

import pytest

from domain.usage import usage_key
from tests.api.conftest import Caller
from tests.builders import SOURCE, a_usage_record, when
from tests.memory_store import MemoryLedger

LIMITS = "/v1/accounts/acme/limits"
DAY = {"limit_id": "day", "window": "day", "cap": "50", "thresholds": [50, 80]}


def limit(acme: Caller, limit_id: str = "day", **asked: Any) -> dict[str, Any]:
    told = acme.get(LIMITS, **asked).json()["data"]
    return next(dict(each) for each in told if each["limit_id"] == limit_id)


def test_a_limit_tells_what_its_window_has_left_and_when_it_resets(
    acme: Caller, ledger: MemoryLedger
) -> None:
    assert acme.post(LIMITS, DAY).json()["limit_id"] == "day"
    ledger.use(a_usage_record("r1", 30, occurred="2026-11-01 12:00"))
    acme.post("/v1/accounts/acme/holds", {"action": "image.generate", "amount": "5"})

    told = limit(acme)

    assert (told["used"], told["held"], told["remaining"], told["reached"]) == ("30", "5", "15", [50])
    assert (told["window_start"], told["resets_at"]) == (
        "2026-11-01T00:00:00.000000Z",
        "2026-11-02T00:00:00.000000Z",
    )
    ledger.now = when("2026-11-02 00:00")
    tomorrow = limit(acme)
    assert (tomorrow["used"], tomorrow["remaining"], tomorrow["reached"]) == ("0", "50", [])


def test_an_edit_keeps_the_use_and_the_scope_never_changes(acme: Caller, ledger: MemoryLedger) -> None:
    acme.post(LIMITS, DAY)
    ledger.use(a_usage_record("r1", 30, occurred="2026-11-01 12:00"))

    edited = acme.post(LIMITS, DAY | {"cap": "20", "hard": False})
    moved = acme.post(LIMITS, DAY | {"window": "week"})
    scoped = acme.post(LIMITS, DAY | {"member": "mira"})

    assert edited.status_code == 201
    assert (limit(acme)["used"], limit(acme)["remaining"], limit(acme)["hard"]) == ("30", "0", False)
    assert {(each.status_code, each.json()["code"]) for each in (moved, scoped)} == {
        (409, "limit_terms_refused")
    }


def test_a_refund_gives_the_use_back_and_the_past_still_reads_as_it_was(
    acme: Caller, ledger: MemoryLedger
) -> None:
    acme.post(LIMITS, DAY)
    ledger.use(a_usage_record("r1", 30, occurred="2026-11-01 12:00"))
    ledger.now = when("2026-11-01 13:00")
    charge = usage_key("acme", SOURCE, "r1")
    acme.post(f"/v1/accounts/acme/charges/{charge}/refunds", {"amount": "10", "reason": "bad"})

    assert limit(acme)["used"] == "20"
    assert limit(acme, as_of="2026-11-01T12:30:00Z")["used"] == "30"
    assert limit(acme, at_version=3)["used"] == "0"
    assert acme.get(LIMITS, at_version=2).json()["data"] == []


def test_a_limit_is_removed_once(acme: Caller) -> None:
    acme.post(LIMITS, DAY)

    removed = acme.post(f"{LIMITS}/day/removal", {})
    again = acme.post(f"{LIMITS}/day/removal", {})

    assert (removed.status_code, acme.get(LIMITS).json()["data"]) == (201, [])
    assert (again.status_code, again.json()["code"]) == (404, "unknown_limit")


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"cap": "-1"}, "cap"),
        ({"window": "year"}, "window"),
        ({"limit_id": "a b"}, "limit_id"),
        ({"thresholds": [0]}, "thresholds.0"),
        ({"thresholds": [1] * 11}, "thresholds"),
        ({"hard": "yes"}, "hard"),
        ({"action": "Image"}, "action"),
    ],
)
def test_a_malformed_limit_names_the_field(acme: Caller, changes: dict[str, Any], field: str) -> None:
    answer = acme.post(LIMITS, DAY | changes)

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == field


def test_thresholds_rise(acme: Caller) -> None:
    answer = acme.post(LIMITS, DAY | {"thresholds": [80, 50]})

    assert (answer.status_code, answer.json()["code"]) == (409, "limit_terms_refused")
