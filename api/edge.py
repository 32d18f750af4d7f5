"""The edge of the API: bounds on what comes in, one request id, one log line, and no exception that leaves unanswered."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import MutableMapping
from secrets import token_hex
from typing import Any

import structlog
from prometheus_client import REGISTRY, Counter, Histogram
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.errors import (
    BodyEncodingRefused,
    BodyTooLarge,
    HeadersTooLarge,
    RequestError,
    RequestTooSlow,
)
from api.intake import PATH as USAGE_PATH
from api.problems import for_bug, for_ledger_error
from api.publishing import PATHS as DOCUMENT_PATHS

BODY_BYTES_MAX = 64 * 1024
BATCH_BYTES_MAX = 1024 * 1024
"""Of a request that brings usage records, each of them of up to 64 KiB as on the stream, or a document to be published."""
HEADERS_MAX = 64
HEADER_BYTES_MAX = 16 * 1024
TARGET_BYTES_MAX = 4 * 1024
BODY_SECONDS_MAX = 10.0
CLIENT_GONE = 499
"""Logged and counted for a request that never arrived whole; no client can receive it."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9_.:\-]{1,64}", re.ASCII)
_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", re.ASCII)
_SECURITY = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"strict-transport-security", b"max-age=31536000"),
    (b"cross-origin-resource-policy", b"same-origin"),
)

log = structlog.get_logger()


class ClientGone(Exception):
    """The client went away before its request had arrived whole: nobody asked for anything."""


class Figures:
    """What is counted of requests, by route template; never by team."""

    def __init__(self) -> None:
        self.requests = Counter(
            "coffer_http_requests", "Requests answered.", ("operation", "status"), registry=REGISTRY
        )
        self.break_glass = Counter(
            "coffer_break_glass_requests", "Requests answered to a break-glass key.", registry=REGISTRY
        )
        self.seconds = Histogram(
            "coffer_http_request_seconds", "Time to answer a request.", ("operation",), registry=REGISTRY
        )

    def count(self, operation: str, status: int, seconds: float) -> None:
        """One more request was answered."""
        self.requests.labels(operation, str(status)).inc()
        self.seconds.labels(operation).observe(seconds)


FIGURES = Figures()
"""One per process: the client library refuses the same name twice."""


class Edge:
    """The outermost layer: what passes is bounded, what fails is told without a trace of its inside."""

    def __init__(self, app: ASGIApp, *, body_seconds_max: float = BODY_SECONDS_MAX) -> None:
        self._app = app
        self._body_seconds_max = body_seconds_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request is answered, counted and logged."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = _headers(scope)
        scope["coffer.request_id"] = request_id = correlation_id(headers)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(correlation_id=request_id)
        started = time.perf_counter()
        answer = _Answer(send, scope, request_id)
        try:
            await self._pass(scope, receive, answer, headers)
        except Exception:
            log.exception("request_failed", operation=_operation(scope))
            if not answer.started:
                await _send(scope, receive, answer, for_bug(request_id))
        finally:
            seconds = time.perf_counter() - started
            FIGURES.count(_operation(scope), answer.status, seconds)
            _log_line(scope, answer.status, seconds)

    async def _pass(
        self, scope: Scope, receive: Receive, answer: _Answer, headers: dict[bytes, bytes]
    ) -> None:
        try:
            _check_head(scope, headers)
            body = await asyncio.wait_for(_body(scope, receive, headers), self._body_seconds_max)
        except ClientGone:
            answer.status = CLIENT_GONE
        except TimeoutError:
            slow = RequestTooSlow(f"the body did not arrive within {self._body_seconds_max:g} seconds")
            await _refuse(scope, receive, answer, slow)
        except RequestError as error:
            await _refuse(scope, receive, answer, error)
        else:
            await self._app(scope, _Replay(body, receive), answer)


class _Answer:
    """Passes an answer on and remembers its status; every answer carries the request id and the security headers."""

    def __init__(self, send: Send, scope: Scope, request_id: str) -> None:
        self._send = send
        self._scope = scope
        self._request_id = request_id.encode()
        self.status = 500
        self.started = False
        self.close = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self.status = message["status"]
            message["headers"] = [
                *message.get("headers", []),
                (b"x-request-id", self._request_id),
                *_SECURITY,
                *(rate.headers() if (rate := self._scope.get("coffer.rate")) else []),
                *([(b"connection", b"close")] if self.close else []),
            ]
        await self._send(message)


class _Replay:
    """Gives the body that was read already, then waits for the disconnect."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> MutableMapping[str, Any]:
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()


def correlation_id(headers: dict[bytes, bytes]) -> str:
    """The caller's X-Request-ID if it is a plain one, else the trace id of its traceparent, else a new id."""
    sent = headers.get(b"x-request-id", b"").decode("latin-1")
    if _REQUEST_ID.fullmatch(sent):
        return sent
    traced = _TRACEPARENT.fullmatch(headers.get(b"traceparent", b"").decode("latin-1"))
    return traced[1] if traced else token_hex(16)


def _headers(scope: Scope) -> dict[bytes, bytes]:
    return dict(scope["headers"])


def _check_head(scope: Scope, headers: dict[bytes, bytes]) -> None:
    sent = scope["headers"]
    size = sum(len(name) + len(value) for name, value in sent)
    if len(sent) > HEADERS_MAX or size > HEADER_BYTES_MAX:
        raise HeadersTooLarge(
            f"{len(sent)} headers of {size} bytes: at most {HEADERS_MAX} of {HEADER_BYTES_MAX} bytes together are read"
        )
    target = len(scope.get("raw_path") or b"") + len(scope.get("query_string", b""))
    if target > TARGET_BYTES_MAX:
        raise HeadersTooLarge(f"path and query of {target} bytes: at most {TARGET_BYTES_MAX} are read")
    encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
    if encoding != "identity":
        raise BodyEncodingRefused(f"content-encoding {encoding[:40]!r}: send the body as it is")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > _bytes_max(scope):
        raise _too_large(f"of {int(length)} bytes", _bytes_max(scope))


async def _body(scope: Scope, receive: Receive, headers: dict[bytes, bytes]) -> bytes:
    """The whole body, within its bound, before anything reads it."""
    most = _bytes_max(scope)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > most:
            raise _too_large(f"of more than {most} bytes", most)
        chunks.append(chunk)
        if not message.get("more_body", False):
            return b"".join(chunks)


def _bytes_max(scope: Scope) -> int:
    return BATCH_BYTES_MAX if scope["path"] in {USAGE_PATH, *DOCUMENT_PATHS} else BODY_BYTES_MAX


def _too_large(size: str, most: int) -> BodyTooLarge:
    return BodyTooLarge(f"a body {size}: at most {most} bytes are read here")


async def _refuse(scope: Scope, receive: Receive, answer: _Answer, error: RequestError) -> None:
    # What is left of the body will not be read, so the connection cannot serve another request.
    answer.close = True
    await _send(scope, receive, answer, for_ledger_error(error, scope["coffer.request_id"]))


async def _send(scope: Scope, receive: Receive, answer: _Answer, response: Response) -> None:
    await response(scope, receive, answer)


def _operation(scope: Scope) -> str:
    """The name of the route, or that there was none; never anything that the caller chose."""
    return str(getattr(scope.get("route"), "name", "none"))


def _log_line(scope: Scope, status: int, seconds: float) -> None:
    principal = scope.get("coffer.principal")
    role = getattr(principal, "role", None)
    # Whoever breaks the glass is heard: the line is a warning, and counted.
    alarming = role == "break-glass"
    if alarming:
        FIGURES.break_glass.inc()
    log.log(
        logging.WARNING if alarming else logging.INFO,
        "request_answered",
        operation=_operation(scope),
        method=scope["method"][:16],
        path=scope["path"][:200],
        status=status,
        took_ms=round(seconds * 1000, 2),
        principal=getattr(principal, "name", None),
        key_id=getattr(principal, "key_id", None),
        role=role,
    )
