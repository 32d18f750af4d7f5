"""How many records a second everything sustains together: ``python -m tests.bench.soak --minutes 10`` (`make soak MINUTES=10`).

Two workers, the projector and the API run as processes beside PostgreSQL and Kafka. The producer goes as fast as every read
model keeps up: it slows down when the newest records are not yet shown after a second, and speeds up when they are soon.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from multiprocessing import get_context
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import psutil
import psycopg

from consumers.stream_record import StreamRecord
from infra.local.kafka import LocalKafka
from infra.local.postgres import LocalPostgres
from infra.postgres.migrations import migrate
from infra.topics import TOPICS, USAGE, create_topics
from tests.bench.demand import PARTITIONS, Demand
from tests.bench.feeding import TOGETHER_MAX, Feeder, Ready, again, ready
from tests.bench.rounds import SEED, SHARDS, ProcessorTime, circumstances, own_kafka, own_postgres, write
from tests.bench.streaming import prepare
from tests.conftest import fresh_database
from tests.serving import serving_process

KEYS = ("sustained_records_per_second", "freshness_p99_seconds", "memory_growth")
LOOK_SECONDS = 0.1
STEER_SECONDS = 1.0
LATE_SECONDS, EARLY_SECONDS = 1.2, 0.7
SLOWER, FASTER = 0.9, 1.03
RATE_AT_FIRST, RATE_MIN, RATE_MAX = 3_000.0, 200.0, 60_000.0
SETTLING_SECONDS = 45.0
MEMORY_SECONDS = 5.0
TEMPLATES = 20_000
TICK_SECONDS = 0.01
_ID = b"soak-%011d"
FRESH_SECONDS = 2.0


class Look(NamedTuple):
    """One look: its instant, and how many records were sent and settled, events written and shown."""

    at: float
    sent: int
    settled: int
    written: int
    shown: int

    @property
    def behind(self) -> int:
        """Records on their way, and events not yet shown."""
        return self.sent - self.settled + self.written - self.shown


def produce(bootstrap: str, teams: int, rate: Synchronized[float], sent_so_far: Synchronized[int]) -> None:
    """Usage goes to the topic at the rate, which may change at any time; below zero means to end.

    The records are those of the bench, again and again, each time under an id of its own.
    """
    templates = [_template(each) for each in Demand(teams, SEED).stream(TEMPLATES)]
    feeder = Feeder(bootstrap, USAGE)
    sent, began, base = 0, time.monotonic(), 0.0
    while (wanted := rate.value) >= 0:
        base += wanted * (-began + (began := time.monotonic()))
        while sent < int(base):
            due: dict[int, list[Ready]] = {number: [] for number in range(PARTITIONS)}
            until = min(int(base), sent + TOGETHER_MAX)
            for number in range(sent, until):
                partition, template = templates[number % TEMPLATES]
                due[partition].append(again(template, _ID % number))
            sent = until
            sent_so_far.value = sent
            feeder.send(due)
        time.sleep(TICK_SECONDS)
    feeder.close()


def _template(record: StreamRecord) -> tuple[int, Ready]:
    """The record's partition, and the record with its id at the end."""
    others = [(name, value) for name, value in record.headers if name != "ce_id"]
    return record.partition, ready(record.key, record.value, [*others, ("ce_id", _ID % 0)])


class Watching:
    """Counts in PostgreSQL what is settled, written and shown."""

    def __init__(self, database_url: str, sent: Synchronized[int]) -> None:
        self._connection = psycopg.connect(database_url, autocommit=True)
        self._sent = sent
        _, _, written, _ = self._counted()
        self._written_before = written

    def look(self) -> Look:
        """How things stand now."""
        sent = self._sent.value
        at, settled, written, shown = self._counted()
        return Look(at, sent, settled, written - self._written_before, shown - self._written_before)

    def close(self) -> None:
        """The connection is closed."""
        self._connection.close()

    def _counted(self) -> tuple[float, int, int, int]:
        row = self._connection.execute(
            "SELECT coalesce((SELECT sum(next_offset) FROM consumed WHERE topic = %s), 0)::bigint,"
            " (SELECT sum(position) FROM shard_log)::bigint,"
            " coalesce((SELECT sum(least) FROM (SELECT min(position) AS least FROM tracking GROUP BY shard) AS s), 0)::bigint",
            (USAGE,),
        ).fetchone()
        assert row is not None
        return time.monotonic(), int(row[0]), int(row[1]), int(row[2])


def freshness(looks: Sequence[Look]) -> list[float]:
    """For each look, the seconds until all that had been sent by then was shown; the last ones, not shown yet, are left out."""
    settled = [look.settled for look in looks]
    shown = [look.shown for look in looks]
    took: list[float] = []
    for look in looks:
        first = bisect_left(settled, look.sent)
        if first == len(looks):
            break
        second = max(first, bisect_left(shown, looks[first].written))
        if second == len(looks):
            break
        took.append(looks[second].at - look.at)
    return took


class Soak:
    """One run."""

    def __init__(self, postgres: LocalPostgres, kafka: LocalKafka, teams: int, stack: ExitStack) -> None:
        self._postgres, self._kafka = postgres, kafka
        self._url = stack.enter_context(fresh_database(postgres.url, "template0"))
        migrate(self._url, SHARDS)
        create_topics(kafka.bootstrap, TOPICS)
        prepare(self._url, teams)
        self._directory = Path(stack.enter_context(TemporaryDirectory()))
        self._processes: dict[str, psutil.Process] = {}
        self.memory: dict[str, list[float]] = {}
        for name, command in (("worker_1", "consume"), ("worker_2", "consume"), ("projector", "project")):
            stack.enter_context(self._running(name, command))
        served = stack.enter_context(serving_process(self._url, self._directory))
        self._processes["api"] = psutil.Process(served.process.pid)
        context = get_context("spawn")
        self._rate, self._sent = context.Value("d", 0.0), context.Value("q", 0)
        self._watching = Watching(self._url, self._sent)
        stack.callback(self._watching.close)
        producer = context.Process(
            target=produce, args=(kafka.bootstrap, teams, self._rate, self._sent), daemon=True
        )
        producer.start()
        stack.callback(self._end, producer)
        self._producer_pid = producer.pid or 0
        self._wait_for_group()

    def steer(self, seconds: float, rate: float) -> tuple[list[Look], float]:
        """Looks over so many seconds, and the rate at their end."""
        looks: list[Look] = []
        until = time.monotonic() + seconds
        steer_at = memory_at = 0.0
        while (now := time.monotonic()) < until:
            self._rate.value = rate
            looks.append(look := self._watching.look())
            if now > steer_at:
                steer_at = now + STEER_SECONDS
                late = look.behind / rate
                rate *= SLOWER if late > LATE_SECONDS else FASTER if late < EARLY_SECONDS else 1.0
                rate = min(max(rate, RATE_MIN), RATE_MAX)
            if now > memory_at:
                memory_at = now + MEMORY_SECONDS
                self._weigh()
            time.sleep(LOOK_SECONDS)
        return looks, rate

    def processor(self) -> dict[str, ProcessorTime]:
        """What counts the processor time of each part."""
        pids = {name: process.pid for name, process in self._processes.items()}
        pids |= {
            "postgresql": self._postgres.pid or 0,
            "broker": self._kafka.pid or 0,
            "producer": self._producer_pid,
        }
        return {name: ProcessorTime(pid) for name, pid in pids.items()}

    def finish(self) -> Look:
        """Nothing is sent any more, and all that was is shown."""
        self._rate.value = 0.0
        until = time.monotonic() + 120
        while (look := self._watching.look()).behind:
            assert time.monotonic() < until, f"not shown two minutes after the end: {look}"
            time.sleep(LOOK_SECONDS)
        return look

    def _weigh(self) -> None:
        for name, process in self._processes.items():
            self.memory.setdefault(name, []).append(process.memory_info().rss / 2**20)

    def _wait_for_group(self) -> None:
        """A few records have passed through both workers and the projector."""
        self._rate.value = RATE_MIN
        until = time.monotonic() + 90
        while (look := self._watching.look()).shown < RATE_MIN:
            assert time.monotonic() < until, f"nothing is shown yet: {look}\n{self._logs()}"
            time.sleep(LOOK_SECONDS)

    def _logs(self) -> str:
        return "\n".join(path.read_text()[-1_000:] for path in sorted(self._directory.glob("*.log")))

    def _end(self, producer: Any) -> None:
        self._rate.value = -1.0
        producer.join(70)

    @contextmanager
    def _running(self, name: str, command: str) -> Iterator[None]:
        environment = os.environ | {
            "COFFER_DATABASE_URL": self._url,
            "COFFER_KAFKA_BOOTSTRAP": self._kafka.bootstrap,
            "COFFER_STATE_DIRECTORY": str(self._directory),
            "COFFER_LOG_LEVEL": "warning",
        }
        with (self._directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "infra.cli.main", command], env=environment, stdout=log, stderr=log
            )
        self._processes[name] = psutil.Process(process.pid)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """The figures of one run."""
    with ExitStack() as stack:
        postgres, kafka = stack.enter_context(own_postgres()), stack.enter_context(own_kafka())
        where = circumstances(postgres.url)
        soak = Soak(postgres, kafka, options.teams, stack)
        _, rate = soak.steer(SETTLING_SECONDS, RATE_AT_FIRST)
        soak.memory.clear()
        with ExitStack() as counted:
            used = {name: counted.enter_context(each) for name, each in soak.processor().items()}
            looks = _watched(soak, options.minutes, rate)
        last = soak.finish()
    records, seconds = looks[-1].settled - looks[0].settled, looks[-1].at - looks[0].at
    fresh = freshness(looks)
    return {
        "sustained_records_per_second": round(records / seconds),
        "freshness_p99_seconds": round(quantiles(fresh, n=100)[98], 2),
        "memory_growth": round(max(_growth(each) for each in soak.memory.values()), 3),
        "freshness_p50_seconds": round(median(fresh), 2),
        "freshness_most_seconds": round(max(fresh), 2),
        "share_within_two_seconds": round(sum(each <= FRESH_SECONDS for each in fresh) / len(fresh), 4),
        "minutes": round(seconds / 60, 2),
        "records": records,
        "records_in_all": last.settled,
        "cpu_microseconds_per_record": {
            name: round(each.seconds / records * 1e6, 1) for name, each in used.items()
        },
        "memory_mib": {name: [round(each[0]), round(each[-1])] for name, each in soak.memory.items()},
        "teams": options.teams,
        **where,
    }


def _watched(soak: Soak, minutes: float, rate: float) -> list[Look]:
    """The looks of all the minutes; a line a minute tells how it goes."""
    looks: list[Look] = []
    left = minutes * 60
    while left > 0:
        part, rate = soak.steer(min(60.0, left), rate)
        left -= 60
        looks += part
        done = (part[-1].settled - part[0].settled) / max(part[-1].at - part[0].at, 0.1)
        fresh = freshness(part) or [float("nan")]
        print(f"minute {len(looks) and round((looks[-1].at - looks[0].at) / 60)}: {done:,.0f} records/s, "
              f"shown after {median(fresh):.2f} s, at most {max(fresh):.2f} s", file=sys.stderr)  # fmt: skip
    return looks


def _growth(rss: Sequence[float]) -> float:
    """The last quarter of a process's memory as a part of the second; 1 is flat. The first quarter still fills caches."""
    quarter = max(1, len(rss) // 4)
    return median(rss[-quarter:]) / median(rss[quarter : 2 * quarter] or rss)


def show(figures: dict[str, Any]) -> str:
    """The figures to read."""
    return "\n".join(
        [
            f"{figures['machine']}, Python {figures['python']}, PostgreSQL {figures['postgresql']}, durability on",
            *(f"{key:32}{figures[key]:>12,}" for key in KEYS),
            f"{'shown within two seconds':32}{figures['share_within_two_seconds']:>12.2%}",
            "µs of processor a record: "
            + ", ".join(f"{name} {used}" for name, used in figures["cpu_microseconds_per_record"].items()),
            "MiB at first and last: "
            + ", ".join(f"{name} {a} {b}" for name, (a, b) in figures["memory_mib"].items()),
            figures["command"],
        ]
    )


def main() -> None:
    """Measured, printed, written down."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="Example: python -m tests.bench.soak --minutes 10",
    )
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--teams", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("out/soak.json"))
    options = parser.parse_args()
    figures = measure(options)
    write(figures, options.out)
    print(show(figures))


if __name__ == "__main__":
    main()
