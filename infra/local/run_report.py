"""What became of the records of one run, read from the ledger: a table for people, a file for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from psycopg import Cursor
from psycopg.rows import TupleRow, tuple_row

from consumers.batches import PartitionKey
from domain.account.events import CreditsCharged
from domain.amounts import format_credits
from infra.local.producing import Tally
from infra.postgres.shards import ShardMap

OUTCOMES = ("charged", "waived", "duplicate", "conflict", "parked", "rejected")
STATEMENT = "statement"


class Span(NamedTuple):
    """Offsets of one partition, the end excluded."""

    first: int
    end: int


Spans = Mapping[PartitionKey, Span]


class RunResult(msgspec.Struct, frozen=True):
    """The file ``out/run.json``: records by outcome and reason, what was charged to how many teams, and how long it took.

    ``payments`` are the facts of the payments stream by outcome and kind, ``events`` what the ledger wrote by name,
    ``holds_denied`` the holds that were not given, repetitions counted; ``holds_captured`` the charges paid by their hold.
    """

    records: int
    outcomes: Tally
    charged_micros: int
    teams_charged: int
    seconds: float
    payments: Tally = {}
    events: dict[str, int] = {}
    holds_denied: int = 0
    holds_captured: int = 0

    def count(self, outcome: str) -> int:
        """The records of an outcome, whatever the reason."""
        return sum(self.outcomes.get(outcome, {}).values())

    def write(self, path: Path) -> None:
        """The file holds this result, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}")
        draft.write_text(json.dumps(msgspec.to_builtins(self), indent=2, sort_keys=True) + "\n")
        draft.replace(path)


def settled_records(shards: ShardMap, spans: Spans) -> int:
    """How many of the offsets have been taken by the ledger, outcome and all."""
    taken = 0
    for partition, span in spans.items():
        with _home(shards, partition) as cursor:
            cursor.execute(
                "SELECT next_offset FROM consumed"
                " WHERE shard = %s AND cluster_id = %s AND topic_id = %s AND part = %s",
                (partition.partition % shards.count, *partition[:2], partition.partition),
            )
            row = cursor.fetchone()
            taken += max(0, min(row[0], span.end) - span.first) if row else 0
    return taken


def events_to_project(shards: ShardMap) -> int:
    """How many events of the ledger the statement does not show yet."""
    behind = 0
    for shard in range(shards.count):
        with _cursor(shards, shard) as cursor:
            cursor.execute(
                "SELECT l.position - coalesce(t.position, 0) FROM shard_log l"
                " LEFT JOIN tracking t ON t.shard = l.shard AND t.projection = %s WHERE l.shard = %s",
                (STATEMENT, shard),
            )
            row = cursor.fetchone()
            behind += max(0, row[0]) if row else 0
    return behind


def halted_partitions(shards: ShardMap) -> list[str]:
    """Why each halted partition was halted, by its name."""
    halted: list[str] = []
    for shard in range(shards.count):
        with _cursor(shards, shard) as cursor:
            cursor.execute(
                "SELECT topic, part, halted FROM consumed WHERE shard = %s AND halted IS NOT NULL", (shard,)
            )
            halted += [f"{topic}/{part} is halted: {why}" for topic, part, why in cursor]
    return halted


def run_result(shards: ShardMap, spans: Spans, seconds: float) -> RunResult:
    """What became of the records at these offsets, whole batches of them.

    Charges are found by the Kafka coordinates that their events carry.
    """
    outcomes = tally_of(shards, spans)
    micros, teams = _charges(shards, spans)
    records = sum(count for reasons in outcomes.values() for count in reasons.values())
    # Every outcome is there, so that none has to be guessed: an empty one stands for no record.
    ordered = {each: dict(sorted(outcomes.get(each, {}).items())) for each in OUTCOMES}
    return RunResult(records, ordered, micros, teams, round(seconds, 3))


def tally_of(shards: ShardMap, spans: Spans) -> Tally:
    """The records at these offsets by outcome and reason, whole batches of them."""
    outcomes: Tally = {}
    for partition, span in spans.items():
        with _home(shards, partition) as cursor:
            _add_outcomes(cursor, partition, span, shards.count, outcomes)
    return outcomes


def _add_outcomes(
    cursor: Cursor[TupleRow], partition: PartitionKey, span: Span, shards: int, outcomes: Tally
) -> None:
    cursor.execute(
        "SELECT o.key, r.key, sum(r.value::bigint)::bigint FROM consumed_batch b,"
        " jsonb_each(b.outcomes) o, jsonb_each_text(o.value) r"
        " WHERE b.shard = %s AND b.cluster_id = %s AND b.topic_id = %s AND b.part = %s"
        " AND b.first_offset >= %s AND b.first_offset < %s GROUP BY 1, 2",
        (partition.partition % shards, *partition[:2], partition.partition, *span),
    )
    for outcome, reason, count in cursor:
        reasons = outcomes.setdefault(outcome, {})
        reasons[reason] = reasons.get(reason, 0) + count


def _charges(shards: ShardMap, spans: Spans) -> tuple[int, int]:
    """The sum of the charges, and how many teams have one."""
    topics = [each.topic for each in spans]
    parts = [each.partition for each in spans]
    firsts, ends = [each.first for each in spans.values()], [each.end for each in spans.values()]
    micros = teams = 0
    for shard in range(shards.count):
        with _cursor(shards, shard) as cursor:
            cursor.execute(
                "WITH charge AS (SELECT originator_id, convert_from(state, 'UTF8')::jsonb AS event"
                " FROM ledger_events WHERE shard = %s AND topic = ANY(%s))"
                " SELECT coalesce(sum((event->>'amount_micros')::bigint), 0)::bigint, count(DISTINCT originator_id)"
                " FROM charge JOIN unnest(%s::text[], %s::int[], %s::bigint[], %s::bigint[]) AS span(topic, part, first, past)"
                " ON event->'origin'->>0 = span.topic AND (event->'origin'->>1)::int = span.part"
                " AND (event->'origin'->>2)::bigint >= span.first AND (event->'origin'->>2)::bigint < span.past",
                (shard, [CreditsCharged.TOPIC, *CreditsCharged.OLD_TOPICS], topics, parts, firsts, ends),
            )
            row = cursor.fetchone()
            assert row is not None
            micros, teams = micros + row[0], teams + row[1]
    return micros, teams


def _home(shards: ShardMap, partition: PartitionKey) -> AbstractContextManager[Cursor[TupleRow]]:
    return _cursor(shards, partition.partition % shards.count)


@contextmanager
def _cursor(shards: ShardMap, shard: int) -> Iterator[Cursor[TupleRow]]:
    with shards.connection_for(shard) as connection, connection.cursor(row_factory=tuple_row) as cursor:
        yield cursor


def as_table(result: RunResult) -> str:
    """The records by outcome and reason, as lines of text."""
    rows = [
        (outcome, reason or "-", f"{count:,}")
        for outcome in OUTCOMES
        for reason, count in result.outcomes.get(outcome, {}).items()
    ]
    rows.append(("all records", "", f"{result.records:,}"))
    reason_width = max(len("reason"), *(len(row[1]) for row in rows))
    lines = [f"  {outcome:<12} {reason:<{reason_width}} {count:>10}" for outcome, reason, count in rows]
    rule = "  " + "-" * (len(lines[0]) - 2)
    lines = [
        f"  {'outcome':<12} {'reason':<{reason_width}} {'records':>10}",
        rule,
        *lines[:-1],
        rule,
        lines[-1],
    ]
    return "\n".join([*lines, "", f"  {_sum(result)}", *_story(result)])


_STORY = (
    (
        "holds",
        (("made", "CreditsHeld"), ("released by failed work", "HoldReleased"), ("expired", "HoldExpired")),
    ),
    ("plans", (("assigned", "PlanAssigned"), ("allowances", "AllowanceGranted"))),
    ("limits", (("thresholds reached", "LimitThresholdReached"),)),
    (
        "automatic top-ups",
        (("asked for", "AutoTopUpRequested"), ("failed", "AutoTopUpFailed")),
    ),
    (
        "chargebacks",
        (("opened", "ChargebackOpened"), ("won", "ChargebackWon"), ("lost", "ChargebackLost")),
    ),
    ("debt", (("repaid by new credit", "DebtRepaid"),)),
)
"""What a run tells beside its charges: a subject, and words for the events that belong to it."""


def _story(result: RunResult) -> list[str]:
    """A line for each subject on which something happened."""
    lines: list[str] = []
    for subject, words in _STORY:
        told = [f"{result.events[name]:,} {word}" for word, name in words if result.events.get(name)]
        if subject == "holds":
            counted = {"captured by usage": result.holds_captured, "denied": result.holds_denied}
            told += [f"{count:,} {word}" for word, count in counted.items() if count]
        if told:
            lines.append(f"  {subject:<18} {', '.join(told)}")
    payments = [
        f"{count:,} {outcome} {reason}".strip()
        for outcome, reasons in result.payments.items()
        for reason, count in sorted(reasons.items())
    ]
    if payments:
        lines.append(f"  {'payments stream':<18} {', '.join(payments)}")
    return ["", *lines] if lines else []


def _sum(result: RunResult) -> str:
    if result.count("charged"):
        teams = f"{result.teams_charged:,} team{'s' if result.teams_charged != 1 else ''}"
        return f"charged {format_credits(result.charged_micros)} credits to {teams} in {result.seconds:.1f} s"
    before = result.count("duplicate")
    if before == result.records:
        return f"nothing charged: all {before:,} records were charged before"
    return f"nothing charged: {before:,} of {result.records:,} records were charged before, none of the others can be"
