"""How many usage records a second become durable: our batch path, beside the library's default path and raw COPY.

One run, one PostgreSQL with durability on, each contestant in a process of its own, one at a time, rounds in random order.
`python -m tests.bench.batch_path` (`make bench`) prints the figures and writes out/bench.json.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import msgspec
import psutil
import psycopg

from infra.collector import spare_collector
from infra.local.postgres import LocalPostgres
from infra.postgres.migrations import migrate
from tests.bench.contestants import BatchPath, Contestant, LibraryDefault, Measured, RawCopy
from tests.conftest import fresh_database

BATCHES = (2_000, 4_000)
HEADLINE = 4_000
"""The batch of the ratios: a worker's own setting."""
SHARDS = 8
CHECKED_RECORDS = 400
SEED = 20_261_123
HOME = Path(".coffer/bench")


class Row(msgspec.Struct):
    """One contestant: records a second in each round, and microseconds of processor time a record."""

    name: str
    rates: list[float] = []
    client_cpu: list[float] = []
    server_cpu: list[float] = []
    longest_seconds: float = 0.0

    def take(self, measured: Measured, server_cpu_seconds: float) -> None:
        """One more round."""
        self.rates.append(measured.rate)
        self.client_cpu.append(measured.cpu_seconds / measured.records * 1e6)
        self.server_cpu.append(server_cpu_seconds / measured.records * 1e6)
        self.longest_seconds = max(self.longest_seconds, measured.longest_seconds)


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
    """A contestant in its own process; calls wait for their answer, so only one works at a time."""

    def __init__(self, make: Callable[..., Contestant], *arguments: object) -> None:
        context = get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, make, arguments), daemon=True)
        self._process.start()
        there.close()

    def __call__(self, method: str, *arguments: object) -> Any:
        """What the contestant's method returns. Raises: EOFError when its process ended, with its traceback on stderr."""
        self._here.send((method, arguments))
        return self._here.recv()

    def close(self) -> None:
        """The process has ended."""
        self._here.send(("close", ()))
        self._process.join(20)


def _serve(pipe: Connection, make: Callable[..., Contestant], arguments: tuple[object, ...]) -> None:
    # As a worker does at its start.
    spare_collector()
    contestant = make(*arguments)
    while True:
        method, given = pipe.recv()
        answer = getattr(contestant, method)(*given)
        if method == "close":
            return
        pipe.send(answer)


class Run:
    """All rounds of one run."""

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self._options = options
        server = stack.enter_context(_server())
        self._server = psutil.Process(server.pid or 0)
        ours, theirs, copied = (
            stack.enter_context(fresh_database(server.url, "template0")) for _ in range(3)
        )
        migrate(ours, SHARDS)
        migrate(copied, SHARDS)
        self.version = _version(server.url)
        self._batch_path = Remote(BatchPath, ours, options.teams, SEED)
        self._library = Remote(LibraryDefault, theirs, options.teams, SEED)
        self._copy = Remote(RawCopy, copied, ours)
        for each in (self._batch_path, self._library, self._copy):
            stack.callback(each.close)
        self._written: dict[int, list[list[datetime]]] = {size: [] for size in BATCHES}
        self.rows = {name: Row(name) for name in (*map(_ours, BATCHES), "library", *map(_copied, BATCHES))}

    def check(self) -> None:
        """Both charge the same first records the same: what is compared is the same work."""
        mine: Measured = self._batch_path("run", CHECKED_RECORDS, CHECKED_RECORDS)
        theirs: Measured = self._library("run", CHECKED_RECORDS)
        assert mine.charged_micros == theirs.charged_micros > 0, (mine.charged_micros, theirs.charged_micros)

    def warm_up(self) -> None:
        """Accounts, statements and tables are in memory; also the first rows that raw COPY repeats."""
        for size in BATCHES:
            warm: Measured = self._batch_path("run", self._options.records, size)
            self._written[size].append(warm.batches)

    def round(self, order: random.Random) -> None:
        """Every contestant once, in random order."""
        jobs: list[tuple[str, Callable[[], Measured]]] = [("library", self._run_library)]
        for size in BATCHES:
            jobs.append((_ours(size), lambda size=size: self._run_ours(size)))  # type: ignore[misc]
            jobs.append((_copied(size), lambda size=size: self._run_copy(size)))  # type: ignore[misc]
        order.shuffle(jobs)
        for name, job in jobs:
            before = self._server_cpu()
            measured = job()
            after = self._server_cpu()
            self.rows[name].take(measured, sum(after[pid] - before.get(pid, 0.0) for pid in after))

    def peak_rss_mib(self) -> float:
        """Of the process of our batch path."""
        peak: float = self._batch_path("peak_rss_mib")
        return round(peak, 1)

    def _run_ours(self, size: int) -> Measured:
        measured: Measured = self._batch_path("run", self._options.records, size)
        self._written[size].append(measured.batches)
        return measured

    def _run_copy(self, size: int) -> Measured:
        measured: Measured = self._copy("run", self._written[size].pop(0))
        return measured

    def _run_library(self) -> Measured:
        measured: Measured = self._library("run", self._options.library_records)
        return measured

    def _server_cpu(self) -> dict[int, float]:
        """Processor seconds so far of each process of the server."""
        used: dict[int, float] = {}
        for each in self._server.children():
            try:
                times = each.cpu_times()
            except psutil.NoSuchProcess:
                continue
            used[each.pid] = times.user + times.system
        return used


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one whole run."""
    began = perf_counter()
    with ExitStack() as stack:
        run = Run(options, stack)
        run.check()
        run.warm_up()
        order = random.Random(SEED)
        for number in range(options.rounds):
            run.round(order)
            print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
        peak = run.peak_rss_mib()
    return _figures(run, peak, options, perf_counter() - began)


def _figures(run: Run, peak_rss_mib: float, options: argparse.Namespace, seconds: float) -> dict[str, Any]:
    rows = run.rows
    ours, copied, library = rows[_ours(HEADLINE)].rates, rows[_copied(HEADLINE)].rates, rows["library"].rates
    against_library, against_copy = Ratio.of(ours, library), Ratio.of(ours, copied)
    return {
        "batch_vs_library_default": against_library.median,
        "batch_vs_copy": against_copy.median,
        "peak_rss_mib": peak_rss_mib,
        "batch_records_per_second": round(median(ours)),
        "library_default_records_per_second": round(median(library)),
        "copy_rows_per_second": round(median(copied)),
        "rounds": options.rounds,
        "ratio_ranges": {
            "batch_vs_library_default": [against_library.low, against_library.high],
            "batch_vs_copy": [against_copy.low, against_copy.high],
        },
        "rows": {row.name: _summary(row) for row in rows.values()},
        "records_per_round": options.records,
        "library_records_per_round": options.library_records,
        "teams": options.teams,
        "shards": SHARDS,
        "batch_of_the_ratios": HEADLINE,
        "seconds": round(seconds, 1),
        "machine": _machine(),
        "python": platform.python_version(),
        "postgresql": run.version,
        "command": " ".join(["python", "-m", "tests.bench.batch_path", *sys.argv[1:]]),
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _summary(row: Row) -> dict[str, float | list[float]]:
    return {
        "records_per_second": round(median(row.rates)),
        "range": [round(min(row.rates)), round(max(row.rates))],
        "client_cpu_microseconds": round(median(row.client_cpu), 1),
        "server_cpu_microseconds": round(median(row.server_cpu), 1),
        "longest_milliseconds": round(row.longest_seconds * 1000, 1),
    }


def show(figures: dict[str, Any]) -> str:
    """The figures as a table to read."""
    lines = [
        f"{figures['machine']}, Python {figures['python']}, PostgreSQL {figures['postgresql']} on loopback, durability on",
        f"{figures['teams']} teams Zipf(1.0), 8 lots each, {figures['shards']} shards, demo card",
        f"{figures['rounds']} rounds in random order, medians [range]",
        "",
        f"{'':34}{'records/s':>10} {'range':>17} {'client':>8} {'server':>8}  µs of processor a record",
    ]
    for name, row in figures["rows"].items():
        low, high = row["range"]
        lines.append(
            f"{_TITLES[name]:34}{row['records_per_second']:>10,} {f'{low:,}..{high:,}':>17}"
            f" {row['client_cpu_microseconds']:>8.1f} {row['server_cpu_microseconds']:>8.1f}"
        )
    ranges = figures["ratio_ranges"]
    lines += [
        "",
        *(
            f"{key:28}{figures[key]:>8.2f}  [{ranges[key][0]:.2f}..{ranges[key][1]:.2f}]"
            for key in ("batch_vs_library_default", "batch_vs_copy")
        ),
        f"{'peak_rss_mib':28}{figures['peak_rss_mib']:>8.1f}  of the process of the batch path, its input included",
        f"{'took':28}{figures['seconds']:>8.1f}  seconds: {figures['command']}",
    ]
    return "\n".join(lines)


def _ours(size: int) -> str:
    return f"batch_{size}"


def _copied(size: int) -> str:
    return f"copy_{size}"


_TITLES = {
    "library": "library default, one a save",
    **{_ours(size): f"Coffer, batches of {size:,}" for size in BATCHES},
    **{_copied(size): f"raw COPY of its events, {size:,}" for size in BATCHES},
}


@contextmanager
def _server() -> Iterator[LocalPostgres]:
    """A PostgreSQL of this run alone, its data gone afterwards."""
    home = HOME / str(os.getpid())
    server = LocalPostgres(home)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(home, ignore_errors=True)


def _version(url: str) -> str:
    with psycopg.connect(url) as connection:
        return str(connection.info.parameter_status("server_version"))


def _machine() -> str:
    memory = round(psutil.virtual_memory().total / 2**30)
    return f"{os.cpu_count()} cores, {memory} GiB, {platform.machine()}, {platform.system()} {platform.release()}"


def main() -> None:
    """Measured, printed, written down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7, help="at least 5 for a figure to quote")
    parser.add_argument("--records", type=int, default=20_000, help="records a round, ours and raw COPY")
    parser.add_argument("--library-records", type=int, default=1_500, help="records a round, library")
    parser.add_argument("--teams", type=int, default=2_000)
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"))
    options = parser.parse_args()
    figures = measure(options)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_bytes(msgspec.json.format(msgspec.json.encode(figures), indent=2) + b"\n")
    print(show(figures))


if __name__ == "__main__":
    main()
