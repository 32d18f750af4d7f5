"""Live balances: an event when a balance changes, a comment now and then, for as long as the credential is good."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

from fastapi import APIRouter, Header, Request
from starlette.responses import StreamingResponse

from api import roles
from api.answers import BalanceAnswer
from api.errors import TooManyRequests
from api.fields import VERSION_MAX
from api.gate import Gate
from api.guard import GuardedRoute, operation_of, principal_of
from api.parameters import TeamPath
from api.queries import Queries
from api.tags import tag_of

LOOK_SECONDS = 1.0
KEEP_ALIVE_SECONDS = 15.0
LASTS_SECONDS_MAX = 3_600.0
"""A stream ends after an hour; the client comes again with the last id that it had, and misses nothing."""

STREAMS_MAX = 200
STREAMS_OF_ONE_MAX = 5

LastEventId = Annotated[
    str | None,
    Header(
        pattern=r"^[0-9]{1,18}$",
        description="The id of the last event that was received: the version of that balance. It is not sent again.",
    ),
]
_STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Events `balance`: the id is the version of the account, the data are those of the balance.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


class Streams:
    """The open streams of this process: bounded, each looked after, all of them ended at the end."""

    def __init__(
        self,
        look_seconds: float = LOOK_SECONDS,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
        lasts_seconds_max: float = LASTS_SECONDS_MAX,
    ) -> None:
        self.look_seconds = look_seconds
        self.keep_alive_seconds = keep_alive_seconds
        self.lasts_seconds_max = lasts_seconds_max
        self.has_ended = False
        self._open: Counter[str] = Counter()

    def end(self) -> None:
        """Every stream ends at its next look."""
        self.has_ended = True

    def refuse_more(self, name: str) -> None:
        """There is room for one more stream of the principal. Raises: TooManyRequests."""
        if self._open[name] >= STREAMS_OF_ONE_MAX or self._open.total() >= STREAMS_MAX:
            raise TooManyRequests(
                f"{self._open[name]} live streams of {name!r} are open, {self._open.total()} in all: at most "
                f"{STREAMS_OF_ONE_MAX} of one and {STREAMS_MAX} together, close one first",
                wait_seconds=30,
            )

    @contextmanager
    def one_more(self, name: str) -> Iterator[None]:
        """A stream of the principal is open."""
        self._open[name] += 1
        try:
            yield
        finally:
            self._open[name] -= 1
            self._open += Counter()


def live_routes(queries: Queries, streams: Streams) -> APIRouter:
    """The route of live balances."""
    router = APIRouter(prefix="/v1/accounts/{team_id}", tags=["accounts"], route_class=GuardedRoute)

    @router.get(
        "/balance/live",
        name="stream_balance",
        operation_id="stream_balance",
        response_class=StreamingResponse,
        responses=_STREAM,
    )
    async def stream_balance(
        request: Request, team_id: TeamPath, last_event_id: LastEventId = None
    ) -> StreamingResponse:
        """The balance now, and again whenever it changes: server-sent events, resumed by `Last-Event-ID`."""
        name = f"{principal_of(request).team_id or ''}/{principal_of(request).name}"
        streams.refuse_more(name)

        async def look() -> BalanceAnswer:
            return await queries.accounts.balance(team_id)

        first = await look()
        last = int(last_event_id) if last_event_id is not None else None
        told = _told(
            streams, look, first, None if last is None else min(last, VERSION_MAX), _is_good(request, team_id)
        )
        return StreamingResponse(_counted(streams, name, told), media_type="text/event-stream")

    return router


def _is_good(request: Request, team_id: str) -> Callable[[], Awaitable[bool]]:
    """Whether the credential still opens the stream: a revoked key is noticed as everywhere, within five seconds."""
    gate: Gate = request.app.state.gate
    authorization, operation = request.headers.get("authorization", ""), operation_of(request)

    async def is_good() -> bool:
        principal = await gate.principal(authorization, team_id)
        return principal is not None and roles.may(principal.role, operation)

    return is_good


async def _counted(streams: Streams, name: str, told: AsyncIterator[str]) -> AsyncIterator[str]:
    with streams.one_more(name):
        async for text in told:
            yield text


async def _told(
    streams: Streams,
    look: Callable[[], Awaitable[BalanceAnswer]],
    answer: BalanceAnswer,
    last: int | None,
    is_good: Callable[[], Awaitable[bool]],
) -> AsyncIterator[str]:
    began = spoke = time.monotonic()
    body = answer.model_dump_json()
    known = tag_of(body.encode()) if last == answer.version else None
    while True:
        tag = tag_of(body.encode())
        if tag != known:
            known, spoke = tag, time.monotonic()
            yield f"id: {answer.version}\nevent: balance\ndata: {body}\n\n"
        elif time.monotonic() - spoke >= streams.keep_alive_seconds:
            spoke = time.monotonic()
            yield ": still here\n\n"
        if streams.has_ended or time.monotonic() - began >= streams.lasts_seconds_max or not await is_good():
            return
        await asyncio.sleep(streams.look_seconds)
        answer = await look()
        body = answer.model_dump_json()
