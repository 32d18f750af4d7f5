"""A command happens once under its key: asked by fifty at once, with two bodies at once, and across a crash at any place."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from domain.commands import OpenAccount
from domain.ledger import Caller
from infra.failpoints import OF_COMMANDS, VARIABLE
from infra.settings import Settings
from infra.wiring import Wiring
from tests.infra.stored import rows
from tests.serving import Served, serving_process

CALLERS = 50
BUSY_MAX = 20
"""How often a caller that is told to ask again does."""

GRANTED = "SELECT version, settled_micros FROM account_balance WHERE team_id = %s"
EVENTS = "SELECT count(*) FROM ledger_events WHERE topic LIKE 'CreditsGranted%%'"
KEYS = "SELECT count(*) FROM idempotency WHERE key = %s"
Send = Callable[[httpx.Client], httpx.Response]


@pytest.fixture(scope="module")
def served(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for the tests that leave it running."""
    with serving_process(module_database_url, tmp_path_factory.mktemp("once")) as running:
        yield running


def a_team(served: Served, team_id: str) -> None:
    """The team has an account."""
    sent = served.headers | {"Idempotency-Key": "open"}
    answer = httpx.post(f"{served.url}/v1/accounts", json={"team_id": team_id}, headers=sent)
    assert answer.status_code == 201, answer.text


def grant(served: Served, team_id: str, key: str, amount: str = "7") -> Send:
    """A grant under a key, which is sent again as long as the server is busy."""

    def send(client: httpx.Client) -> httpx.Response:
        for _ in range(BUSY_MAX):
            answer = client.post(
                f"{served.url}/v1/accounts/{team_id}/grants",
                json={"amount": amount, "reason": "goodwill"},
                headers=served.headers | {"Idempotency-Key": key},
            )
            if answer.status_code != 503:
                return answer
            assert answer.json()["code"] == "busy"
        raise AssertionError(f"busy {BUSY_MAX} times")

    return send


def together(sends: list[Send]) -> list[httpx.Response]:
    """What is answered to callers who all ask at the same moment, each on a connection of its own."""
    start = threading.Barrier(len(sends))
    limits = httpx.Limits(max_connections=len(sends), max_keepalive_connections=len(sends))
    with httpx.Client(timeout=60, limits=limits) as client, ThreadPoolExecutor(len(sends)) as threads:

        def one(send: Send) -> httpx.Response:
            start.wait()
            return send(client)

        return list(threads.map(one, sends))


def test_fifty_callers_at_once_with_one_key_and_body_are_one_effect_and_fifty_equal_answers_a1(
    served: Served, module_database_url: str
) -> None:
    """A1, I14."""
    a_team(served, "alike")
    before = rows(module_database_url, EVENTS)[0][0]

    answers = together([grant(served, "alike", "once")] * CALLERS)

    assert [answer.status_code for answer in answers] == [201] * CALLERS
    assert len({answer.content for answer in answers}) == 1
    assert sum("idempotent-replayed" not in answer.headers for answer in answers) == 1
    assert rows(module_database_url, GRANTED, "alike") == [(2, 7_000_000)]
    assert rows(module_database_url, EVENTS) == [(before + 1,)]
    assert rows(module_database_url, KEYS, "once") == [(1,)]


def test_of_two_bodies_under_one_key_at_once_one_happens_and_the_other_writes_nothing_a2(
    served: Served, module_database_url: str
) -> None:
    """A2, I14, I15: whoever comes first is answered, and so are all who ask the same; the rest meet 409."""
    a_team(served, "torn")
    before = rows(module_database_url, EVENTS)[0][0]
    bodies = ["3", "5"]

    answers = together([grant(served, "torn", "torn", bodies[number % 2]) for number in range(CALLERS)])

    told = {body: answers[place::2] for place, body in enumerate(bodies)}
    [won] = [body for body, each in told.items() if each[0].status_code == 201]
    [lost] = set(bodies) - {won}
    assert {answer.content for answer in told[won]} == {told[won][0].content}
    assert {answer.status_code for answer in told[won]} == {201}
    assert {(answer.status_code, answer.json()["code"]) for answer in told[lost]} == {
        (409, "idempotency_key_reused")
    }
    assert rows(module_database_url, GRANTED, "torn") == [(2, int(won) * 1_000_000)]
    assert rows(module_database_url, EVENTS) == [(before + 1,)]
    assert rows(module_database_url, KEYS, "torn") == [(1,)]


@pytest.mark.parametrize("place", OF_COMMANDS)
def test_a_server_that_dies_between_effect_and_answer_answers_the_same_request_later_a3(
    database_url: str, tmp_path: Path, place: str
) -> None:
    """A3, I5, I14, I15: before the commit nothing happened, after it all of it did, and never twice."""
    with Wiring(Settings(database_url=database_url, state_directory=tmp_path)) as wiring:
        wiring.ledger.execute(OpenAccount(team_id="acme"), Caller("founder", "operator"), "open")
    with serving_process(database_url, tmp_path, name="dying", more={VARIABLE: place}) as dying:
        with httpx.Client(timeout=20) as client, pytest.raises(httpx.TransportError):
            grant(dying, "acme", "g")(client)
        assert dying.process.wait(20) == -signal.SIGKILL, dying.log.read_text()
    happened = place == "command.after_commit"
    assert rows(database_url, KEYS, "g") == [(int(happened),)]
    assert rows(database_url, EVENTS) == [(int(happened),)]

    with serving_process(database_url, tmp_path, key=dying.key) as served, httpx.Client() as client:
        answers: list[Any] = [grant(served, "acme", "g")(client) for _ in range(2)]
        other = grant(served, "acme", "g", "8")(client)

    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].content == answers[1].content
    assert ["idempotent-replayed" in answer.headers for answer in answers] == [happened, True]
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    assert rows(database_url, GRANTED, "acme") == [(2, 7_000_000)]
    assert rows(database_url, EVENTS) == [(1,)]


def test_a_command_that_failed_inside_leaves_no_key_a3(served: Served, module_database_url: str) -> None:
    """A3, I15: the database refuses the write itself; once it does not, the same request under the same key happens."""
    a_team(served, "failing")
    rows_sql = "ALTER TABLE ledger_events {} CONSTRAINT no_more {}"
    change(module_database_url, rows_sql.format("ADD", "CHECK (false) NOT VALID"))
    with httpx.Client() as client:
        try:
            failed = grant(served, "failing", "f")(client)
        finally:
            change(module_database_url, rows_sql.format("DROP", ""))
        kept = rows(module_database_url, KEYS, "f")
        done = grant(served, "failing", "f")(client)

    assert failed.status_code == 500, failed.text
    assert kept == [(0,)]
    assert (done.status_code, "idempotent-replayed" in done.headers) == (201, False)
    assert rows(module_database_url, GRANTED, "failing") == [(2, 7_000_000)]


def change(database_url: str, statement: str) -> None:
    """The statement was run by the owner of the database."""
    import psycopg

    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement.encode())
