"""Answers about records of the streams that were rejected or parked."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.answers import Instant, Told


class LetterAnswer(Told):
    """A record that was not taken: where it is on the stream, what is wrong with it, what a retry came to."""

    letter: Annotated[int, Field(description="Its number.")]
    topic: str
    partition: int
    offset: int
    arrived_at: Instant
    outcome: Annotated[str, Field(description="rejected or parked")]
    reason: str
    detail: str
    status: Annotated[str, Field(description="open, retried or erased")]
    retry_outcome: str | None
    retry_reason: str | None


class LetterRecordAnswer(LetterAnswer):
    """The same with the record as it was read; what is not text is escaped."""

    key: str | None
    headers: dict[str, str | None]
    value: Annotated[
        str | None,
        Field(
            description="Without its context for who may not search contexts; null where it then cannot be told, or was erased."
        ),
    ]


class LettersAnswer(Told):
    """Dead letters by number, oldest first."""

    data: list[LetterAnswer]
    next: Annotated[int | None, Field(description="`after` of the next page; null on the last.")]


class OffsetAnswer(Told):
    """What became of one offset of a topic; a topic that was made anew has another ``topic_id``, and offsets of its own."""

    topic_id: str
    kind: Annotated[
        str,
        Field(
            description="charged, waived, applied, duplicate, conflict, parked, rejected, hole, or not_read: nothing of it yet"
        ),
    ]
    reason: str
    detail: str
    team_id: str | None
    version: int | None
    charge_id: str | None


class OffsetsAnswer(Told):
    """What became of an offset, once for each topic of this name that there was."""

    data: list[OffsetAnswer]


class RetryAnswer(Told):
    """What trying a letter again came to."""

    letter: int
    outcome: str
    reason: str
    detail: str
    settled_before: Annotated[bool, Field(description="An earlier retry did it: nothing was done now.")]


class RetriesAnswer(Told):
    """What became of each letter that was meant, oldest first."""

    data: list[RetryAnswer]
    next: Annotated[
        int | None,
        Field(description="`after` of the next request, where more are meant; null when all were tried."),
    ]
