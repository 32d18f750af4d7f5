"""Whatever is killed while the day runs, the ledger ends as if nothing had happened (I4, I5, I9, I15, I17)."""

from __future__ import annotations

import os
import random
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from infra.kafka.broker import describe_partitions
from infra.local.demo_day import DAY, DemoDay
from infra.local.kafka import LocalKafka
from infra.local.opening import open_teams, publish_demo
from infra.local.postgres import LocalPostgres
from infra.local.producing import end_offsets, produce, tally
from infra.local.streams import DemoDayStream
from infra.postgres.migrations import migrate
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from infra.project import ProjectorLoop
from infra.topics import TOPICS, USAGE, create_topics
from tests.conftest import database_of, with_database
from tests.crash.ledgers_compared import (
    heads_digest,
    log_digest,
    lot_vectors,
    offsets_with_an_outcome,
    outcomes,
)
from tests.crash.strikes import Battle

RECORDS = int(os.environ.get("COFFER_KILL_RECORDS", "20000"))
STRIKES = ["kill_worker"] * 14 + ["kill_projector"] * 6 + ["stop_postgres_hard"] * 4 + ["kill_broker"] * 2


@pytest.fixture
def stream() -> DemoDayStream:
    """The day that ends now."""
    start = (datetime.now(UTC) - DAY - timedelta(minutes=1)).replace(microsecond=0)
    return DemoDayStream(DemoDay(11, start, RECORDS))


@pytest.fixture
def ledgers(own_postgres: LocalPostgres, stream: DemoDayStream) -> tuple[str, str]:
    """Two fresh databases with the same card, teams and credits; they end with their server."""
    urls = [with_database(own_postgres.url, name) for name in ("calm", "struck")]
    for url in urls:
        with psycopg.connect(own_postgres.url, autocommit=True) as admin:
            admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database_of(url))))
        migrate(url, 8)
        shards = ShardMap(url)
        open_teams(shards, stream, publish_demo(shards, stream))
        shards.close()
    return urls[0], urls[1]


def test_the_day_ends_the_same_whatever_is_killed(
    ledgers: tuple[str, str],
    own_postgres: LocalPostgres,
    own_kafka: LocalKafka,
    stream: DemoDayStream,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calm, struck = ledgers
    seed = int(os.environ.get("COFFER_KILL_SEED") or int.from_bytes(os.urandom(4)))
    dice = random.Random(seed)
    create_topics(own_kafka.bootstrap, TOPICS)
    produce(own_kafka.bootstrap, USAGE, stream, lambda _: None)
    partitions = describe_partitions(own_kafka.bootstrap, [USAGE])
    ends = end_offsets(own_kafka.bootstrap, partitions)

    def say(line: str) -> None:
        with capsys.disabled():
            print(f"  {line}", flush=True)

    say(f"\nkills with seed {seed} (COFFER_KILL_SEED={seed} repeats them), {len(stream)} records")
    _run(Battle(own_postgres, own_kafka, calm, len(stream), say, tmp_path), [], dice)
    _run(
        Battle(own_postgres, own_kafka, struck, len(stream), say, tmp_path),
        dice.sample(STRIKES, len(STRIKES)),
        dice,
    )

    expected = tally((sent.outcome, sent.reason) for sent in stream)
    every_offset = sorted((each.partition, offset) for each, end in ends.items() for offset in range(end))
    for url in (calm, struck):
        assert outcomes(url) == expected
        assert offsets_with_an_outcome(url) == every_offset
        assert _findings(url) == []
    assert lot_vectors(struck) == lot_vectors(calm)
    assert heads_digest(struck) == heads_digest(calm)
    assert log_digest(struck) == log_digest(calm)
    say(f"digest of the heads {heads_digest(calm)[:16]}, of the log {log_digest(calm)[:16]}, both runs")


def _run(battle: Battle, strikes: list[str], dice: random.Random) -> None:
    try:
        battle.fight(strikes, dice)
        battle.wait_for(RECORDS)
    finally:
        codes = battle.worker.stop(), battle.projector.stop()
    # A projector that took over a moment ago may be told to end before it listens for that.
    assert codes in {(0, 0), (0, -signal.SIGTERM)}, (
        f"ended with {codes}:\n{battle.worker.log()}\n{battle.projector.log()}"
    )


def _findings(database_url: str) -> list[str]:
    """What `verify` finds once the statement has caught up."""
    shards = ShardMap(database_url)
    try:
        ProjectorLoop(shards).catch_up()
        return [finding.text() for finding in verify(shards).findings]
    finally:
        shards.close()
