"""How a route runs a command: in a thread, under the caller's key; an answer from file says so."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, NamedTuple

from anyio import CapacityLimiter, to_thread
from fastapi import Depends, Request, Response

from api.answers import CommandAnswer
from api.guard import caller_of
from api.parameters import idempotency_key, if_match
from domain.commands import Command
from domain.ledger import ANY_VERSION, Caller, Ledger, OnlyAt

COMMANDS_AT_ONCE_MAX = 8
"""Commands run in threads; more than the database has connections for would only wait there."""

REPLAYED_HEADER = "Idempotent-Replayed"
"""On an answer from file: an earlier request under the same key did what it tells."""


class Asked(NamedTuple):
    """Who asks for a command, under which idempotency key, for which version, and the answer to be."""

    caller: Caller
    key: str
    response: Response
    request: Request
    only_at: OnlyAt = ANY_VERSION


def _asked(
    request: Request,
    response: Response,
    key: Annotated[str, Depends(idempotency_key)],
    only_at: Annotated[OnlyAt, Depends(if_match)],
) -> Asked:
    return Asked(caller_of(request), key, response, request, only_at)


AskedHere = Annotated[Asked, Depends(_asked)]
Run = Callable[[Asked, Command], Awaitable[CommandAnswer]]


def runner(ledger: Ledger, at_once_max: int = COMMANDS_AT_ONCE_MAX) -> Run:
    """Runs commands of the ledger, at most so many at once."""
    limiter: list[CapacityLimiter] = []

    async def run(asked: Asked, command: Command) -> CommandAnswer:
        if not limiter:
            limiter.append(CapacityLimiter(at_once_max))
        # The ledger waits for locks and for the disk, so it never runs on the event loop.
        answer = await to_thread.run_sync(
            ledger.execute, command, asked.caller, asked.key, asked.only_at, limiter=limiter[0]
        )
        if answer.is_replayed:
            asked.response.headers[REPLAYED_HEADER] = "true"
        return CommandAnswer.of(answer)

    return run
