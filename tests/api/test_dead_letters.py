"""Dead letters over HTTP: listed, shown as they were read, tried again once the cause is fixed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from api.app import create_api
from tests.api.conftest import Caller, behind, give_key
from tests.api.test_keys import code
from tests.asgi import serving
from tests.memory_letters import MemoryLetters
from tests.memory_store import MemoryLedger

LETTERS = "/v1/dead-letters"
RETRIES = f"{LETTERS}/retries"


class Desk:
    """Three letters, and callers who may and may not."""

    def __init__(self, operator: Caller, auditor: Caller, letters: MemoryLetters) -> None:
        self.operator, self.auditor, self.letters = operator, auditor, letters


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[MemoryLedger, Desk]]:
    """One API for the tests of this file."""
    memory, letters = MemoryLedger(), MemoryLetters()
    with serving(create_api(replace(behind(memory), letters=letters, streams=letters))) as http:
        operator, auditor = (Caller(http, give_key(memory, role)) for role in ("operator", "auditor"))
        yield memory, Desk(operator, auditor, letters)


@pytest.fixture
def desk(served: tuple[MemoryLedger, Desk]) -> Desk:
    """Two parked letters of one reason, one rejected."""
    desk = served[1]
    desk.letters.on_file.clear()
    desk.letters.mended.clear()
    for reason, outcome in (
        ("unknown_action", "parked"),
        ("not_json", "rejected"),
        ("unknown_action", "parked"),
    ):
        desk.letters.add(reason, '{"team": "acme"}', outcome)
    return desk


def test_letters_are_listed_filtered_and_paged(desk: Desk) -> None:
    first = desk.auditor.get(LETTERS, limit=2).json()
    rest = desk.auditor.get(LETTERS, limit=2, after=first["next"]).json()
    parked = desk.operator.get(LETTERS, outcome="parked").json()["data"]
    broken = desk.operator.get(LETTERS, reason="not_json").json()["data"]

    assert [each["letter"] for each in first["data"] + rest["data"]] == [1, 2, 3]
    assert (first["next"], rest["next"]) == (2, None)
    assert ([each["letter"] for each in parked], [each["letter"] for each in broken]) == ([1, 3], [2])
    assert "value" not in first["data"][0]


def test_a_letter_is_shown_as_it_was_read(desk: Desk) -> None:
    shown = desk.auditor.get(f"{LETTERS}/2").json()

    assert (shown["reason"], shown["value"], shown["arrived_at"]) == (
        "not_json",
        '{"team": "acme"}',
        "2026-11-01T12:00:00.000000Z",
    )
    assert code(desk.auditor.get(f"{LETTERS}/99")) == "unknown"


def test_who_may_not_search_contexts_reads_none_in_a_letter(desk: Desk) -> None:
    """An operator mends records; what a team wrote is between the team, support and auditors."""
    texts = '{"specversion": "1.0", "data": {"action": "image.generate", "context": {"prompt": "a fox"}}}'
    structured = desk.letters.add("unknown_action", texts)
    binary = desk.letters.add("unknown_action", '{"action": "x", "context": {"prompt": "a fox"}}')
    broken = desk.letters.add("not_json", '{"context": {"prompt": "a fox"}')

    values = [desk.operator.get(f"{LETTERS}/{each}").json()["value"] for each in (structured, binary, broken)]

    assert not any("fox" in (each or "") for each in values)
    assert values[1:] == ['{"action": "x"}', None]
    assert "image.generate" in values[0]
    assert "fox" in desk.auditor.get(f"{LETTERS}/{broken}").json()["value"]


def test_letters_are_tried_again_once_their_cause_is_fixed(desk: Desk) -> None:
    dead = desk.operator.post(RETRIES, {"reason": "unknown_action"}).json()
    desk.letters.mended = {1, 3}
    done = desk.operator.post(RETRIES, {"letters": [1, 2]}).json()
    everything = desk.operator.post(RETRIES, {"everything": True}).json()

    assert [(each["letter"], each["outcome"]) for each in dead["data"]] == [(1, "parked"), (3, "parked")]
    assert [(each["letter"], each["outcome"]) for each in done["data"]] == [(1, "charged"), (2, "rejected")]
    assert [each["letter"] for each in everything["data"]] == [2, 3]
    assert everything["next"] is None
    assert [each["letter"] for each in desk.operator.get(LETTERS).json()["data"]] == [2]
    assert len(desk.operator.get(LETTERS, everything="true").json()["data"]) == 3


def test_an_offset_is_asked_what_became_of_it(desk: Desk) -> None:
    [told] = desk.auditor.get("/v1/offsets/credits.usage.v1/0/2").json()["data"]

    assert (told["kind"], told["reason"]) == ("rejected", "not_json")
    assert code(desk.auditor.get("/v1/offsets/credits.usage.v1/7/2")) == "unknown"


def test_an_auditor_reads_and_retries_nothing_and_what_is_meant_is_said(desk: Desk) -> None:
    assert code(desk.auditor.post(RETRIES, {"everything": True})) == "not_allowed"
    assert code(desk.operator.post(RETRIES, {})) == "malformed"
    assert desk.operator.post(RETRIES, {"letters": []}).status_code == 422
    assert desk.operator.get(LETTERS, outcome="lost").status_code == 422
