"""A poster, from brief to handover, over HTTP: a failed draft, a refund, a limit that bites and is raised, and what it cost."""

from __future__ import annotations

import json
from typing import Any

from domain.times import instant_text
from infra.signing import is_signed
from tests.builders import when
from tests.flows.http_story import LedgerOverHttp, Story, Tell

DRAFT = {"action": "image.generate", "meters": {"units": "4"}, "step": "draft", "times": 3}
REFINE = {"action": "image.generate", "meters": {"units": "5"}, "step": "refine", "times": 3}
BILLING = {"name": "Acme GmbH", "address_lines": ["Weg 1", "10115 Berlin"], "country": "DE"}
CARD = {"token": "tok_1", "brand": "visa", "last_four": "4242", "expires_month": 12, "expires_year": 2029}


def test_the_story_of_a_work_from_brief_to_handover(ledger: LedgerOverHttp, tell: Tell) -> None:
    studio = tell("studio")
    studio.bought("credits", 60)
    studio.did("members", {"member": "olga", "role": "owner"}, "2026-11-23 09:00")
    studio.did("members", {"member": "mira", "role": "member"}, "2026-11-23 09:01")
    studio.did("billing-details", BILLING, "2026-11-23 09:02")
    studio.did("payment-method", CARD, "2026-11-23 09:03")
    studio.did("limits", {"limit_id": "day", "window": "day", "cap": "30"}, "2026-11-23 09:04")
    olga, mira = ledger.member(studio.team_id, "olga"), ledger.member(studio.team_id, "mira")

    # 1. Brief: what for, who will use it, what it will cost, and whether it may begin.
    brief = {
        "work_id": "poster",
        "goal": "a poster of a fox for the autumn fair",
        "audience": "visitors of the fair",
        "planned": [DRAFT, REFINE],
    }
    studio.at("2026-11-24 09:00")
    started = mira.post(f"/v1/accounts/{studio.team_id}/works", brief).json()
    assert (started["work_id"], started["work_version"], started["amount"]) == ("poster", 1, "27")
    page = studio.get("works/poster")
    assert [(each["step"], each["amount"]) for each in page["planned"]] == [("draft", "12"), ("refine", "15")]
    assert {each["check"]: each["passes"] for each in page["preflight"]} == dict.fromkeys(
        ("plan", "price", "available_credits", "limits", "role", "payment_details", "task_volume"), True
    )

    # 2. Draft: credits are set aside first; one picture fails and costs nothing; what was tried is saved.
    ours = {"work": "poster", "step": "draft", "member": "mira"}
    hold = studio.held(12, "2026-11-24 09:05", **ours)
    studio.used("first", 4, occurred="2026-11-24 09:06", hold_id=hold, **ours)
    failed = studio.used("second", 4, occurred="2026-11-24 09:07", status="failed", **ours)
    assert failed["outcome"] == "waived"
    how = {"prompt": "a fox under a street lamp", "sampler": "euler"}
    third = studio.used("third", 4, occurred="2026-11-24 09:08", context=json.dumps(how).encode(), **ours)
    draft = {
        "step": "draft",
        "prompts": ["a fox under a lantern, flat colours"],
        "parameters": {"guidance": "7.5", "seed": "42"},
        "versions": {"model": "xl-2"},
        "files": ["draft/fox-1.png"],
        "member": "mira",
    }
    saved = studio.did("works/poster/steps", draft, "2026-11-24 09:10")
    assert (saved["step"], saved["revision"], saved["work_version"]) == ("draft", 1, 2)

    # 3. Refine: a bad picture is refunded; the day's limit bites, and whoever may not raise it cannot.
    finer = ours | {"step": "refine"}
    studio.used("fourth", 10, occurred="2026-11-24 10:00", **finer)
    assert studio.refunded("fourth", 4, "2026-11-24 10:10").status_code == 201
    denied = studio.hold(20, "2026-11-24 10:20", **finer)
    assert (denied["outcome"], denied["denial"]["rule"], denied["denial"]["limit_id"]) == (
        "denied",
        "limit",
        "day",
    )
    higher = {"limit_id": "day", "window": "day", "cap": "60", "reason": "the fair is near"}
    refused = mira.post(f"/v1/accounts/{studio.team_id}/limits", higher)
    assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed"), refused.text
    [wants] = [each for each in _checked(studio, "2026-11-24 10:25", "20") if not each["passes"]]
    assert (wants["check"], wants["who"]) == ("next_action", ["olga"])
    assert "raise limit day to at least 34" in wants["remedy"]
    studio.at("2026-11-24 10:30")
    raised = olga.post(f"/v1/accounts/{studio.team_id}/limits", higher)
    assert raised.status_code == 201, raised.text
    hold = studio.held(20, "2026-11-24 10:31", **finer)
    studio.used("fifth", 12, occurred="2026-11-24 10:40", hold_id=hold, **finer)
    studio.did("works/poster/steps", draft | {"step": "refine", "note": "warmer light"}, "2026-11-24 10:45")

    # 4. Saved result: while credits are still set aside nothing is settled; then the list passes, signed, and the work is saved.
    assert [
        each["check"] for each in _checked(studio, "2026-11-24 10:50", "5") if not each["passes"]
    ] == _open_holds(studio)
    for each in studio.get("holds")["data"]:
        studio.released(each["hold_id"], "2026-11-24 10:55")
    assert all(each["passes"] for each in _checked(studio, "2026-11-24 11:00", "5"))
    signed = studio.get("works/poster/handover")
    result = {"files": ["poster.png"], "links": ["https://example.org/poster.png"], "member": "mira"}
    studio.did("works/poster/result", result, "2026-11-24 11:05")

    # What did this deliverable cost, against its estimate?
    told = studio.get("works/poster/cost")
    total, steps = told["cost"]["total"], {each["step"]: each for each in told["cost"]["steps"]}
    assert told["status"] == "saved"
    assert (total["net"], total["estimate"], told["cost"]["over_estimate"]) == ("26", "27", "-1")
    assert (total["charged"], total["refunded"], total["failures"]) == ("30", "4", 1)
    assert (steps["draft"]["net"], steps["draft"]["failures"]) == ("8", 1)
    assert (steps["refine"]["net"], steps["refine"]["refunded"]) == ("18", "4")

    # Whoever got the list verifies it with the public key alone.
    document = json.loads(signed["document"])
    key = ledger.operator.http.get("/v1/signing-key").json()
    assert signed["key_id"] == key["key_id"]
    assert is_signed(key["public_key"], signed["document"].encode(), bytes.fromhex(signed["signature"]))
    assert (document["total"]["net"], document["at"]) == ("26", instant_text(when("2026-11-24 11:00")))

    # The record that a charge was made from says how its picture was made, until somebody asks that it be forgotten.
    explained = f"charges/{third['charge_id']}/explanation"
    assert studio.get(explained)["context"] == how
    assert "street lamp" in studio.text(explained)
    assert studio.get("contexts", q="Street Lamp")["data"][0]["charge_id"] == third["charge_id"]

    # And it is found again by what was written, by this team only.
    for words, field in (
        ("lantern", "prompt"),
        ("fox-1.png", "file"),
        ("xl-2", "version"),
        ("fair", "audience"),
    ):
        found = studio.get("contexts", q=words, **{"in": field})["data"]
        assert {each["work_id"] for each in found} == {"poster"}, words
    elsewhere = tell("elsewhere")
    elsewhere.granted("gift", 1)
    assert elsewhere.get("contexts", q="lantern")["data"] == []

    forgotten = olga.post(f"/v1/accounts/{studio.team_id}/members/mira/erasure", {"reason": "mira left"})
    assert forgotten.status_code == 201, forgotten.text
    assert studio.get("contexts", q="fox")["data"] == []
    assert studio.get(explained)["context"] is None
    assert (studio.get("works/poster")["texts"], studio.get("works/poster/cost")["cost"]) == (
        [],
        told["cost"],
    )


def _checked(studio: Story, at: str, units: str) -> list[dict[str, Any]]:
    """The lines of a check of the handover, with so many units to come."""
    asked = {"next_use": {"action": "image.generate", "meters": {"units": units}}}
    studio.did("works/poster/handovers", asked, at)
    signed = studio.get("works/poster/handover")
    checks: list[dict[str, Any]] = json.loads(signed["document"])["checks"]
    return checks


def _open_holds(studio: Story) -> list[str]:
    """The line that fails while credits are set aside for the work."""
    held = studio.get("works/poster/cost")["cost"]["total"]["holds"]
    return ["charges"] if held else []
