"""What the API answers about holds and quotes: set aside, denied, extended, captured, released; now and then."""

from __future__ import annotations

from typing import Any

import pytest

from domain.usage import usage_key
from tests.api.conftest import Caller
from tests.builders import SOURCE, a_usage_record, unit_card, when
from tests.memory_store import MemoryLedger

HOLDS = "/v1/accounts/acme/holds"
BALANCE = "/v1/accounts/acme/balance"
QUOTES = "/v1/accounts/acme/quotes"


def held(acme: Caller, amount: str = "40", **more: Any) -> dict[str, Any]:
    answer = acme.post(HOLDS, {"action": "image.generate", "amount": amount, **more})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def parts(acme: Caller, **asked: Any) -> tuple[str, ...]:
    told = acme.get(BALANCE, **asked).json()
    return told["settled"], told["available"], told["held"], told["debt"]


def test_a_hold_sets_credits_aside_and_says_until_when(acme: Caller) -> None:
    """I12."""
    made = held(acme, "40", member="mira", lasts_seconds=1_800)

    assert (made["outcome"], made["hold_id"], made["amount"]) == ("held", "hold-3", "40")
    assert made["hold_expires_at"] == "2026-11-01T12:30:00.000000Z"
    assert made["denial"] is None
    assert parts(acme) == ("100", "60", "40", "0")
    [shown] = acme.get(HOLDS).json()["data"]
    assert (shown["hold_id"], shown["held"], shown["member"]) == ("hold-3", "40", "mira")
    assert shown["lines"] == [{"lot_id": "lot-2", "amount": "40"}]


def test_a_denial_is_an_outcome_that_names_the_rule_and_its_numbers(
    acme: Caller, ledger: MemoryLedger
) -> None:
    """I12, I14: the same key gets the same denial; an equal one within a minute is counted, not appended."""
    held(acme, "80")

    denied = acme.post(HOLDS, {"action": "image.generate", "amount": "30"}, key="k")
    again = acme.post(HOLDS, {"action": "image.generate", "amount": "30"}, key="k")
    equal = acme.post(HOLDS, {"action": "image.generate", "amount": "30"})
    ledger.now = when("2026-11-01 12:02")
    later = acme.post(HOLDS, {"action": "image.generate", "amount": "30"})

    assert (denied.status_code, denied.json()["outcome"], denied.json()["hold_id"]) == (201, "denied", None)
    assert denied.json()["denial"] == {
        "version": 4,
        "rule": "available",
        "limit_id": None,
        "window_start": None,
        "window_end": None,
        "used": "0",
        "held": "80",
        "limit": denied.json()["denial"]["limit"],
        "requested": "30",
    }
    assert again.content == denied.content
    assert equal.json()["denial"]["version"] == 4
    assert later.json()["denial"]["version"] == 5
    assert parts(acme) == ("100", "20", "80", "0")


def test_a_limit_denies_and_is_named_with_its_window(acme: Caller) -> None:
    body = {"limit_id": "mira-day", "window": "day", "cap": "50", "member": "mira"}
    assert acme.post("/v1/accounts/acme/limits", body).status_code == 201
    held(acme, "40", member="mira")

    denied = held(acme, "20", member="mira")
    other = held(acme, "20", member="jo")

    denial = denied["denial"]
    assert (denied["outcome"], denial["rule"], denial["limit_id"]) == ("denied", "limit", "mira-day")
    assert (denial["window_start"], denial["window_end"]) == (
        "2026-11-01T00:00:00.000000Z",
        "2026-11-02T00:00:00.000000Z",
    )
    assert (denial["used"], denial["held"], denial["limit"], denial["requested"]) == ("0", "40", "50", "20")
    assert other["outcome"] == "held"


def test_a_hold_is_captured_in_parts_and_its_charge_is_a_charge_like_any_other(acme: Caller) -> None:
    held(acme, "40")

    first = acme.post(f"{HOLDS}/hold-3/captures", {"amount": "15"}).json()
    second = acme.post(f"{HOLDS}/hold-3/captures", {"amount": "25", "occurred_at": "2026-11-01T12:00:00Z"})
    charge = acme.get(f"/v1/accounts/acme/charges/{first['charge_id']}").json()
    refunded = acme.post(
        f"/v1/accounts/acme/charges/{first['charge_id']}/refunds", {"amount": "5", "reason": "late"}
    )

    assert (first["amount"], first["hold_id"]) == ("15", "hold-3")
    assert (charge["outcome"], charge["amount"], charge["hold_id"]) == ("charged", "15", "hold-3")
    assert (charge["source"], charge["card"], charge["from_hold"]) == (None, None, charge["lines"])
    assert second.json()["charge_id"] != first["charge_id"]
    assert refunded.status_code == 201
    ended = acme.get(f"{HOLDS}/hold-3").json()
    assert (ended["state"], ended["amount"], ended["held"]) == ("captured", "40", "0")
    assert acme.get(HOLDS).json()["data"] == []
    assert parts(acme) == ("65", "65", "0", "0")


def test_a_capture_above_the_hold_takes_what_is_available_and_no_more(acme: Caller) -> None:
    held(acme, "40")

    too_much = acme.post(f"{HOLDS}/hold-3/captures", {"amount": "100.000001"})
    above = acme.post(f"{HOLDS}/hold-3/captures", {"amount": "70"})
    nothing_left = acme.post(f"{HOLDS}/hold-3/captures", {"amount": "1"})

    assert (too_much.status_code, too_much.json()["code"]) == (409, "insufficient_credits")
    assert above.status_code == 201
    assert (nothing_left.status_code, nothing_left.json()["code"]) == (409, "hold_not_open")
    assert parts(acme) == ("30", "30", "0", "0")


def test_a_hold_is_extended_within_seven_days_and_released_once(acme: Caller) -> None:
    held(acme, "40")

    extended = acme.post(f"{HOLDS}/hold-3/extensions", {"lasts_seconds": 86_400}).json()
    shorter = acme.post(f"{HOLDS}/hold-3/extensions", {"lasts_seconds": 60}).json()
    released = acme.post(f"{HOLDS}/hold-3/release", {"reason": "cancelled"})
    again = acme.post(f"{HOLDS}/hold-3/release", {})

    assert extended["hold_expires_at"] == shorter["hold_expires_at"] == "2026-11-02T12:00:00.000000Z"
    assert (released.status_code, released.json()["amount"]) == (201, "40")
    assert (again.status_code, again.json()["code"]) == (409, "hold_not_open")
    assert parts(acme) == ("100", "100", "0", "0")


def test_an_expired_hold_is_told_as_expired_before_anything_was_booked(
    acme: Caller, ledger: MemoryLedger
) -> None:
    held(acme, "40", lasts_seconds=60)

    ledger.now = when("2026-11-01 12:01")

    assert acme.get(HOLDS).json()["data"] == []
    told = acme.get(f"{HOLDS}/hold-3").json()
    assert (told["state"], told["ended_at"], told["version"]) == (
        "expired",
        "2026-11-01T12:01:00.000000Z",
        3,
    )
    assert parts(acme) == ("100", "100", "0", "0")


def test_holds_and_balances_are_told_as_they_were(acme: Caller, ledger: MemoryLedger) -> None:
    held(acme, "40")
    ledger.now = when("2026-11-01 12:10")
    acme.post(f"{HOLDS}/hold-3/release", {})

    before = acme.get(f"{HOLDS}/hold-3", at_version=3).json()
    too_early = acme.get(f"{HOLDS}/hold-3", at_version=2)
    then = acme.get(HOLDS, as_of="2026-11-01T12:05:00Z").json()["data"]

    assert (before["state"], before["held"], before["version"]) == ("open", "40", 3)
    assert (too_early.status_code, too_early.json()["code"]) == (404, "unknown_hold")
    assert [each["hold_id"] for each in then] == ["hold-3"]
    assert parts(acme, as_of="2026-11-01T12:05:00Z") == ("100", "60", "40", "0")
    assert parts(acme) == ("100", "100", "0", "0")


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"action": "image.generate"}, "amount and quote: send exactly one"),
        ({"action": "image.generate", "amount": "1", "quote": "a.b"}, "send exactly one"),
        ({"action": "image.generate", "amount": "0"}, "amount"),
        ({"action": "image.generate", "amount": "1", "lasts_seconds": 0}, "lasts_seconds"),
        ({"action": "image.generate", "amount": "1", "lasts_seconds": 86_401}, "lasts_seconds"),
        ({"action": "Image", "amount": "1"}, "a name such as 'image.generate'"),
        ({"action": "image.generate", "quote": "a b"}, "the token of a quote"),
        ({"action": "image.generate", "quote": "a.b"}, "quote"),
    ],
)
def test_a_malformed_hold_names_the_field(acme: Caller, body: dict[str, Any], told: str) -> None:
    answer = acme.post(HOLDS, body)

    assert answer.status_code == 422, answer.text
    assert told in answer.json()["detail"]
    assert acme.get(BALANCE).json()["version"] == 2


@pytest.mark.parametrize("path", ["hold-9/captures", "hold-9/extensions", "hold-9/release", "hold-2/release"])
def test_a_hold_that_is_none_is_unknown(acme: Caller, path: str) -> None:
    body = {"amount": "1"} if path.endswith("captures") else {}

    answer = acme.post(f"{HOLDS}/{path}", body)

    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_hold")
    assert acme.get(f"{HOLDS}/hold-9").status_code == 404
    assert acme.get(f"{HOLDS}/nine").status_code == 422


def test_a_suspended_account_takes_no_hold_until_it_is_resumed(acme: Caller, ledger: MemoryLedger) -> None:
    acme.post("/v1/accounts/acme/suspend", {"reason": "unpaid"})

    refused = acme.post(HOLDS, {"action": "image.generate", "amount": "1"})
    ledger.use(a_usage_record("r1", 30, occurred="2026-11-01 12:00"))
    acme.post("/v1/accounts/acme/resume", {"reason": "paid"})

    assert (refused.status_code, refused.json()["code"]) == (409, "account_suspended")
    assert acme.get(f"/v1/accounts/acme/charges/{usage_key('acme', SOURCE, 'r1')}").json()["amount"] == "30"
    assert held(acme, "1")["outcome"] == "held"


# --- quotes ---


def quoted(acme: Caller, units: str = "12", **more: Any) -> dict[str, Any]:
    answer = acme.post(QUOTES, {"action": "image.generate", "meters": {"units": units}, **more})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_a_quote_changes_nothing_and_is_honoured_by_one_hold(acme: Caller) -> None:
    quote = quoted(acme)

    assert (quote["total"], quote["version"]) == ("12", 2)
    assert quote["expires_at"] == "2026-11-01T12:10:00.000000Z"
    assert acme.get(BALANCE).json()["version"] == 2
    made = acme.post(HOLDS, {"action": "image.generate", "quote": quote["token"]})
    again = acme.post(HOLDS, {"action": "image.generate", "quote": quote["token"]})
    assert (made.status_code, made.json()["amount"]) == (201, "12")
    assert acme.get(f"{HOLDS}/hold-3").json()["quote"]["quote_id"] == quote["quote_id"]
    assert (again.status_code, again.json()["code"]) == (409, "quote_used")


def test_a_quote_keeps_its_price_while_a_dearer_card_takes_over(acme: Caller, ledger: MemoryLedger) -> None:
    quote = quoted(acme)
    dearer = unit_card(effective_at="2026-11-01T12:05:00Z")
    dearer["rates"][0]["terms"][0]["price"] = "2"
    ledger.publish(dearer)
    ledger.now = when("2026-11-01 12:09")

    made = acme.post(HOLDS, {"action": "image.generate", "quote": quote["token"]}).json()
    ledger.use(a_usage_record("r1", 12, occurred="2026-11-01 12:09", hold_id=made["hold_id"]))
    charge = acme.get(f"/v1/accounts/acme/charges/{usage_key('acme', SOURCE, 'r1')}").json()

    assert (made["amount"], quoted(acme)["total"]) == ("12", "24")
    assert (charge["amount"], charge["quote_id"], charge["card"]["version"]) == ("12", quote["quote_id"], 1)


def test_an_expired_a_withdrawn_and_a_foreign_quote_are_refused(acme: Caller, ledger: MemoryLedger) -> None:
    acme.post("/v1/accounts", {"team_id": "other"})
    expiring, withdrawn = quoted(acme, lasts_seconds=60), quoted(acme)
    path = f"{QUOTES}/{withdrawn['quote_id']}/withdrawal"
    assert acme.post(path, {"reason": "a mistake"}).status_code == 201
    ledger.now = when("2026-11-01 12:01")
    changed = expiring["token"][:-2] + ("AA" if expiring["token"][-2:] != "AA" else "BB")

    def refused(token: str, team: str = "acme") -> tuple[int, str]:
        answer = acme.post(f"/v1/accounts/{team}/holds", {"action": "image.generate", "quote": token})
        return answer.status_code, answer.json()["code"]

    assert refused(expiring["token"]) == (409, "quote_expired")
    assert refused(withdrawn["token"]) == (409, "quote_withdrawn")
    assert refused(changed) == (422, "quote_not_ours")
    assert refused(quoted(acme)["token"], "other") == (422, "quote_not_ours")


def test_a_use_without_a_price_has_no_quote(acme: Caller) -> None:
    nothing = acme.post(QUOTES, {"action": "image.generate", "meters": {}})
    unknown = acme.post(QUOTES, {"action": "music.generate", "meters": {"units": "1"}})
    too_short = acme.post(QUOTES, {"action": "image.generate", "meters": {"units": "1"}, "lasts_seconds": 59})

    assert (nothing.status_code, nothing.json()["field"]) == (422, "meters")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_action")
    assert too_short.status_code == 422
