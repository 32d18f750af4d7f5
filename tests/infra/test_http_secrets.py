"""What a server must never say, in logs, answers, figures or rows; lines that always parse; keys that are dead everywhere."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psycopg
import pytest
from psycopg import sql

from api.keys import CACHE_SECONDS_MAX
from infra.settings import Settings
from infra.wiring import Wiring
from tests.api.asking import BODIES
from tests.conftest import database_of
from tests.serving import Served, serving_process

CANARIES = {
    "pepper": "canary-pepper-5f1c0a7be2d94c6d8b30",
    "quote key": "canary-quote-key-91b7d3e05ac84f62",
    "signing secret": "canary-signing-secret-7de04b1f5a29",
    "bearer token": "canary.bearer.0c55e1f2b7",
    "well-formed key": "cof_live_canary000000_" + "Z" * 43 + "000000",
    "cookie": "canary-cookie-aa41f6",
    "password in a body": "canary-password-3bd27",
    "card number": "4111111111111111",
}
LINE_BYTES_MAX = 8_000
"""A line of the log is shorter, whatever is sent."""


@pytest.fixture(scope="module")
def served(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose secrets are canaries."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("COFFER_KEY_PEPPER", CANARIES["pepper"])
        patched.setenv("COFFER_QUOTE_KEYS", CANARIES["quote key"])
        patched.setenv("COFFER_SIGNING_SECRET", CANARIES["signing secret"])
        with serving_process(module_database_url, tmp_path_factory.mktemp("secret")) as running:
            yield running


def post(served: Served, path: str, body: Any, key: str, **headers: str) -> httpx.Response:
    """A command."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(
        f"{served.url}{path}", json=body, headers=served.headers | {"Idempotency-Key": key} | sent, timeout=30
    )


def everything_stored(database_url: str) -> str:
    """Every row of every table, as text; bytes as what they say."""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            "SELECT quote_ident(schemaname) || '.' || quote_ident(tablename) FROM pg_tables"
            " WHERE schemaname NOT IN ('pg_catalog', 'information_schema')"
        ).fetchall()
        told = []
        for (table,) in tables:
            cursor = connection.execute(f"SELECT * FROM {table}".encode())
            told += [_text(value) for row in cursor for value in row]
    return "\n".join(told)


def _text(value: object) -> str:
    return (
        bytes(value).decode("utf-8", "replace")
        if isinstance(value, bytes | bytearray | memoryview)
        else str(value)
    )


def test_no_secret_is_said_anywhere_a13(served: Served, module_database_url: str) -> None:
    """A13, I23: sent in headers and refused bodies, set in the environment, in the address of the database, met in exceptions."""
    canaries = CANARIES | {"the caller's key": served.key.rpartition("_")[2]}
    password = urlsplit(module_database_url).password
    if password:
        canaries["password of the database"] = password
    answers = _things_go_well(served) + _strangers_ask(served) + _bodies_are_refused(served)
    answers += _the_database_fails(served, module_database_url)
    figures = _figures(served)

    places = {
        "log": served.log.read_text(),
        "rows": everything_stored(module_database_url),
        "answers": "\n".join(f"{answer.headers} {answer.text}" for answer in answers),
        "figures": figures.text,
    }
    assert figures.status_code == 200
    assert {answer.status_code for answer in answers} >= {200, 201, 401, 422, 500, 503}
    assert "request_failed" in places["log"], "an exception was logged with its traceback"
    assert "CreditsGranted" in places["rows"], "events were looked through"
    assert len(places["figures"]) > 1_000
    said = [
        (name, place)
        for name, canary in canaries.items()
        for place, text in places.items()
        if canary in text or canary.encode().hex() in text
    ]
    assert said == []


def _figures(served: Served) -> httpx.Response:
    """The figures of the server, once it has reached its database again."""
    until = time.monotonic() + 30
    while True:
        figures = httpx.get(f"{served.url}/metrics", headers=served.headers, timeout=30)
        if figures.status_code == 200 or time.monotonic() > until:
            return figures
        time.sleep(0.2)


def _things_go_well(served: Served) -> list[httpx.Response]:
    cookie = {"Cookie": f"session={CANARIES['cookie']}"}
    return [
        post(served, "/v1/accounts", {"team_id": "acme"}, "open", **cookie),
        post(served, "/v1/accounts/acme/grants", BODIES["grant_credits"], "grant", **cookie),
        post(served, "/v1/accounts/acme/works", BODIES["start_work"], "work"),
        httpx.get(f"{served.url}/v1/accounts/acme/balance", headers=served.headers | cookie),
    ]


def _strangers_ask(served: Served) -> list[httpx.Response]:
    path = f"{served.url}/v1/accounts/acme/balance"
    sent = (
        f"Bearer {CANARIES['bearer token']}",
        f"Bearer {CANARIES['well-formed key']}",
        f"Basic {CANARIES['bearer token']}",
        CANARIES["bearer token"],
    )
    return [httpx.get(path, headers={"Authorization": each, "X-Api-Key": each}) for each in sent]


def _bodies_are_refused(served: Served) -> list[httpx.Response]:
    password, number = CANARIES["password in a body"], CANARIES["card number"]
    raw = served.headers | {"Idempotency-Key": "raw", "Content-Type": "application/json"}
    return [
        post(served, "/v1/accounts/acme/grants", {"amount": "1", "reason": "x", "password": password}, "r1"),
        post(
            served, "/v1/accounts/acme/payment-method", BODIES["set_payment_method"] | {"token": number}, "r2"
        ),
        post(
            served,
            "/v1/accounts/acme/grants",
            {"amount": "1", "reason": f"card {number[:4]} {number[4:]}"},
            "r3",
        ),
        httpx.post(
            f"{served.url}/v1/accounts/acme/grants",
            content=f'{{"password": "{password}"'.encode(),
            headers=raw,
        ),
    ]


def _the_database_fails(served: Served, database_url: str) -> list[httpx.Response]:
    """A table is away, so a statement fails; then nobody can connect, so the address is tried in vain."""
    path, answers = f"{served.url}/v1/accounts/acme/balance", []
    name = sql.Identifier(database_of(database_url))
    time.sleep(CACHE_SECONDS_MAX + 0.2)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE api_key RENAME TO api_key_away")
        try:
            answers.append(httpx.get(path, headers=served.headers))
        finally:
            connection.execute("ALTER TABLE api_key_away RENAME TO api_key")
    with psycopg.connect(
        database_url.replace(database_of(database_url), "postgres"), autocommit=True
    ) as admin:
        admin.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS false").format(name))
        try:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
                (database_of(database_url),),
            )
            answers += [httpx.get(path, headers=served.headers, timeout=60) for _ in range(3)]
        finally:
            admin.execute(sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS true").format(name))
    return answers


HOSTILE = [
    "a\r\nb",
    "\x1b[31mred\x1b[0m",
    "\u202eevil",
    "\u2028\u0085\x9b31m",
    "%s%n%x",
    '"}\n{"event": "forged"',
    "x" * 900_000,
]


def test_whatever_is_sent_a_line_of_the_log_is_one_object_of_plain_characters_and_bounded_a12(
    served: Served,
) -> None:
    """A12, I23: in paths, parameters, headers and bodies, well formed or not."""
    since = served.log.stat().st_size
    asked = 0
    for number, text in enumerate(HOSTILE):
        short = "".join(f"%{byte:02X}" for byte in text.encode()[:900])
        for target in (
            f"/v1/accounts/{short}/balance",
            f"/{short}",
            f"/v1/accounts/acme/statement?member={short}",
        ):
            served.raw(
                f"GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.key}\r\nConnection: close\r\n\r\n".encode()
            )
            asked += 1
        plain = (
            text.encode("ascii", "ignore").replace(b"\r", b"").replace(b"\n", b"").replace(b"\x1b", b"")[:900]
        )
        served.raw(
            b"GET /v1/rate-cards HTTP/1.1\r\nHost: x\r\nX-Request-ID: "
            + plain
            + b"\r\nConnection: close\r\n\r\n"
        )
        asked += 1
        for field in ("reason", "amount", "project"):
            body = {"amount": "1", "reason": "x", field: text}
            answer = post(served, "/v1/accounts/acme/grants", body, f"a12-{number}-{field}")
            assert answer.status_code < 500, answer.text
            asked += 1

    lines = _lines(served, since, asked)

    told = [json.loads(line) for line in lines]
    assert sum(each["event"] == "request_answered" for each in told) == asked
    assert {"forged"}.isdisjoint(each["event"] for each in told)
    assert all(line.isascii() and line.isprintable() for line in lines)
    assert max(map(len, lines)) < LINE_BYTES_MAX


def _lines(served: Served, since: int, asked: int) -> list[str]:
    """The log from there on, once it tells of so many requests; an answer is heard a moment before its line is written."""
    until = time.monotonic() + 10
    while True:
        lines = served.log.read_bytes()[since:].decode().split("\n")[:-1]
        if sum('"request_answered"' in line for line in lines) >= asked or time.monotonic() > until:
            return lines
        time.sleep(0.05)


def test_a_key_that_is_revoked_is_dead_in_every_server_within_five_seconds_a15(
    database_url: str, tmp_path: Path
) -> None:
    """A15: a key of a service and one of a member, in a server that was just asked with both and in another one."""
    with (
        serving_process(database_url, tmp_path, name="one") as one,
        serving_process(database_url, tmp_path, key=one.key, name="other") as other,
        Wiring(Settings(database_url=database_url, state_directory=tmp_path)) as wiring,
    ):
        auditor, stored = wiring.keys.create("auditor of the house", "auditor")
        assert post(one, "/v1/accounts", {"team_id": "acme"}, "open").status_code == 201
        owner, made = _an_owner(one, wiring)
        tried = [(server, key) for server in (one, other) for key in (auditor, owner)]
        assert [_status(*each) for each in tried] == [200] * 4

        wiring.keys.revoke(stored.key_id)
        revoked = post(one, f"/v1/accounts/acme/keys/{made}/revocation", {}, "revoke")
        began = time.monotonic()
        with ThreadPoolExecutor(len(tried)) as threads:
            took = list(threads.map(lambda each: _seconds_until_dead(each[0], each[1], began), tried))
        time.sleep(0.5)

        assert revoked.status_code == 201, revoked.text
        assert max(took) <= 5, took
        assert [_status(*each) for each in tried] == [401] * 4
        assert [_status(server, one.key) for server in (one, other)] == [200, 200]


def _an_owner(served: Served, wiring: Wiring) -> tuple[str, str]:
    """The key of an owner of the team, and its id."""
    from api.keys import Parts, StoredKey, key_text, new_key, secret_mac
    from domain.commands import CreateKey
    from domain.ledger import Caller

    olga = post(served, "/v1/accounts/acme/members", {"member": "olga", "role": "owner"}, "olga")
    assert olga.status_code == 201, olga.text
    command = CreateKey(team_id="acme", member="olga")
    told = wiring.ledger.execute(command, Caller("founder", "operator"), "key of olga")
    assert told.key_id is not None
    parts = Parts(told.key_id, new_key().secret)
    stored = StoredKey(
        key_id=told.key_id,
        name="team acme",
        role="team",
        secret_mac=secret_mac(wiring.pepper, parts.secret),
        created_at=told.recorded_at,
        team_id="acme",
    )
    assert wiring.keys.add(stored)
    return key_text(parts), told.key_id


def _status(served: Served, key: str) -> int:
    return httpx.get(
        f"{served.url}/v1/accounts/acme/balance", headers={"Authorization": f"Bearer {key}"}
    ).status_code


def _seconds_until_dead(served: Served, key: str, began: float) -> float:
    while _status(served, key) != 401:
        assert time.monotonic() - began < 30, "it lives on"
        time.sleep(0.1)
    return time.monotonic() - began
