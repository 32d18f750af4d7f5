"""What a charge leaves behind, in bytes, before and after its month is archived; and what a year of them comes to.

`python -m tests.bench.growth` prints it; ``measure`` gives the figures to whoever measures more than this.
"""

from __future__ import annotations

import argparse
import random
import shutil
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import mkdtemp
from time import perf_counter, process_time
from typing import Any
from uuid import UUID

import psycopg
from psycopg.rows import TupleRow
from structlog.testing import capture_logs

from infra.postgres.archive_files import COMPRESSION_LEVEL
from infra.postgres.archived import month_of
from infra.postgres.archiving import Sizes, _Archiving
from infra.postgres.heads import load_claims
from infra.postgres.migrations import migrate
from infra.postgres.read_models import Projector, StatementModel
from infra.postgres.shards import ShardMap
from tests.bench.contestants import BatchPath
from tests.bench.rounds import own_postgres
from tests.conftest import fresh_database

RECORDS = 40_000
TEAMS = 2_000
BATCH = 4_000
A_SECOND = 10_000
SECONDS_A_YEAR = 365 * 24 * 3_600
ASKED = 4_000
ROUNDS = 41
TERA = 10**12

# As it was before claims had two homes; measured beside it in the same session.
_ONE_HOME = (
    "SELECT e.usage_key, e.originator_version, e.topic, e.state, e.originator_id"
    " FROM unnest(%b::integer[], %b::integer[], %b::integer[]) AS asked (shard, first, last) CROSS JOIN LATERAL ("
    " SELECT * FROM ledger_events AS own"
    " WHERE own.shard = asked.shard AND own.usage_key = ANY((%b::uuid[])[asked.first:asked.last])) AS e"
)
_WORKER = "-c enable_hashjoin=off -c enable_mergejoin=off -c enable_seqscan=off"

Connection = psycopg.Connection[TupleRow]


def measure(server_url: str, records: int = RECORDS, teams: int = TEAMS) -> dict[str, Any]:
    """Bytes a charge, by place; a year of 10,000 a second in terabytes; what asking for claims costs, in microseconds."""
    with fresh_database(server_url, "template0") as url:
        migrate(url, 8)
        path = BatchPath(url, teams, seed=7)
        shards = ShardMap(url)
        directory = Path(mkdtemp(prefix="coffer-growth-"))
        try:
            return _measured(path, shards, records, directory)
        finally:
            path.close()
            shards.close()
            shutil.rmtree(directory, ignore_errors=True)


def _measured(path: BatchPath, shards: ShardMap, records: int, directory: Path) -> dict[str, Any]:
    with shards.own_connection_for(0, "-c statement_timeout=0") as connection:
        connection.autocommit = True
        before, wal_before = _places(connection), _wal(connection)
        path.run(records, BATCH)
        wal = (_wal(connection) - wal_before) / records
        _project(shards, connection)
        after = _places(connection)
        charge = {name: round((size - before[name]) / records, 1) for name, size in after.items()}
        asking = {"empty_archive": _asking(shards)}
        archived = _archive(shards, directory)
        asking["all_archived"] = _asking(shards)
        asked = "SELECT pg_table_size('archived_claim'), pg_indexes_size('archived_claim')"
        claims = connection.execute(asked).fetchone()
    assert claims is not None
    events = archived["events"]
    after_archive = {
        "parquet": round(archived["bytes"] / events, 1),
        "claim_table": round(claims[0] / records, 1),
        "claim_index": round(claims[1] / records, 1),
    }
    figures: dict[str, Any] = {
        "growth_records": records,
        "bytes_per_charge": charge | {"wal": round(wal, 1)},
        "bytes_per_charge_archived": after_archive,
        "parquet_compression": round((charge["events_table"]) / after_archive["parquet"], 2),
        "parquet_level": COMPRESSION_LEVEL,
        "archive_microseconds_per_event": archived["microseconds"],
        "claims_microseconds_per_record": asking,
    }
    return figures | {"year_at_10000_a_second_tb": _year(charge, wal, after_archive)}


def _places(connection: Connection) -> dict[str, int]:
    """Bytes of every place that a charge leaves something in."""
    row = connection.execute(
        "SELECT pg_table_size('ledger_events'), pg_relation_size('ledger_events_pkey'),"
        " pg_relation_size('ledger_events_position'), pg_relation_size('ledger_events_usage_key'),"
        " pg_table_size('usage_context'), pg_indexes_size('usage_context'), pg_table_size('statement_entry'),"
        " pg_indexes_size('statement_entry'), pg_total_relation_size('account_head')"
    ).fetchone()
    assert row is not None
    names = (
        "events_table",
        "events_key",
        "events_position",
        "events_claim",
        "context_table",
        "context_index",
        "statement_table",
        "statement_index",
        "heads",
    )
    return dict(zip(names, row, strict=True))


def _wal(connection: Connection) -> int:
    row = connection.execute("SELECT pg_current_wal_lsn() - '0/0'::pg_lsn").fetchone()
    assert row is not None
    return int(row[0])


def _project(shards: ShardMap, connection: Connection) -> None:
    projector = Projector(StatementModel())
    for shard in range(shards.count):
        while projector.advance(connection, shard) is not None:
            pass


def _archive(shards: ShardMap, directory: Path) -> dict[str, Any]:
    """Every event leaves, as those of a closed month do; the bytes of its files, and the processor time of this process."""
    events, began = 0, process_time()
    for shard in range(shards.count):
        with shards.own_connection_for(shard, "-c statement_timeout=0") as connection, capture_logs():
            connection.autocommit = True
            row = connection.execute(
                "SELECT position, now() FROM shard_log WHERE shard = %s", (shard,)
            ).fetchone()
            assert row is not None
            work = _Archiving(connection, shards.count, shard, directory, Sizes(), lambda _: None)
            events += work._finish(work._write(month_of(row[1]), 1, row[0])).removed
    took = process_time() - began
    sizes = sum(each.stat().st_size for each in directory.rglob("*.parquet"))
    return {"events": events, "bytes": sizes, "microseconds": round(took / events * 1e6, 1)}


def _asking(shards: ShardMap) -> dict[str, float]:
    """What asking for a batch of fresh claims costs a record: of the log alone, and of the log and archived claims."""
    draw = random.Random(7)
    keys: dict[int, list[str]] = defaultdict(list)
    for number in range(ASKED):
        keys[number % shards.count].append(UUID(int=draw.getrandbits(128)).hex)
    with shards.own_connection_for(0, _WORKER) as connection:
        cursor = connection.cursor()
        times: dict[str, list[float]] = {"log_alone": [], "log_and_archived": []}
        for _ in range(ROUNDS):
            began = perf_counter()
            cursor.execute(_ONE_HOME, _values(keys), binary=True)
            assert cursor.fetchall() == []
            times["log_alone"].append(perf_counter() - began)
            began = perf_counter()
            assert load_claims(cursor, keys) == {}
            times["log_and_archived"].append(perf_counter() - began)
    return {name: round(min(each) / ASKED * 1e6, 2) for name, each in times.items()} | {
        "median_ratio": round(
            median(
                both / alone
                for alone, both in zip(times["log_alone"], times["log_and_archived"], strict=True)
            ),
            2,
        )
    }


def _values(keys: dict[int, list[str]]) -> Sequence[object]:
    from infra.postgres.heads import _Keys

    ends, firsts, end = [], [], 0
    for each in keys.values():
        firsts.append(end + 1)
        end += len(each)
        ends.append(end)
    return list(keys), firsts, ends, _Keys([key for each in keys.values() for key in each])


def _year(charge: dict[str, float], wal: float, archived: dict[str, float]) -> dict[str, float]:
    """Terabytes (10^12) that a year of 10,000 charges a second adds, by what they are for."""
    index = charge["events_key"] + charge["events_position"] + charge["events_claim"]
    bytes_each = {
        "events_table": charge["events_table"],
        "events_indexes": index,
        "contexts": charge["context_table"] + charge["context_index"],
        "statement": charge["statement_table"] + charge["statement_index"],
        "wal_written": wal,
        "archived_parquet": archived["parquet"],
        "archived_claims": archived["claim_table"] + archived["claim_index"],
    }
    return {name: round(each * A_SECOND * SECONDS_A_YEAR / TERA, 1) for name, each in bytes_each.items()}


def show(figures: dict[str, Any]) -> str:
    """The figures as lines to read."""
    lines = [f"bytes a charge, of {figures['growth_records']:,}:"]
    for name, size in (figures["bytes_per_charge"] | figures["bytes_per_charge_archived"]).items():
        lines.append(f"  {name:18}{size:>9,.1f}")
    lines.append("a year at 10,000 a second, terabytes:")
    lines += [f"  {name:18}{size:>9,.1f}" for name, size in figures["year_at_10000_a_second_tb"].items()]
    lines.append(
        f"events table : Parquet {figures['parquet_compression']}, archiving and reading back"
        f" {figures['archive_microseconds_per_event']} µs of processor an event"
    )
    for when, asked in figures["claims_microseconds_per_record"].items():
        lines.append(f"asking for claims, {when}, µs a record: {asked}")
    return "\n".join(lines)


def main() -> None:
    """Measured on a PostgreSQL of its own, and printed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--records", type=int, default=RECORDS)
    parser.add_argument("--teams", type=int, default=TEAMS)
    options = parser.parse_args()
    with own_postgres() as server:
        print(show(measure(server.url, options.records, options.teams)))


if __name__ == "__main__":
    main()
