"""Stream records as producers send them, right and wrong: what the tests of the wire are told in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from consumers.rejections import Rejection
from consumers.stream_record import StreamRecord
from consumers.wire import read_usage
from consumers.wire_rules import BINARY_CONTENT_TYPE, SPEC_VERSION, STRUCTURED_CONTENT_TYPE, USAGE_TYPE
from domain.usage import UsageRecord

ARRIVED = datetime(2026, 12, 1, 9, 0, 5, tzinfo=UTC)
OCCURRED = "2026-12-01T09:00:00Z"
Headers = Sequence[tuple[str, bytes | None]]

ATTRIBUTES = {
    "specversion": SPEC_VERSION,
    "type": USAGE_TYPE,
    "id": "01JDXRECORD",
    "source": "urn:render:eu-1",
    "subject": "team-7",
    "time": OCCURRED,
}
DATA: dict[str, object] = {
    "action": "image.generate",
    "status": "succeeded",
    "meters": {"images": "4", "seconds": "1.25"},
    "dimensions": {"model": "M0001"},
    "member": "member-1",
    "project": "project-1",
    "work": "work-1",
    "step": "step-1",
}


def binary_headers(**attributes: str | None) -> list[tuple[str, bytes | None]]:
    """The headers of a good record; an attribute given as None is left out."""
    wanted = {**ATTRIBUTES, **attributes}
    headers: list[tuple[str, bytes | None]] = [
        (f"ce_{name}", text.encode("utf-8", "surrogatepass"))
        for name, text in wanted.items()
        if text is not None
    ]
    return [*headers, ("content-type", BINARY_CONTENT_TYPE.encode())]


def a_stream_record(value: bytes | None, headers: Headers) -> StreamRecord:
    """A record of the usage stream, at offset 42 of partition 3."""
    return StreamRecord("credits.usage.v1", 3, 42, b"team-7", value, headers, ARRIVED)


def binary(value: bytes | None = None, /, **attributes: str | None) -> StreamRecord:
    """A good record in binary mode, but for the value and the attributes given."""
    return a_stream_record(
        json.dumps(DATA).encode() if value is None else value, binary_headers(**attributes)
    )


def binary_data(**changes: object) -> StreamRecord:
    """A good record in binary mode, but for these fields of its data."""
    return binary(json.dumps(DATA | changes).encode())


def structured(value: bytes | None = None, headers: Headers = (), /, **changes: object) -> StreamRecord:
    """A good record in structured mode, but for these members; one given as ... is left out."""
    event = {**ATTRIBUTES, "data": DATA, **changes}
    body = json.dumps({name: member for name, member in event.items() if member is not ...}).encode()
    content_type = ("content-type", STRUCTURED_CONTENT_TYPE.encode())
    return a_stream_record(body if value is None else value, [content_type, *headers])


def with_context(context: bytes) -> bytes:
    """The value of a good record in binary mode with these bytes as its context."""
    return b'{"action":"image.generate","status":"succeeded","context":' + context + b"}"


def reason_of(record: StreamRecord) -> str | None:
    """The reason for which the record is refused; None if it is read."""
    answer = read_usage(record)
    return answer.reason if isinstance(answer, Rejection) else None


def the_usage(record: StreamRecord) -> UsageRecord:
    """The record as it was read; fails if it was refused."""
    answer = read_usage(record)
    assert isinstance(answer, UsageRecord), answer
    return answer
