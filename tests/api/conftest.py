"""The API over a ledger in memory, with a key for every role and a clock that a test sets."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
import structlog

from api.app import Behind, create_api
from api.gate import Gate
from api.keys import KeyRing, Parts, StoredKey, key_text, new_key, secret_mac
from api.live import Streams
from api.roles import SERVICE_ROLES
from domain.commands import AddMember, CreateKey, MemberRole
from domain.ledger import Caller as LedgerCaller
from domain.ledger import Ledger
from infra.signing import SigningKey
from tests.asgi import Http, serving
from tests.builders import unit_card
from tests.memory_catalogue import MemoryCatalogue
from tests.memory_intake import MemoryIntake
from tests.memory_invoices import MemoryInvoices
from tests.memory_letters import MemoryLetters
from tests.memory_spending import MemorySpending
from tests.memory_store import MemoryLedger
from tests.memory_works import MemoryWorks

PEPPER = b"pepper of the tests, at least thirty-two bytes"
SIGNING_KEY = SigningKey(b"signing secret of the tests, at least thirty-two bytes")
QUOTE_KEYS = [b"quote key of the tests, at least thirty-two bytes"]


@pytest.fixture(scope="session", autouse=True)
def plain_logs() -> Iterator[None]:
    """Log lines are JSON, as in production; the library's default paints tracebacks with every local, which takes seconds."""
    structlog.configure(
        [
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def stage() -> Iterator[tuple[MemoryLedger, Http]]:
    """One ledger and one API for all tests, which takes a while to build; ``ledger`` clears it for each."""
    memory = MemoryLedger()
    # Nothing is believed for longer than a request, because the ledger is another one for each test.
    ring = KeyRing(memory, PEPPER, now=lambda: memory.now, elapsed=count(step=10).__next__)
    built = behind(memory)
    gate = Gate(ring, built.ledger, now=lambda: memory.now)
    memory.when_cleared = gate.forget
    with serving(create_api(built, gate=gate, streams=Streams(0.01, 0.03, 0.1), wait_seconds=0.05)) as client:
        yield memory, client


@pytest.fixture
def ledger(stage: tuple[MemoryLedger, Http]) -> MemoryLedger:
    """An empty ledger in memory on which one unit of image.generate costs one credit."""
    memory, _ = stage
    memory.clear()
    memory.publish(unit_card())
    return memory


def behind(memory: MemoryLedger) -> Behind:
    """Everything that the API needs, from the one object."""
    ledger = Ledger(memory, memory.current, QUOTE_KEYS, SIGNING_KEY)
    invoices = MemoryInvoices(memory)
    return Behind(
        ledger,
        memory,
        memory,
        memory,
        memory,
        memory,
        PEPPER,
        QUOTE_KEYS,
        invoices,
        invoices,
        works=MemoryWorks(memory),
        signing_key=SIGNING_KEY,
        spending=MemorySpending(memory),
        intake=MemoryIntake(),
        publishing=MemoryCatalogue(memory),
        letters=MemoryLetters(),
        streams=MemoryLetters(),
    )


def give_key(memory: MemoryLedger, role: str, name: str | None = None, **changes: Any) -> str:
    """A live key of a role, as its owner would send it."""
    parts = new_key()
    memory.keys[parts.key_id] = StoredKey(
        key_id=parts.key_id,
        name=name or f"the {role}",
        role=role,
        secret_mac=secret_mac(PEPPER, parts.secret),
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        **changes,
    )
    return key_text(parts)


def give_member_key(memory: MemoryLedger, team_id: str, member: str, role: MemberRole, **terms: Any) -> str:
    """A live key of a member of a team, who joins it in the role unless already in it."""
    desk = Ledger(memory, memory.current, QUOTE_KEYS)
    founder = LedgerCaller("the founder", "operator")
    if member not in memory.teams[team_id].paperwork.members:
        desk.execute(AddMember(team_id=team_id, member=member, role=role), founder, f"join {member}")
    made = f"key {len(memory.keys)}"
    key_id = desk.execute(CreateKey(team_id=team_id, member=member, **terms), founder, made).key_id
    assert key_id is not None
    parts = Parts(key_id, new_key().secret)
    memory.keys[key_id] = StoredKey(
        key_id=key_id,
        name=f"team {team_id}",
        role="team",
        secret_mac=secret_mac(PEPPER, parts.secret),
        created_at=memory.now,
        team_id=team_id,
    )
    return key_text(parts)


class Caller:
    """Sends requests with one key; every command gets a fresh idempotency key unless it is given one."""

    def __init__(self, http: Http, key: str | None) -> None:
        self.http = http
        self.headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._sent = 0

    def get(self, path: str, **params: Any) -> Any:
        """A read."""
        return self.http.get(path, params=params, headers=self.headers)

    def post(self, path: str, body: Any, key: str | None = None) -> Any:
        """A command."""
        self._sent += 1
        return self.http.post(
            path, json=body, headers={**self.headers, "Idempotency-Key": key or f"fresh-{self._sent}"}
        )


@pytest.fixture
def http(stage: tuple[MemoryLedger, Http], ledger: MemoryLedger) -> Http:
    """A client without a key, of the API over the ledger."""
    return stage[1]


@pytest.fixture
def operator(http: Http, ledger: MemoryLedger) -> Caller:
    """A caller who may do everything alone, on every team."""
    return Caller(http, give_key(ledger, "break-glass", "the operator"))


@pytest.fixture
def callers(http: Http, ledger: MemoryLedger) -> dict[str, Caller]:
    """A caller of every role of services, and one without a key under the name 'nobody'."""
    return {role: Caller(http, give_key(ledger, role)) for role in SERVICE_ROLES} | {
        "nobody": Caller(http, None)
    }


@pytest.fixture
def acme(operator: Caller) -> Caller:
    """A caller who may do everything, once team acme has an account with 100 credits."""
    assert operator.post("/v1/accounts", {"team_id": "acme"}).status_code == 201
    granted = operator.post("/v1/accounts/acme/grants", {"amount": "100", "reason": "a start"})
    assert granted.status_code == 201, granted.text
    return operator
