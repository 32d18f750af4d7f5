"""Every error as RFC 9457 problem+json: a stable type per cause, what was asked, what would be right, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from api.errors import (
    RETRY_AFTER_SECONDS,
    TYPE_PREFIX,
    MethodRefused,
    NotHere,
    RequestError,
    answered,
    code_of,
)
from api.findings import finding
from domain.errors import Busy, LedgerError, Malformed
from domain.ledger import OutcomeUnknown

MEDIA_TYPE = "application/problem+json"
FINDINGS_MAX = 20
_RESERVED = frozenset({"type", "title", "status", "detail", "code", "request_id", "errors", "instance"})
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class Finding(BaseModel):
    """One field that is wrong, and why."""

    model_config = ConfigDict(frozen=True)

    field: str
    detail: str


class Problem(BaseModel):
    """RFC 9457 problem details; further members name what was asked."""

    model_config = ConfigDict(frozen=True, extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None
    errors: list[Finding] | None = None


def problem(
    error: Exception,
    detail: str,
    *,
    request_id: str | None,
    asked: Mapping[str, str | int] | None = None,
    findings: list[dict[str, str]] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for an error of a class that the table knows."""
    status, title = answered(error)
    code = code_of(error)
    body: dict[str, object] = {name: value for name, value in (asked or {}).items() if name not in _RESERVED}
    body |= {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": printable(detail),
        "code": code,
    }
    if request_id:
        body["request_id"] = request_id
    if findings:
        body["errors"] = findings
    more = dict(headers or {})
    if status == 503:
        more.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    if status == 429:
        more.setdefault("Retry-After", str((asked or {}).get("wait_seconds", RETRY_AFTER_SECONDS)))
    if status == 401:
        more.setdefault("WWW-Authenticate", 'Bearer realm="coffer"')
    return Response(msgspec.json.encode(body), status, more, MEDIA_TYPE)


def for_ledger_error(error: LedgerError, request_id: str | None) -> Response:
    """The answer for a definite no."""
    asked = {
        name: printable(value) if isinstance(value, str) else value for name, value in error.asked.items()
    }
    return problem(error, error.detail, request_id=request_id, asked=asked)


def for_bug(request_id: str | None) -> Response:
    """The answer for what nobody foresaw; the log has the rest under the same request id."""
    detail = "the ledger failed to answer; quote the request id when you report it"
    return problem(LedgerError(detail), detail, request_id=request_id)


def install(app: FastAPI) -> None:
    """Every exception that leaves a handler becomes a problem."""
    handlers: dict[type[Exception], Callable[[Request, Any], Awaitable[Response]]] = {
        LedgerError: _ledger_error,
        Busy: _busy,
        OutcomeUnknown: _outcome_unknown,
        RequestValidationError: _invalid,
        HTTPException: _http,
        Exception: _bug,
    }
    for each, handler in handlers.items():
        app.add_exception_handler(each, handler)


def request_id_of(request: Request) -> str | None:
    """The id that the edge gave the request."""
    found = request.scope.get("coffer.request_id")
    return found if isinstance(found, str) else None


def printable(text: str) -> str:
    """The text without characters that a log, a terminal or a header could stumble over."""
    return _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text)


async def _ledger_error(request: Request, error: LedgerError) -> Response:
    if answered(error).status >= 500 and not isinstance(error, RequestError):
        structlog.get_logger().error("request_cannot_be_answered", code=error.code, detail=error.detail)
    return for_ledger_error(error, request_id_of(request))


async def _busy(request: Request, error: Busy) -> Response:
    structlog.get_logger().warning("ledger_busy", detail=str(error))
    return problem(
        error,
        "the ledger could not do this within its bound of time; nothing was written, the same request may be sent again",
        request_id=request_id_of(request),
    )


async def _outcome_unknown(request: Request, error: OutcomeUnknown) -> Response:
    structlog.get_logger().error("commit_reply_lost", detail=str(error))
    return problem(
        error,
        "the database went away while the command was committed: send the same request with the same Idempotency-Key, "
        "it is done at most once",
        request_id=request_id_of(request),
    )


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    findings = [_finding(each) for each in list(error.errors())[:FINDINGS_MAX]]
    detail = "; ".join(f"{each['field']}: {each['detail']}" for each in findings)
    field = findings[0]["field"] if findings else None
    return problem(
        Malformed(detail),
        detail,
        request_id=request_id_of(request),
        asked={"field": field} if field else None,
        findings=findings,
    )


async def _http(request: Request, error: HTTPException) -> Response:
    path = printable(request.url.path)[:200]
    if error.status_code == 404:
        gone = NotHere(f"path {path!r} is none of this API's: see /openapi.json")
        return for_ledger_error(gone, request_id_of(request))
    if error.status_code == 405:
        refused = MethodRefused(f"{request.method} is not a method of {path!r}: see Allow")
        return problem(refused, refused.detail, request_id=request_id_of(request), headers=error.headers)
    unread = Malformed("the body could not be read: send one JSON object, UTF-8, with its content type")
    return for_ledger_error(unread, request_id_of(request))


async def _bug(request: Request, error: Exception) -> Response:
    # The edge logs the exception itself, which the framework raises again once this is answered.
    return for_bug(request_id_of(request))


def _finding(error: Mapping[str, Any]) -> dict[str, str]:
    """Where it is wrong, what was sent (cut short), and what would be right; nothing of the rest of the body."""
    place = [str(part) for part in error["loc"]]
    kind = error["type"]
    if kind == "json_invalid":
        return {"field": "body", "detail": f"is not JSON: {error.get('ctx', {}).get('error', 'malformed')}"}
    field = printable(".".join(place[1:] or place))[:120]
    return {"field": field, "detail": printable(finding(error))}
