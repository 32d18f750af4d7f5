"""Connections to the server: bounded in number and in waiting; whoever waits longest makes room, an answer is never cut (A10)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

import pytest
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.server import ServerState

from infra import http
from infra.http import BoundedConnection

ASKED = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BODY_TO_COME = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
LONG = 0.2
"""Seconds that nobody waits for, in these tests."""


class Client(NamedTuple):
    """A connection to the server under test."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def status(self) -> bytes:
        """The first line of what comes back, empty when the server hung up."""
        try:
            return (await asyncio.wait_for(self.reader.readline(), 10)).strip()
        except ConnectionError:
            return b""

    async def is_gone(self) -> bool:
        """Whether the server hung up without a word."""
        return await self.status() == b""


class Listening(NamedTuple):
    """A server and what it knows of its connections."""

    port: int
    state: ServerState
    writers: list[asyncio.StreamWriter]

    async def connect(self, sent: bytes) -> Client:
        """A new connection that has sent so much, and takes little."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1_024)
        self.writers.append(writer)
        writer.write(sent)
        return Client(reader, writer)

    async def client(self, sent: bytes = b"") -> Client:
        """A new connection that has sent so much; the server has seen both."""
        known = len(self.state.connections)
        reader, writer = await self.connect(sent)
        await writer.drain()
        for _ in range(200):
            await asyncio.sleep(0.005)
            if len(self.state.connections) > known or known >= http.CONNECTIONS_MAX:
                break
        await asyncio.sleep(0.02)
        return Client(reader, writer)


async def _ok(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


@asynccontextmanager
async def listening(app: ASGIApp = _ok, idle_seconds: int = 60) -> AsyncIterator[Listening]:
    """A server of these connections, without the process around it."""
    config = uvicorn.Config(
        app,
        http=BoundedConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        timeout_keep_alive=idle_seconds,
    )
    config.load()
    state, loop = ServerState(), asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: BoundedConnection(config, state, {}, loop), "127.0.0.1", 0, backlog=64
    )
    try:
        listens = Listening(server.sockets[0].getsockname()[1], state, [])
        yield listens
    finally:
        server.close()
        for each in [
            *(each.transport for each in state.connections),
            *(each.transport for each in listens.writers),
        ]:
            each.abort()
        await asyncio.sleep(0.01)


def told(story: Callable[[Listening], Awaitable[None]], app: ASGIApp = _ok, idle_seconds: int = 60) -> None:
    """The story was told to a server."""

    async def whole() -> None:
        async with listening(app, idle_seconds) as server:
            await story(server)

    asyncio.run(whole())


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three connections are many here."""
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 3)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "])
def test_a_head_that_does_not_arrive_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, sent: bytes) -> None:
    """A10, I18: nobody holds a connection by saying nothing, or by not saying enough."""
    monkeypatch.setattr(http, "HEAD_SECONDS_MAX", LONG)

    async def story(server: Listening) -> None:
        assert await (await server.client(sent)).is_gone()
        assert server.state.connections == set()

    told(story)


def test_the_second_head_has_as_long_as_the_first_and_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A10: also when it comes byte by byte, each of which would begin the idle time anew."""
    monkeypatch.setattr(http, "HEAD_SECONDS_MAX", LONG)

    async def story(server: Listening) -> None:
        client = await server.client(ASKED)
        assert b" 200 " in await client.status()
        await asyncio.sleep(LONG * 2)
        assert len(server.state.connections) == 1, "between requests the idle time counts, not that of a head"
        client.writer.write(b"GET / HTTP/1.1\r\n")
        for _ in range(100):
            if not server.state.connections:
                break
            client.writer.write(b"X")
            await asyncio.sleep(0.02)
        assert server.state.connections == set()

    told(story)


def test_whoever_waits_longest_makes_room_and_the_newest_is_answered() -> None:
    """A10, I24: as many silent clients as there may be keep nobody outside."""

    async def story(server: Listening) -> None:
        first, second, third = [await server.client() for _ in range(3)]
        fourth = await server.client(ASKED)
        fifth = await server.client(ASKED)

        assert await first.is_gone()
        assert await second.is_gone()
        assert b" 200 " in await fourth.status()
        assert b" 200 " in await fifth.status()
        third.writer.write(ASKED)
        assert b" 200 " in await third.status()

    told(story)


def test_a_body_that_is_still_to_come_makes_room_as_well() -> None:
    """A10."""

    async def story(server: Listening) -> None:
        slow = [await server.client(BODY_TO_COME) for _ in range(3)]
        last = await server.client(ASKED)

        assert b" 200 " in await last.status()
        assert await slow[0].is_gone()

    told(story)


def test_a_request_that_is_being_answered_is_never_cut() -> None:
    """A10, I5: whoever floods the door, a command in hand is answered."""
    go_on = asyncio.Event()

    async def slowly(scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await _ok(scope, receive, send)

    async def story(server: Listening) -> None:
        asking = [await server.client(ASKED) for _ in range(3)]
        for _ in range(6):
            await server.client()
        go_on.set()

        assert [b" 200 " in await each.status() for each in asking] == [True] * 3

    told(story, slowly)


async def _large(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] != "/large":
        await _ok(scope, receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 20_000_000})


def test_an_answer_that_is_not_taken_makes_room_also_on_a_connection_that_was_to_end() -> None:
    """A10, I24: as many slow readers as there may be keep nobody outside, and their answers are not kept."""

    async def story(server: Listening) -> None:
        for number in range(6):
            ending = b"Connection: close\r\n" if number % 2 else b""
            await server.connect(b"GET /large HTTP/1.1\r\nHost: x\r\n" + ending + b"\r\n")
            await asyncio.sleep(0.05)
        last = await server.client(ASKED)

        assert b" 200 " in await last.status()
        assert server.state.total_requests == 7
        assert len(server.state.connections) <= 3

    told(story, _large)


def test_an_answer_that_is_not_taken_is_not_kept_for_ever() -> None:
    """A10, I24: a slow reader costs its answer once, and for the idle time."""

    async def story(server: Listening) -> None:
        await server.connect(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
        for _ in range(400):
            await asyncio.sleep(0.01)
            if server.state.total_requests and not server.state.connections:
                break
        assert server.state.total_requests == 1
        assert server.state.connections == set()

    told(story, _large, idle_seconds=1)
