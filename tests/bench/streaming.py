"""What is measured through a real Kafka: the rate of two workers, the time from producing to commit, holds over HTTP meanwhile.

The workers are those of the product; what became durable is read from PostgreSQL, by somebody else than the workers.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any, NamedTuple

import httpx
import msgspec
import psycopg
from psycopg.sql import SQL, Identifier

from consumers.stream_record import StreamRecord
from infra.consume import WorkerOptions, run_worker
from infra.local.demo_day import DAY, DemoDay
from infra.local.kafka import LocalKafka
from infra.local.opening import publish_demo
from infra.local.postgres import LocalPostgres
from infra.local.streams import DemoDayStream
from infra.postgres.appending import channel_of
from infra.postgres.migrations import migrate
from infra.postgres.shards import ShardMap
from infra.settings import Settings
from infra.topics import TOPICS, USAGE, create_topics
from infra.wiring import Wiring
from tests.bench.batch_path import BATCH
from tests.bench.contestants import BatchPath, Measured, open_accounts
from tests.bench.demand import PARTITIONS, Demand
from tests.bench.feeding import TOGETHER_MAX, Feeder, Ready, ready
from tests.bench.rounds import SEED, SHARDS, ProcessorTime, Ratio, Remote, Row
from tests.conftest import fresh_database
from tests.serving import serving_process

LOOK_SECONDS_MAX = 0.05
"""The observer looks when a commit notifies it, and so often when none does."""
TICK_SECONDS = 0.005
"""A steady producer wakes up so often: waking for each record would take as much processor time as charging it."""
TITLES = {
    "kafka_two_workers": "Coffer from Kafka, two workers",
    "memory_two_workers": "Coffer from memory, two workers",
}
DRAINED_SECONDS_MAX = 300.0
SETTLING_SECONDS = 15.0
"""The beginning of a steady stream that is not measured: caches fill and the broker gives its first batches."""


class Size(msgspec.Struct, frozen=True):
    """How much is measured."""

    rounds: int
    records: int
    teams: int
    steady_per_second: int
    steady_seconds: float
    holds_per_second: float


def wait_until(instant: float) -> None:
    """The clock has come to it."""
    if (early := instant - time.time()) > 0:
        time.sleep(early)


class Producing:
    """Usage goes to the topic from a process of its own, as fast as it can or steadily."""

    def __init__(self, bootstrap: str, teams: int, seed: int) -> None:
        self._demand = Demand(teams, seed)
        self._feeder = Feeder(bootstrap, USAGE)

    def all_at_once(self, records: int) -> int:
        """So many records are acknowledged."""
        for at in range(0, records, TOGETHER_MAX):
            self._feeder.send(_by_partition(self._demand.stream(min(TOGETHER_MAX, records - at))))
        self._feeder.wait()
        return records

    def steadily(self, per_second: int, seconds: float) -> dict[int, list[float]]:
        """So many records a second are acknowledged; the instants of sending by partition, in the order of its offsets."""
        records = self._demand.stream(int(per_second * seconds))
        sent: dict[int, list[float]] = {number: [] for number in range(PARTITIONS)}
        together = max(1, round(per_second * TICK_SECONDS))
        ticks = [_by_partition(records[at : at + together]) for at in range(0, len(records), together)]
        began = time.time()
        for number, tick in enumerate(ticks):
            wait_until(began + number * together / per_second)
            now = time.time()
            for partition, each in tick.items():
                sent[partition] += [now] * len(each)
            self._feeder.send(tick)
        self._feeder.wait()
        return sent

    def close(self) -> None:
        """The producer is closed."""
        self._feeder.close()


def _by_partition(records: Sequence[StreamRecord]) -> dict[int, list[Ready]]:
    """The records as they will stand in a batch."""
    placed: dict[int, list[Ready]] = {}
    for each in records:
        placed.setdefault(each.partition, []).append(ready(each.key, each.value, each.headers))
    return placed


class Consuming:
    """The product's worker on a part of the partitions, in a process of its own."""

    def __init__(self, settings: Settings, partitions: Sequence[int]) -> None:
        self._settings, self._partitions = settings, tuple(partitions)

    def drain(self) -> float:
        """Everything there was is settled; returns the processor seconds it took."""
        before = process_time()
        run_worker(
            self._settings,
            WorkerOptions(topics=(USAGE,), alone=True, partitions=self._partitions, until_drained=True),
        )
        return process_time() - before

    def close(self) -> None:
        """Nothing is open between two runs."""


class Watching:
    """Sees in PostgreSQL what is durable, partition by partition, as soon as a commit says that there is more."""

    def __init__(self, database_url: str) -> None:
        self._connection = psycopg.connect(database_url, autocommit=True)
        for shard in range(SHARDS):
            self._connection.execute(SQL("LISTEN {}").format(Identifier(channel_of(shard))))

    def offsets(self) -> dict[int, int]:
        """The next offset of each partition of usage."""
        rows = self._connection.execute("SELECT part, next_offset FROM consumed WHERE topic = %s", (USAGE,))
        return {int(part): int(offset) for part, offset in rows}

    def seen_until(self, total: int, seconds_max: float) -> list[tuple[float, dict[int, int]]]:
        """Each change of the offsets and its instant, until so many records are durable."""
        seen: list[tuple[float, dict[int, int]]] = []
        deadline = time.time() + seconds_max
        while True:
            offsets, now = self.offsets(), time.time()
            if not seen or offsets != seen[-1][1]:
                seen.append((now, offsets))
            if sum(offsets.values()) >= total:
                return seen
            if now > deadline:
                raise TimeoutError(f"{sum(offsets.values())} of {total} records are durable: {offsets}")
            for _ in self._connection.notifies(timeout=LOOK_SECONDS_MAX, stop_after=1):
                pass

    def close(self) -> None:
        """The connection is closed."""
        self._connection.close()


class Asked(NamedTuple):
    """How many milliseconds each answer took."""

    holds: list[float]
    balances: list[float]


class Asking:
    """Somebody at the API, one request after the other at a steady pace: a hold of another team, then that team's balance."""

    def __init__(self, url: str, key: str, auditor: str, teams: Sequence[str]) -> None:
        self._client = httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=30)
        # What is read with the other key would leave a trace in each team, and not be a read alone.
        self._reads = {"Authorization": f"Bearer {auditor}"}
        self._teams, self._next = list(teams), 0

    def ask(self, per_second: float, seconds: float) -> Asked:
        """So many holds a second, and as many balances, each half way between two holds."""
        asked = Asked([], [])
        began = time.time()
        for number in range(int(per_second * seconds)):
            team = self._teams[self._next % len(self._teams)]
            self._next += 1
            wait_until(began + number / per_second)
            asked.holds.append(self._hold(team))
            wait_until(began + (number + 0.5) / per_second)
            asked.balances.append(self._balance(team))
        return asked

    def _hold(self, team: str) -> float:
        at = perf_counter()
        answer = self._client.post(
            f"/v1/accounts/{team}/holds",
            json={"action": "image.generate", "amount": "1"},
            headers={"Idempotency-Key": f"bench-{self._next}"},
        )
        took = (perf_counter() - at) * 1_000
        assert answer.status_code == 201, answer.text
        assert answer.json()["outcome"] == "held", answer.text
        return took

    def _balance(self, team: str) -> float:
        at = perf_counter()
        answer = self._client.get(f"/v1/accounts/{team}/balance", headers=self._reads)
        took = (perf_counter() - at) * 1_000
        assert answer.status_code == 200, answer.text
        assert answer.json()["held"] != "0", answer.text  # what was just held is seen
        return took

    def close(self) -> None:
        """The client is closed."""
        self._client.close()


class _Place:
    """A database with teams, their topic, and whoever works on them."""

    def __init__(self, postgres: LocalPostgres, kafka: LocalKafka, teams: int, stack: ExitStack) -> None:
        self.postgres, self.kafka, self.teams = postgres, kafka, teams
        self.database_url = stack.enter_context(fresh_database(postgres.url, "template0"))
        migrate(self.database_url, SHARDS)
        create_topics(kafka.bootstrap, TOPICS)
        prepare(self.database_url, teams)
        self.directory = Path(stack.enter_context(TemporaryDirectory()))
        self.settings = Settings(
            database_url=self.database_url, kafka_bootstrap=kafka.bootstrap, state_directory=self.directory
        )
        self.producing = Remote(Producing, kafka.bootstrap, teams, SEED + 1)
        self.watching = Watching(self.database_url)
        stack.callback(self.producing.close)
        stack.callback(self.watching.close)
        self.sent = 0

    def fill(self, records: int) -> None:
        """So many records more are on the topic."""
        self.sent += self.producing("all_at_once", records)

    @contextmanager
    def worker(self) -> Iterator[None]:
        """`coffer consume` runs."""
        environment = os.environ | {
            "COFFER_DATABASE_URL": self.database_url,
            "COFFER_KAFKA_BOOTSTRAP": self.kafka.bootstrap,
            "COFFER_STATE_DIRECTORY": str(self.directory),
            "COFFER_LOG_LEVEL": "warning",
        }
        command = [sys.executable, "-m", "infra.cli.main", "consume", "--alone", "--topic", "usage"]
        with (self.directory / "worker.log").open("ab") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield
            assert process.poll() is None, (self.directory / "worker.log").read_text()[-2_000:]
        finally:
            process.terminate()
            process.wait(60)


def measure(postgres: LocalPostgres, kafka: LocalKafka, size: Size) -> dict[str, Any]:
    """The figures of one whole run."""
    with ExitStack() as stack:
        place = _Place(postgres, kafka, size.teams, stack)
        from_kafka = _from_kafka(place, size, stack)
        print("streaming: rates from Kafka done", file=sys.stderr)
        latency = _latency(place, size)
        print("streaming: latencies done", file=sys.stderr)
    return from_kafka | latency


def _from_kafka(place: _Place, size: Size, stack: ExitStack) -> dict[str, Any]:
    """Two workers, the same number of records from the broker and from memory, in turn."""
    half = PARTITIONS // 2
    parts = (range(half), range(half, PARTITIONS))
    workers = [Remote(Consuming, place.settings, part) for part in parts]
    memory_url = stack.enter_context(fresh_database(place.postgres.url, "template0"))
    migrate(memory_url, SHARDS)
    memory = [Remote(BatchPath, memory_url, size.teams, SEED + 1, partitions=part) for part in parts]
    for each in (*workers, *memory):
        stack.callback(each.close)
    rows = {name: Row(name, title) for name, title in TITLES.items()}
    broker_cpu: list[float] = []
    for number in range(size.rounds + 1):
        place.fill(size.records)
        with ProcessorTime(place.kafka.pid or 0) as broker, ProcessorTime(place.postgres.pid or 0) as server:
            streamed = _drained(place, workers)
        with ProcessorTime(place.postgres.pid or 0) as server_for_memory:
            remembered = _charged(memory, size.records)
        if number:  # the first fills the caches of both
            rows["kafka_two_workers"].take(streamed, server.seconds)
            rows["memory_two_workers"].take(remembered, server_for_memory.seconds)
            broker_cpu.append(broker.seconds / size.records * 1e6)
    ratio = Ratio.of(rows["kafka_two_workers"].rates, rows["memory_two_workers"].rates)
    return {
        "kafka_vs_memory": ratio.median,
        "ratio_ranges": {"kafka_vs_memory": [ratio.low, ratio.high]},
        "rows": {row.name: row.told() for row in rows.values()},
        "broker_cpu_microseconds": round(median(broker_cpu), 1),
    }


def _drained(place: _Place, workers: Sequence[Remote]) -> Measured:
    """From the first batch that is seen durable to the last, without the workers' start."""
    for each in workers:
        each.ask("drain")
    seen = place.watching.seen_until(place.sent, DRAINED_SECONDS_MAX)
    cpu_seconds = sum(each.answer() for each in workers)
    # The first look is of what was there before, the second of the first batches.
    (began, first), (ended, last) = seen[1], seen[-1]
    records = sum(last.values()) - sum(first.values())
    all_records = sum(last.values()) - sum(seen[0][1].values())
    return Measured(records, ended - began, cpu_seconds * records / all_records)


def _charged(memory: Sequence[Remote], records: int) -> Measured:
    for each in memory:
        each.ask("prepare", records)
    for each in memory:
        each.answer()
    for each in memory:
        each.ask("charge_prepared", BATCH)
    one, other = (each.answer() for each in memory)
    return Measured(
        one.records + other.records, max(one.seconds, other.seconds), one.cpu_seconds + other.cpu_seconds
    )


def _latency(place: _Place, size: Size) -> dict[str, Any]:
    """Produce to commit and holds at a steady pace, then holds while a backlog is worked off."""
    teams = [each.team_id for each in Demand(size.teams, SEED).teams]
    cold = teams[len(teams) // 2 :]
    # Half a million charges at full rate lie in the server's memory. A stream of a fifth of that rate would not have left
    # them there, so their checkpoint does not belong into its window.
    with psycopg.connect(place.database_url, autocommit=True) as connection:
        connection.execute("CHECKPOINT")
    with Wiring(place.settings) as wiring:
        auditor, _ = wiring.keys.create("the bench", "auditor")
    with serving_process(place.database_url, place.directory) as served:
        asking = Remote(Asking, served.url, served.key, auditor, cold)
        asking("ask", size.holds_per_second, 2.0)
        with place.worker():
            produced, steady = _steady(place, size, asking)
        backlog, backlog_seconds = _backlog(place, size, asking)
        asking.close()
    return {
        "produce_to_commit_p99_ms": _p99(produced),
        "produce_to_commit_p50_ms": round(median(produced), 1),
        "produce_to_commit_records": len(produced),
        "hold_p99_ms": _p99(steady.holds),
        "hold_p50_ms": round(median(steady.holds), 1),
        "hold_p99_ms_backlog": _p99(backlog.holds),
        "hold_p50_ms_backlog": round(median(backlog.holds), 1),
        "balance_p99_ms": _p99(steady.balances),
        "balance_p50_ms": round(median(steady.balances), 1),
        "balance_p99_ms_backlog": _p99(backlog.balances),
        "balance_p50_ms_backlog": round(median(backlog.balances), 1),
        "holds_measured": [len(steady.holds), len(backlog.holds)],
        "steady_records_per_second": size.steady_per_second,
        "backlog_seconds": round(backlog_seconds, 1),
    }


def _steady(place: _Place, size: Size, asking: Remote) -> tuple[list[float], Asked]:
    """Milliseconds from sending to commit of each record, and of each hold and balance meanwhile."""
    place.producing("steadily", size.steady_per_second, SETTLING_SECONDS)
    place.sent += int(size.steady_per_second * SETTLING_SECONDS)
    place.watching.seen_until(place.sent, DRAINED_SECONDS_MAX)
    base = place.watching.offsets()
    place.producing.ask("steadily", size.steady_per_second, size.steady_seconds)
    asking.ask("ask", size.holds_per_second, size.steady_seconds)
    place.sent += int(size.steady_per_second * size.steady_seconds)
    seen = place.watching.seen_until(place.sent, DRAINED_SECONDS_MAX)
    sent: dict[int, list[float]] = place.producing.answer()
    return _took(base, sent, seen), asking.answer()


def _took(
    base: dict[int, int], sent: dict[int, list[float]], seen: list[tuple[float, dict[int, int]]]
) -> list[float]:
    """Of each record, the milliseconds until its offset was first seen behind the next one of its partition."""
    took: list[float] = []
    for partition, instants in sent.items():
        done = 0
        for at, offsets in seen:
            upto = min(offsets.get(partition, 0) - base.get(partition, 0), len(instants))
            took += [(at - instant) * 1_000 for instant in instants[done:upto]]
            done = max(done, upto)
    return took


def _backlog(place: _Place, size: Size, asking: Remote) -> tuple[Asked, float]:
    """Milliseconds of each hold and balance while the worker has more to do than it can; and how long that was."""
    place.fill(size.records * 2)
    before = sum(place.watching.offsets().values())
    with place.worker():
        began = place.watching.seen_until(before + 1, DRAINED_SECONDS_MAX)[-1][0]
        took = Asked([], [])
        while (
            sum(place.watching.offsets().values()) < place.sent and time.time() - began < size.steady_seconds
        ):
            asked: Asked = asking("ask", size.holds_per_second, 1.0)
            took.holds.extend(asked.holds)
            took.balances.extend(asked.balances)
        seconds = time.time() - began
    # What was left is of no interest; the next run has a topic of its own.
    return took, seconds


def _p99(took: Sequence[float]) -> float:
    return round(quantiles(took, n=100)[98], 1)


def prepare(database_url: str, teams: int) -> None:
    """The demo card is in force and every team has its account."""
    shards = ShardMap(database_url)
    start = (datetime.now(UTC) - DAY).replace(microsecond=0)
    publish_demo(shards, DemoDayStream(DemoDay(1, start, 1_000)))
    open_accounts(shards, Demand(teams, SEED).teams)
    shards.close()
