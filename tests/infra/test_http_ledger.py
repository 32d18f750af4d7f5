"""The same promises of the API over plain dicts and over PostgreSQL: one contract, two stores."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import pytest

from api.app import create_api
from api.roles import ROLES
from domain.account.charging import charge_usage
from domain.account.decision import Decision, copy_of
from domain.actors import Actor
from domain.usage import UsageRecord, usage_key
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.project import ProjectorLoop
from infra.settings import Settings
from infra.wiring import Wiring
from tests.api.conftest import Caller, behind, give_key
from tests.asgi import serving
from tests.builders import SOURCE, a_usage_record, unit_card
from tests.memory_store import MemoryLedger

TESTER = Actor("tester", "operator")
CHARGE = usage_key("acme", SOURCE, "r1")


class World(Protocol):
    """A ledger behind its API, into which usage comes as from the stream."""

    operator: Caller

    def use(self, record: UsageRecord) -> None:
        """The record is charged, and the statement has it."""
        ...


class MemoryWorld:
    """The ledger in memory."""

    def __init__(self, memory: MemoryLedger, operator: Caller) -> None:
        self._memory = memory
        self.operator = operator

    def use(self, record: UsageRecord) -> None:
        self._memory.now += timedelta(seconds=1)
        self._memory.use(record)


class PostgresWorld:
    """The ledger in PostgreSQL."""

    def __init__(self, wiring: Wiring, operator: Caller) -> None:
        self._wiring = wiring
        self.operator = operator

    def use(self, record: UsageRecord) -> None:
        with PostgresLedgerStore(self._wiring.shards).session(record.team_id) as session:
            assert session.account is not None
            expected = session.account.version
            decision = Decision(copy_of(session.account), session.now, TESTER, session.index)
            charge_usage(decision, record, self._wiring.catalogue.current())
            session.save(
                decision.account,
                decision,
                expected,
                principal="stream",
                key=record.id,
                body_digest=b"",
                answer=b"",
            )
        ProjectorLoop(self._wiring.shards).catch_up()


@pytest.fixture(params=["memory", "postgres"])
def world(request: pytest.FixtureRequest, tmp_path: Any) -> Iterator[World]:
    """Team acme with 100 credits, one unit of image.generate at one credit."""
    if request.param == "memory":
        memory = MemoryLedger(datetime.now(UTC))
        memory.publish(unit_card())
        with serving(create_api(behind(memory), wait_seconds=0.05)) as http:
            yield opened(MemoryWorld(memory, Caller(http, give_key(memory, "break-glass"))))
        return
    url = request.getfixturevalue("database_url")
    with Wiring(Settings(database_url=url, state_directory=tmp_path)) as wiring:
        wiring.catalogue.publish(unit_card(), TESTER)
        key, _ = wiring.keys.create("tester", "break-glass", timedelta(hours=8))
        with serving(wiring.api()) as http:
            yield opened(PostgresWorld(wiring, Caller(http, key)))


def opened(world: MemoryWorld | PostgresWorld) -> World:
    """The world once its team has an account and credits."""
    assert world.operator.post("/v1/accounts", {"team_id": "acme"}).status_code == 201
    granted = world.operator.post("/v1/accounts/acme/grants", {"amount": "100", "reason": "a start"})
    assert granted.status_code == 201, granted.text
    return world


def test_a_team_is_charged_refunded_and_told_the_same_by_both_stores(world: World) -> None:
    world.use(a_usage_record("r1", "30.5", occurred="2026-01-01 12:00"))

    refunded = world.operator.post(
        f"/v1/accounts/acme/charges/{CHARGE}/refunds", {"amount": "10", "reason": "bad picture"}
    )
    balance = world.operator.get("/v1/accounts/acme/balance").json()
    charge = world.operator.get(f"/v1/accounts/acme/charges/{CHARGE}").json()
    found = world.operator.get("/v1/accounts/acme/charges", source=SOURCE, id="r1").json()
    explained = world.operator.get(f"/v1/accounts/acme/charges/{CHARGE}/explanation").json()

    assert (refunded.status_code, refunded.json()["version"]) == (201, 4)
    assert (balance["available"], balance["version"]) == ("79.5", 4)
    assert (charge["amount"], charge["refunded"], charge["charged_version"]) == ("30.5", "10", 3)
    assert [each["charge_id"] for each in found["data"]] == [CHARGE]
    assert [each["amount"] for each in explained["explanation"]["refunds"]] == ["10"]
    assert explained["explanation"]["contradictions"] == []


def test_the_statement_and_the_history_page_the_same(world: World) -> None:
    for number in range(4):
        world.use(a_usage_record(f"r{number}", 1, occurred="2026-01-01 12:00"))

    first = world.operator.get("/v1/accounts/acme/statement", limit=3, min_version=6).json()
    rest = world.operator.get("/v1/accounts/acme/statement", limit=3, after=first["next"]).json()
    newest = world.operator.get("/v1/accounts/acme/history", limit=2, order="newest").json()
    older = world.operator.get(
        "/v1/accounts/acme/history", limit=500, order="newest", after=newest["next"]
    ).json()

    assert [line["version"] for line in first["data"] + rest["data"]] == [2, 3, 4, 5, 6]
    assert [line["settled_after"] for line in rest["data"]] == ["97", "96"]
    assert [entry["version"] for entry in newest["data"] + older["data"]] == [6, 5, 4, 3, 2, 1]
    assert older["next"] is None


def test_the_same_key_and_body_is_answered_the_same_and_another_body_is_refused(world: World) -> None:
    body = {"amount": "5", "reason": "goodwill"}

    once = world.operator.post("/v1/accounts/acme/grants", body, key="k")
    again = world.operator.post("/v1/accounts/acme/grants", body, key="k")
    other = world.operator.post("/v1/accounts/acme/grants", body | {"amount": "6"}, key="k")

    assert (once.status_code, once.content) == (again.status_code, again.content)
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert world.operator.get("/v1/accounts/acme/balance").json()["settled"] == "105"


def test_the_same_key_from_many_callers_at_once_happens_once(world: World) -> None:
    """A1, I14."""
    body = {"amount": "7", "reason": "goodwill"}

    def grant(_: int) -> Any:
        while (
            answer := world.operator.post("/v1/accounts/acme/grants", body, key="once")
        ).status_code == 503:
            assert answer.json()["code"] == "busy"
        return answer

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(grant, range(50)))

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert world.operator.get("/v1/accounts/acme/balance").json()["settled"] == "107"


def test_an_account_opened_by_many_at_once_is_opened_once(world: World) -> None:
    def open_other(number: int) -> int:
        status: int = world.operator.post("/v1/accounts", {"team_id": "other"}, key=f"k{number}").status_code
        return status

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(open_other, range(8)))

    assert statuses.count(201) == 1
    assert set(statuses) <= {201, 409, 503}


def test_a_refused_command_leaves_its_key_unused(world: World) -> None:
    path = f"/v1/accounts/acme/charges/{CHARGE}/refunds"
    body = {"reason": "bad picture"}

    unknown = world.operator.post(path, body, key="k")
    world.use(a_usage_record("r1", 30, occurred="2026-01-01 12:00"))
    known = world.operator.post(path, body, key="k")

    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_charge")
    assert (known.status_code, known.json()["amount"]) == (201, "30")


def test_an_estimate_is_what_the_charge_will_be(world: World) -> None:
    body = {"action": "image.generate", "meters": {"units": "120"}}

    estimated = world.operator.post("/v1/accounts/acme/estimates", body).json()
    world.use(a_usage_record("r1", 120, occurred="2026-01-01 12:00"))
    charged = world.operator.get(f"/v1/accounts/acme/charges/{CHARGE}").json()

    assert (estimated["amount"], estimated["debt"]) == (charged["amount"], charged["debt"]) == ("120", "20")
    assert estimated["lines"] == charged["lines"]


def test_a_past_balance_is_replayed(world: World) -> None:
    before = world.operator.get("/v1/accounts/acme/balance").json()
    world.use(a_usage_record("r1", 30, occurred="2026-01-01 12:00"))

    by_version = world.operator.get("/v1/accounts/acme/balance", at_version=2).json()
    by_time = world.operator.get("/v1/accounts/acme/lots", as_of=before["as_of"]).json()

    assert by_version["available"] == "100"
    assert [lot["remaining"] for lot in by_time["data"]] == ["100"]


def test_a_payment_reference_buys_once_also_under_another_key(world: World) -> None:
    body = {
        "amount": "50",
        "payment_reference": "pay-1",
        "cost_basis": {"price_minor": 500, "currency": "EUR"},
    }

    bought = world.operator.post("/v1/accounts/acme/top-ups", body)
    again = world.operator.post("/v1/accounts/acme/top-ups", body)

    assert (bought.status_code, again.status_code) == (201, 409)


def test_a_story_may_set_the_clock_of_commands_and_answers(database_url: str, tmp_path: Any) -> None:
    """I19: what expires is lapsed in the answer before anything is booked, and breakage after the grace."""
    clock = datetime(2026, 11, 1, 12, tzinfo=UTC)
    settings = Settings(database_url=database_url, state_directory=tmp_path)
    with Wiring(settings, now=lambda: clock) as wiring:
        key, _ = wiring.keys.create("tester", "break-glass", timedelta(hours=8))
        with serving(wiring.api()) as http:
            operator = Caller(http, key)
            operator.post("/v1/accounts", {"team_id": "acme"})
            body = {"amount": "10", "reason": "short", "expires_at": "2026-11-01T13:00:00Z"}
            granted = operator.post("/v1/accounts/acme/grants", body).json()
            clock += timedelta(hours=1)
            lapsed = operator.get("/v1/accounts/acme/balance").json()
            clock += timedelta(hours=24)
            broken = operator.get("/v1/accounts/acme/balance").json()

    assert granted["recorded_at"] == "2026-11-01T12:00:00.000000Z"
    assert (lapsed["available"], lapsed["lapsed"], lapsed["settled"]) == ("0", "10", "10")
    assert (broken["lapsed"], broken["settled"], broken["version"]) == ("0", "0", 2)


def test_a_statement_that_is_behind_says_so_and_is_waited_for(database_url: str, tmp_path: Any) -> None:
    """I25."""
    with Wiring(Settings(database_url=database_url, state_directory=tmp_path)) as wiring:
        key, _ = wiring.keys.create("tester", "break-glass", timedelta(hours=8))
        with serving(wiring.api()) as http:
            operator = Caller(http, key)
            opened(PostgresWorld(wiring, operator))
            path = "/v1/accounts/acme/statement"

            behind_it = operator.get(path).json()
            refused = operator.get(path, min_version=2)
            with ThreadPoolExecutor(1) as threads:
                waiting = threads.submit(operator.get, path, min_version=2)
                ProjectorLoop(wiring.shards).catch_up()
                caught_up = waiting.result().json()

    assert (behind_it["version"], behind_it["data"]) == (0, [])
    assert (refused.status_code, refused.json()["code"], refused.json()["version"]) == (
        409,
        "version_not_reached",
        0,
    )
    assert (caught_up["version"], len(caught_up["data"])) == (2, 1)


def test_a_key_that_was_revoked_opens_nothing_after_five_seconds(database_url: str, tmp_path: Any) -> None:
    import time

    with Wiring(Settings(database_url=database_url, state_directory=tmp_path)) as wiring:
        text, stored = wiring.keys.create("auditor of the house", "auditor")
        with serving(wiring.api()) as http:
            auditor = Caller(http, text)
            before = auditor.get("/v1/rate-cards")
            wiring.keys.revoke(stored.key_id)
            time.sleep(3.2)
            after = auditor.get("/v1/rate-cards")

    assert (before.status_code, after.status_code) == (200, 401)


def test_a_principal_has_at_most_two_live_keys_of_one_role(database_url: str, tmp_path: Any) -> None:
    from domain.errors import Refused

    with Wiring(Settings(database_url=database_url, state_directory=tmp_path)) as wiring:
        first, _ = wiring.keys.create("pipeline", "auditor")
        wiring.keys.create("pipeline", "auditor")
        with pytest.raises(Refused, match="2 live keys"):
            wiring.keys.create("pipeline", "auditor")
        with pytest.raises(Refused, match="one principal has one role"):
            wiring.keys.create("pipeline", "break-glass", timedelta(hours=8))
        kept = wiring.keys.all()

    assert len(kept) == 2
    secret = first.rpartition("_")[2]
    assert all(secret.encode()[:20] not in key.secret_mac for key in kept)
    assert {key.role for key in kept} <= set(ROLES)


def test_the_api_over_a_migrated_database_is_alive_and_ready(tmp_path: Any, database_url: str) -> None:
    settings = Settings(database_url=database_url, state_directory=tmp_path)
    with Wiring(settings) as wiring, serving(wiring.api()) as http:
        alive, ready = http.get("/livez"), http.get("/readyz")

    assert (alive.status_code, ready.status_code) == (200, 200)
