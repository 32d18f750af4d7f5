"""Who may do what: every route, by every role, on every team it may be asked about; made from the table."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest
from fastapi.routing import APIRoute

from api import roles
from api.documented import PAGE, documented
from tests.api.asking import BODIES, PARAMS, PATH
from tests.api.conftest import Caller, give_key, give_member_key
from tests.api.test_guard import routes
from tests.asgi import Http
from tests.memory_store import MemoryLedger

OWNERSHIPS = ("own", "other", "absent")
"""The team of the credential, one that is there and is not it, one that nobody ever heard of."""
TEAM_OF = {"own": "acme", "other": "globex", "absent": "nobody"}
ROUTES = {route.name: route for route in sorted(routes(), key=lambda each: each.name)}


class Asked(NamedTuple):
    """One cell of the matrix."""

    operation: str
    role: str
    ownership: str


def matrix() -> list[Asked]:
    """Every route by every role and no role, on every kind of team where it names one."""
    return [
        Asked(name, role, ownership)
        for name, route in ROUTES.items()
        for role in (*roles.ROLES, roles.ANYONE)
        for ownership in (OWNERSHIPS if "{team_id}" in route.path_format else ("own",))
    ]


def expected(asked: Asked) -> str:
    """Told from the table alone: open, refused for want of a credential or a role, hidden as another's, or admitted."""
    if roles.is_open(asked.operation):
        return "admitted"
    if asked.role == roles.ANYONE:
        return "no_valid_key"
    cell = roles.cell(asked.role, asked.operation)
    if cell is None:
        return "not_allowed"
    return "admitted" if cell.scope == "any" or asked.ownership == "own" else "unknown_team"


class Keys:
    """A credential of every role, each bound to team acme where its role is."""

    def __init__(self, http: Http, ledger: MemoryLedger) -> None:
        self.by_role = {roles.ANYONE: Caller(http, None)}
        for role in roles.TEAM_ROLES:
            self.by_role[role] = Caller(http, give_member_key(ledger, "acme", f"the-{role}", role))
        for service in roles.SERVICE_ROLES:
            listed = ["acme"] if service == "ingest" else None
            self.by_role[service] = Caller(http, give_key(ledger, service, teams=listed))


def send(caller: Caller, asked: Asked) -> Any:
    """The request of a cell, well formed."""
    route: APIRoute = ROUTES[asked.operation]
    path = route.path_format.format(**PATH | {"team_id": TEAM_OF[asked.ownership]})
    return caller.http.request(
        sorted(route.methods or [])[0],
        path,
        json=BODIES.get(asked.operation),
        params=PARAMS.get(asked.operation),
        headers={"Idempotency-Key": f"{asked.role}-{asked.ownership}", **caller.headers},
    )


def _everything(ledger: MemoryLedger) -> bytes:
    """All that was ever recorded of the other team."""
    team = ledger.teams["globex"]
    return b"".join([each.hash for each in team.events] + [each.hash for each in team.paperwork_events])


@pytest.fixture
def two_teams(acme: Caller) -> Caller:
    """Teams acme and globex have accounts."""
    assert acme.post("/v1/accounts", {"team_id": "globex"}).status_code == 201
    return acme


def test_the_matrix_has_every_route_role_and_ownership() -> None:
    """A6: the count is that of the page, so a route that came or went is seen there."""
    page = PAGE.read_text()

    assert documented(page) == page, "run `python -m api.documented`"
    assert {asked.operation for asked in matrix()} == set(ROUTES) == roles.OPERATIONS
    with_team = sum("{team_id}" in route.path_format for route in ROUTES.values())
    assert len(matrix()) == (3 * with_team + len(ROUTES) - with_team) * (len(roles.ROLES) + 1)
    assert f"{len(matrix())} cells" in page


@pytest.mark.parametrize("operation", ROUTES)
def test_a_route_opens_for_the_cells_of_its_line_and_for_no_other(
    operation: str, two_teams: Caller, ledger: MemoryLedger
) -> None:
    """A5, A6, I16, I26."""
    keys = Keys(two_teams.http, ledger)
    for asked in (each for each in matrix() if each.operation == operation):
        untouched = _everything(ledger)

        answer = send(keys.by_role[asked.role], asked)

        code = answer.json().get("code") if "json" in answer.headers.get("content-type", "") else None
        if expected(asked) == "admitted":
            hidden = "unknown_team" if asked.ownership != "absent" else None
            assert answer.status_code not in {401, 429}, (asked, answer.text)
            assert code not in {"not_allowed", hidden}, (asked, answer.text)
        else:
            assert code == expected(asked), (asked, answer.text)
            assert _everything(ledger) == untouched, asked


@pytest.mark.parametrize("operation", [name for name, route in ROUTES.items() if "{team_id}" in route.path])
def test_another_team_is_answered_as_one_that_does_not_exist(
    operation: str, two_teams: Caller, ledger: MemoryLedger
) -> None:
    """A5: word for word, but for the name that the caller sent, and before the body is looked at."""
    keys = Keys(two_teams.http, ledger)
    line = roles.line_of(operation)
    assert line is not None
    for role, cell in line.cells.items():
        if cell.scope == "any":
            continue
        other, absent = (send(keys.by_role[role], Asked(operation, role, each)) for each in OWNERSHIPS[1:])
        bodies = [{**answer.json(), "request_id": ""} for answer in (other, absent)]
        assert other.status_code == absent.status_code == 404
        assert str(bodies[0]).replace("globex", "nobody") == str(bodies[1])


def test_one_with_a_role_in_two_teams_is_nobody_in_a_third(two_teams: Caller, ledger: MemoryLedger) -> None:
    """A key is for its team, whatever its member is elsewhere."""
    owner = Caller(two_teams.http, give_member_key(ledger, "acme", "olga", "owner"))
    give_member_key(ledger, "globex", "olga", "owner")

    assert owner.get("/v1/accounts/acme/balance").status_code == 200
    assert owner.get("/v1/accounts/globex/balance").json()["code"] == "unknown_team"
