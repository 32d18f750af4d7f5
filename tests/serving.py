"""The API as a process of its own, ready to be asked."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path

import httpx

from infra.settings import Settings
from infra.wiring import Wiring

HOST = "127.0.0.1"
START_SECONDS_MAX = 30.0


class Served:
    """A running API and a key that opens it."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, key: str, log: Path) -> None:
        self.process = process
        self.port = port
        self.key = key
        self.log = log
        self.url = f"http://{HOST}:{port}"
        self.headers = {"Authorization": f"Bearer {key}"}

    def raw(self, request: bytes, seconds: float = 5.0) -> bytes:
        """The bytes that come back for these bytes, up to the end or the time."""
        with closing(socket.create_connection((HOST, self.port), timeout=seconds)) as client:
            client.sendall(request)
            return _received(client)


def _received(client: socket.socket) -> bytes:
    received = b""
    try:
        while chunk := client.recv(65_536):
            received += chunk
            if b"}" in chunk:
                break
    except (TimeoutError, ConnectionResetError):
        pass
    return received


@contextmanager
def serving_process(
    database_url: str,
    directory: Path,
    *,
    key: str | None = None,
    name: str = "serve",
    more: Mapping[str, str] | None = None,
) -> Iterator[Served]:
    """`coffer serve` in a process of its own, ready; with a new key that opens everything unless one is given.

    Processes of one directory share their secrets; ``more`` is added to the environment.
    """
    with closing(socket.socket()) as free:
        free.bind((HOST, 0))
        port = free.getsockname()[1]
    if key is None:
        with Wiring(Settings(database_url=database_url, state_directory=directory)) as wiring:
            key, _ = wiring.keys.create("tester", "break-glass", timedelta(hours=8))
    log = directory / f"{name}.log"
    environment = os.environ | {
        "COFFER_DATABASE_URL": database_url,
        "COFFER_STATE_DIRECTORY": str(directory),
        "COFFER_API_PORT": str(port),
        # Rates have tests of their own; here one caller stands for many.
        "COFFER_REQUESTS_PER_SECOND_MAX": "0",
        **(more or {}),
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "infra.cli.main", "serve"], stdout=out, stderr=out, env=environment
        )
    try:
        served = Served(process, port, key, log)
        _wait_until_ready(served)
        yield served
    finally:
        process.kill()
        process.wait()


def _wait_until_ready(served: Served) -> None:
    until = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < until:
        assert served.process.poll() is None, served.log.read_text()
        try:
            if httpx.get(f"{served.url}/readyz").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise AssertionError(f"not ready in {START_SECONDS_MAX} s: {served.log.read_text()}")
