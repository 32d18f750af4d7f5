"""The routes of records that were rejected or parked: listed, shown, tried again once the cause is fixed."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Literal, NamedTuple, Protocol

from fastapi import APIRouter, Path, Query, Request

from api import roles
from api.answers_dead_letters import (
    LetterAnswer,
    LetterRecordAnswer,
    LettersAnswer,
    OffsetAnswer,
    OffsetsAnswer,
    RetriesAnswer,
    RetryAnswer,
)
from api.cursors import LIMIT_DEFAULT, LIMIT_MAX
from api.fields import TOPIC_PATTERN
from api.guard import GuardedRoute, principal_of
from api.requests.dead_letters import LETTER_MAX, RETRIES_MAX, LetterOutcome, ReasonCode, RetryBody
from domain.errors import Unknown


class LetterQuery(NamedTuple):
    """Which letters are meant; what is None does not narrow."""

    outcome: LetterOutcome | None = None
    reason: str | None = None
    status: Literal["open"] | None = "open"
    letters: list[int] | None = None


class LetterDesk(Protocol):
    """The dead letters; called in a thread. Raises, everywhere: Busy."""

    def letters(self, asked: LetterQuery, limit: int, after: int = 0) -> list[LetterAnswer]:
        """At most so many of the letters meant, by number, from the one after number ``after``."""
        ...

    def letter(self, number: int) -> LetterRecordAnswer | None:
        """One letter with its record; None when there is none of that number."""
        ...

    def retry(self, asked: LetterQuery, limit: int, after: int = 0) -> list[RetryAnswer]:
        """At most so many of the letters meant were tried again, each in a transaction of its own; none twice."""
        ...


class StreamDesk(Protocol):
    """What became of the streams; called in a thread. Raises: Busy."""

    def offset(self, topic: str, partition: int, number: int) -> list[OffsetAnswer]:
        """What became of an offset, for each topic of this name that was ever read; none for one that never was."""
        ...


TopicPath = Annotated[
    str, Path(pattern=TOPIC_PATTERN, description="The topic.", examples=["credits.usage.v1"])
]
PartitionPath = Annotated[int, Path(ge=0, le=2**31 - 1)]
OffsetPath = Annotated[int, Path(ge=0, le=LETTER_MAX)]
LetterPath = Annotated[int, Path(ge=1, le=LETTER_MAX, description="The number of the letter.", examples=[12])]


def dead_letter_routes(desk: LetterDesk) -> APIRouter:
    """The routes of dead letters."""
    router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"], route_class=GuardedRoute)
    _read_routes(router, desk)

    @router.post("/retries", name="retry_dead_letters", operation_id="retry_dead_letters")
    async def retry_dead_letters(body: RetryBody) -> RetriesAnswer:
        """Letters are tried again, a hundred at most; a record is never charged twice, so this may be repeated at will."""
        asked = body.check()
        meant = LetterQuery(asked.outcome, asked.reason, letters=asked.letters)
        told = await asyncio.to_thread(desk.retry, meant, RETRIES_MAX, asked.after)
        return RetriesAnswer(data=told, next=told[-1].letter if len(told) == RETRIES_MAX else None)

    return router


def offset_routes(desk: StreamDesk) -> APIRouter:
    """The route by which every offset can be asked what became of it."""
    router = APIRouter(prefix="/v1/offsets", tags=["dead letters"], route_class=GuardedRoute)

    @router.get("/{topic}/{partition}/{offset}", name="read_offset", operation_id="read_offset")
    async def read_offset(topic: TopicPath, partition: PartitionPath, offset: OffsetPath) -> OffsetsAnswer:
        """What became of an offset: charged, waived, applied, duplicate, conflict, parked, rejected, or nothing was there."""
        found = await asyncio.to_thread(desk.offset, topic, partition, offset)
        if not found:
            raise Unknown(f"topic {topic!r} partition {partition} was never read by this ledger", topic=topic)
        return OffsetsAnswer(data=found)

    return router


def _read_routes(router: APIRouter, desk: LetterDesk) -> None:
    @router.get("", name="list_dead_letters", operation_id="list_dead_letters")
    async def list_dead_letters(
        reason: Annotated[ReasonCode | None, Query(description="Only with this reason code.")] = None,
        outcome: Annotated[LetterOutcome | None, Query()] = None,
        everything: Annotated[bool, Query(description="Retried and erased ones, too.")] = False,
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Rows at most.")] = LIMIT_DEFAULT,
        after: Annotated[
            int,
            Query(
                ge=0, le=LETTER_MAX, description="Only letters after this number: `next` of the page before."
            ),
        ] = 0,
    ) -> LettersAnswer:
        """Dead letters, oldest first."""
        asked = LetterQuery(outcome, reason, None if everything else "open")
        told = await asyncio.to_thread(desk.letters, asked, limit + 1, after)
        shown = told[:limit]
        return LettersAnswer(data=shown, next=shown[-1].letter if len(told) > limit else None)

    @router.get("/{letter}", name="read_dead_letter", operation_id="read_dead_letter")
    async def read_dead_letter(request: Request, letter: LetterPath) -> LetterRecordAnswer:
        """One dead letter with its record as it was read, without its context for who may not search contexts."""
        found = await asyncio.to_thread(desk.letter, letter)
        if found is None:
            raise Unknown(
                f"dead letter {letter} does not exist: list those that do at /v1/dead-letters", letter=letter
            )
        may_read_texts = roles.may(principal_of(request).role, "search_contexts")
        return found if may_read_texts else found.model_copy(update={"value": without_context(found.value)})


def without_context(value: str | None) -> str | None:
    """The record without what the team wrote; None where the record cannot be read, so that nobody knows what is in it."""
    try:
        told = json.loads(value or "")
    except ValueError:
        return None
    if not isinstance(told, dict):
        return None
    for each in (told, told.get("data")):
        if isinstance(each, dict):
            each.pop("context", None)
    return json.dumps(told, ensure_ascii=False)
