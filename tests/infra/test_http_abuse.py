"""Floods and bombs against the server as a process: refused before they are read, memory flat, nobody else kept outside."""

from __future__ import annotations

import gzip
import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

import httpx
import psutil
import psycopg
import pytest
from psycopg.sql import Composable

from infra.http import CONNECTIONS_MAX
from infra.settings import Settings
from infra.wiring import Wiring
from tests.api.asking import BODIES, PARAMS, PATH
from tests.api.conftest import Caller
from tests.api.test_hostile_texts import places_of, with_text
from tests.api.test_roles import ROUTES
from tests.asgi import serving
from tests.builders import TESTER, a_plan, unit_card
from tests.serving import HOST, Served, serving_process

FLAT = 30 * 2**20
"""By so much the memory of the server may grow under a flood, in bytes: less than one of the bombs would take."""

ENDLESS = 64 * 2**20
"""So much is sent of a body without end, unless the server hangs up before; sockets hold some of it."""

POST = b"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


@pytest.fixture(scope="module")
def served(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for all floods."""
    with serving_process(module_database_url, tmp_path_factory.mktemp("abused")) as running:
        yield running


def memory_of(served: Served) -> int:
    """Bytes that the server has in memory."""
    resident: int = psutil.Process(served.process.pid).memory_info().rss
    return resident


def statuses(served: Served, since: int) -> list[int]:
    """What was answered, by the log, in the lines after so many bytes of it."""
    lines = [json.loads(line) for line in served.log.read_bytes()[since:].splitlines()]
    return [line["status"] for line in lines if line["event"] == "request_answered"]


def pushed(served: Served, head: bytes, chunk: bytes) -> int:
    """How many bytes of a body without end could be sent before the server hung up."""
    sent = 0
    with closing(socket.create_connection((HOST, served.port), timeout=10)) as client, suppress(OSError):
        client.sendall(head)
        while sent < ENDLESS:
            client.sendall(chunk)
            sent += len(chunk)
    return sent


@pytest.mark.parametrize("path", [b"/v1/accounts", b"/v1/usage-records", b"/v1/accounts/acme/grants"])
def test_a_chunked_body_without_end_is_refused_and_memory_stays_flat_a9(served: Served, path: bytes) -> None:
    """A9, I24."""
    head = POST.replace(b"/v1/accounts", path) + b"Transfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    pushed(served, head, chunk)
    before, since = memory_of(served), served.log.stat().st_size

    sent = [pushed(served, head, chunk) for _ in range(5)]

    assert max(sent) < ENDLESS
    assert memory_of(served) - before < FLAT
    assert httpx.get(f"{served.url}/livez").status_code == 200
    until = time.monotonic() + 10
    while (refused := statuses(served, since).count(413)) < 5 and time.monotonic() < until:
        time.sleep(0.05)
    assert refused == 5


@pytest.mark.parametrize(
    "chunk", [b"1\r\nx\r\n", b"1;" + b"e" * 100 + b"\r\nx\r\n"], ids=["tiny chunks", "chunk extensions"]
)
def test_a_body_in_tiny_pieces_without_end_is_refused_too_a9(served: Served, chunk: bytes) -> None:
    """A9, I24."""
    before = memory_of(served)

    sent = pushed(served, POST + b"Transfer-Encoding: chunked\r\n\r\n", chunk * 8_192)

    assert sent < ENDLESS
    assert memory_of(served) - before < FLAT


def test_a_bomb_is_not_unpacked_a9(served: Served) -> None:
    """A9: compressed bodies are refused by their header; without it they are bytes that are no JSON."""
    bomb = gzip.compress(b"0" * 50_000_000)
    assert len(bomb) < 60_000
    before = memory_of(served)
    sent = served.headers | {"Content-Type": "application/json", "Idempotency-Key": "bomb"}

    answers = [
        httpx.post(f"{served.url}/v1/accounts", content=bomb, headers=sent | encoding)
        for encoding in ({"Content-Encoding": "gzip"}, {"Content-Encoding": "br, gzip"}, {})
        for _ in range(5)
    ]
    transferred = served.raw(POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n")

    assert [answer.status_code for answer in answers] == [415] * 10 + [422] * 5
    assert transferred[9:12] in {b"400", b"501"}, transferred[:80]
    assert memory_of(served) - before < FLAT


@pytest.mark.parametrize("filters", [600, 3_000, 10_000])
def test_ten_thousand_filters_are_refused_before_they_are_read_a8(served: Served, filters: int) -> None:
    """A8, I24."""
    before = memory_of(served)
    asked = b"GET /v1/accounts/acme/statement?" + b"action=a&" * filters + b" HTTP/1.1\r\nHost: x\r\n\r\n"

    answers = [served.raw(asked) for _ in range(10)]

    # The reader of heads may hang up before it has said why.
    assert {answer[9:12] for answer in answers} <= {b"400", b"431", b""}
    assert memory_of(served) - before < FLAT


SLOW = (
    b"",
    b"GET /v1/rate-cards HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    b"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
)
"""Silent; in the middle of a head; in the middle of a body; answered, and the answer not taken."""


def test_thousands_of_silent_and_slow_clients_keep_nobody_outside_a10(served: Served) -> None:
    """A10, I18, I24: each of the others is answered, none is told to come again, and connections stay within their bound."""
    wanted = 5_000 + 500
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    many = min(5_000, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - 500)
    assert many > CONNECTIONS_MAX, "fewer than are allowed would prove nothing"
    before = memory_of(served)
    clients: list[socket.socket] = []
    answers: list[int] = []
    try:
        for number in range(many):
            client = socket.create_connection((HOST, served.port), timeout=10)
            clients.append(client)
            with suppress(OSError):
                client.sendall(SLOW[number % len(SLOW)])
            if number % 250 == 249:
                answers.append(
                    httpx.get(f"{served.url}/v1/rate-cards", headers=served.headers, timeout=30).status_code
                )
        kept = len(psutil.Process(served.process.pid).net_connections("tcp"))
        answers += [
            httpx.get(f"{served.url}/v1/rate-cards", headers=served.headers, timeout=30).status_code
            for _ in range(20)
        ]
    finally:
        for client in clients:
            client.close()

    assert answers == [200] * (many // 250 + 20)
    assert kept <= CONNECTIONS_MAX + 50
    assert memory_of(served) - before < 4 * FLAT


# --- A11: what reaches the database ---


class Watched:
    """Notes the text of every statement that a cursor runs."""

    seen: ClassVar[list[str]] = []

    @classmethod
    def note(cls, query: object) -> None:
        """The statement is run."""
        if isinstance(query, bytes):
            cls.seen.append(query.decode(errors="replace"))
        else:
            cls.seen.append(query.as_string(None) if isinstance(query, Composable) else str(query))


@pytest.fixture
def statements(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every statement that this process sends to a database from now on, without its parameters."""
    Watched.seen.clear()

    def watching(method: Any) -> Any:
        def watched(self: Any, query: object, *given: Any, **named: Any) -> Any:
            Watched.note(query)
            return method(self, query, *given, **named)

        return watched

    for kind in (psycopg.Cursor, psycopg.AsyncCursor, psycopg.ServerCursor):
        for name in ("execute", "executemany", "copy"):
            if name in vars(kind) or kind is not psycopg.ServerCursor:
                monkeypatch.setattr(kind, name, watching(getattr(kind, name)))
    return Watched.seen


MARK = "zq7_9x"
INJECTED = (MARK, f"{MARK}'; DROP TABLE ledger_events; -- %s $1 \\")


def test_what_callers_send_reaches_the_database_as_parameters_only_a11(
    database_url: str, tmp_path: Path, statements: list[str]
) -> None:
    """A11: whatever stands in paths, parameters, headers and every text of every body, no statement has it."""
    settings = Settings(database_url=database_url, state_directory=tmp_path, requests_per_second_max=0)
    with Wiring(settings) as wiring:
        wiring.catalogue.publish(unit_card(), TESTER)
        wiring.catalogue.publish_plan(a_plan("studio", 300), TESTER)
        key, _ = wiring.keys.create("tester", "break-glass", timedelta(hours=8))
        with serving(wiring.api()) as http:
            operator = Caller(http, key)
            assert operator.post("/v1/accounts", {"team_id": "acme"}).status_code == 201
            assert operator.post("/v1/accounts/acme/grants", BODIES["grant_credits"]).status_code == 201
            statements.clear()
            answered = [
                answer.status_code
                for text in INJECTED
                for name in ROUTES
                if name not in {"close_account", "suspend_account", "stream_balance"}
                for answer in _asked(operator, name, text)
            ]

    assert len(answered) > 1_000
    # Without a broker, what is to be sent on to one is told to come again.
    assert max(status for status in answered if status != 503) < 500
    assert sum(status < 300 for status in answered) > 100, (
        "some of it is taken, so that it comes to be written"
    )
    assert len(statements) > 1_000
    assert [each for each in statements if MARK in each] == []


def _asked(operator: Caller, name: str, text: str) -> Iterator[httpx.Response]:
    """The route with the text in each place, one after the other."""
    route = ROUTES[name]
    method = sorted(route.methods or [])[0]
    body, params = BODIES.get(name), PARAMS.get(name, {})
    path = route.path_format.format(**PATH)

    def send(where: str, content: Any, asked: dict[str, str], **headers: str) -> httpx.Response:
        key = {"Idempotency-Key": MARK + str(abs(hash((name, text, str(content)))))}
        return operator.http.request(
            method, where, json=content, params=asked, headers=operator.headers | key | headers
        )

    for place in places_of(body):
        yield send(path, with_text(body, place, text), params)
    if isinstance(body, dict):
        yield send(path, body | {"reason": text}, params)
    for each in {*params, "member", "project", "work", "q"}:
        yield send(path, body, params | {each: text})
    for each in PATH:
        if f"{{{each}}}" in route.path_format:
            filled = {**PATH, each: quote(text, safe="")}
            yield send(route.path_format.format(**filled), body, params)
