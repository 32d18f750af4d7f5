"""What auditors and support ask over HTTP: explanations, replay, difference, each as of a moment."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from domain.usage import usage_key
from tests.api.conftest import Caller
from tests.builders import SOURCE, a_usage_record, when
from tests.memory_store import MemoryLedger

CHARGE = usage_key("acme", SOURCE, "r1")
ACME = "/v1/accounts/acme"


@pytest.fixture
def story(acme: Caller, ledger: MemoryLedger) -> Caller:
    """100 granted at 12:00; a limit; 30 used at 13:00 for mira; 20 held at 14:00; 60 denied at 15:00."""
    limit = {"limit_id": "daily", "window": "day", "cap": "60", "hard": True, "member": "mira"}
    done(acme.post(f"{ACME}/limits", limit))
    ledger.now = when("2026-11-01 13:00")
    ledger.use(a_usage_record("r1", 30, occurred="2026-11-01 12:30"))
    ledger.now = when("2026-11-01 14:00")
    done(hold(acme, "20"))
    ledger.now = when("2026-11-01 14:30")
    assert done(hold(acme, "15"))["outcome"] == "denied"
    return acme


def hold(caller: Caller, amount: str) -> Any:
    return caller.post(f"{ACME}/holds", {"action": "image.generate", "member": "mira", "amount": amount})


def done(response: Any) -> Any:
    assert response.status_code in (200, 201), response.text
    return response.json()


def text(caller: Caller, path: str, **params: Any) -> str:
    response = caller.http.get(path, params=params, headers={**caller.headers, "Accept": "text/plain"})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/plain")
    return str(response.text)


def test_a_balance_is_explained_by_what_is_there_and_what_happened(story: Caller) -> None:
    told = done(story.get(f"{ACME}/balance/explanation"))
    explanation = told["explanation"]

    assert (explanation["settled"], explanation["available"], explanation["held"]) == ("70", "50", "20")
    (lot,) = explanation["lots"]
    assert [(flow["kind"], flow["change"]) for flow in lot["flows"]] == [
        ("CreditsGranted", "100"), ("CreditsCharged", "-30"),
    ]  # fmt: skip
    assert [(each["held"], each["lines"]) for each in explanation["holds"]] == [
        ("20", [{"lot_id": "lot-2", "held": "20"}])
    ]
    assert told["version"] == 6


def test_a_balance_explained_as_text_fits_a_mail_and_says_the_same(story: Caller) -> None:
    said = text(story, f"{ACME}/balance/explanation", newest=1)

    assert "Team acme has 50 credits available" in said
    assert "70 settled − 20 held for running work = 50" in said
    assert "2026-11  1 charge: settled -30" in said
    assert "sum of all 3: settled +70, held +20" in said


def test_a_balance_is_explained_as_it_was(story: Caller, ledger: MemoryLedger) -> None:
    before = done(story.get(f"{ACME}/balance/explanation", as_of="2026-11-01T12:59:00Z"))
    after = done(story.get(f"{ACME}/balance/explanation", at_version=4))
    ledger.now = when("2026-11-01 16:00")
    later = done(story.get(f"{ACME}/balance/explanation"))

    assert (before["explanation"]["available"], before["version"]) == ("100", 3)
    assert (after["explanation"]["available"], after["version"]) == ("70", 4)
    assert later["explanation"]["available"] == "70"
    ended = later["explanation"]["happened"]["newest"][-1]
    assert (ended["kind"], ended["version"]) == ("HoldExpired", None), "due, not written yet"


def test_a_denial_is_explained_by_its_rule_its_charges_and_holds_and_ways_out(story: Caller) -> None:
    (step,) = done(story.get(f"{ACME}/replay", kind="HoldDenied"))["data"]
    told = done(story.get(f"{ACME}/denials/{step['version']}/explanation"))["explanation"]

    rule = told["rule"]
    assert (rule["limit_id"], rule["used"], rule["held"], rule["limit"]) == ("daily", "30", "20", "60")
    assert (told["requested"], told["short"], told["contradictions"]) == ("15", "5", [])
    assert [(charge["charge_id"], charge["kept"]) for charge in told["charges"]] == [(CHARGE, "30")]
    assert [each["held"] for each in told["holds"]] == ["20"]
    assert {way["at"] for way in told["ways"] if way["at"]} == {"2026-11-02T00:00:00Z"}
    assert told["since"]["would_pass"] is False
    said = text(story, f"{ACME}/denials/{step['version']}/explanation")
    assert "30 used + 20 held + 15 requested > 60: 5 credits short" in said


def test_a_denial_tells_how_the_same_request_would_fare_at_another_moment(
    story: Caller, ledger: MemoryLedger
) -> None:
    ledger.now = when("2026-11-02 08:00")

    told = done(story.get(f"{ACME}/denials/6/explanation"))["explanation"]

    assert told["since"]["would_pass"] is True
    assert told["rule"]["used"] == "30"


def test_what_is_no_denial_or_was_none_yet_is_unknown(story: Caller) -> None:
    for query in ({"path": 5}, {"path": 6, "as_of": "2026-11-01T14:29:00Z"}, {"path": 99}):
        path = query.pop("path")
        missing = story.get(f"{ACME}/denials/{path}/explanation", **query)
        assert (missing.status_code, missing.json()["code"]) == (404, "unknown_denial")


def test_a_charge_is_explained_with_the_refunds_known_then(story: Caller, ledger: MemoryLedger) -> None:
    ledger.now = when("2026-11-01 15:00")
    done(story.post(f"{ACME}/charges/{CHARGE}/refunds", {"amount": "10", "reason": "bad picture"}))
    path = f"{ACME}/charges/{CHARGE}/explanation"

    now, then = done(story.get(path)), done(story.get(path, as_of="2026-11-01T14:59:59Z"))
    never = story.get(path, as_of="2026-11-01T12:59:59Z")

    assert (now["explanation"]["kept"], then["explanation"]["kept"]) == ("20", "30")
    assert [window["limit_id"] for window in now["explanation"]["windows"]] == ["daily"]
    assert (never.status_code, never.json()["code"]) == (404, "unknown_charge")


def test_a_capture_is_explained_by_its_hold(story: Caller) -> None:
    captured = done(story.post(f"{ACME}/holds/hold-5/captures", {"amount": "12"}))

    told = done(story.get(f"{ACME}/charges/{captured['charge_id']}/explanation"))

    assert (told["outcome"], told["explanation"]["hold_id"], told["explanation"]["held"]) == (
        "captured", "hold-5", "12",
    )  # fmt: skip
    assert "12 credits from lot lot-2, set aside by hold-5" in text(
        story, f"{ACME}/charges/{captured['charge_id']}/explanation"
    )


def test_a_replay_has_running_balances_filters_and_pages(story: Caller) -> None:
    whole = done(story.get(f"{ACME}/replay"))
    first = done(story.get(f"{ACME}/replay", member="mira", limit=1))
    second = done(story.get(f"{ACME}/replay", member="mira", limit=9, after=first["next"]))
    other = story.get(f"{ACME}/replay", member="noor", after=first["next"])

    assert [
        (step["kind"], step["settled_after"], step["available_after"], step["held_after"])
        for step in whole["data"]
    ] == [
        ("AccountOpened", "0", "0", "0"),
        ("CreditsGranted", "100", "100", "0"),
        ("LimitSet", "100", "100", "0"),
        ("CreditsCharged", "70", "70", "0"),
        ("CreditsHeld", "70", "50", "20"),
        ("HoldDenied", "70", "50", "20"),
    ]
    assert [step["version"] for step in first["data"] + second["data"]] == [4, 5, 6]
    assert second["next"] is None
    assert (other.status_code, other.json()["code"]) == (400, "cursor_refused")


def test_a_replay_has_two_clocks(story: Caller) -> None:
    asked = {"kind": "CreditsCharged"}
    occurred = done(story.get(f"{ACME}/replay", occurred_until="2026-11-01T12:31:00Z", **asked))["data"]
    recorded = done(story.get(f"{ACME}/replay", recorded_until="2026-11-01T12:31:00Z", **asked))["data"]

    assert [(step["effective_at"], step["recorded_at"]) for step in occurred] == [
        ("2026-11-01T12:30:00.000000Z", "2026-11-01T13:00:00.000000Z")
    ]
    assert recorded == []


def test_a_difference_of_two_moments_adds_up(story: Caller) -> None:
    told = done(story.get(f"{ACME}/diff", **{"from": "2", "to": "2026-11-01T14:10:00Z"}))
    diff = told["diff"]

    changes = {part["part"]: part["change"] for part in diff["parts"]}
    assert (changes["settled"], changes["available"], changes["held"]) == ("-30", "-50", "20")
    assert [(kind["kind"], kind["settled_change"], kind["held_change"]) for kind in diff["between"]] == [
        ("CreditsCharged", "-30", "0"), ("CreditsHeld", "0", "20"),
    ]  # fmt: skip
    assert [hold["change"] for hold in diff["holds"]] == ["20"]
    assert [(limit["before"], limit["after"]["used"]) for limit in diff["limits"]] == [(None, "30")]
    assert "2 → version 5" in text(story, f"{ACME}/diff", **{"from": "2", "to": "5"}).replace(
        " at 2026-11-01T12:00:00Z", ""
    )


@pytest.mark.parametrize(
    ("first", "last", "code"),
    [
        ("5", "2", "malformed"),
        ("2026-11-01T14:00:00Z", "2026-11-01T13:00:00Z", "malformed"),
        ("1", "99", "version_not_reached"),
        ("0", "1", "malformed"),
        ("yesterday", "1", "malformed"),
        ("2020-01-01T00:00:00Z", "2021-01-01T00:00:00Z", "unknown_team"),
    ],
)
def test_moments_that_make_no_difference_are_refused(story: Caller, first: str, last: str, code: str) -> None:
    refused = story.get(f"{ACME}/diff", **{"from": first, "to": last})

    assert refused.json()["code"] == code, refused.text


def test_a_difference_from_before_the_opening_begins_with_nothing(story: Caller) -> None:
    told = done(story.get(f"{ACME}/diff", **{"from": "2020-01-01T00:00:00Z", "to": "6"}))["diff"]

    assert told["before"] == {"version": 0, "at": None}
    assert {part["part"]: part["change"] for part in told["parts"]}["settled"] == "70"


def test_a_long_history_is_summed_by_month_and_stays_exact(acme: Caller, ledger: MemoryLedger) -> None:
    for number in range(60):
        ledger.now += timedelta(days=1)
        ledger.use(a_usage_record(f"u{number}", 1, occurred=ledger.now.strftime("%Y-%m-%d %H:%M")))

    told = done(acme.get(f"{ACME}/balance/explanation", newest=5))["explanation"]

    happened = told["happened"]
    assert len(happened["newest"]) == 5
    assert [(each["month"], each["kind"], each["events"]) for each in happened["before"]] == [
        ("2026-11", "CreditsCharged", 29),
        ("2026-11", "CreditsGranted", 1),
        ("2026-12", "CreditsCharged", 26),
    ]
    assert told["settled"] == "40"
