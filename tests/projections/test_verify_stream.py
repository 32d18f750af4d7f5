"""What was read of the stream is accounted for, record by record, by the consumer's own writes; a change by hand is named."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence

import pytest

from consumers.batches import Hole, PartitionKey
from consumers.stream_record import StreamRecord
from consumers.usage import PartitionRead, decide_batch, settle_reads
from domain.commands import OpenAccount
from infra.consume import outcomes_of
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.dead_letters import DeadLetters, LetterFilter
from infra.postgres.shards import ShardMap
from infra.postgres.stream_state import StreamState
from infra.postgres.verification import Verified, verify
from infra.project import ProjectorLoop
from tests.builders import a_catalogue, unit_card
from tests.consumers.wire_cases import ARRIVED, DATA, binary_headers
from tests.infra.stored import execute, opened
from tests.projections.ledgers import tamper

TOPIC = "credits.usage.v1"
PARTITIONS = [PartitionKey("cluster", "topic", TOPIC, part) for part in (0, 1, 9)]
CATALOGUE = a_catalogue(unit_card())


@pytest.fixture
def store(shards: ShardMap) -> Iterator[PostgresBatchStore]:
    store = PostgresBatchStore(shards)
    yield store
    store.close()


def a_record(
    draw: random.Random, partition: PartitionKey, offset: int, team: str, number: int
) -> StreamRecord:
    """A record of one of the ways in which records come: good, failed, unknown, empty or broken."""
    # A number that comes again mostly says the same: a duplicate; else it is a conflict.
    said = random.Random(f"{team} {number}") if draw.random() < 0.8 else draw
    status = said.choice(["succeeded"] * 5 + ["failed"])
    data = DATA | {"meters": {"units": str(said.randint(0, 9))}, "status": status}
    action = said.choice(["image.generate"] * 8 + ["unheard.of"])
    value = json.dumps(data | {"action": action}).encode()
    if draw.random() < 0.1:
        value = draw.choice([b"", b"{", b'{"action":1}'])
    headers = binary_headers(id=f"r{number}", subject=team)
    return StreamRecord(TOPIC, partition.partition, offset, team.encode(), value, headers, ARRIVED)


def consumed(shards: ShardMap, store: PostgresBatchStore, batches: int = 12, seed: int = 5) -> list[Hole]:
    """So many batches over three partitions, as the consumer writes them, with duplicates, conflicts and holes."""
    draw = random.Random(seed)
    opened(shards, "acme", "beta")
    offsets = dict.fromkeys(PARTITIONS, 100)
    holes: list[Hole] = []
    for partition in PARTITIONS:
        store.register(partition, 100)
    for _ in range(batches):
        reads = []
        for partition in draw.sample(PARTITIONS, 2):
            first = offsets[partition]
            width = draw.randint(1, 9)
            hole = first + draw.randrange(width) if draw.random() < 0.4 else None
            records = [
                a_record(
                    draw,
                    partition,
                    offset,
                    draw.choice(["acme", "beta", "beta", "late-team"]),
                    draw.randint(1, 80),
                )
                for offset in range(first, first + width)
                if offset != hole
            ]
            missing = [Hole(partition, hole, hole + 1)] if hole is not None else []
            holes += missing
            reads.append(PartitionRead(partition, first, first + width, records, missing))
            offsets[partition] = first + width
        settle_reads(store, reads, CATALOGUE)
    ProjectorLoop(shards).catch_up()
    return holes


def filled(shards: ShardMap, store: PostgresBatchStore, hole: Hole) -> None:
    """A second reader found a record in the hole."""
    record = a_record(random.Random(1), hole.partition, hole.first_offset, "acme", 900 + hole.first_offset)
    read = PartitionRead(hole.partition, hole.first_offset, hole.next_offset, [record], advances=False)
    with store.transaction() as transaction:
        batch = decide_batch([read], transaction, CATALOGUE)
        outcomes = outcomes_of(read, batch)
        assert StreamState(shards).fill_hole(transaction.connection, hole, batch, outcomes)
        transaction.write(batch)


def places(told: Verified) -> list[tuple[str, int | None, int | None]]:
    return [(finding.table, finding.partition, finding.offset) for finding in told.findings]


def kinds(shards: ShardMap) -> Sequence[str]:
    return list(StreamState(shards).totals([TOPIC]))


def test_i5_what_the_consumer_wrote_is_accounted_for(shards: ShardMap, store: PostgresBatchStore) -> None:
    holes = consumed(shards, store)

    assert verify(shards).findings == []
    assert len(holes) > 3
    assert set(kinds(shards)) == {"charged", "waived", "duplicate", "conflict", "parked", "rejected"}


def test_records_found_in_holes_and_letters_tried_again_are_accounted_for(
    shards: ShardMap, store: PostgresBatchStore
) -> None:
    holes = consumed(shards, store)
    for hole in holes[:3]:
        filled(shards, store, hole)
    execute(shards, OpenAccount(team_id="late-team"))
    tried = DeadLetters(shards).retry(store, lambda: CATALOGUE, LetterFilter())

    assert {report.outcome for report in tried} >= {"charged", "waived"}
    assert verify(shards).findings == []


def test_offsets_that_an_operator_skipped_are_no_gap(shards: ShardMap, store: PostgresBatchStore) -> None:
    consumed(shards, store)
    partition = PARTITIONS[2]
    here = store.next_offset(partition)
    assert here is not None
    store.halt(partition, "poison")
    assert StreamState(shards).skip_to(partition, here + 1, "poison")
    read = PartitionRead(
        partition, here + 1, here + 2, [a_record(random.Random(3), partition, here + 1, "acme", 99)]
    )
    settle_reads(store, [read], CATALOGUE)

    assert verify(shards).findings == []


def test_a_batch_that_was_taken_out_leaves_a_gap_that_is_named(
    shards: ShardMap, store: PostgresBatchStore
) -> None:
    consumed(shards, store)
    with shards.own_connection_for(0) as connection:
        row = connection.execute(
            "SELECT first_offset, next_offset FROM consumed_batch WHERE part = 1 ORDER BY first_offset LIMIT 1 OFFSET 2"
        ).fetchone()
    assert row is not None
    tamper(shards, 0, "DELETE FROM consumed_batch WHERE part = 1 AND first_offset = %s", row[0])

    told = verify(shards)

    gap = told.findings[0]
    assert (gap.table, gap.partition, gap.offset, gap.what) == ("consumed_batch", 1, row[0], "first_offset")
    assert (gap.expected, gap.found) == (str(row[0]), str(row[1]))


def test_a_missing_outcome_row_is_named_by_its_batch(shards: ShardMap, store: PostgresBatchStore) -> None:
    consumed(shards, store)
    changed = tamper(
        shards, 0,
        "DELETE FROM usage_outcome WHERE part = 0 AND kafka_offset ="
        " (SELECT min(kafka_offset) FROM usage_outcome WHERE part = 0)",
    )  # fmt: skip

    told = verify(shards)

    assert changed == 1
    assert [(table, part) for table, part, _ in places(told)] == [("usage_outcome", 0)]


def test_a_hole_that_was_taken_out_is_named(shards: ShardMap, store: PostgresBatchStore) -> None:
    holes = consumed(shards, store)
    gone = holes[0]
    tamper(
        shards, 0, "DELETE FROM stream_hole WHERE part = %s AND first_offset = %s",
        gone.partition.partition, gone.first_offset,
    )  # fmt: skip

    (finding,) = verify(shards).findings

    assert (finding.table, finding.partition) == ("stream_hole", gone.partition.partition)
    assert (finding.expected, finding.found) == ("1", "0")


def test_a_moved_offset_is_named(shards: ShardMap, store: PostgresBatchStore) -> None:
    consumed(shards, store)
    tamper(shards, 0, "UPDATE consumed SET next_offset = next_offset + 1 WHERE part = 9")

    (finding,) = verify(shards).findings

    assert (finding.table, finding.partition, finding.what) == ("consumed", 9, "next_offset")


def test_counts_that_do_not_match_the_events_are_named(shards: ShardMap, store: PostgresBatchStore) -> None:
    consumed(shards, store)
    changed = tamper(
        shards, 0,
        "UPDATE consumed_batch SET records = records + 1, next_offset = next_offset,"
        " outcomes = jsonb_set(outcomes, '{charged,\"\"}', to_jsonb((outcomes #>> '{charged,\"\"}')::int + 1))"
        " WHERE part = 0 AND first_offset = (SELECT min(first_offset) FROM consumed_batch"
        " WHERE part = 0 AND outcomes ? 'charged')",
    )  # fmt: skip

    told = verify(shards)

    assert changed == 1
    assert ("consumed_batch", 0, None) in places(told)
    assert told.findings[-1].what == "records charged"


def test_a_stream_is_not_compared_when_only_a_team_is_asked_for(
    shards: ShardMap, store: PostgresBatchStore
) -> None:
    consumed(shards, store)
    tamper(shards, 0, "UPDATE consumed SET next_offset = next_offset + 1")

    assert verify(shards, team_id="acme").findings == []
    assert verify(shards, shard=0).findings == []
