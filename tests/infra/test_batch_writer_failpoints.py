"""A worker that dies at any named place has written its whole batch or nothing of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from infra.failpoints import NAMES, VARIABLE
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.shards import ShardMap
from tests.infra.stored import PARTITION, opened, rows

ROOT = Path(__file__).resolve().parents[2]

WORKER = """
import sys
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.shards import ShardMap
from tests.infra.stored import PARTITION, advance, charge, usage

shards = ShardMap(sys.argv[1], application_name="dead")
store = PostgresBatchStore(shards)
left = sys.argv[2] == "overlapped"
for at in range(store.next_offset(PARTITION), 4):
    charge(store, [usage("acme", f"u{at}"), usage("zebra", f"u{at}")], left=left, advances=[advance(at, at + 1)])
store.confirm()
store.close()
shards.close()
"""


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url)
    yield shards
    shards.close()


@pytest.fixture
def store(shards: ShardMap) -> Iterator[PostgresBatchStore]:
    store = PostgresBatchStore(shards)
    yield store
    store.close()


@pytest.mark.parametrize("how", ["alone", "overlapped"])
@pytest.mark.parametrize("name", [each for each in NAMES if each.startswith("batch.")])
def test_a_worker_killed_at_any_place_wrote_all_or_nothing_i4_i5(
    database_url: str, shards: ShardMap, store: PostgresBatchStore, name: str, how: str
) -> None:
    opened(shards, "acme", "zebra")
    store.register(PARTITION, 0)

    killed = _worker(database_url, f"{name}:2", how)

    assert killed.returncode == -signal.SIGKILL, killed.stderr
    _ended(database_url)
    # Overlapped, the first batch may be left when the second begins; by then its COMMIT was sent.
    written = 2 if name in {"batch.after_commit", "batch.under_way"} else 1
    assert store.next_offset(PARTITION) == written
    assert rows(database_url, "SELECT count(*) FROM ledger_events WHERE usage_key IS NOT NULL") == [
        (2 * written,)
    ]

    finished = _worker(database_url, "", how)

    assert finished.returncode == 0, finished.stderr
    assert rows(database_url, "SELECT count(*) FROM ledger_events WHERE usage_key IS NOT NULL") == [(8,)]
    assert rows(database_url, "SELECT version, settled_micros FROM account_balance") == [(6, 996_000_000)] * 2


def test_a_place_that_does_not_exist_is_refused() -> None:
    asked = _worker("", "batch.nowhere:1", "alone")

    assert asked.returncode == 1
    assert "batch.nowhere" in asked.stderr


def _ended(database_url: str) -> None:
    """The server has done what the dead worker had sent it."""
    theirs = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'dead' AND datname = current_database()"
    deadline = monotonic() + 20
    while rows(database_url, theirs):
        assert monotonic() < deadline, "the session of a worker that is gone goes on"


def _worker(database_url: str, failpoint: str, how: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {VARIABLE: failpoint, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-c", WORKER, database_url, how],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
