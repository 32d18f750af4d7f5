"""Our reading of record batches and the client's own are one: the same records, positions and errors, whatever the bytes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import kafka
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from kafka import TopicPartition
from kafka.consumer.fetcher import ConsumerRecord, Fetcher
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.legacy_records import LegacyRecordBatchBuilder
from kafka.record.util import calc_crc32c

from consumers.batches import PartitionKey
from consumers.stream_record import StreamRecord
from infra.kafka import record_batches
from infra.kafka.record_batches import PROVED_FOR, BatchwiseRecords, read_in_batches
from infra.kafka.source import stream_record

KEY = PartitionKey("cluster", "topic-id", "credits.usage.v1", 3)
PARTITION = TopicPartition(KEY.topic, KEY.partition)
ATTRIBUTES = 21
APPEND_TIME, TRANSACTIONAL, CONTROL = 0x08, 0x10, 0x20
SNAPPY = 2
"""A codec whose library is not installed: its batches are refused (K11), so any bytes will do."""

NAMES = ("ce_specversion", "ce_type", "ce_id", "ce_time", "content-type", "x" * 70, "", "größe")

Header = tuple[str, bytes | None]


class Sent(NamedTuple):
    """A record before it is in a batch; ``gap`` offsets before it were taken away by compaction."""

    key: bytes | None
    value: bytes | None
    headers: list[Header]
    gap: int = 0
    later_milliseconds: int = 0


class Batch(NamedTuple):
    """A batch before it is bytes. ``marker``: a control batch that ends a transaction, 0 by abort, 1 by commit."""

    records: list[Sent]
    codec: int = 0
    flags: int = APPEND_TIME
    producer: int = -1
    gap: int = 0
    compacted_at_end: int = 0
    leader_epoch: int = 0
    marker: int | None = None


def encoded(batch: Batch, base_offset: int) -> tuple[bytes, int]:
    """The bytes of the batch as a broker keeps them, and the offset after it."""
    missing = batch.codec if batch.codec == SNAPPY else 0
    builder = DefaultRecordBatchBuilder(2, batch.codec - missing, False, batch.producer, 0, 0, 1 << 30)
    records = batch.records if batch.marker is None else [Sent(struct.pack(">hh", 0, batch.marker), b"", [])]
    delta = -1
    for record in records:
        delta += 1 + record.gap
        at = 1_800_000_000_000 + record.later_milliseconds
        builder.append(delta, at, record.key, record.value, record.headers)
    data = bytearray(builder.build())
    last = max(0, delta) + batch.compacted_at_end
    struct.pack_into(">q", data, 0, base_offset)
    struct.pack_into(">i", data, 12, batch.leader_epoch)
    (attributes,) = struct.unpack_from(">h", data, ATTRIBUTES)
    control = CONTROL if batch.marker is not None else 0
    struct.pack_into(">hi", data, ATTRIBUTES, attributes | batch.flags | control | missing, last)
    struct.pack_into(">q", data, 35, 1_800_000_000_777)
    return sealed(data), base_offset + last + 1


def sealed(data: bytearray) -> bytes:
    """The batch with the checksum of what it holds now."""
    struct.pack_into(">I", data, 17, calc_crc32c(memoryview(data)[ATTRIBUTES:]))
    return bytes(data)


def fetched(batches: Sequence[Batch], base_offset: int = 40) -> bytes:
    """The batches one after the other, as one fetch brings them."""
    found = b""
    for batch in batches:
        data, base_offset = encoded(batch, base_offset + batch.gap)
        found += data
    return found


def read(
    parser: type[Any], data: bytes, takes: Sequence[int], aborted: Sequence[tuple[int, int]], begin: int
) -> list[object]:
    """All that the client sees of a fetch: records, where it would go on after each take, and the errors in their words."""
    seen: list[object] = []
    transactions = [SimpleNamespace(producer_id=each, first_offset=offset) for each, offset in aborted]
    drained: list[object] = []
    try:
        part = parser(
            begin, PARTITION, MemoryRecords(data), isolation_level=IsolationLevel.READ_COMMITTED,
            aborted_transactions=transactions, on_drain=lambda part: drained.append(part.bytes_read > 0),
        )  # fmt: skip
    except Exception as error:  # noqa: BLE001 - whatever it is, the other parser must say the same
        return [(type(error), str(error))]
    turn = 0
    while part and turn < 200:
        limit = takes[turn % len(takes)]
        turn += 1
        try:
            taken = part.take(limit)
        except Exception as error:  # noqa: BLE001 - as above
            seen.append((type(error), str(error), part.next_fetch_offset))
            break
        seen += map(comparable, taken)
        seen.append(
            (len(taken), part.next_fetch_offset, part.leader_epoch, part.records_read > 0, bool(part))
        )
    return [*seen, drained]


def comparable(record: StreamRecord | ConsumerRecord) -> object:
    """The record as the worker gets it; one that bears the producer's time, as the client gives it."""
    if isinstance(record, StreamRecord) or record.timestamp_type != record_batches.LOG_APPEND_TIME:
        return record
    return stream_record(KEY, record)


def assert_same(
    data: bytes, takes: Sequence[int] = (500,), aborted: Sequence[tuple[int, int]] = (), begin: int = 40
) -> list[object]:
    """Both parsers see the same; returns what they saw."""
    record_batches._layouts.clear()
    stock = read(Fetcher.PartitionRecords, data, takes, aborted, begin)
    for _ in range(2):  # the second time, blocks of headers have been seen before
        assert read(BatchwiseRecords, data, takes, aborted, begin) == stock
    return stock


a_header = st.tuples(
    st.sampled_from(NAMES) | st.text(max_size=5), st.none() | st.binary(max_size=3) | st.binary(max_size=90)
)
a_record = st.builds(
    Sent,
    key=st.none() | st.binary(max_size=80),
    value=st.none() | st.binary(max_size=5) | st.binary(min_size=60, max_size=300),
    headers=st.lists(a_header, max_size=4)
    | st.lists(st.binary(min_size=3, max_size=3), min_size=2, max_size=2).map(
        lambda pair: [("ce_id", pair[0]), ("ce_time", pair[1])]
    ),
    gap=st.sampled_from([0, 0, 0, 1, 90, 20_000]),
    later_milliseconds=st.sampled_from([0, 1, 70, 9_000, 3_000_000, -5, -90_000, 1 << 40]),
)
a_batch = st.builds(
    Batch,
    records=st.lists(a_record, max_size=5),
    codec=st.integers(0, 4),
    flags=st.sampled_from([APPEND_TIME, APPEND_TIME, APPEND_TIME | TRANSACTIONAL, TRANSACTIONAL, 0]),
    producer=st.sampled_from([-1, 7, 8]),
    gap=st.sampled_from([0, 0, 3]),
    compacted_at_end=st.sampled_from([0, 0, 2]),
    leader_epoch=st.integers(0, 2),
    marker=st.sampled_from([None, None, None, 0, 1]),
)
some_takes = st.lists(st.integers(1, 4), min_size=1, max_size=3)
some_aborted = st.lists(st.tuples(st.sampled_from([7, 8]), st.integers(38, 60)), max_size=2)


@given(st.lists(a_batch, max_size=5), some_takes, some_aborted, st.integers(38, 50), st.sampled_from([0, 9]))
def test_generated_fetches_are_read_as_the_client_reads_them(
    batches: list[Batch], takes: list[int], aborted: list[tuple[int, int]], begin: int, cut: int
) -> None:
    """Codecs, transactions, holes of compaction, headers, null and empty parts; a fetch may end in the middle of a batch."""
    data = fetched(batches)

    assert_same(data[: len(data) - cut], takes, aborted, begin)


@given(
    st.lists(a_batch, min_size=1, max_size=2),
    some_takes,
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3),
    st.booleans(),
)
@example([Batch([Sent(b"k", b"v", [])])], [1], [(0.99, 255)], False)
def test_spoilt_bytes_are_refused_in_the_same_words_after_the_same_records(
    batches: list[Batch], takes: list[int], spoilt: list[tuple[float, int]], checksum_is_right: bool
) -> None:
    """K12: with a wrong checksum, and with a right one over whatever the bytes are now."""
    last, _ = encoded(batches[-1], 90)
    data = bytearray(last)
    for where, byte in spoilt:
        data[61 + int(where * (len(data) - 61)) if len(data) > 61 else 60] = byte

    assert_same(fetched(batches[:-1]) + (sealed(data) if checksum_is_right else bytes(data)), takes)


@given(st.binary(max_size=60), st.integers(-1, 3))
def test_records_of_any_bytes_under_a_right_checksum_are_read_or_refused_alike(
    body: bytes, count: int
) -> None:
    header, _ = encoded(Batch([]), 40)
    data = bytearray(header + body)
    struct.pack_into(">i", data, 8, len(data) - 12)
    struct.pack_into(">i", data, 57, count)

    assert_same(sealed(data))


@given(st.integers(0, 2**64 - 1), st.integers(0, 5), st.booleans())
def test_numbers_of_any_length_are_the_same_number(raw: int, field: int, is_padded: bool) -> None:
    """Length, time, offset, key, value and number of headers, in up to ten bytes."""
    number = bytearray()
    while raw > 0x7F:
        number.append(raw & 0x7F | 0x80)
        raw >>= 7
    number += bytes([raw | 0x80, 0]) if is_padded and len(number) < 8 else bytes([raw])
    # Time, offset, no key, no value, no header; one of them is the number.
    fields = [b"", b"\0", b"\0", b"\1", b"\1", b"\0"]
    fields[field] = bytes(number)
    body = b"\0" + b"".join(fields[1:])
    length = fields[0] or bytes([len(body) << 1])
    header, _ = encoded(Batch([]), 40)
    data = bytearray(header + length + body)
    struct.pack_into(">i", data, 8, len(data) - 12)
    struct.pack_into(">i", data, 57, 1)

    assert_same(sealed(data), begin=0)


@pytest.mark.parametrize("codec", [0, 1, 3, 4])
def test_huge_and_empty_records_and_many_headers_are_read_whole(codec: int) -> None:
    """Two megabytes, nothing at all, ten thousand headers: each whole, in every codec."""
    batch = Batch(
        [
            Sent(b"team", bytes(range(256)) * 8_000, [("ce_id", b"1")]),
            Sent(b"", b"", [("", b"")]),
            Sent(None, None, []),
            Sent(b"k", b"v", [("ce_id", str(n).encode()) for n in range(10_000)]),
        ],
        codec,
    )

    seen = assert_same(fetched([batch]))

    assert isinstance(seen[0], StreamRecord)
    assert [len(each.value or b"") for each in seen[:4] if isinstance(each, StreamRecord)] == [
        2_048_000,
        0,
        0,
        1,
    ]


def test_k7_records_of_an_aborted_transaction_and_markers_are_passed_over() -> None:
    """K7: the producer's aborted batch gives nothing, what it sent after the marker does."""
    transactional = APPEND_TIME | TRANSACTIONAL
    batches = [
        Batch([Sent(b"k", b"lost", [])] * 2, producer=7, flags=transactional),
        Batch([Sent(b"k", b"other", [])], producer=8, flags=transactional),
        Batch([], producer=7, flags=transactional, marker=0),
        Batch([Sent(b"k", b"kept", [])], producer=7, flags=transactional),
        Batch([], producer=7, flags=transactional, marker=1),
    ]

    seen = assert_same(fetched(batches), aborted=[(7, 40)])

    assert [each.value for each in seen if isinstance(each, StreamRecord)] == [b"other", b"kept"]
    assert seen[-2] == (2, 46, 0, True, False), "the next fetch begins after the last marker"


def test_a_batch_as_producers_send_it_takes_the_fast_way() -> None:
    """Else the proofs above would be of the stock parser alone."""
    records = [Sent(b"team", b"{}", [("ce_id", b"%d" % n), ("ce_time", b"now")]) for n in range(50)]
    part = BatchwiseRecords(40, PARTITION, MemoryRecords(fetched([Batch(records, codec=3)])))

    assert all(isinstance(each, StreamRecord) for each in part.take(100))
    assert len(record_batches._layouts) >= 2


def test_records_with_the_producers_time_stay_the_clients_own() -> None:
    """The worker stops their partition, and needs to see whose time it is."""
    data = fetched([Batch([Sent(b"k", b"v", [])], flags=0)])

    (record,) = BatchwiseRecords(40, PARTITION, MemoryRecords(data)).take(5)

    assert isinstance(record, ConsumerRecord)
    assert_same(data)


def test_batches_older_than_the_format_are_read_as_the_client_reads_them() -> None:
    for magic in (0, 1):
        builder = LegacyRecordBatchBuilder(magic, 0, 1 << 20)
        for offset in range(3):
            builder.append(40 + offset, 1_800_000_000_000, b"k", b"v", [])
        seen = assert_same(bytes(builder.build()), takes=(2,))
        assert sum(isinstance(each, ConsumerRecord) for each in seen) == 3


def test_another_version_of_the_client_keeps_its_own_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    fetcher = SimpleNamespace(PartitionRecords=Fetcher.PartitionRecords)
    monkeypatch.setattr(kafka, "__version__", "3.0.13")

    assert not read_in_batches(SimpleNamespace(_fetcher=fetcher))
    assert fetcher.PartitionRecords is Fetcher.PartitionRecords


def test_the_installed_client_is_the_one_that_this_was_proved_for() -> None:
    """A newer client means: run these proofs, compare its fetcher with the one before, then change the number."""
    fetcher = SimpleNamespace()

    assert kafka.__version__ == PROVED_FOR
    assert read_in_batches(SimpleNamespace(_fetcher=fetcher))
    assert fetcher.PartitionRecords is BatchwiseRecords
