"""What a long history costs: ``python -m tests.bench.long_history --events 1000000 --json FILE``, one team beside a short one.

Both teams live in the same tables, so that nothing but the length of their history tells them apart.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import tuple_row
from typing_extensions import override

from api.cursors import Cursors
from api.moments import Moment
from api.queries import Queries
from consumers.usage import settle_reads
from domain.account.decision import account_id
from domain.catalogue import Catalogue
from infra.collector import spare_collector
from infra.local.postgres import LocalPostgres
from infra.postgres.account_reads import AsyncShards, PostgresAccountReads
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.heads import load_heads
from infra.postgres.histories import PostgresEvents
from infra.postgres.kept_heads import Keeper
from infra.postgres.migrations import migrate
from infra.postgres.read_models import PostgresStatement
from infra.postgres.shards import ShardMap
from projections.diff import Moment as DiffMoment
from projections.keeping import KEEP_EVERY, KeptAccount
from projections.replay import WHOLE, Replay, steps
from tests.bench.contestants import open_accounts
from tests.bench.demand import PARTITIONS, Demand, Team, batches, demo_catalogue, partition_key
from tests.bench.rounds import SEED, SHARDS, ProcessorTime, Ratio, circumstances, own_postgres, write
from tests.conftest import fresh_database

EVENTS = 1_000_000
SHORT_EVENTS = 1_000
BATCH = 1_000
"""Records a batch, all of one team."""

FILL_BATCH, FILL_RECORDS = 4_000, 20_000
ROUNDS, ROUND_RECORDS = 9, 4_000
LOADS, READS = 200, 15
PRINTED_STEPS = 100_000
LONG = "team-long"


class Worker:
    """Charges one team after another through the batch path."""

    def __init__(self, url: str) -> None:
        self.shards = ShardMap(url)
        self._store = PostgresBatchStore(self.shards)
        self._catalogue = demo_catalogue()
        self._demand = Demand(1, SEED)
        for number in range(PARTITIONS):
            self._store.register(partition_key(number), 0)

    def open(self, team_id: str) -> None:
        """The team has an account with eight lots and two limits."""
        open_accounts(self.shards, [_team(team_id)])

    def charge(self, team_id: str, records: int, batch_records: int) -> float:
        """So many records of the team are charged and durable; the seconds of this process's processor time that took."""
        self._demand.teams = [_team(team_id)]
        prepared = self._demand.stream(records)
        began = process_time()
        for reads in batches(prepared, batch_records):
            batch = settle_reads(self._store, reads, self._catalogue)
            assert not batch.outcomes, f"not an event: {batch.outcomes[0]}"
        return process_time() - began

    def close(self) -> None:
        """Connections are closed."""
        self._store.close()
        self.shards.close()


class _NothingKept(PostgresAccountReads):
    """Reads that know of nothing that is kept."""

    @override
    async def kept(self, team_id: str, version: int) -> KeptAccount | None:
        return None


class _NoCatalogue:
    def current(self) -> Catalogue:
        raise AssertionError("the past needs no catalogue")


def measure(server: LocalPostgres, events: int = EVENTS) -> dict[str, Any]:
    """All figures of one long history, in a database of its own on that server."""
    spare_collector()
    with fresh_database(server.url, "template0") as url:
        migrate(url, SHARDS)
        worker = Worker(url)
        try:
            figures: dict[str, Any] = {"history_events": events, "keep_every": KEEP_EVERY}
            parts: list[Callable[[], dict[str, Any]]] = [
                lambda: _fill(worker, events),
                lambda: _growth(server, worker),
                lambda: _keep(worker.shards, url),
                lambda: _load(worker.shards),
                lambda: _replay(worker.shards, url),
                lambda: _past(worker.shards, url),
            ]
            for part in parts:
                told = part()
                figures |= told
                print(f"long history: {told}", file=sys.stderr)
            return figures
        finally:
            worker.close()


def _fill(worker: Worker, events: int) -> dict[str, Any]:
    """The long history is made by the batch path itself."""
    began = perf_counter()
    worker.open(LONG)
    for done in range(0, events, FILL_RECORDS):
        worker.charge(LONG, min(FILL_RECORDS, events - done), FILL_BATCH)
        if done % 100_000 == 0:
            print(f"long history: {done:,} events, {perf_counter() - began:.0f} s", file=sys.stderr)
    return {"fill_seconds": round(perf_counter() - began, 1)}


def _growth(server: LocalPostgres, worker: Worker) -> dict[str, Any]:
    """Processor time a charge, of client and server together, on the long team against a short one that is new each round."""
    order = random.Random(SEED)
    costs: dict[str, list[float]] = {"long": [], "short": []}
    for number in range(ROUNDS):
        short = f"team-short-{number}"
        worker.open(short)
        worker.charge(short, SHORT_EVENTS, BATCH)
        worker.charge(LONG, SHORT_EVENTS, BATCH)
        names = ["long", "short"]
        order.shuffle(names)
        for name in names:
            with ProcessorTime(server.pid or 0) as used:
                cpu = worker.charge(LONG if name == "long" else short, ROUND_RECORDS, BATCH)
            costs[name].append((cpu + used.seconds) / ROUND_RECORDS * 1e6)
    ratio = Ratio.of(costs["long"], costs["short"])
    return {
        "history_1m_vs_1k": ratio.median,
        "ratio_ranges": {"history_1m_vs_1k": [ratio.low, ratio.high]},
        "charge_long_cpu_microseconds": round(median(costs["long"]), 1),
        "charge_short_cpu_microseconds": round(median(costs["short"]), 1),
    }


def _keep(shards: ShardMap, url: str) -> dict[str, Any]:
    """What is kept of the accounts, made in one go: seconds, and its size beside that of the events."""
    began, cpu = perf_counter(), process_time()
    made = Keeper(shards).keep_all()
    took, cpu = perf_counter() - began, process_time() - cpu
    with psycopg.connect(url) as connection:
        sizes = connection.execute(
            "SELECT pg_total_relation_size('kept_head') + pg_total_relation_size('kept_entry'),"
            " pg_total_relation_size('ledger_events')"
        ).fetchone()
    assert sizes is not None
    return {
        "kept_snapshots": made.snapshots,
        "keep_events_per_second": round(made.events / took),
        "keep_cpu_microseconds": round(cpu / made.events * 1e6, 1),
        "kept_bytes_per_event": round(sizes[0] / made.events, 1),
        "events_bytes": sizes[1],
    }


def _load(shards: ShardMap) -> dict[str, Any]:
    """Loading the long team for a decision: its head, in a transaction."""
    shard = shards.shard_of(LONG)
    with shards.connection_for(shard) as connection:
        cursor = connection.cursor(row_factory=tuple_row)

        def load() -> None:
            with connection.transaction():
                assert load_heads(cursor, shard, [LONG], lock=True)[LONG].account.version

        return {"load_1m_team_ms": round(_median_ms(load, LOADS), 3)}


def _replay(shards: ShardMap, url: str) -> dict[str, Any]:
    """Every stored event of the long team read, decoded and applied; told step by step; printed by a command."""
    folded = [_timed(lambda: _fold(shards)) for _ in range(3)]
    told = _timed(lambda: _tell(shards))
    printed = _timed(lambda: _print(url))
    return {
        "replay_events_per_second": round(median(each.events / each.seconds for each in folded)),
        "replay_cpu_microseconds": round(min(each.cpu_seconds / each.events for each in folded) * 1e6, 2),
        "replay_told_steps_per_second": round(told.events / told.seconds),
        "replay_told_cpu_microseconds": round(told.cpu_seconds / told.events * 1e6, 2),
        "replay_printed_steps_per_second": round(printed.events / printed.seconds),
    }


def _fold(shards: ShardMap) -> int:
    replay = Replay(keeps_index=False)
    for recorded in PostgresEvents(shards).events(LONG):
        replay.play(recorded)
    assert replay.account is not None, "the long team has events"
    return replay.account.version


def _tell(shards: ShardMap) -> int:
    return sum(1 for _ in steps(PostgresEvents(shards).events(LONG)))


def _print(url: str) -> int:
    """Steps printed by `coffer replay`."""
    command = [
        sys.executable,
        "-m",
        "infra.cli.main",
        "replay",
        LONG,
        "-o",
        "jsonl",
        "--limit",
        str(PRINTED_STEPS),
    ]
    environment = os.environ | {"COFFER_DATABASE_URL": url}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        printed = sum(1 for _ in process.stdout)
    assert process.returncode == 0, "the replay was not printed"
    return printed


def _past(shards: ShardMap, url: str) -> dict[str, Any]:
    """Questions about the past of the long team, in milliseconds; those without anything kept are asked once."""
    with shards.connection_for(shards.shard_of(LONG)) as connection:
        rows = connection.execute(
            "SELECT originator_version, usage_key FROM ledger_events WHERE shard = %s AND originator_id = %s"
            " AND usage_key IS NOT NULL ORDER BY originator_version",
            (shards.shard_of(LONG), account_id(LONG)),
        ).fetchall()
    draw = random.Random(SEED)
    chosen = [(version, key.hex) for version, key in draw.sample(rows, READS)]
    middle = rows[len(rows) // 2][0]

    async def asked() -> dict[str, float]:
        pool = AsyncShards(url, shards.count)
        try:
            ours, bare = (
                Queries(
                    reads(pool), PostgresStatement(shards), _NoCatalogue(), Cursors(b"k" * 32), [b"k" * 32]
                )
                for reads in (PostgresAccountReads, _NothingKept)
            )
            return await _answered(ours, bare, chosen, middle)
        finally:
            await pool.close()

    return {key: round(value, 2) for key, value in asyncio.run(asked()).items()}


async def _answered(
    ours: Queries, bare: Queries, chosen: Sequence[tuple[int, str]], middle: int
) -> dict[str, float]:
    versions = [Moment(at_version=version) for version, _ in chosen]
    instants = [Moment(as_of=(await ours.accounts.balance(LONG, each)).as_of) for each in versions]
    then = Moment(at_version=middle)
    told = {
        "balance_now_ms": [await _ms(ours.accounts.balance(LONG)) for _ in chosen],
        "balance_at_version_ms": [await _ms(ours.accounts.balance(LONG, each)) for each in versions],
        "balance_as_of_ms": [await _ms(ours.accounts.balance(LONG, each)) for each in instants],
        "limits_as_of_ms": [await _ms(ours.accounts.limits(LONG, each)) for each in instants],
        "explain_charge_ms": [await _ms(ours.audits.charge(LONG, key)) for _, key in chosen],
        "explain_balance_now_ms": [await _ms(ours.audits.balance(LONG)) for _ in chosen],
        "explain_balance_as_of_ms": [await _ms(ours.audits.balance(LONG, each)) for each in instants],
        "diff_of_a_thousand_ms": [
            await _ms(ours.audits.diff(LONG, DiffMoment(version=v), DiffMoment(version=v + 1_000)))
            for v in [min(version, middle) for version, _ in chosen]
        ],
        "replay_page_ms": [
            await _ms(ours.audits.replay(LONG, WHOLE, 100, None, each)) for each in versions[:1]
        ],
        "balance_at_version_from_first_ms": [await _ms(bare.accounts.balance(LONG, then))],
        "explain_balance_at_version_from_first_ms": [await _ms(bare.audits.balance(LONG, then))],
    }
    return {key: median(values) for key, values in told.items()}


async def _ms(question: Awaitable[object]) -> float:
    began = perf_counter()
    await question
    return (perf_counter() - began) * 1000


def _median_ms(work: Callable[[], None], times: int) -> float:
    took = []
    for _ in range(times):
        began = perf_counter()
        work()
        took.append((perf_counter() - began) * 1000)
    return median(took)


class _Timed(NamedTuple):
    events: int
    seconds: float
    cpu_seconds: float


def _timed(work: Callable[[], int]) -> _Timed:
    began, cpu = perf_counter(), process_time()
    events = work()
    return _Timed(events, perf_counter() - began, process_time() - cpu)


def _team(team_id: str) -> Team:
    return Team(team_id, "Europe/Berlin", 1)


def main() -> None:
    """Prints the figures, and writes them where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=EVENTS)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with own_postgres() as server:
        figures = measure(server, options.events) | circumstances(server.url)
    for key, value in figures.items():
        print(f"{key:45} {value}")
    if options.json:
        write(figures, options.json)


if __name__ == "__main__":
    main()
