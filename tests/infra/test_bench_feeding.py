"""The bench's own producer writes what any producer would: the stock parser and a real broker read it back."""

from __future__ import annotations

from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.record import MemoryRecords

from tests.bench.feeding import TOGETHER_MAX, Feeder, again, batch, ready, varint
from tests.conftest import MakeTopic

RECORDS: list[tuple[bytes, bytes, list[tuple[str, bytes | None]]]] = [
    (b"team-%d" % number, b"x" * size, [("ce_time", None), ("ce_id", b"%08d" % number)])
    for number, size in enumerate([0, 1, 62, 63, 64, 200, 8_190, 8_191, 20_000] * 20)
]


def seen(record: Any) -> tuple[bytes, bytes, list[tuple[str, bytes | None]]]:
    return record.key, record.value, list(record.headers)


@pytest.mark.parametrize("value", [-1, 0, 1, 63, 64, -64, -65, 8_191, 8_192, 2**31 - 1])
def test_numbers_are_written_in_zigzag(value: int) -> None:
    left, shift, read = varint(value), 0, 0
    for byte in left:
        read |= (byte & 0x7F) << shift
        shift += 7

    assert (read >> 1) ^ -(read & 1) == value
    assert len(left) == max(1, -(-(2 * abs(value) - (value < 0)).bit_length() // 7))


def test_the_stock_parser_reads_a_batch_as_it_was_meant() -> None:
    data = batch([ready(*each) for each in RECORDS], 1_800_000_000_123)

    batches = MemoryRecords(data)
    (found,) = [batches.next_batch() for _ in iter(batches.has_next, False)]

    assert found.validate_crc()
    read = list(found)
    assert [seen(record) for record in read] == RECORDS
    assert [record.offset for record in read] == list(range(len(RECORDS)))
    assert {record.timestamp for record in read} == {1_800_000_000_123}


def test_a_record_sent_again_differs_in_its_id_alone() -> None:
    key, value, headers = RECORDS[5]

    changed = again(ready(key, value, headers), b"00000999")

    assert changed == ready(key, value, [headers[0], ("ce_id", b"00000999")])


def test_a_batch_beyond_its_bound_is_refused() -> None:
    with pytest.raises(AssertionError, match="bound"):
        batch([ready(*RECORDS[0])] * (TOGETHER_MAX + 1), 0)


def test_a_broker_takes_them_in_order(topic: MakeTopic, kafka_bootstrap: str) -> None:
    name = topic(1)
    feeder = Feeder(kafka_bootstrap, name)
    for at in range(0, len(RECORDS), 7):
        feeder.send({0: [ready(*each) for each in RECORDS[at : at + 7]]})
    feeder.close()

    consumer = KafkaConsumer(bootstrap_servers=kafka_bootstrap, group_id=None, auto_offset_reset="earliest")
    consumer.assign([TopicPartition(name, 0)])
    read: list[Any] = []
    while len(read) < len(RECORDS):
        fetched = consumer.poll(10_000)
        assert fetched, f"only {len(read)} records came"
        read += [record for each in fetched.values() for record in each]
    consumer.close()

    assert [seen(record) for record in read] == RECORDS


def test_what_a_broker_refuses_is_an_error(topic: MakeTopic, kafka_bootstrap: str) -> None:
    feeder = Feeder(kafka_bootstrap, topic(1))
    feeder.send({99: [ready(*RECORDS[0])]})

    with pytest.raises(AssertionError, match="refused a batch for partition 99"):
        feeder.close()
