"""Usage over HTTP: CloudEvents in, one answer per record, and what was accepted is on the stream, acknowledged by its broker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NamedTuple, Protocol
from urllib.parse import unquote_to_bytes

import msgspec
from anyio import to_thread
from fastapi import APIRouter, Request
from pydantic import Field

from api.answers import Told
from api.guard import GuardedRoute, principal_of
from api.principals import Principal
from domain.errors import Malformed

PATH = "/v1/usage-records"
BATCH = "application/cloudevents-batch+json"
STRUCTURED = "application/cloudevents+json"
BINARY = "application/json"
RECORDS_MAX = 1_000
_EVENT = {
    "type": "object",
    "description": "A usage record as the topic takes it; see the page of the stream.",
    "required": ["specversion", "type", "id", "source", "subject", "time", "data"],
    "additionalProperties": True,
    "properties": {
        "specversion": {"const": "1.0"},
        "type": {"const": "com.coffer.usage.recorded.v1"},
        "id": {"type": "string"},
        "source": {"type": "string"},
        "subject": {"type": "string", "description": "The team."},
        "time": {"type": "string", "format": "date-time"},
        "data": {"type": "object"},
    },
}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            BATCH: {"schema": {"type": "array", "items": _EVENT, "minItems": 1, "maxItems": RECORDS_MAX}},
            STRUCTURED: {"schema": _EVENT},
            BINARY: {
                "schema": {"type": "object", "description": "The data; attributes are in `ce-` headers."}
            },
        },
    }
}


class Message(NamedTuple):
    """A record as the stream carries it: headers and value, as they were received."""

    headers: list[tuple[str, bytes]]
    value: bytes


class Readable(NamedTuple):
    """What a record says of itself."""

    team_id: str
    source: str
    id: str
    action: str


class Unreadable(NamedTuple):
    """Why a record is not read: the stable reason, and a sentence."""

    reason: str
    detail: str


class Place(NamedTuple):
    """Where a record is on the stream."""

    partition: int
    offset: int


class Intake(Protocol):
    """The stream of usage, as the API needs it; called in threads."""

    def read(self, messages: Sequence[Message]) -> list[Readable | Unreadable]:
        """Each record as the stream's own reading has it."""
        ...

    def send(self, messages: Sequence[tuple[str, Message]]) -> list[Place]:
        """Every record is on the stream under its team, acknowledged by all replicas. Raises: Busy; then any of them may be."""
        ...


class RecordAnswer(Told):
    """What became of one record of the request, by its place in it from 0."""

    index: int
    outcome: Annotated[
        Literal["accepted", "refused"],
        Field(description="Accepted: on the stream, to be charged, waived or parked. Refused: not sent on."),
    ]
    team_id: str | None
    source: str | None
    id: str | None
    partition: int | None
    offset: int | None
    reason: Annotated[str | None, Field(description="The stable reason of a refusal.")]
    detail: str | None


class IntakeAnswer(Told):
    """What became of each record, in the order of the request. Sending the same again is safe: a record is charged once."""

    accepted: int
    refused: int
    data: list[RecordAnswer]


def intake_routes(intake: Intake) -> APIRouter:
    """The route by which usage comes in."""
    router = APIRouter(prefix=PATH, tags=["usage"], route_class=GuardedRoute)

    @router.post("", status_code=202, name="publish_usage", operation_id="publish_usage", openapi_extra=_BODY)
    async def publish_usage(request: Request) -> IntakeAnswer:
        """Usage records for the stream: a batch, one structured event, or one in binary mode; an answer for each."""
        messages = messages_of(request.headers.items(), await request.body())
        principal = principal_of(request)
        read = await to_thread.run_sync(intake.read, messages)
        judged = [_judged(principal, each) for each in read]
        good = [
            (each.team_id, message)
            for each, message in zip(judged, messages, strict=True)
            if isinstance(each, Readable)
        ]
        places = iter(await to_thread.run_sync(intake.send, good) if good else [])
        data = [
            _accepted(index, each, next(places))
            if isinstance(each, Readable)
            else _refused(index, each, read[index])
            for index, each in enumerate(judged)
        ]
        return IntakeAnswer(accepted=len(good), refused=len(data) - len(good), data=data)

    return router


def messages_of(headers: Sequence[tuple[str, str]], body: bytes) -> list[Message]:
    """The records of a request, each with the bytes that it came with. Raises: Malformed for a request that is none."""
    kind = next((value for name, value in headers if name == "content-type"), "")
    media_type = kind.partition(";")[0].strip().lower()
    if media_type == BATCH:
        return [Message([("content-type", STRUCTURED.encode())], bytes(each)) for each in _batch(body)]
    if media_type == STRUCTURED:
        return [Message([("content-type", kind.encode())], body)]
    if media_type != BINARY:
        raise Malformed(
            f"content-type {kind[:80]!r}: {BATCH}, {STRUCTURED}, or {BINARY} with ce- headers would be right",
            field="content-type",
        )
    # Over HTTP the attributes' names begin with `ce-` and their values are percent-encoded; on the stream neither.
    sent = [(f"ce_{name[3:]}", unquote_to_bytes(value)) for name, value in headers if name.startswith("ce-")]
    return [Message([*sent, ("content-type", kind.encode())], body)]


def _batch(body: bytes) -> list[msgspec.Raw]:
    try:
        found = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"the body is no list of events: {error}", field="body") from None
    if not 1 <= len(found) <= RECORDS_MAX:
        raise Malformed(f"{len(found)} records: 1 to {RECORDS_MAX} would be right", field="body")
    return found


def _judged(principal: Principal, read: Readable | Unreadable) -> Readable | Unreadable:
    """What the key may not bill is refused, whether or not there is such a team. Break-glass keys list nothing."""
    if isinstance(read, Unreadable) or principal.role == "break-glass":
        return read
    if read.team_id not in (principal.teams or ()):
        return Unreadable("team_not_listed", f"the key does not list team {read.team_id!r}")
    if principal.actions is not None and read.action not in principal.actions:
        return Unreadable("action_not_listed", f"the key does not list action {read.action!r}")
    return read


def _accepted(index: int, read: Readable, place: Place) -> RecordAnswer:
    return RecordAnswer(
        index=index,
        outcome="accepted",
        team_id=read.team_id,
        source=read.source,
        id=read.id,
        partition=place.partition,
        offset=place.offset,
        reason=None,
        detail=None,
    )


def _refused(index: int, why: Unreadable, read: Readable | Unreadable) -> RecordAnswer:
    known: dict[str, Any] = {"team_id": None, "source": None, "id": None}
    if isinstance(read, Readable):
        known = {"team_id": read.team_id, "source": read.source, "id": read.id}
    return RecordAnswer(
        index=index,
        outcome="refused",
        partition=None,
        offset=None,
        reason=why.reason,
        detail=why.detail,
        **known,
    )
