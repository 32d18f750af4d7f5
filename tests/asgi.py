"""A blocking HTTP client for an application in the same process; threads may share it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal
from starlette.types import ASGIApp


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
    with start_blocking_portal() as portal:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://coffer")
        yield Http(portal, client)
        portal.call(client.aclose)
