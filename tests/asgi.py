"""A blocking HTTP client for an application in the same process; threads may share it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.types import ASGIApp, Message


class Http:
    """Sends requests to the application on an event loop of its own."""

    def __init__(self, portal: BlockingPortal, client: httpx.AsyncClient) -> None:
        self._portal = portal
        self._client = client

    def request(self, method: str, path: str, **sent: Any) -> httpx.Response:
        """The answer to one request."""
        return self._portal.call(partial(self._client.request, method, path, **sent))

    def get(self, path: str, **sent: Any) -> httpx.Response:
        """The answer to a GET."""
        return self.request("GET", path, **sent)

    def post(self, path: str, **sent: Any) -> httpx.Response:
        """The answer to a POST."""
        return self.request("POST", path, **sent)


@contextmanager
def serving(app: ASGIApp) -> Iterator[Http]:
    """A client of the application; what fails inside comes back as an answer, as in production."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(_started(app)) as client:
        yield Http(portal, client)


@asynccontextmanager
async def _started(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """The application between its start and its shutdown, as a server would run it."""
    to_app: asyncio.Queue[Message] = asyncio.Queue()
    from_app: asyncio.Queue[Message] = asyncio.Queue()

    async def live() -> None:
        await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": {}}, to_app.get, from_app.put)

    life = asyncio.create_task(live())
    to_app.put_nowait({"type": "lifespan.startup"})
    assert (await from_app.get())["type"] == "lifespan.startup.complete"
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://coffer"
    ) as client:
        yield client
    to_app.put_nowait({"type": "lifespan.shutdown"})
    await life
