"""The API as a process: real sockets, hostile clients, and an end that leaves nobody without an answer."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.serving import HOST, Served, serving_process


@pytest.fixture(scope="module")
def served(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """One server for the tests that leave it running."""
    with serving_process(module_database_url, tmp_path_factory.mktemp("serve")) as running:
        yield running


def test_headers_without_end_are_refused_and_memory_stays_flat(served: Served) -> None:
    """A9, I24."""
    before = psutil.Process(served.process.pid).memory_info().rss
    many = b"".join(b"X-%d: y\r\n" % number for number in range(10_000))

    answers = [served.raw(b"GET /livez HTTP/1.1\r\nHost: x\r\n" + many + b"\r\n") for _ in range(20)]

    assert all(b" 400 " in answer[:20] or b" 431 " in answer[:20] or answer == b"" for answer in answers)
    assert psutil.Process(served.process.pid).memory_info().rss - before < 30 * 2**20


def test_a_gigabyte_is_refused_before_it_is_sent(served: Served) -> None:
    """A9, I24."""
    head = b"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1073741824\r\n\r\n"

    answer = served.raw(head + b"{")

    assert b" 413 " in answer[:20]
    assert b"body_too_large" in answer


def test_a_command_whose_client_went_away_in_the_middle_does_not_happen(served: Served) -> None:
    body = b'{"team_id": "half-said"}'
    head = (
        f"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {served.key}\r\nIdempotency-Key: k\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body) + 1}\r\n\r\n"
    )

    with closing(socket.create_connection((HOST, served.port))) as client:
        client.sendall(head.encode() + body)
    time.sleep(0.5)

    answer = httpx.get(f"{served.url}/v1/accounts/half-said", headers=served.headers)
    assert answer.status_code == 404


def test_bytes_that_are_no_http_are_refused(served: Served) -> None:
    assert b" 400 " in served.raw(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")[:20]
    assert httpx.get(f"{served.url}/livez").status_code == 200


def test_slow_clients_do_not_slow_the_others(served: Served) -> None:
    """A10, I18."""
    slow = [socket.create_connection((HOST, served.port)) for _ in range(200)]
    for client in slow:
        client.sendall(b"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{")

    took = []
    for _ in range(20):
        began = time.monotonic()
        assert httpx.get(f"{served.url}/v1/rate-cards", headers=served.headers).status_code == 200
        took.append(time.monotonic() - began)
    for client in slow:
        client.close()

    assert sorted(took)[10] < 1.0


def test_every_log_line_is_one_json_object_without_the_key(served: Served) -> None:
    """A12, A13, I23."""
    httpx.get(f"{served.url}/v1/accounts/a%0d%0a%1b[31mb/balance", headers=served.headers)
    httpx.get(f"{served.url}/v1/rate-cards", headers=served.headers | {"X-Request-ID": "a b\tc"})

    lines: list[dict[str, Any]] = [json.loads(line) for line in served.log.read_text().splitlines()]

    assert {"api_started", "request_answered"} <= {line["event"] for line in lines}
    assert served.key.rpartition("_")[2] not in served.log.read_text()
    assert "\x1b" not in served.log.read_text()


def test_a_command_in_hand_is_answered_when_the_server_is_told_to_end(
    database_url: str, tmp_path: Path
) -> None:
    import threading

    import psycopg

    from domain.shards import shard_of

    with serving_process(database_url, tmp_path) as served:
        sent = served.headers | {"Idempotency-Key": "open"}
        assert (
            httpx.post(f"{served.url}/v1/accounts", json={"team_id": "acme"}, headers=sent).status_code == 201
        )
        answers: list[httpx.Response] = []

        def grant() -> None:
            answers.append(
                httpx.post(
                    f"{served.url}/v1/accounts/acme/grants",
                    json={"amount": "1", "reason": "x"},
                    headers=served.headers | {"Idempotency-Key": "g"},
                    timeout=20,
                )
            )

        with psycopg.connect(database_url) as holder:
            holder.execute(
                "SELECT 1 FROM account_head WHERE shard = %s AND team_id = 'acme' FOR UPDATE",
                (shard_of("acme", 8),),
            )
            caller = threading.Thread(target=grant)
            caller.start()
            time.sleep(1)
            served.process.send_signal(signal.SIGTERM)
            time.sleep(0.5)
        caller.join()
        ended = served.process.wait(20)

    assert [answer.status_code for answer in answers] == [201]
    assert ended == 0
    assert "api_stopped" in (tmp_path / "serve.log").read_text()
