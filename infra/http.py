"""The HTTP server: one process, bounded in connections and in waiting, quiet about itself."""

from __future__ import annotations

import asyncio
import resource
import signal
import socket
from types import FrameType

import structlog
import uvicorn
from starlette.types import ASGIApp
from typing_extensions import override
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

CONNECTIONS_MAX = 1_000
REFUSED_FROM = CONNECTIONS_MAX + 64
"""So many connections with requests in hand, and the next one is told to come again."""

OPEN_FILES_WANTED = 8_192
HEADER_BYTES_MAX = 32 * 1024
HEAD_SECONDS_MAX = 10.0
"""How long the head of a request may take to arrive; its body has as long again (see `api/edge.py`)."""

IDLE_SECONDS_MAX = 15
UNREAD_SECONDS_MAX = 30
"""How long an answer may lie at the client's door without a byte of it being taken."""

SHUTDOWN_SECONDS_MAX = 15

log = structlog.get_logger()


class BoundedConnection(H11Protocol):
    """A connection that is waited for a while, and that makes room when there are too many: the longest waiting goes first.

    It waits while no request of it has arrived whole: silent, in the middle of a head or of a body, or answered and silent again.
    A request that is being answered is never cut.
    """

    _head_timer: asyncio.TimerHandle | None = None
    waits_since = 0.0
    is_dropped = False

    @property
    def waits(self) -> bool:
        """Whether the client is expected to send something, or to take its answer."""
        return self._is_between_requests() or self.cycle.more_body

    def drop(self) -> None:
        """The connection ends now, with whatever was still to be sent."""
        self.is_dropped = True
        self.transport.abort()

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the class above has it
        """One more client; another goes if there are too many."""
        super().connection_made(transport)
        self.waits_since = self.loop.time()
        _bound_unread(transport)
        self._expect_head()
        self._make_room()

    @override
    def data_received(self, data: bytes) -> None:
        """Bytes of a head or a body; the head of the next request has its own time."""
        if self._is_between_requests() and self._head_timer is None:
            self._expect_head()
        super().data_received(data)
        if not self._is_between_requests():
            self._head_has_come()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """The client went away."""
        self._head_has_come()
        super().connection_lost(exc)

    @override
    def on_response_complete(self) -> None:
        """The client was answered, and waits from now on."""
        self.waits_since = self.loop.time()
        super().on_response_complete()

    @override
    def timeout_keep_alive_handler(self) -> None:
        """The client was silent for too long; an answer that it did not take is not kept for it."""
        if self.transport.get_write_buffer_size():
            self.drop()
        super().timeout_keep_alive_handler()

    def _is_between_requests(self) -> bool:
        # None before the first request, whatever the class above says.
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is None or cycle.response_complete

    def _expect_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_SECONDS_MAX, self.drop)

    def _head_has_come(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _make_room(self) -> None:
        """There are at most ``CONNECTIONS_MAX``, this one included, as far as others only wait."""
        others = [
            each
            for each in self.connections
            if isinstance(each, BoundedConnection) and each is not self and not each.is_dropped
        ]
        if len(others) < CONNECTIONS_MAX:
            return
        waiting = [each for each in others if each.waits]
        if waiting:
            min(waiting, key=lambda each: each.waits_since).drop()


def serve_api(app: ASGIApp, host: str, port: int) -> None:
    """Requests are answered until SIGTERM or SIGINT; those in hand are answered before it returns."""
    _allow_open_files()
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        # Our own line per request says more, in the form of all other lines.
        access_log=False,
        log_config=None,
        server_header=False,
        limit_concurrency=REFUSED_FROM,
        h11_max_incomplete_event_size=HEADER_BYTES_MAX,
        http=BoundedConnection,
        ws="none",
        timeout_keep_alive=IDLE_SECONDS_MAX,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS_MAX,
    )
    log.info("api_started", host=host, port=port)
    # The server raises the signal that ended it once more when it is done; by then it has done what was asked.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _heard)
    uvicorn.Server(config).run()
    log.info("api_stopped")


def _bound_unread(transport: asyncio.Transport) -> None:
    """The system drops the connection when the client takes nothing of what was sent, where the system can."""
    client: socket.socket | None = transport.get_extra_info("socket")
    if client is not None and client.family in {socket.AF_INET, socket.AF_INET6}:
        # In milliseconds; Linux has it.
        option = getattr(socket, "TCP_USER_TIMEOUT", None)
        if option is not None:
            client.setsockopt(socket.IPPROTO_TCP, option, UNREAD_SECONDS_MAX * 1_000)


def _allow_open_files() -> None:
    """Many clients at once do not use up what the process may open, as far as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_WANTED if hard == resource.RLIM_INFINITY else min(OPEN_FILES_WANTED, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _heard(_number: int, _frame: FrameType | None) -> None:
    """Nothing more is to be done."""
