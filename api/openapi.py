"""The OpenAPI 3.1 document: made from the routes, the role table and the table of errors."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from api import roles
from api.commands.running import REPLAYED_HEADER
from api.errors import TYPE_PREFIX
from api.problems import MEDIA_TYPE, Problem
from api.tables import problem_table

TITLE = "Coffer"
VERSION = "1"
_SUMMARY = (
    "A credits ledger: every charge, grant, top-up and refund is one immutable event on one team's account."
)
_DESCRIPTION = """Amounts are credits as decimal strings with up to six places; times are RFC 3339 with
their offset, answered in UTC.

Every command carries an `Idempotency-Key`, which is its identity for ever: the same key and body give the same answer,
another body is refused with 409, a refused command leaves no trace.

Every read says the `version` of the account and the `position` of its shard that it is true at, and the instant it is
computed for.
"""
_REPLAYED = {
    "description": "`true` when an earlier request under the same key did it and this is the answer from file.",
    "schema": {"type": "string", "const": "true"},
}
_ETAG = {
    "description": "Of answers with a version: the version, and a digest of all but the instant. For `If-Match` and "
    "`If-None-Match`.",
    "schema": {"type": "string"},
}
_IF_NONE_MATCH = {
    "name": "if-none-match",
    "in": "header",
    "required": False,
    "description": "Tags of answers that the caller has; one of them is not told again.",
    "schema": {"type": "string", "maxLength": 1_000},
}
_ERRORS_OF_EVERY_ROUTE = (413, 431, 500)
_OWN_IDENTITY = {
    "approve_publication",
    "publish_plan",
    "publish_rate_card",
    "publish_usage",
    "register_source",
    "retry_dead_letters",
    "withdraw_rate_card",
}
_WITHOUT_KEY = roles.QUESTIONS | _OWN_IDENTITY
"""By POST, and without an idempotency key: questions change nothing, and what is its own identity changes nothing twice."""
_RESPONSES: dict[int, str] = {
    400: "A header or a cursor is missing or wrong",
    401: "No valid credential",
    403: "The role may not do this",
    404: "The team, charge, card or price does not exist",
    405: "The path has no such method",
    408: "The body did not arrive in time",
    409: "A rule said no, or the identity is known with other content; nothing was changed",
    412: "The version is not the one in `If-Match`; nothing was changed",
    413: "The body is too large",
    415: "The body is compressed",
    422: "The request cannot be read; `errors` names each field",
    429: "The principal asks too often; `Retry-After` says when again",
    431: "Headers or path are too large",
    500: "A bug; quote the request id",
    503: "Try again",
}


def document_of(app: FastAPI) -> dict[str, Any]:
    """The document, each operation with its problems, its roles and whether it needs a key."""
    document = get_openapi(
        title=TITLE,
        version=VERSION,
        summary=_SUMMARY,
        description=f"{_DESCRIPTION}\n{problem_table(TYPE_PREFIX)}",
        routes=app.routes,
        openapi_version="3.1.0",
    )
    components = document.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    problem_schema = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
    schemas |= problem_schema.pop("$defs", {})
    schemas["Problem"] = problem_schema
    components["securitySchemes"] = {
        "api_key": {"type": "http", "scheme": "bearer", "bearerFormat": "cof_live_<id>_<secret><checksum>"},
        "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"},
    }
    for path, item in document["paths"].items():
        for method, operation in item.items():
            _complete(operation, path, method)
    return document


def _complete(operation: dict[str, Any], path: str, method: str) -> None:
    name = operation["operationId"]
    operation["responses"].pop("422", None)
    takes_cursor = any(each["name"] == "after" for each in operation.get("parameters", []))
    for status in sorted(_statuses(name, path, method, takes_cursor)):
        operation["responses"][str(status)] = {
            "description": _RESPONSES[status],
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    if "201" in operation["responses"]:
        operation["responses"]["201"]["headers"] = {REPLAYED_HEADER: _REPLAYED}
    if method == "get" and path.startswith("/v1/") and name != "stream_balance":
        operation.setdefault("parameters", []).append(_IF_NONE_MATCH)
        operation["responses"]["200"].setdefault("headers", {})["ETag"] = _ETAG
        operation["responses"]["304"] = {
            "description": "The answer is the one with the tag in `If-None-Match`"
        }
    if not roles.is_open(name):
        operation["security"] = [{"api_key": []}, {"token": []}]
        operation["x-roles"] = {role: roles.told(role, name) for role in roles.roles_of(name)}


def _statuses(name: str, path: str, method: str, takes_cursor: bool) -> set[int]:
    statuses = {*_ERRORS_OF_EVERY_ROUTE, 422}
    if method == "post":
        statuses |= {408, 409, 415} | ({400, 412} if name not in _WITHOUT_KEY else set())
    if not roles.is_open(name):
        statuses |= {401, 403, 429}
    if path.startswith("/v1/"):
        statuses |= {503}
    if "{" in path or name == "open_account":
        statuses |= {404, 409}
    if takes_cursor:
        statuses |= {400}
    return statuses | ({503} if name == "readyz" else set())
