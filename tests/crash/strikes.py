"""A real worker and projector on real servers, and the ways in which they are killed while it works."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psycopg

from infra.local.children import COFFER
from infra.local.kafka import LocalKafka
from infra.local.postgres import LocalPostgres
from infra.settings import REPOSITORY

BATCH_RECORDS_MAX = 250
"""Small batches: many transactions to die in."""
SETTLED_SECONDS_MAX = 150.0

Say = Callable[[str], None]


class Running:
    """A command of `coffer` as a process of its own."""

    def __init__(self, command: list[str], database_url: str, bootstrap: str, directory: Path) -> None:
        self._command = command
        self._log = directory / f"{command[0]}.log"
        self._environment = os.environ | {
            "COFFER_DATABASE_URL": database_url,
            "COFFER_KAFKA_BOOTSTRAP": bootstrap,
            "COFFER_STATE_DIRECTORY": str(directory),
            "COFFER_BATCH_RECORDS_MAX": str(BATCH_RECORDS_MAX),
        }
        self._process = self._start()

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        return self._process.pid

    def kill(self) -> None:
        """The process got SIGKILL and another one took over."""
        self._process.kill()
        self._process.wait()
        self._process = self._start()

    def has_ended(self) -> bool:
        """Whether it ended by itself, which it must not."""
        return self._process.poll() is not None

    def stop(self) -> int:
        """The process was asked to end and did; returns its exit code."""
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(30)
        finally:
            self._process.kill()

    def log(self) -> str:
        """The end of what it logged."""
        return self._log.read_text()[-3_000:]

    def _start(self) -> subprocess.Popen[bytes]:
        with self._log.open("ab") as log:
            return subprocess.Popen(
                [*COFFER, *self._command], cwd=REPOSITORY, env=self._environment, stdout=log, stderr=log
            )


class Battle:
    """One stream, one worker, one projector, two servers; every strike is told with its time and place."""

    def __init__(
        self,
        postgres: LocalPostgres,
        kafka: LocalKafka,
        database_url: str,
        total: int,
        say: Say,
        directory: Path,
    ) -> None:
        self._postgres, self._kafka = postgres, kafka
        self._database_url = database_url
        self._total = total
        self._say = say
        self._began = time.monotonic()
        self.worker = Running(["consume", "--alone"], database_url, kafka.bootstrap, directory)
        self.projector = Running(["project"], database_url, kafka.bootstrap, directory)

    def fight(self, strikes: list[str], dice: random.Random) -> None:
        """Each strike has fallen, somewhere in the stream and within a few milliseconds of no particular moment."""
        places = sorted(dice.random() * 0.95 for _ in strikes)
        for strike, place in zip(strikes, places, strict=True):
            self.wait_for(int(place * self._total))
            time.sleep(0.06 * dice.random())
            self._tell(strike)
            getattr(self, f"_{strike}")()

    def wait_for(self, records: int) -> None:
        """At least so many records are settled."""
        deadline = time.monotonic() + SETTLED_SECONDS_MAX
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            while self._settled(connection) < records:
                assert not self.worker.has_ended(), f"the worker ended by itself:\n{self.worker.log()}"
                assert time.monotonic() < deadline, f"{records} records not settled:\n{self.worker.log()}"
                time.sleep(0.004)

    def _kill_worker(self) -> None:
        self.worker.kill()

    def _kill_projector(self) -> None:
        self.projector.kill()

    def _stop_postgres_hard(self) -> None:
        self._postgres.stop_at_once()
        self._postgres.start()

    def _kill_broker(self) -> None:
        self._kafka.kill()
        self._kafka.start()

    def _tell(self, strike: str) -> None:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            offsets = connection.execute("SELECT part, next_offset FROM consumed ORDER BY part").fetchall()
            settled = self._settled(connection)
        places = " ".join(f"{part}:{offset}" for part, offset in offsets)
        at = time.monotonic() - self._began
        self._say(f"{at:7.2f} s  {strike:<18} {settled:>6} of {self._total} settled, next offsets {places}")

    @staticmethod
    def _settled(connection: psycopg.Connection[tuple[object, ...]]) -> int:
        row = connection.execute("SELECT coalesce(sum(next_offset), 0)::bigint FROM consumed").fetchone()
        assert row is not None
        return int(str(row[0]))
