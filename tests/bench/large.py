"""What grows: a long history, many teams, a big table: ``python -m tests.bench.large`` (`make bench-large`), up to 40 minutes."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import psycopg

from infra.local.postgres import LocalPostgres
from infra.postgres.migrations import migrate
from tests.bench import long_history
from tests.bench.batch_path import BATCH
from tests.bench.contestants import BatchPath, Measured
from tests.bench.rounds import (
    SEED,
    SHARDS,
    ProcessorTime,
    Ratio,
    Remote,
    Row,
    circumstances,
    own_postgres,
    write,
)
from tests.conftest import fresh_database

KEYS = (
    "history_1m_vs_1k",
    "teams_100k_vs_1k",
    "table_20m_vs_empty",
    "replay_events_per_second",
    "load_1m_team_ms",
    "peak_rss_mib",
)
WARM_RECORDS = 24_000
FEW_TEAMS, SEED_ROWS = 1_000, 100_000


class Pair:
    """Two workers with the same rules, each on its own database, measured in turn."""

    def __init__(self, server: LocalPostgres, rows: dict[str, Row], remotes: dict[str, Remote]) -> None:
        self._server, self.rows, self._remotes = server, rows, remotes

    def warm_up(self) -> None:
        """Caches and tables are as a worker finds them in its second minute."""
        for remote in self._remotes.values():
            remote("run_in_parts", WARM_RECORDS, BATCH)

    def measure(self, rounds: int, seconds: float) -> Ratio:
        """The first one's rate as a part of the second one's."""
        records = dict.fromkeys(self._remotes, WARM_RECORDS)
        order = random.Random(SEED)
        for number in range(rounds + 1):
            names = list(self._remotes)
            order.shuffle(names)
            for name in names:
                with ProcessorTime(self._server.pid or 0) as used:
                    measured: Measured = self._remotes[name]("run_in_parts", records[name], BATCH)
                if number:  # the first says how many records a round needs
                    self.rows[name].take(measured, used.seconds)
                records[name] = max(BATCH, round(measured.rate * seconds))
        first, second = self.rows.values()
        return Ratio.of(first.rates, second.rates)


def many_teams(server: LocalPostgres, options: argparse.Namespace) -> dict[str, Any]:
    """Events a second and peak memory with a hundred thousand teams, beside a thousand."""
    with ExitStack() as stack:
        urls = [stack.enter_context(fresh_database(server.url, "template0")) for _ in range(2)]
        for url in urls:
            migrate(url, SHARDS)
        rows = {
            "teams_many": Row("teams_many", f"{options.teams:,} teams"),
            "teams_few": Row("teams_few", f"{FEW_TEAMS:,} teams"),
        }
        many, few = (
            Remote(BatchPath, url, teams, SEED)
            for url, teams in zip(urls, (options.teams, FEW_TEAMS), strict=True)
        )
        stack.callback(many.close)
        stack.callback(few.close)
        pair = Pair(server, rows, {"teams_many": many, "teams_few": few})
        pair.warm_up()
        ratio = pair.measure(options.rounds, options.seconds)
        peak: float = many("peak_rss_mib")
    return {
        "teams_100k_vs_1k": ratio.median,
        "peak_rss_mib": round(peak, 1),
        "ratio_ranges": {"teams_100k_vs_1k": [ratio.low, ratio.high]},
        "rows": {row.name: row.told() for row in rows.values()},
    }


def big_table(server: LocalPostgres, options: argparse.Namespace) -> dict[str, Any]:
    """Events a second beside many millions of older ones, against a table that began empty."""
    with ExitStack() as stack:
        urls = [stack.enter_context(fresh_database(server.url, "template0")) for _ in range(2)]
        for url in urls:
            migrate(url, SHARDS)
        rows = {
            "table_big": Row("table_big", f"beside {options.table_rows:,} older events"),
            "table_empty": Row("table_empty", "in a table that began empty"),
        }
        big, empty = (Remote(BatchPath, url, options.table_teams, SEED) for url in urls)
        stack.callback(big.close)
        stack.callback(empty.close)
        big("run_in_parts", min(SEED_ROWS, options.table_rows), BATCH)
        _fill(urls[0], options.table_rows)
        pair = Pair(server, rows, {"table_big": big, "table_empty": empty})
        pair.warm_up()
        ratio = pair.measure(options.rounds, options.seconds)
        size = _size(urls[0])
    return {
        "table_20m_vs_empty": ratio.median,
        "ratio_ranges": {"table_20m_vs_empty": [ratio.low, ratio.high]},
        "rows": {row.name: row.told() for row in rows.values()},
        "table_rows": options.table_rows,
        "table_bytes": size,
    }


def _fill(url: str, rows: int) -> None:
    """So many events of other accounts lie in the table: the real ones, under other ids, at positions before the first."""
    with psycopg.connect(url, autocommit=True) as connection:
        found = connection.execute(
            "SELECT count(*) FROM ledger_events WHERE usage_key IS NOT NULL"
        ).fetchone()
        assert found is not None
        source, times = int(found[0]), 0
        assert source, "there is nothing to repeat"
        began = perf_counter()
        while times * source < rows:
            times += 1
            connection.execute(
                "INSERT INTO ledger_events"
                " SELECT shard, md5(originator_id::text || %(times)s)::uuid, originator_version,"
                " -(position + %(times)s * 10000000::bigint), topic, state,"
                " md5(usage_key::text || %(times)s)::uuid, previous_hash, hash"
                " FROM ledger_events WHERE usage_key IS NOT NULL AND position > 0",
                {"times": times},
            )
            print(f"big table: {times * source:,} rows, {perf_counter() - began:.0f} s", file=sys.stderr)
        connection.execute("ANALYZE ledger_events")
        connection.execute("CHECKPOINT")


def _size(url: str) -> int:
    with psycopg.connect(url) as connection:
        row = connection.execute("SELECT pg_total_relation_size('ledger_events')").fetchone()
    assert row is not None
    return int(row[0])


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one run on one PostgreSQL."""
    began = perf_counter()
    figures: dict[str, Any] = {}
    with own_postgres() as server:
        where = circumstances(server.url)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "long history": lambda: long_history.measure(server, options.events),
            "many teams": lambda: many_teams(server, options),
            "big table": lambda: big_table(server, options),
        }
        for name, part in parts.items():
            told = part()
            print(f"{name}: {perf_counter() - began:.0f} s", file=sys.stderr)
            for key in ("rows", "ratio_ranges"):
                told[key] = figures.get(key, {}) | told.get(key, {})
            figures |= told
    return (
        {key: figures[key] for key in KEYS} | figures | where | {"seconds": round(perf_counter() - began, 1)}
    )


def show(figures: dict[str, Any]) -> str:
    """The figures as a table to read."""
    lines = [
        f"{figures['machine']}, Python {figures['python']}, PostgreSQL {figures['postgresql']} on loopback, durability on",
        "",
    ]
    for row in figures["rows"].values():
        low, high = row["range"]
        lines.append(
            f"{row['title']:36}{row['records_per_second']:>10,} {f'{low:,}..{high:,}':>17}"
            f" {row['client_cpu_microseconds']:>8.1f} {row['server_cpu_microseconds']:>8.1f}  {row['window_seconds']:.0f} s"
        )
    lines.append("")
    for key in KEYS:
        bounds = figures["ratio_ranges"].get(key)
        lines.append(
            f"{key:28}{figures[key]:>12,.2f}" + (f"  [{bounds[0]:.2f}..{bounds[1]:.2f}]" if bounds else "")
        )
    lines.append(f"took {figures['seconds']:.0f} s: {figures['command']}")
    return "\n".join(lines)


def main() -> None:
    """Measured, printed, written down."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="Example: python -m tests.bench.large --teams 20000 --table-rows 1000000 --events 100000",
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.5, help="of each contestant in a round")
    parser.add_argument("--teams", type=int, default=100_000)
    parser.add_argument("--table-rows", type=int, default=20_000_000)
    parser.add_argument("--table-teams", type=int, default=10_000)
    parser.add_argument("--events", type=int, default=1_000_000, help="of the team with the long history")
    parser.add_argument("--out", type=Path, default=Path("out/bench-large.json"))
    options = parser.parse_args()
    figures = measure(options)
    write(figures, options.out)
    print(show(figures))


if __name__ == "__main__":
    main()
