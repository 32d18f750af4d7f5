"""Know before you spend, over HTTP: estimate, preflight, plan, what was spent, and whether it may be handed over."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from tests.api.asking import DETAILS, METHOD
from tests.api.conftest import Caller
from tests.builders import a_usage_record
from tests.memory_store import START, MemoryLedger

ACCOUNT = "/v1/accounts/acme"
USE = {"action": "image.generate", "meters": {"units": "30"}, "member": "mira"}


def asked(acme: Caller, path: str, body: Any) -> Any:
    """The answer to a question by POST."""
    told = acme.http.post(f"{ACCOUNT}{path}", json=body, headers=acme.headers)
    assert told.status_code == 200, told.text
    return told.json()


def done(acme: Caller, path: str, body: Any) -> Any:
    told = acme.post(f"{ACCOUNT}{path}", body)
    assert told.status_code == 201, told.text
    return told.json()


def used(ledger: MemoryLedger, days: int, units: int = 2) -> None:
    """A use on each of the last days."""
    now = ledger.now
    for ago in range(days, 0, -1):
        ledger.now = now - timedelta(days=ago) + timedelta(days=days)
        occurred = ledger.now.replace(tzinfo=None).isoformat(sep=" ")
        ledger.use(a_usage_record(f"day-{ago}", units, occurred=occurred, project="film"))


def test_uses_are_estimated_one_after_the_other_with_the_denial_that_each_would_meet(
    acme: Caller, ledger: MemoryLedger
) -> None:
    done(acme, "/limits", {"limit_id": "day", "window": "day", "cap": "50", "member": "mira"})

    told = asked(
        acme, "/estimates/many", {"uses": [USE, USE, USE | {"meters": {"units": "60"}, "member": "noor"}]}
    )

    first, second, third = told["data"]
    assert (told["amount"], told["debt"]) == ("120", "20")
    assert first["denied"] is None
    assert (second["denied"]["code"], second["denied"]["limit_id"], second["denied"]["used"]) == (
        "limit",
        "day",
        "30",
    )
    assert second["limits"][0]["is_passed"] is True
    assert (third["denied"]["code"], third["debt"], third["available_after"]) == ("available", "20", "0")
    assert acme.get(f"{ACCOUNT}/balance").json()["available"] == "100"


def test_a_period_may_be_estimated_as_if_nothing_had_happened_in_it(acme: Caller) -> None:
    told = asked(acme, "/estimates/many", {"uses": [USE], "mode": "replace"})

    assert (told["mode"], told["data"][0]["debt"]) == ("replace", "30")


def test_preflight_names_what_fails_what_would_help_and_who_may_do_it(acme: Caller) -> None:
    done(acme, "/members", {"member": "olga", "role": "owner"})
    done(acme, "/members", {"member": "vera", "role": "viewer"})
    body = {"tasks": [USE | {"times": 4, "member": None}], "member": "vera"}

    before = asked(acme, "/preflight", body)
    done(acme, "/billing-details", DETAILS)
    done(acme, "/payment-method", METHOD)
    done(acme, "/members/vera/role", {"role": "member"})
    done(
        acme,
        "/top-ups",
        {"amount": "20", "payment_reference": "p", "cost_basis": {"price_minor": 1, "currency": "EUR"}},
    )
    after = asked(acme, "/preflight", body)

    failing = {check["check"]: check for check in before["checks"] if not check["passes"]}
    assert (before["passes"], set(failing)) == (False, {"available_credits", "role", "payment_details"})
    assert (failing["available_credits"]["missing"], failing["available_credits"]["who"]) == ("20", ["olga"])
    assert (after["passes"], after["amount"]) == (True, "120")


def test_spending_is_told_by_what_is_asked_for_with_a_rate_and_a_forecast(
    acme: Caller, ledger: MemoryLedger
) -> None:
    used(ledger, 6)

    told = acme.get(f"{ACCOUNT}/spending", by="project").json()
    by_day = acme.get(f"{ACCOUNT}/spending").json()
    none = acme.get(f"{ACCOUNT}/spending", since="2026-01-01", until="2026-01-01")

    assert [(row["project"], row["day"], row["net"], row["uses"]) for row in told["data"]] == [
        ("film", None, "12", 6)
    ]
    assert (told["charged"], told["refunded"], told["net"], told["burn_rate"]) == ("12", "0", "12", "2")
    assert told["forecast"]["stated_percent"] == 80
    assert len(by_day["data"]) == 6
    assert (none.status_code, none.json()["code"]) == (422, "malformed")
    for day in ("0001-01-01", "9999-12-31"):
        assert acme.get(f"{ACCOUNT}/spending", until=day).status_code == 422


def test_volumes_beyond_all_bounds_are_refused_and_no_bug(acme: Caller) -> None:
    huge = {"action": "image.generate", "meters": {"units": "1000000000000"}}
    volume = huge | {"low": 0, "expected": 1, "high": 1_000_000_000}
    path = f"{ACCOUNT}/spending-plans/preview"

    told = acme.http.post(path, json={"days": 3, "volumes": [volume]}, headers=acme.headers)
    large = acme.http.post(path, json={"days": 3, "volumes": [volume | {"high": 2}]}, headers=acme.headers)

    assert (told.status_code, told.json()["code"]) == (409, "amount_out_of_range")
    assert large.status_code == 200


def test_a_plan_tells_when_credits_run_out_and_who_may_buy_more_and_is_compared_later(
    acme: Caller, ledger: MemoryLedger
) -> None:
    done(acme, "/members", {"member": "olga", "role": "owner"})
    volume = {"action": "image.generate", "meters": {"units": "1"}, "low": 10, "expected": 90, "high": 150}

    preview = asked(acme, "/spending-plans/preview", {"days": 10, "volumes": [volume]})
    saved = done(acme, "/spending-plans", {"audience": "the film team", "days": 10, "volumes": [volume]})
    ledger.now = START + timedelta(days=3)
    ledger.use(a_usage_record("r1", 25, occurred=ledger.now.replace(tzinfo=None).isoformat(sep=" ")))
    actual = acme.get(f"{ACCOUNT}/spending-plans/{saved['plan_id']}/actual").json()
    unknown = acme.get(f"{ACCOUNT}/spending-plans/plan-99/actual")

    assert [preview[path]["cost"] for path in ("low", "expected", "high")] == ["10", "90", "150"]
    assert [preview[path]["top_up"] for path in ("low", "expected", "high")] == ["0", "0", "50"]
    assert preview["high"]["run_out_at"] is not None
    assert preview["may_top_up"] == ["olga"]
    assert (saved["amount"], saved["plan_id"].split("-")[0]) == ("90", "plan")
    assert (actual["spent"], actual["is_over"], actual["plan"]["audience"]) == ("25", False, "the film team")
    assert actual["data"] == [
        {
            "action": "image.generate",
            "is_planned": True,
            "low": 10,
            "expected": 90,
            "high": 150,
            "uses": 1,
            "net": "25",
        }
    ]
    assert [plan["plan_id"] for plan in acme.get(f"{ACCOUNT}/spending-plans").json()["data"]] == [
        saved["plan_id"]
    ]
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_spending_plan")


def test_without_volumes_a_plan_is_learned_from_the_teams_past(acme: Caller, ledger: MemoryLedger) -> None:
    nothing = acme.http.post(f"{ACCOUNT}/spending-plans/preview", json={"days": 10}, headers=acme.headers)
    used(ledger, 20)

    told = asked(acme, "/spending-plans/preview", {"days": 10})

    assert (nothing.status_code, nothing.json()["code"]) == (422, "malformed")
    assert told["is_learned"] is True
    [volume] = told["volumes"]
    assert (volume["action"], volume["amount"]) == ("image.generate", "2")
    assert told["forecast"]["days"] == 10
    assert volume["low"] <= volume["expected"] <= volume["high"] <= 10


def test_review_says_what_speaks_against_handing_over_and_what_comes_next_costs(
    acme: Caller, ledger: MemoryLedger
) -> None:
    done(acme, "/limits", {"limit_id": "day", "window": "day", "cap": "25"})
    ledger.use(a_usage_record("r1", 25, occurred="2026-11-01 12:00"))
    before = asked(acme, "/review", {"next_use": USE | {"meters": {"units": "2"}}, "member": "mira"})
    done(acme, "/members", {"member": "mira", "role": "owner"})
    done(acme, "/limits", {"limit_id": "day", "window": "day", "cap": "200"})
    after = asked(acme, "/review", {})

    failing = {check["check"] for check in before["checks"] if not check["passes"]}
    assert (before["ready"], failing) == (False, {"limits", "role_permissions", "next_use"})
    assert [limit["limit_id"] for limit in before["limits_near"]] == ["day"]
    assert before["next_use"]["amount"] == "2"
    assert [charge["amount"] for charge in before["charges"]] == ["25"]
    assert (after["ready"], after["limits_near"], after["open_invoices"]) == (True, [], [])
    assert after["members"] == [
        {
            "member": "mira",
            "role": "owner",
            "may": ["spend", "top_up", "set_limit", "invite", "payment_details"],
        }
    ]


def test_a_plan_names_the_window_that_is_full_and_what_its_top_up_costs_by_whom(
    acme: Caller, ledger: MemoryLedger
) -> None:
    """36 uses in the day that is left are four an hour of nine; the limit has room for three."""
    done(acme, "/members", {"member": "olga", "role": "owner"})
    done(acme, "/members", {"member": "adam", "role": "admin"})
    done(acme, "/limits", {"limit_id": "hourly", "window": "hour", "cap": "3", "member": "mira"})
    ledger.now = START.replace(hour=0, minute=0) + timedelta(days=1)
    volume = {"action": "image.generate", "meters": {"units": "1"}, "member": "mira"}
    asked_for = {"days": 1, "volumes": [volume | {"low": 9, "expected": 36, "high": 20_000}]}

    unpriced = asked(acme, "/spending-plans/preview", asked_for)
    basis = {"price_minor": 900, "currency": "EUR", "tax_minor": 171}
    done(acme, "/top-ups", {"amount": "100", "payment_reference": "pay-1", "cost_basis": basis})
    plan = asked(acme, "/spending-plans/preview", asked_for)

    bite = plan["expected"]["first_limit"]
    assert plan["low"]["first_limit"] is None
    assert [bite[part] for part in ("code", "limit_id", "window", "cap", "used", "held", "requested")] == [
        "limit", "hourly", "hour", "3", "3", "0", "1",
    ]  # fmt: skip
    assert (bite["window_start"][11:16], bite["window_end"][11:16], bite["member"]) == (
        "09:00",
        "10:00",
        "mira",
    )
    assert (plan["low"]["buying"], plan["expected"]["buying"]) == (None, None)
    buying = plan["high"]["buying"]
    assert (buying["amount"], buying["price_minor"], buying["tax_minor"]) == ("19800", 178_200, 33_858)
    assert (buying["basis"], buying["may_buy"], buying["may_ask"]) == ("last_top_up", ["olga"], ["adam"])
    assert unpriced["high"]["buying"]["price_minor"] is None
    assert unpriced["high"]["buying"]["why"].startswith("no price is known")


def test_a_forecast_says_whether_it_was_learned_from_other_teams_of_the_ledger(
    acme: Caller, ledger: MemoryLedger
) -> None:
    used(ledger, 20)
    alone = acme.get(f"{ACCOUNT}/spending").json()["forecast"]
    for number in range(25):
        assert acme.post("/v1/accounts", {"team_id": f"other-{number}"}).status_code == 201
        for ago in range(1, 19):
            occurred = (ledger.now - timedelta(days=ago)).replace(tzinfo=None).isoformat(sep=" ")
            ledger.use(a_usage_record(f"r{ago}", 3, occurred=occurred, team=f"other-{number}"))

    among = acme.get(f"{ACCOUNT}/spending").json()["forecast"]

    assert (alone["other_teams"], among["other_teams"]) == (0, 25)
    # Alone it is expected to fade, as those of the built-in trace did; among teams that go on, to go on.
    assert (alone["low"], among["low"]) == ("0", "60")


@pytest.mark.parametrize("units", ["2", "40", "500"])
def test_review_and_handover_tell_one_account_alike(acme: Caller, ledger: MemoryLedger, units: str) -> None:
    done(acme, "/members", {"member": "olga", "role": "owner"})
    done(acme, "/members", {"member": "mira", "role": "member"})
    done(acme, "/limits", {"limit_id": "day", "window": "day", "cap": "50"})
    done(acme, "/works", {"work_id": "poster", "goal": "a poster", "audience": "visitors", "planned": []})
    ledger.use(a_usage_record("r1", units, occurred="2026-11-01 12:00"))
    following = {"action": "image.generate", "meters": {"units": "30"}}

    told = asked(acme, "/review", {"next_use": following})
    done(acme, "/works/poster/handovers", {"next_use": following})
    handed = json.loads(acme.get(f"{ACCOUNT}/works/poster/handover").json()["document"])

    names = {"roles": "role_permissions", "next_action": "next_use"}
    lines = {check["check"]: check for check in told["checks"]}
    for check in handed["checks"]:
        line = lines[names.get(check["check"], check["check"])]
        assert (check["passes"], check.get("remedy"), check.get("who", [])) == (
            line["passes"],
            line["remedy"],
            line["who"],
        )
    assert [each["limit_id"] for each in handed["limits"] if each["is_near"]] == [
        each["limit_id"] for each in told["limits_near"]
    ]
    assert handed["members"] == told["members"]
    assert handed["next_action"]["amount"] == told["next_use"]["amount"] == "30"
    assert handed["passes"] == told["ready"] == (units == "2")
