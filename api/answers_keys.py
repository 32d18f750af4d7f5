"""Answers about a team's keys, what waits for a second person, and who of support looked."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.answers import CommandAnswer, Instant, Micros, Told
from api.answers_team import TeamPlace


class CreatedKeyAnswer(CommandAnswer):
    """The answer of the command, and the key itself, this once."""

    key: Annotated[
        str | None,
        Field(
            description="The key. Null when it was shown before: nobody has its secret, so revoke it and make another.",
            examples=["cof_live_<id>_<secret><checksum>"],
        ),
    ]


class KeyAnswer(Told):
    """A key without its secret."""

    key_id: str
    member: str
    created_at: Instant
    expires_at: Instant | None
    scopes: list[str] | None
    last_used_at: Annotated[Instant | None, Field(description="To the minute; null for never.")]


class KeysAnswer(TeamPlace):
    """Every key that was not revoked, in the order of making."""

    data: list[KeyAnswer]


class ActAnswer(Told):
    """What waits for a second person."""

    act_id: str
    operation: str
    amount: Micros | None
    proposed_by: str
    proposed_at: Instant
    reason: str | None


class ActsAnswer(TeamPlace):
    """Acts that wait for a second person and are not too old, in the order of proposal."""

    data: list[ActAnswer]


class AccessAnswer(Told):
    """Somebody of support or an operator read something of the team in an hour, once or more often."""

    version: Annotated[
        int, Field(description="Where it is in the stream of the team's people and paperwork.")
    ]
    principal: str
    role: str
    operation: str
    hour: Instant
    first_at: Instant


class AccessesAnswer(TeamPlace):
    """What support and operators read of the team, newest first."""

    data: list[AccessAnswer]
    next: Annotated[str | None, Field(description="`after` of the next page; null on the last.")]
