"""Usage over HTTP: three ways to send it, an answer for each record, and nothing of another team."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from api.app import create_api
from api.gate import Gate
from api.intake import BATCH, STRUCTURED
from api.keys import KeyRing
from tests.api.conftest import PEPPER, Caller, behind, give_key
from tests.asgi import serving
from tests.memory_intake import MemoryIntake
from tests.memory_store import MemoryLedger

PATH = "/v1/usage-records"


class Door:
    """An API with a stream behind it, and a key of the pipeline that lists team acme and two actions."""

    def __init__(self, memory: MemoryLedger, stream: MemoryIntake, http: Any) -> None:
        self.memory, self.stream, self.http = memory, stream, http
        teams, actions = ["acme", "globex"], ["image.generate", "video.generate"]
        self.headers = Caller(http, give_key(memory, "ingest", teams=teams, actions=actions)).headers

    def send(self, content: bytes, kind: str, **attributes: str) -> Any:
        """The answer to a request."""
        sent = {f"ce-{name}": value for name, value in attributes.items()}
        return self.http.post(PATH, content=content, headers={**self.headers, "content-type": kind, **sent})


@pytest.fixture
def door() -> Iterator[Door]:
    """The API before an empty stream."""
    memory = MemoryLedger()
    built = behind(memory)
    gate = Gate(KeyRing(memory, PEPPER, now=lambda: memory.now), built.ledger)
    with serving(create_api(built, gate=gate)) as http:
        assert isinstance(built.intake, MemoryIntake)
        yield Door(memory, built.intake, http)


def attributes(number: int = 1, team: str = "acme") -> dict[str, str]:
    """What a record says of itself."""
    return {
        "specversion": "1.0",
        "type": "com.coffer.usage.recorded.v1",
        "id": f"r{number}",
        "source": "urn:render:farm",
        "subject": team,
        "time": "2026-11-01T12:00:00Z",
    }


def data(action: str = "image.generate") -> dict[str, Any]:
    """What was used."""
    return {"action": action, "status": "succeeded", "meters": {"units": "2"}}


def event(number: int = 1, team: str = "acme", action: str = "image.generate") -> dict[str, Any]:
    """A structured event."""
    return {**attributes(number, team), "data": data(action)}


def test_a_batch_is_answered_record_by_record(door: Door) -> None:
    batch = [
        event(1),
        event(2, "globex"),
        {**event(3), "id": ""},
        event(4, "initech"),
        event(5, action="text.write"),
    ]

    answer = door.send(json.dumps(batch).encode(), BATCH)

    told = answer.json()
    assert (answer.status_code, told["accepted"], told["refused"]) == (202, 2, 3), answer.text
    assert [(each["outcome"], each["reason"], each["offset"]) for each in told["data"]] == [
        ("accepted", None, 0),
        ("accepted", None, 1),
        ("refused", "record_id", None),
        ("refused", "team_not_listed", None),
        ("refused", "action_not_listed", None),
    ]
    assert [team for team, _ in door.stream.sent] == ["acme", "globex"]


def test_one_event_comes_structured_or_in_binary_mode_and_reads_the_same(door: Door) -> None:
    structured = door.send(json.dumps(event()).encode(), STRUCTURED)
    binary = door.send(json.dumps(data()).encode(), "application/json", **attributes())

    assert [each.json()["accepted"] for each in (structured, binary)] == [1, 1], binary.text
    first, second = door.stream.read([message for _, message in door.stream.sent])
    assert first == second


def test_the_stream_has_the_very_bytes_that_were_sent(door: Door) -> None:
    """What the consumer reads is what the producer wrote: spaces, order and escapes included."""
    text = json.dumps(event(), indent=3).replace("image", "im\\u0061ge").encode()

    door.send(b"[ " + text + b" ]", BATCH)

    [(_, message)] = door.stream.sent
    assert message.value == text


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"id": "r1", "id": "r2"}', "duplicate_key"),
        (b"[1, 2]", "not_an_object"),
        (b"{}", "attribute_missing"),
        (b'{"a": NaN}', "not_a_number"),
    ],
)
def test_what_the_stream_refuses_is_refused_here_with_its_reason(
    door: Door, content: bytes, reason: str
) -> None:
    told = door.send(content, STRUCTURED).json()

    assert [each["reason"] for each in told["data"]] == [reason]
    assert door.stream.sent == []


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"[]", BATCH),
        (b"{", BATCH),
        (b"{}", BATCH),
        (b"[" + b"{}," * 1_000 + b"{}]", BATCH),
        (b"\xff", BATCH),
        (b"{}", "text/plain"),
        (b"", ""),
    ],
)
def test_a_request_that_is_none_is_refused_whole(door: Door, content: bytes, kind: str) -> None:
    answer = door.send(content, kind)

    assert (answer.status_code, answer.json()["code"]) == (422, "malformed"), answer.text


def test_a_batch_may_be_larger_than_a_command_and_is_bounded_too(door: Door) -> None:
    """I24."""
    padded = [
        {**event(number), "data": {**data(), "context": {"prompt": "x" * 4_000}}} for number in range(100)
    ]

    large = door.send(json.dumps(padded).encode(), BATCH)
    too_large = door.send(b" " * (1024 * 1024 + 1), BATCH)

    assert (large.status_code, large.json()["accepted"]) == (202, 100)
    assert (too_large.status_code, too_large.json()["code"]) == (413, "body_too_large")


def test_while_the_broker_is_away_nothing_is_accepted(door: Door) -> None:
    """I5: who is told so sends again, and a record that was taken after all is charged once."""
    door.stream.is_away = True

    answer = door.send(json.dumps([event()]).encode(), BATCH)

    assert (answer.status_code, answer.json()["code"]) == (503, "busy")
    assert answer.headers["retry-after"]


def test_a_key_that_lists_no_action_takes_every_action_of_its_teams(door: Door) -> None:
    every = Caller(door.http, give_key(door.memory, "ingest", "another", teams=["acme"])).headers
    door.headers = every

    told = door.send(json.dumps([event(1, action="text.write"), event(2, "globex")]).encode(), BATCH).json()

    assert [each["outcome"] for each in told["data"]] == ["accepted", "refused"]


def test_what_only_the_door_is_to_know_is_not_on_the_stream_a13(door: Door) -> None:
    """A13, I23: so no dead letter has it either; a record that is refused there is kept as it was sent."""
    secrets = {
        name: f"canary-{name}" for name in ("Cookie", "X-Api-Key", "Proxy-Authorization", "ce_authorization")
    }
    said = {f"ce-{name}": value for name, value in attributes().items()}
    key = door.headers["Authorization"].removeprefix("Bearer ")
    door.headers |= secrets

    answers = [
        door.send(json.dumps(data()).encode(), "application/json", **attributes()),
        door.send(json.dumps(event(2)).encode(), STRUCTURED),
        door.send(json.dumps([event(3)]).encode(), BATCH),
    ]

    assert [answer.json()["accepted"] for answer in answers] == [1, 1, 1]
    on_the_stream = repr(door.stream.sent)
    assert said["ce-source"] in on_the_stream
    assert "canary" not in on_the_stream
    assert key not in on_the_stream
