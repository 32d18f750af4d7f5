"""How many usage records a second become durable: our batch path, beside the library's default path and raw COPY.

One PostgreSQL with durability on, each contestant in a process of its own, one at a time, rounds in random order.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime
from time import perf_counter
from typing import Any

import msgspec

from infra.local.postgres import LocalPostgres
from infra.postgres.migrations import migrate
from tests.bench.contestants import BatchPath, LibraryDefault, Measured, RawCopy
from tests.bench.demand import PARTITIONS
from tests.bench.rounds import SEED, SHARDS, ProcessorTime, Ratio, Remote, Row
from tests.conftest import fresh_database

BATCH = 4_000
"""A worker's own setting."""
CHECKED_RECORDS = 400
TITLES = {
    "batch": "Coffer, one worker",
    "two_workers": "Coffer, two workers",
    "trivial": "Coffer, trivial rules, one worker",
    "copy": "raw COPY of its rows",
    "library": "library default, one a save",
}
RATIOS = {
    "batch_vs_library_default": ("batch", "library"),
    "batch_vs_copy": ("batch", "copy"),
    "two_workers_vs_one": ("two_workers", "batch"),
    "rules_vs_trivial": ("batch", "trivial"),
}


class Sizes(msgspec.Struct, frozen=True):
    """How much is measured: rounds, the seconds of each contestant's part of a round, and teams."""

    rounds: int
    seconds: float
    teams: int


class Run:
    """All rounds of one run."""

    def __init__(self, server: LocalPostgres, sizes: Sizes, stack: ExitStack) -> None:
        self._server, self._sizes = server, sizes
        ours, pair, trivial, theirs, copied = (
            stack.enter_context(fresh_database(server.url, "template0")) for _ in range(5)
        )
        for url in (ours, pair, trivial, copied):
            migrate(url, SHARDS)
        half = PARTITIONS // 2
        # A worker that is alone with the server overlaps; two on two cores keep both busy without.
        self._batch_path = Remote(BatchPath, ours, sizes.teams, SEED, overlaps=True)
        self._pair = [
            Remote(BatchPath, pair, sizes.teams, SEED, partitions=part)
            for part in (range(half), range(half, PARTITIONS))
        ]
        self._trivial = Remote(BatchPath, trivial, sizes.teams, SEED, is_trivial=True, overlaps=True)
        self._library = Remote(LibraryDefault, theirs, sizes.teams, SEED)
        self._copy = Remote(RawCopy, copied, ours)
        for each in (self._batch_path, *self._pair, self._trivial, self._library, self._copy):
            stack.callback(each.close)
        self._written: list[list[datetime]] = []
        self._records: dict[str, int] = {}
        self.rows = {name: Row(name, title) for name, title in TITLES.items()}
        self._jobs: dict[str, Callable[[], Measured]] = {
            "library": self._run_library,
            "batch": self._run_ours,
            "two_workers": self._run_pair,
            "trivial": self._run_trivial,
            "copy": self._run_copy,
        }

    def check(self) -> None:
        """Both charge the same first records the same: what is compared is the same work."""
        mine: Measured = self._batch_path("run", CHECKED_RECORDS, CHECKED_RECORDS)
        theirs: Measured = self._library("run", CHECKED_RECORDS)
        assert mine.charged_micros == theirs.charged_micros > 0, (mine.charged_micros, theirs.charged_micros)

    def warm_up(self) -> None:
        """Accounts, statements and tables are in memory, and each contestant's part of a round is as long as was asked for."""
        for name, records in (
            ("batch", 24_000),
            ("two_workers", 32_000),
            ("trivial", 24_000),
            ("library", 400),
        ):
            self._records[name] = records
            measured = self._jobs[name]()
            if name != "library":
                measured = self._jobs[name]()
            self._records[name] = max(records, round(measured.rate * self._sizes.seconds))

    def round(self, order: random.Random) -> None:
        """Every contestant once, in random order; raw COPY repeats what our batches wrote before."""
        names = list(self._jobs)
        order.shuffle(names)
        for name in names:
            with ProcessorTime(self._server.pid or 0) as used:
                measured = self._jobs[name]()
            self.rows[name].take(measured, used.seconds)

    def _run_ours(self) -> Measured:
        self._batch_path("prepare", self._records["batch"])
        measured: Measured = self._batch_path("charge_prepared", BATCH)
        self._written.append(measured.batches)
        return measured

    def _run_pair(self) -> Measured:
        for each in self._pair:
            each.ask("prepare", self._records["two_workers"])
        for each in self._pair:
            each.answer()
        for each in self._pair:
            each.ask("charge_prepared", BATCH)
        one, other = (each.answer() for each in self._pair)
        return Measured(
            one.records + other.records,
            max(one.seconds, other.seconds),
            one.cpu_seconds + other.cpu_seconds,
            longest_seconds=max(one.longest_seconds, other.longest_seconds),
        )

    def _run_trivial(self) -> Measured:
        self._trivial("prepare", self._records["trivial"])
        measured: Measured = self._trivial("charge_prepared", BATCH)
        return measured

    def _run_copy(self) -> Measured:
        measured: Measured = self._copy("run", self._written.pop(0), self._sizes.seconds)
        return measured

    def _run_library(self) -> Measured:
        measured: Measured = self._library("run", self._records["library"])
        return measured


def measure(server: LocalPostgres, sizes: Sizes) -> dict[str, Any]:
    """The figures of one whole run."""
    began = perf_counter()
    with ExitStack() as stack:
        run = Run(server, sizes, stack)
        run.check()
        run.warm_up()
        print(f"batch path: warm after {perf_counter() - began:.0f} s", file=sys.stderr)
        order = random.Random(SEED)
        for number in range(sizes.rounds):
            run.round(order)
            print(f"batch path: round {number + 1} of {sizes.rounds} done", file=sys.stderr)
    ratios = {
        key: Ratio.of(run.rows[above].rates, run.rows[below].rates) for key, (above, below) in RATIOS.items()
    }
    return {
        **{key: ratio.median for key, ratio in ratios.items()},
        "ratio_ranges": {key: [ratio.low, ratio.high] for key, ratio in ratios.items()},
        "rows": {row.name: row.told() for row in run.rows.values()},
        "rounds": sizes.rounds,
        "teams": sizes.teams,
        "batch_records": BATCH,
    }
