"""Ledgers old enough to be archived, told day by day, and what is compared of them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from consumers.batches import PartitionKey
from consumers.stream_record import StreamRecord
from consumers.usage import PartitionRead, settle_reads
from consumers.usage_encoding import encode_usage
from domain.usage import UsageRecord
from infra.failpoints import VARIABLE
from infra.postgres.archiving import Sizes
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.read_models import Projector, StatementModel
from infra.postgres.shards import ShardMap
from infra.settings import REPOSITORY
from tests.builders import a_usage_record, when
from tests.infra.stored import rows
from tests.projections.ledgers import CATALOGUE, ATeam

START = when("2026-01-05 00:00")
BEFORE = when("2026-03-01 00:00")
"""January and February may leave."""

SMALL = Sizes(group_events=7, file_events_max=21, chunk_events=5)
TEAMS = ("acme", "orion", "gamma", "iota", "delta")
"""The first two share a shard, and the next two."""

PARTITION = PartitionKey("cluster-1", "topic-1", "usage", 0)
TABLES = {
    "ledger_events": "shard, position",
    "account_head": "shard, team_id",
    "team_head": "shard, team_id",
    "work_head": "shard, team_id, work_id",
    "account_index": "shard, team_id, kind, key",
    "shard_log": "shard",
    "statement_entry": "shard, team_id, version",
    "archived_claim": "shard, usage_key",
}


def an_old_ledger(shards: ShardMap, *, days: int = 100, teams: Sequence[str] = TEAMS) -> dict[str, ATeam]:
    """Teams that lived from January on, one decision each every other day, and whose statements are told."""
    living = {team_id: ATeam(shards, team_id, at="2026-01-05 00:00") for team_id in teams}
    for day in range(0, days, 2):
        for team in living.values():
            team.at = START + timedelta(days=day)
            team.live(day, 1)
    project(shards)
    return living


def project(shards: ShardMap) -> None:
    """The statement knows everything that is in the log."""
    projector = Projector(StatementModel())
    for shard in range(shards.count):
        with shards.own_connection_for(shard) as connection:
            connection.autocommit = True
            while projector.advance(connection, shard) is not None:
                pass


def dump(database_url: str) -> dict[str, list[Any]]:
    """Every row of what an archive may touch, or must not."""
    return {
        table: rows(database_url, f"SELECT * FROM {table} ORDER BY {order}")
        for table, order in TABLES.items()
    }


def streamed(shards: ShardMap, *records: UsageRecord, now: datetime) -> list[tuple[str, str]]:
    """What a worker's own path makes of the records: their outcomes that are no event, with what they say."""
    store = PostgresBatchStore(shards, clock=lambda _: now)
    try:
        store.register(PARTITION, 0)
        first = store.next_offset(PARTITION)
        assert first is not None
        read = [_record(each, first + place) for place, each in enumerate(records)]
        batch = settle_reads(store, [PartitionRead(PARTITION, first, first + len(read), read)], CATALOGUE)
        return [(each.outcome, each.detail or each.reason) for each in batch.outcomes]
    finally:
        store.close()


def _record(usage: UsageRecord, offset: int) -> StreamRecord:
    encoded = encode_usage(usage)
    return StreamRecord(
        PARTITION.topic,
        PARTITION.partition,
        offset,
        encoded.key,
        encoded.value,
        encoded.headers,
        usage.arrived_at,
    )


def used(team: str, record_id: str, units: int, at: str) -> UsageRecord:
    """A record that arrives when it was used."""
    return a_usage_record(record_id, units, occurred=at, team=team)


def run(failpoint: str, script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A process of its own that runs the script, and dies at the failpoint."""
    return subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=REPOSITORY,
        env={**os.environ, VARIABLE: failpoint},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def manifests(database_url: str, shard: int | None = None) -> list[Path]:
    """Where the archives are, of a shard or of all, in order."""
    asked = "SELECT manifest FROM archive WHERE %s::integer IS NULL OR shard = %s ORDER BY shard, month"
    found = rows(database_url, asked, shard, shard)
    return [Path(manifest) for (manifest,) in found]
