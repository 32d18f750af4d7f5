"""Rate cards and plans over HTTP: an operator proposes, another approves, and only then anything is priced by them."""

from __future__ import annotations

from typing import Any

import pytest

from tests.api.conftest import Caller, give_key
from tests.api.test_keys import code
from tests.builders import a_plan, unit_card
from tests.memory_store import MemoryLedger

LATER = "2026-12-01T00:00:00.000000Z"


@pytest.fixture
def ann(acme: Caller, ledger: MemoryLedger) -> Caller:
    """An operator."""
    return Caller(acme.http, give_key(ledger, "operator", "ann"))


@pytest.fixture
def bob(acme: Caller, ledger: MemoryLedger) -> Caller:
    """Another operator."""
    return Caller(acme.http, give_key(ledger, "operator", "bob"))


def dearer() -> dict[str, Any]:
    """The card from December on, at twice the price."""
    card = unit_card(effective_at=LATER)
    card["rates"][0]["terms"][0]["price"] = "2"
    return card


def publish(caller: Caller, document: dict[str, Any], **more: Any) -> Any:
    """The answer to publishing a card."""
    return caller.post("/v1/rate-cards", {"document": document, "reason": "costs rose", **more})


def test_an_operator_proposes_and_another_publishes(ann: Caller, bob: Caller, ledger: MemoryLedger) -> None:
    proposed = publish(ann, dearer()).json()
    again = publish(ann, dearer()).json()
    path = f"/v1/publications/{proposed['publication_id']}"
    [waits] = bob.get("/v1/publications").json()["data"]
    read = bob.get(path).json()
    by_itself = ann.post(f"{path}/approval", {})
    standing = len(ann.get("/v1/rate-cards").json()["data"])
    published = bob.post(f"{path}/approval", {})
    twice = bob.post(f"{path}/approval", {})

    assert (proposed["outcome"], again) == ("proposed", proposed)
    assert (waits["operation"], waits["named"], waits["proposed_by"], waits["reason"]) == (
        "publish_rate_card",
        "standard",
        "ann",
        "costs rose",
    )
    assert (read["document"]["effective_at"], read["digest"]) == (LATER, waits["digest"])
    assert (code(by_itself), standing) == ("second_person_needed", 1)
    told = published.json()
    assert (told["outcome"], told["rate_card"]["version"], told["rate_card"]["publisher"]) == (
        "published",
        2,
        "bob",
    )
    assert (told["rate_card"]["digest"], code(twice)) == (waits["digest"], "unknown_act")
    assert bob.get("/v1/publications").json()["data"] == []


def test_a_plan_and_a_withdrawal_take_two_persons_too(ann: Caller, bob: Caller, operator: Caller) -> None:
    assert publish(operator, dearer()).json()["outcome"] == "published"
    plan = ann.post("/v1/plans", {"document": a_plan("studio", 300), "reason": "spring"}).json()
    gone = ann.post("/v1/rate-cards/standard/2/withdrawal", {"reason": "too dear"}).json()

    done = [
        bob.post(f"/v1/publications/{each['publication_id']}/approval", {}).json() for each in (plan, gone)
    ]

    assert [each["outcome"] for each in done] == ["published", "withdrawn"]
    assert done[0]["plan"]["plan_id"] == "studio"
    assert [each["version"] for each in ann.get("/v1/rate-cards").json()["data"]] == [1]
    assert ann.post("/v1/rate-cards/standard/2/withdrawal", {"reason": "x"}).json()["outcome"] == "unchanged"


def test_what_stands_changes_nothing_and_a_break_glass_key_needs_nobody(
    operator: Caller, ledger: MemoryLedger
) -> None:
    first = publish(operator, dearer()).json()
    version = ledger.current().version
    again = publish(operator, dearer()).json()

    assert (first["outcome"], again["outcome"], ledger.current().version) == (
        "published",
        "unchanged",
        version,
    )
    assert again["rate_card"] == first["rate_card"]


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({}, "rate_card_refused"),
        ({"card_id": "standard", "effective_at": 5}, "rate_card_refused"),
        ({"card_id": None, "rates": [{}], "meters": {"x": 10**19}}, "rate_card_refused"),
        ({"card_id": "standard", "effective_at": "9999-12-31T23:59:59-14:00"}, "rate_card_refused"),
    ],
)
def test_a_document_that_fails_its_check_is_told_why_and_not_proposed(
    ann: Caller, document: dict[str, Any], expected: str
) -> None:
    refused = publish(ann, document)

    assert code(refused) == expected, refused.text
    assert "is not published" in refused.json()["detail"]
    assert ann.get("/v1/publications").json()["data"] == []


def test_a_proposal_says_why_and_broken_text_is_no_document(ann: Caller) -> None:
    silent = ann.post("/v1/rate-cards", {"document": dearer()})
    huge = publish(ann, {"card_id": 10**19 * 9})
    broken = ann.http.post(
        "/v1/plans",
        content=rb'{"document": {"plan_id": "\ud800"}, "reason": "x"}',
        headers={**ann.headers, "Content-Type": "application/json"},
    )

    assert (code(silent), code(huge)) == ("act_refused", "rate_card_refused")
    assert (broken.status_code, broken.json()["errors"][0]["field"]) == (422, "document")


def test_a_document_may_be_larger_than_a_command(ann: Caller) -> None:
    large = publish(ann, {**dearer(), "description": "x" * 100_000})

    assert large.status_code != 413


def test_sources_are_registered_and_listed(ann: Caller) -> None:
    for _ in range(2):
        told = ann.post("/v1/sources", {"source": "urn:trace:2024", "historic": True})
        assert (told.status_code, told.json()) == (200, {"source": "urn:trace:2024", "historic": True})
    wrong = ann.post("/v1/sources", {"source": "-x"})

    assert ann.get("/v1/sources").json()["data"] == [{"source": "urn:trace:2024", "historic": True}]
    assert wrong.status_code == 422
