"""What the API answers about plans, periods and zones, and about an account that is suspended."""

from __future__ import annotations

from typing import Any

from tests.api.conftest import Caller
from tests.builders import a_plan, when
from tests.memory_store import MemoryLedger

PLAN = "/v1/accounts/acme/plan"
STUDIO, PRO = a_plan("studio", 300, 50), a_plan("pro", 600, 50)


def plan(acme: Caller, **asked: Any) -> dict[str, Any]:
    answer = acme.get(PLAN, **asked)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def assigned(acme: Caller, plan_id: str, takes_effect: str = "now") -> Any:
    return acme.post(PLAN, {"plan_id": plan_id, "takes_effect": takes_effect})


def test_a_plan_brings_its_allowance_at_once_and_says_when_its_period_turns(
    acme: Caller, ledger: MemoryLedger
) -> None:
    ledger.publish_plan(STUDIO)
    before = plan(acme)

    answer = assigned(acme, "studio")

    assert (before["plan"], before["next_turn"]) == (None, None)
    assert (answer.status_code, answer.json()["plan_id"]) == (201, "studio")
    assert answer.json()["settled"] == "400"
    told = plan(acme)
    assert (told["plan"]["plan_id"], told["plan"]["allowance"]) == ("studio", "300")
    assert told["period"] == {"start": "2026-11-01T00:00:00.000000Z", "end": "2026-12-01T00:00:00.000000Z"}
    assert told["next_turn"] == "2026-12-01T00:00:00.000000Z"
    assert acme.get("/v1/accounts/acme").json()["plan_id"] == "studio"
    assert plan(acme, at_version=2)["plan"] is None


def test_an_upgrade_comes_now_and_a_downgrade_waits_for_the_turn(acme: Caller, ledger: MemoryLedger) -> None:
    ledger.publish_plan(STUDIO)
    ledger.publish_plan(PRO)
    assigned(acme, "studio")
    ledger.now = when("2026-11-11 12:00")

    upgraded = assigned(acme, "pro")
    too_early = assigned(acme, "studio")
    follows = assigned(acme, "studio", "turn")
    same = assigned(acme, "pro")

    assert upgraded.json()["settled"] == "600"  # 100 granted, 300, and 300 for 20 of 30 days
    assert (too_early.status_code, too_early.json()["code"]) == (409, "plan_change_refused")
    assert follows.json()["effective_at"] == "2026-12-01T00:00:00.000000Z"
    assert (same.status_code, same.json()["code"]) == (409, "plan_change_refused")
    told = plan(acme)
    assert (told["plan"]["plan_id"], told["pending_plan"]["plan"]["plan_id"]) == ("pro", "studio")
    ledger.now = when("2026-12-01 00:00")
    turned = plan(acme)
    assert (turned["plan"]["plan_id"], turned["pending_plan"]) == ("studio", None)
    assert turned["version"] == told["version"]


def test_a_plan_that_nobody_published_is_unknown_and_published_ones_are_listed(
    acme: Caller, ledger: MemoryLedger
) -> None:
    unknown = assigned(acme, "studio")
    ledger.publish_plan(STUDIO)

    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_plan")
    [listed] = acme.get("/v1/plans").json()["data"]
    assert (listed["plan_id"], listed["version"], listed["rollover_cap"]) == ("studio", 1, "50")
    assert acme.post(PLAN, {"plan_id": "studio", "takes_effect": "tomorrow"}).status_code == 422


def test_a_zone_changes_at_the_turn_and_one_change_waits_at_a_time(
    acme: Caller, ledger: MemoryLedger
) -> None:
    path = "/v1/accounts/acme/zone"

    scheduled = acme.post(path, {"zone": "Europe/Berlin"})
    another = acme.post(path, {"zone": "America/Lima"})
    unknown = acme.post(path, {"zone": "Mars/Olympus"})

    assert (scheduled.status_code, scheduled.json()["effective_at"]) == (201, "2026-12-01T00:00:00.000000Z")
    assert (another.status_code, another.json()["code"]) == (409, "zone_change_refused")
    assert unknown.status_code in {409, 422}
    told = plan(acme)
    assert (told["zone"], told["pending_zone"]["zone"]) == ("UTC", "Europe/Berlin")
    ledger.now = when("2026-12-01 00:00")
    assert (plan(acme)["zone"], plan(acme)["pending_zone"]) == ("Europe/Berlin", None)
    assert acme.get("/v1/accounts/acme").json()["zone"] == "Europe/Berlin"


def test_an_account_is_suspended_and_resumed_and_told_as_it_was(acme: Caller) -> None:
    too_early = acme.post("/v1/accounts/acme/resume", {"reason": "x"})
    suspended = acme.post("/v1/accounts/acme/suspend", {"reason": "unpaid"})
    again = acme.post("/v1/accounts/acme/suspend", {"reason": "unpaid"})
    acme.post("/v1/accounts/acme/resume", {"reason": "paid"})

    assert (too_early.status_code, too_early.json()["code"]) == (409, "account_not_suspended")
    assert suspended.status_code == 201
    assert (again.status_code, again.json()["code"]) == (409, "account_suspended")
    assert acme.get("/v1/accounts/acme").json()["status"] == "open"
    assert acme.get("/v1/accounts/acme", at_version=3).json()["status"] == "suspended"


def test_what_was_granted_is_voided_once(acme: Caller) -> None:
    path = "/v1/accounts/acme/grants"

    voided = acme.post(f"{path}/lot-2/void", {"reason": "wrong team"})
    again = acme.post(f"{path}/lot-2/void", {"reason": "wrong team"})
    unknown = acme.post(f"{path}/lot-9/void", {"reason": "wrong team"})

    assert (voided.json()["amount"], voided.json()["settled"]) == ("100", "0")
    assert (again.status_code, again.json()["code"]) == (409, "nothing_to_void")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_lot")
