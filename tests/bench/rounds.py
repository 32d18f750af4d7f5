"""What every measurement has in common: contestants in processes of their own, rounds, ratios, and what the machine is."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import psutil
import psycopg

from infra.collector import spare_collector
from infra.local.kafka import LocalKafka
from infra.local.postgres import LocalPostgres
from tests.bench.contestants import Contestant, Measured

SHARDS = 8
SEED = 20_261_123
HOME = Path(".coffer/bench")
CACHE = Path(".coffer/cache")
"""Jars are fetched once for all runs."""


class Row(msgspec.Struct):
    """One contestant: records a second in each round, and microseconds of processor time a record."""

    name: str
    title: str
    rates: list[float] = []
    client_cpu: list[float] = []
    server_cpu: list[float] = []
    seconds: float = 0.0
    longest_seconds: float = 0.0

    def take(self, measured: Measured, server_cpu_seconds: float) -> None:
        """One more round."""
        self.rates.append(measured.rate)
        self.client_cpu.append(measured.cpu_seconds / measured.records * 1e6)
        self.server_cpu.append(server_cpu_seconds / measured.records * 1e6)
        self.seconds += measured.seconds
        self.longest_seconds = max(self.longest_seconds, measured.longest_seconds)

    def told(self) -> dict[str, Any]:
        """Medians over the rounds, the range of the rates, and how long it was measured in all."""
        return {
            "title": self.title,
            "records_per_second": round(median(self.rates)),
            "range": [round(min(self.rates)), round(max(self.rates))],
            "client_cpu_microseconds": round(median(self.client_cpu), 1),
            "server_cpu_microseconds": round(median(self.server_cpu), 1),
            "window_seconds": round(self.seconds, 1),
            "longest_milliseconds": round(self.longest_seconds * 1000, 1),
        }


class Ratio(msgspec.Struct):
    """The median of the ratios within each round, with the lowest and the highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, above: Sequence[float], below: Sequence[float]) -> Ratio:
        """Round by round, so that a slow minute of the machine slows both."""
        ratios = [one / other for one, other in zip(above, below, strict=True)]
        return cls(round(median(ratios), 3), round(min(ratios), 3), round(max(ratios), 3))


class Remote:
    """A contestant in its own process. ``ask`` and ``answer`` let two work at once; a call waits for its answer."""

    def __init__(self, make: Callable[..., Contestant], *arguments: object, **named: object) -> None:
        context = get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, make, arguments, named), daemon=True)
        self._process.start()
        there.close()

    def ask(self, method: str, *arguments: object) -> None:
        """The contestant begins."""
        self._here.send((method, arguments))

    def answer(self) -> Any:
        """What the contestant's method returned. Raises: EOFError when its process ended, with its traceback on stderr."""
        return self._here.recv()

    def __call__(self, method: str, *arguments: object) -> Any:
        """What the contestant's method returns."""
        self.ask(method, *arguments)
        return self.answer()

    def close(self) -> None:
        """The process has ended."""
        self._here.send(("close", ()))
        self._process.join(20)


def _serve(
    pipe: Connection,
    make: Callable[..., Contestant],
    arguments: tuple[object, ...],
    named: dict[str, object],
) -> None:
    # As a worker does at its start.
    spare_collector()
    contestant = make(*arguments, **named)
    while True:
        method, given = pipe.recv()
        answer = getattr(contestant, method)(*given)
        if method == "close":
            return
        pipe.send(answer)


class ProcessorTime:
    """Processor seconds of a server and its children over a block."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self.seconds = 0.0

    def __enter__(self) -> ProcessorTime:
        self._before = self._used()
        return self

    def __exit__(self, *_: object) -> None:
        after = self._used()
        self.seconds = sum(used - self._before.get(pid, 0.0) for pid, used in after.items())

    def _used(self) -> dict[int, float]:
        used: dict[int, float] = {}
        for each in [self._process, *self._process.children(recursive=True)]:
            try:
                times = each.cpu_times()
            except psutil.NoSuchProcess:
                continue
            used[each.pid] = times.user + times.system
        return used


@contextmanager
def own_postgres() -> Iterator[LocalPostgres]:
    """A PostgreSQL of this run alone, durability on, its data gone afterwards."""
    # Every process of the run seals heads alike, wherever it keeps its state.
    os.environ.setdefault("COFFER_HEAD_KEYS", "the head key of all processes of a bench run")
    home = HOME / str(os.getpid())
    server = LocalPostgres(home)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def own_kafka() -> Iterator[LocalKafka]:
    """A Kafka of this run alone, its data gone afterwards."""
    home = HOME / f"{os.getpid()}-kafka"
    server = LocalKafka(home.absolute(), cache=CACHE.absolute())
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


def circumstances(server_url: str) -> dict[str, Any]:
    """Where and how it was measured."""
    with psycopg.connect(server_url) as connection:
        version = str(connection.info.parameter_status("server_version"))
    memory = round(psutil.virtual_memory().total / 2**30)
    return {
        "machine": f"{os.cpu_count()} cores, {memory} GiB, {platform.machine()}, {platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "postgresql": version,
        "command": " ".join(["python", "-m", _module(), *sys.argv[1:]]),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _module() -> str:
    path = Path(sys.argv[0])
    return "tests.bench" if path.stem == "__main__" else f"tests.bench.{path.stem}"


def write(figures: dict[str, Any], out: Path) -> None:
    """The figures are in the file, to be read by people too."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
