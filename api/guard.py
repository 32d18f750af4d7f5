"""The door of every route: who asks, whether the role may, and that nothing unknown is sent along."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from typing_extensions import override

from api import roles
from api.errors import NoCredential, NotAllowed
from api.keys import KeyRing, Principal
from domain.ledger import Caller

_LEVELS_MAX = 16
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class GuardedRoute(APIRoute):
    """A route that first asks the table of roles, by its own name; one that the table does not know stays shut."""

    @override
    def get_route_handler(self) -> Handler:
        """The handler behind its guard."""
        handle = super().get_route_handler()
        known = _query_names(self.dependant)
        operation = self.name

        async def guarded(request: Request) -> Response:
            await _admit(request, operation)
            _refuse_unknown_query(request, known)
            return await handle(_StrictRequest(request.scope, request.receive))

        return guarded


def caller_of(request: Request) -> Caller:
    """Who asks, as commands record it."""
    principal = request.scope["coffer.principal"]
    assert isinstance(principal, Principal), "only a guarded route has a caller"
    return Caller(principal.name, principal.role, request.scope["coffer.request_id"])


async def _admit(request: Request, operation: str) -> None:
    if roles.is_open(operation):
        return
    ring: KeyRing = request.app.state.keys
    scheme, _, key = request.headers.get("authorization", "").partition(" ")
    principal = await ring.principal(key.strip()) if scheme.lower() == "bearer" else None
    if principal is None:
        raise NoCredential(
            "no valid API key came with the request: send 'Authorization: Bearer cof_live_…' with a key that is live"
        )
    request.scope["coffer.principal"] = principal
    if not roles.may(principal.role, operation):
        raise NotAllowed(
            f"role {principal.role!r} may not {operation.replace('_', ' ')}: ask for a key whose role may",
            role=principal.role,
        )


def _query_names(dependant: Dependant) -> set[str]:
    below = (_query_names(each) for each in dependant.dependencies)
    return {field.alias for field in dependant.query_params}.union(*below)


def _refuse_unknown_query(request: Request, known: set[str]) -> None:
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known or name in seen:
            said = "is sent twice: send it once" if name in seen else _known_words(known)
            raise RequestValidationError(
                [{"type": "extra_forbidden", "loc": ("query", name[:80]), "msg": said, "input": None}]
            )
        seen.add(name)


def _known_words(known: set[str]) -> str:
    listed = ", ".join(sorted(known)) or "none"
    return f"is not a query parameter here; known: {listed}"


class _StrictRequest(Request):
    """A request whose JSON has every key once, no NaN and no deep nesting."""

    @override
    async def json(self) -> object:
        """The body as JSON. Raises: json.JSONDecodeError, which becomes a problem."""
        body = await self.body()
        try:
            text = body.decode()
        except UnicodeDecodeError as error:
            raise json.JSONDecodeError(f"not UTF-8 at byte {error.start}", "", error.start) from None
        _check_depth(text)
        return _DECODER.decode(text)


def _check_depth(text: str) -> None:
    """Brackets inside strings count as well: an honest body has few of either."""
    if text.count("{") + text.count("[") <= _LEVELS_MAX:
        return
    level = 0
    for character in text:
        level += (character in "[{") - (character in "]}")
        if level > _LEVELS_MAX:
            raise json.JSONDecodeError(f"nested more than {_LEVELS_MAX} levels deep", "", 0)


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise json.JSONDecodeError("a key is in one object twice", "", 0)
    return members


def _constant(text: str) -> NoReturn:
    raise json.JSONDecodeError(f"{text} is no JSON number", "", 0)


def _integer(text: str) -> int:
    if len(text) > 20:
        raise json.JSONDecodeError("a number of more than 20 digits", "", 0)
    return int(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer)
