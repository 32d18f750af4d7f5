"""The door of every route: who asks, whether the role may, and that nothing unknown is sent along."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any, NamedTuple, NoReturn, get_args, get_origin

import msgspec
from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from typing_extensions import override

from api import roles
from api.errors import NoCredential
from api.gate import Gate
from api.moments import unknown_team
from api.principals import Principal
from api.tags import matches, tag_of
from domain.asking import Reach
from domain.commands import PlaceHold
from domain.errors import NotAllowed
from domain.ledger import Caller, SecondPerson

_LEVELS_MAX = 16
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class GuardedRoute(APIRoute):
    """A route that first asks the table of roles, by its own name; one that the table does not know stays shut."""

    @override
    def get_route_handler(self) -> Handler:
        """The handler behind its guard."""
        handle = super().get_route_handler()
        known, repeated = query_names(self.dependant), _list_names(self.dependant)
        operation = self.name

        async def guarded(request: Request) -> Response:
            request.scope["coffer.operation"] = operation
            await _admit(request, operation)
            _refuse_unknown_query(request, known, repeated)
            return _tagged(request, await handle(_StrictRequest(request.scope, request.receive)))

        return guarded


class OnlyMember(NamedTuple):
    """Of whom an answer may tell: everybody (None), or only what one member caused."""

    member: str | None


def caller_of(request: Request) -> Caller:
    """Who asks, as commands record it, from where on it takes a second person, and of whose holds the caller disposes."""
    principal = principal_of(request)
    operation = operation_of(request)
    cell = roles.cell(principal.role, operation)
    second = None
    if cell is not None and cell.alone_micros is not None:
        second = SecondPerson(operation, cell.alone_micros, cell.two_persons)
    approves = roles.approved_by(principal.role) if operation == "approve_act" else None
    reach = Reach(principal.actions, principal.member if principal.role == "member" else None)
    return Caller(principal.name, principal.role, request.scope["coffer.request_id"], second, approves, reach)


def principal_of(request: Request) -> Principal:
    """Who asks."""
    principal = request.scope["coffer.principal"]
    assert isinstance(principal, Principal), "only a guarded route has a principal"
    return principal


def operation_of(request: Request) -> str:
    """The name of the route."""
    return str(request.scope["coffer.operation"])


def only_member(request: Request) -> OnlyMember:
    """Whose charges the answer may tell of: a cell ``self`` narrows it to the member who asks."""
    principal = principal_of(request)
    cell = roles.cell(principal.role, operation_of(request))
    return OnlyMember(principal.member if cell is not None and cell.scope == "self" else None)


def refuse_unlisted_action(request: Request, action: str) -> None:
    """A key that lists actions is used for one of them. Raises: NotAllowed."""
    actions = principal_of(request).actions
    if actions is not None and action not in actions:
        raise NotAllowed(f"the key does not list action {action[:100]!r}: ask for a key that does")


def for_oneself(request: Request, command: PlaceHold) -> PlaceHold:
    """The command of a member is the member's own; whoever manages the team may name another. Raises: NotAllowed."""
    refuse_other_member(request, command.member)
    principal = principal_of(request)
    if principal.role != "member" or principal.member is None:
        return command
    return msgspec.structs.replace(command, member=principal.member)


def refuse_other_member(request: Request, member: str | None) -> None:
    """A member holds and writes for itself; whoever manages the team may name another. Raises: NotAllowed."""
    principal = principal_of(request)
    if principal.role == "member" and member not in {None, principal.member}:
        raise NotAllowed(
            f"a member holds and writes for itself: leave member out, or send {principal.member!r}",
            role=principal.role,
        )


async def _admit(request: Request, operation: str) -> None:
    if roles.is_open(operation):
        return
    gate: Gate = request.app.state.gate
    team_id = request.path_params.get("team_id")
    principal = await gate.principal(request.headers.get("authorization", ""), team_id)
    if principal is None:
        raise NoCredential(
            "no valid credential came with the request: send 'Authorization: Bearer cof_live_…' with a key that is live, "
            "or a token of the team's identity provider"
        )
    request.scope["coffer.principal"] = principal
    gate.spend(principal, request)
    _check_role(principal, operation)
    if team_id is not None:
        _check_team(principal, operation, team_id)
        if roles.is_seen(principal.role) and (request.method == "GET" or operation in roles.QUESTIONS):
            await gate.leave_trace(principal, operation, team_id, request.scope["coffer.request_id"])


def _check_role(principal: Principal, operation: str) -> None:
    line = roles.line_of(operation)
    if line is None or principal.role not in line.cells:
        raise NotAllowed(
            f"role {principal.role!r} may not {operation.replace('_', ' ')}: ask for a credential whose role may",
            role=principal.role,
        )
    if principal.scopes is not None and line.name not in principal.scopes:
        raise NotAllowed(
            f"the key is for {', '.join(sorted(principal.scopes)) or 'nothing'}, not for {line.name}: ask for a key that is",
            role=principal.role,
        )


def _check_team(principal: Principal, operation: str, team_id: str) -> None:
    """Another team is answered as one that does not exist. Raises: UnknownTeam."""
    cell = roles.cell(principal.role, operation)
    assert cell is not None, "the role was checked"
    if cell.scope == "any":
        return
    mine = (
        principal.teams is not None and team_id in principal.teams
        if cell.scope == "listed"
        else team_id == principal.team_id
    )
    if not mine:
        raise unknown_team(team_id[:128])


def _tagged(request: Request, response: Response) -> Response:
    """A read of a version carries its tag; who has that answer already is told only so."""
    if request.method != "GET" or response.status_code != 200:
        return response
    tag = response.headers.get("etag")
    if tag is None and response.headers.get("content-type") == "application/json":
        tag = tag_of(bytes(response.body))
    if tag is None:
        return response
    if matches(request.headers.get("if-none-match", ""), tag):
        return Response(status_code=304, headers={"ETag": tag})
    response.headers["ETag"] = tag
    return response


def query_names(dependant: Dependant) -> set[str]:
    """The query parameters that a route takes, by itself or by what it depends on."""
    below = (query_names(each) for each in dependant.dependencies)
    return {field.alias for field in dependant.query_params}.union(*below)


def _list_names(dependant: Dependant) -> set[str]:
    """Those of them that may be sent more than once."""
    own = {field.alias for field in dependant.query_params if _is_list(field.field_info.annotation)}
    return own.union(*map(_list_names, dependant.dependencies))


def _is_list(annotation: object) -> bool:
    return get_origin(annotation) is list or any(map(_is_list, get_args(annotation)))


def _refuse_unknown_query(request: Request, known: set[str], repeated: set[str]) -> None:
    seen: set[str] = set()
    for name, _ in request.query_params.multi_items():
        if name not in known or (name in seen and name not in repeated):
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
