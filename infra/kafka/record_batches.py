"""Record batches of the broker become our records a whole batch at once, exactly as the client's own parser reads them.

The stock parser costs more processor time than deciding the charge: about twenty calls a record, and two for every header.
Here the usual batch is read in one loop. Whatever is not usual is left to the stock parser, batch by batch, so that what is
refused, when, and with which words is the client's own; checksums, aborted transactions and control batches are judged before
either of them, by the client's own code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import chain
from struct import Struct
from typing import NamedTuple

import kafka
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord, Fetcher
from kafka.errors import CorruptRecordError
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatch
from kafka.record.util import decode_varint

from consumers.stream_record import StreamRecord, append_time

PROVED_FOR = "3.0.12"
"""The client whose private parts this stands in for; for any other version its own parser is used."""

LOG_APPEND_TIME = 1
LAYOUT_BYTES_MAX = 2_000
"""Blocks of headers longer than this are read one by one; so no more than this many layouts are remembered."""

Headers = list[tuple[str, bytes | None]]


def read_in_batches(consumer: KafkaConsumer) -> bool:
    """What the consumer polls comes as ``StreamRecord`` where it is usual, as its own record where it is not.

    False, and nothing is changed, for a client of another version than the one this was proved equal to.
    """
    if kafka.__version__ != PROVED_FOR:
        return False
    # The fetcher looks its parser up on itself: this changes one consumer, and no class.
    consumer._fetcher.PartitionRecords = BatchwiseRecords  # noqa: SLF001 (no public way in)
    return True


class BatchwiseRecords(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What one fetch brought of one partition; the client takes from it as much as it wants at a time."""

    _is_within_batch = False

    def take(self, n: int | None = None) -> list[StreamRecord | ConsumerRecord]:
        """The next records, at most ``n``; ``next_fetch_offset`` is what follows the last of them.

        Raises: as the stock parser does, after the records before the error were taken.
        """
        taken: list[StreamRecord | ConsumerRecord] = super().take(n)
        if taken and self._is_within_batch:
            self.next_fetch_offset = taken[-1].offset + 1
        return taken

    def _unpack_records(
        self, tp: TopicPartition, records: MemoryRecords, key_deserializer: object, value_deserializer: object
    ) -> Iterator[StreamRecord | ConsumerRecord]:
        assert (key_deserializer, value_deserializer) == (None, None), "keys and values are read as bytes"
        # One step of this generator is one batch; going through its records needs no Python of ours.
        return chain.from_iterable(self._batches(tp, records))

    def _batches(
        self, tp: TopicPartition, records: MemoryRecords
    ) -> Iterator[Iterable[StreamRecord | ConsumerRecord]]:
        """The records of each batch that is not passed over; in the order of the stock parser, with its errors."""
        try:
            last_batch = None
            while (batch := records.next_batch()) is not None:
                last_batch = batch
                if self.check_crcs and not batch.validate_crc():
                    raise CorruptRecordError(
                        f"Record batch for partition {self.topic_partition} at offset {batch.base_offset} failed crc check"
                    )
                if batch.magic == 2:
                    self.leader_epoch = batch.leader_epoch
                    if self._is_passed_over(batch):
                        self.next_fetch_offset = batch.next_offset
                        continue
                found = usual_records(batch, tp.topic, tp.partition) if batch.magic == 2 else None
                if found is None:
                    yield from self._one_by_one(tp, batch)
                elif found:
                    yield self._counted(found)
                    self._is_within_batch = False
                    self.next_fetch_offset = found[-1].offset + 1
            if last_batch is not None and last_batch.magic == 2:
                # The batch keeps its last offset when compaction took the record away: the next fetch begins beyond it.
                self.next_fetch_offset = last_batch.next_offset
            self.drain()
        except StopIteration as error:
            raise RuntimeError("StopIteration raised unpacking messageset") from error

    def _is_passed_over(self, batch: DefaultRecordBatch) -> bool:
        """Whether readers are given nothing of the batch: it was aborted, or is a marker of a transaction."""
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)

    def _counted(self, found: list[StreamRecord]) -> list[StreamRecord]:
        self._is_within_batch = True
        self.records_read += len(found)
        # More than nothing is all that the client asks, to take turns between partitions; we keep no metrics.
        self.bytes_read += len(found)
        return found

    def _one_by_one(
        self, tp: TopicPartition, batch: DefaultRecordBatch
    ) -> Iterator[tuple[ConsumerRecord, ...]]:
        """The batch as the stock parser reads it, up to its error if it has one."""
        for record in batch:
            if self.check_crcs and not record.validate_crc():
                raise CorruptRecordError(
                    f"Record for partition {self.topic_partition} at offset {record.offset} failed crc check"
                )
            self.records_read += 1
            self.bytes_read += record.size_in_bytes
            self.next_fetch_offset = record.offset + 1
            yield (_client_record(tp, self.leader_epoch, record),)


def _client_record(tp: TopicPartition, leader_epoch: int, record: ConsumerRecord) -> ConsumerRecord:
    sizes = [len(part) if part is not None else -1 for part in (record.key, record.value)]
    header_size = (
        sum(len(name.encode()) + len(value or b"") for name, value in record.headers)
        if record.headers
        else -1
    )
    return ConsumerRecord(
        tp.topic, tp.partition, leader_epoch, record.offset, record.timestamp, record.timestamp_type,
        record.key, record.value, record.headers, record.checksum, *sizes, header_size,
    )  # fmt: skip


def usual_records(batch: DefaultRecordBatch, topic: str, partition: int) -> list[StreamRecord] | None:
    """The records of a whole batch that bears the broker's time; None for any doubt, and the stock parser then reads it.

    Raises: what the client raises for a codec that it does not have, or for bytes that the codec cannot undo.
    """
    if batch.timestamp_type != LOG_APPEND_TIME:
        return None
    batch._maybe_uncompress()  # noqa: SLF001 (what iterating would do first; the batch remembers that it is done)
    try:
        return _read(
            bytes(batch._buffer),  # noqa: SLF001 (slices of bytes are bytes; those of its bytearray are copied twice)
            batch._pos,  # noqa: SLF001
            batch.records_count,
            (topic, partition, batch.base_offset, append_time(batch.max_timestamp)),
        )
    except (ValueError, IndexError, OverflowError):
        return None


class _Layout(NamedTuple):
    """Where names and values lie in a block of headers of one length.

    ``marks`` are the bytes between values: lengths and names. A block that has the same marks at the same places is read
    the same way, since every mark says how far it is to the next.
    """

    marks: tuple[bytes, ...]
    names: tuple[str, ...]
    unpack: Callable[[bytes, int], tuple[bytes, ...]]


_layouts: dict[int, _Layout] = {}


def _read(  # noqa: C901 (see below)
    buffer: bytes, pos: int, count: int, common: tuple[str, int, int, datetime]
) -> list[StreamRecord] | None:
    """The records, or None for anything that is not usual. Raises: ValueError, IndexError: not usual either.

    One long loop, and no call but where a number has more than two bytes: a call a field would be most of the cost.
    A number's lowest bit is its sign (zigzag), its highest says that another byte follows.
    """
    topic, partition, base_offset, arrived_at = common
    size = len(buffer)
    records: list[StreamRecord] = []
    append, layout_of = records.append, _layouts.get
    for _ in range(count):
        length = buffer[pos]
        pos += 1
        if length > 0x7F:
            length, pos = _rest(length, buffer, pos)
        if length & 1:
            return None
        end = pos + (length >> 1)
        # The attributes of a record are unused: one byte, 0.
        if end > size or buffer[pos]:
            return None
        # By whose clock the producer sent it is of no interest: the whole batch has one time, the broker's.
        delta = buffer[pos + 1]
        pos += 2
        if delta > 0x7F:
            delta, pos = _rest(delta, buffer, pos)
        delta = buffer[pos]
        pos += 1
        if delta > 0x7F:
            delta, pos = _rest(delta, buffer, pos)
        if delta & 1:
            return None
        length = buffer[pos]
        pos += 1
        if length > 0x7F:
            length, pos = _rest(length, buffer, pos)
        if length & 1:
            key = None
        else:
            begin, pos = pos, pos + (length >> 1)
            key = buffer[begin:pos]
        length = buffer[pos]
        pos += 1
        if length > 0x7F:
            length, pos = _rest(length, buffer, pos)
        if length & 1:
            value = None
        else:
            begin, pos = pos, pos + (length >> 1)
            value = buffer[begin:pos]
        headers: Headers | None
        layout = layout_of(end - pos)
        if layout is not None and (fields := layout.unpack(buffer, pos))[::2] == layout.marks:
            headers = list(zip(layout.names, fields[1::2]))  # noqa: B905 (as long as each other; asking costs a third)
        elif (headers := _headers(buffer, pos, end)) is None:
            return None
        pos = end
        append(StreamRecord(topic, partition, base_offset + (delta >> 1), key, value, headers, arrived_at))
    # Bytes behind the last record are an error; its words are the stock parser's.
    return records if pos == size else None


def _rest(first: int, buffer: bytes, pos: int) -> tuple[int, int]:
    """The number before its sign is taken out, of which ``first`` was read, and where the next thing begins.

    Raises: ValueError, as the client does, beyond 64 bits.
    """
    second = buffer[pos]
    if second <= 0x7F:
        return first & 0x7F | second << 7, pos + 1
    number, pos = decode_varint(buffer, pos - 1)
    return (number << 1 if number >= 0 else ~number << 1 | 1), pos


def _headers(buffer: bytes, pos: int, end: int) -> Headers | None:
    """The headers between the two places, one by one; a block like this one will be read at once. None for any doubt."""
    begin = mark = pos
    length = end - pos
    count, pos = decode_varint(buffer, pos)
    if count < 0:
        return None
    headers: Headers = []
    marks: list[bytes] = []
    sizes: list[int] = []
    for _ in range(count):
        size, pos = decode_varint(buffer, pos)
        if size < 0:
            return None
        name = buffer[pos : pos + size].decode()
        size, pos = decode_varint(buffer, pos + size)
        marks.append(buffer[mark:pos])
        sizes.append(size)
        headers.append((name, buffer[pos : pos + size] if size >= 0 else None))
        pos = mark = pos + max(size, 0)
    if pos != end:
        return None
    if count and min(sizes) >= 0 and length <= LAYOUT_BYTES_MAX:
        form = "".join(f"{len(each)}s{size}s" for each, size in zip(marks, sizes, strict=True))
        layout = Struct(form)
        assert layout.size == end - begin
        _layouts[length] = _Layout(tuple(marks), tuple(name for name, _ in headers), layout.unpack_from)
    return headers
