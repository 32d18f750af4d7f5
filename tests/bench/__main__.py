"""The main figures, in less than ten minutes on two cores: ``python -m tests.bench`` (`make bench`) writes out/bench.json."""

from __future__ import annotations

import argparse
from pathlib import Path
from time import perf_counter
from typing import Any

from tests.bench import batch_path, growth, streaming
from tests.bench.picture import draw
from tests.bench.rounds import circumstances, own_kafka, own_postgres, write

KEYS = (
    "batch_vs_library_default",
    "batch_vs_copy",
    "two_workers_vs_one",
    "kafka_vs_memory",
    "rules_vs_trivial",
    "produce_to_commit_p99_ms",
    "hold_p99_ms",
    "hold_p99_ms_backlog",
    "balance_p99_ms",
    "balance_p99_ms_backlog",
)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures of one run on one PostgreSQL and one Kafka."""
    began = perf_counter()
    with own_postgres() as postgres:
        where = circumstances(postgres.url)
        memory = batch_path.measure(
            postgres, batch_path.Sizes(options.rounds, options.seconds, options.teams)
        )
        grown = growth.measure(postgres.url, options.growth_records)
        with own_kafka() as kafka:
            stream = streaming.measure(
                postgres,
                kafka,
                streaming.Size(
                    rounds=options.stream_rounds,
                    records=options.stream_records,
                    teams=options.teams,
                    steady_per_second=2_000,
                    steady_seconds=options.steady_seconds,
                    holds_per_second=25,
                ),
            )
    figures = grown | memory | stream
    for part in ("rows", "ratio_ranges"):
        figures[part] = memory[part] | stream[part]
    return (
        {key: figures[key] for key in KEYS} | figures | where | {"seconds": round(perf_counter() - began, 1)}
    )


def show(figures: dict[str, Any]) -> str:
    """The figures as a table to read."""
    lines = [
        f"{figures['machine']}, Python {figures['python']}, PostgreSQL {figures['postgresql']} on loopback, durability on",
        f"{figures['teams']:,} teams Zipf(1.0), eight lots, two limits, context of 300 bytes",
        f"medians of {figures['rounds']} rounds",
        "",
        f"{'':36}{'records/s':>10} {'range':>17} {'client':>8} {'server':>8}  µs of processor a record; window",
    ]
    for row in figures["rows"].values():
        low, high = row["range"]
        lines.append(
            f"{row['title']:36}{row['records_per_second']:>10,} {f'{low:,}..{high:,}':>17}"
            f" {row['client_cpu_microseconds']:>8.1f} {row['server_cpu_microseconds']:>8.1f}"
            f"  {row['window_seconds']:.0f} s"
        )
    lines += [f"{'the broker, from Kafka':36}{'':37}{figures['broker_cpu_microseconds']:>8.1f}", ""]
    for key in KEYS:
        bounds = figures["ratio_ranges"].get(key)
        lines.append(
            f"{key:28}{figures[key]:>9.2f}" + (f"  [{bounds[0]:.2f}..{bounds[1]:.2f}]" if bounds else "")
        )
    size = figures["bytes_per_charge"]
    indexes = size["events_key"] + size["events_position"] + size["events_claim"]
    context = size["context_table"] + size["context_index"]
    statement = size["statement_table"] + size["statement_index"]
    lines += [
        "",
        f"bytes a charge: events {size['events_table']:,.0f}, their indexes {indexes:,.0f}, context {context:,.0f},",
        f"statement {statement:,.0f}, write-ahead log {size['wal']:,.0f}",
        f"a year at 10,000 a second, in terabytes: {figures['year_at_10000_a_second_tb']}",
    ]
    lines.append(f"took {figures['seconds']:.0f} s: {figures['command']}")
    return "\n".join(lines)


def main() -> None:
    """Measured, printed, written down."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").partition("\n")[0],
        epilog="Example: python -m tests.bench --rounds 3 --seconds 2",
    )
    parser.add_argument(
        "--rounds", type=int, default=5, help="rounds of the batch path; fewer than 5 are no figure to quote"
    )
    parser.add_argument("--seconds", type=float, default=4.5, help="of each contestant in a round")
    parser.add_argument("--teams", type=int, default=10_000)
    parser.add_argument("--stream-rounds", type=int, default=3)
    parser.add_argument(
        "--stream-records", type=int, default=120_000, help="a round, from Kafka and from memory"
    )
    parser.add_argument(
        "--steady-seconds", type=float, default=25.0, help="of the steady stream and of the backlog"
    )
    parser.add_argument("--growth-records", type=int, default=20_000, help="charges whose bytes are counted")
    parser.add_argument("--out", type=Path, default=Path("out/bench.json"))
    options = parser.parse_args()
    figures = measure(options)
    write(figures, options.out)
    draw(figures, options.out.with_suffix(".svg"))
    print(show(figures))


if __name__ == "__main__":
    main()
