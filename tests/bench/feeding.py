"""A producer that costs next to nothing: record batches written by hand, so what is measured is the ledger and not its feeder.

The library's producer takes some 50 µs of processor time a record, as much as deciding it. Here a batch is a concatenation of
ready parts. It speaks one version of one request to one broker that leads all partitions, in plain text, and has no retries: what
the broker does not take is an error.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping, Sequence
from time import time_ns
from typing import NamedTuple

from crc32c import crc32c
from kafka.codec import lz4_encode

PRODUCE, PRODUCE_VERSION = 0, 7
LZ4 = 3
CLIENT_ID = b"coffer-bench"
IN_FLIGHT_MAX = 5
ANSWER_SECONDS_MAX = 60.0
ACKS_ALL = -1
TOGETHER_MAX = 1_000
"""So many records of a partition are one batch at most: brokers take a megabyte."""


def varint(value: int) -> bytes:
    """A signed number as records have them: zigzag, seven bits a byte, the lowest first."""
    left = (value << 1) ^ (value >> 63)
    written = bytearray()
    while left > 0x7F:
        written.append(left & 0x7F | 0x80)
        left >>= 7
    written.append(left)
    return bytes(written)


_DELTAS = [varint(delta) for delta in range(TOGETHER_MAX)]


def _sized(content: bytes | None) -> bytes:
    return varint(-1) if content is None else varint(len(content)) + content


class Ready(NamedTuple):
    """A record but for its offset: the length and the rest, for an offset delta of one byte and of two."""

    lengths: tuple[bytes, bytes]
    rest: bytes


def ready(key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> Ready:
    """The record as it will stand in any batch."""
    named = [part for name, content in headers for part in (_sized(name.encode()), _sized(content))]
    rest = b"".join([_sized(key), _sized(value), varint(len(headers)), *named])
    # Attributes and the difference of times are a byte each.
    return Ready((varint(3 + len(rest)), varint(4 + len(rest))), rest)


def again(record: Ready, tail: bytes) -> Ready:
    """The record with other bytes at its end: so it is told from the one before, when its identity comes last."""
    return Ready(record.lengths, record.rest[: -len(tail)] + tail)


def batch(records: Sequence[Ready], at_milliseconds: int) -> bytes:
    """A record batch, version 2, in one LZ4 frame as producers send them; all records have the one time."""
    assert 0 < len(records) <= TOGETHER_MAX, "a batch has a bound"
    parts: list[bytes] = []
    for (lengths, rest), delta in zip(records, _DELTAS, strict=False):
        parts += (lengths[len(delta) - 1], b"\0\0", delta, rest)
    count = len(records)
    times = (at_milliseconds, at_milliseconds)
    body = struct.pack(">hiqqqhii", LZ4, count - 1, *times, -1, -1, -1, count) + lz4_encode(b"".join(parts))
    sealed: bytes = struct.pack(">qiibI", 0, len(body) + 9, -1, 2, crc32c(body)) + body
    return sealed


class Feeder:
    """Sends batches to the partitions of one topic; several requests may be on their way. Not for several threads."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        host, _, port = bootstrap.partition(",")[0].rpartition(":")
        self._socket = socket.create_connection((host, int(port)), timeout=ANSWER_SECONDS_MAX)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._topic = topic.encode()
        self._sent = self._answered = 0

    def send(self, records: Mapping[int, Sequence[Ready]]) -> None:
        """The records are on their way, those of a partition in their order. Raises: AssertionError, OSError."""
        now = time_ns() // 1_000_000
        batches = [(partition, batch(each, now)) for partition, each in records.items() if each]
        if not batches:
            return
        parts = [
            struct.pack(">hhih", PRODUCE, PRODUCE_VERSION, self._sent, len(CLIENT_ID)),
            CLIENT_ID,
            struct.pack(">hhiih", -1, ACKS_ALL, int(ANSWER_SECONDS_MAX * 1_000), 1, len(self._topic)),
            self._topic,
            struct.pack(">i", len(batches)),
        ]
        for partition, data in batches:
            parts += (struct.pack(">ii", partition, len(data)), data)
        request = b"".join(parts)
        self._socket.sendall(struct.pack(">i", len(request)) + request)
        self._sent += 1
        self.wait(IN_FLIGHT_MAX)

    def wait(self, in_flight_max: int = 0) -> None:
        """At most so many requests are not acknowledged yet. Raises: AssertionError when the broker refused one."""
        while self._sent - self._answered > in_flight_max:
            (size,) = struct.unpack(">i", self._read(4))
            self._require_taken(self._read(size))
            self._answered += 1

    def close(self) -> None:
        """All is acknowledged, and the connection closed, in any case."""
        try:
            self.wait()
        finally:
            self._socket.close()

    def _read(self, size: int) -> bytes:
        read = bytearray()
        while len(read) < size:
            part = self._socket.recv(size - len(read))
            assert part, "the broker closed the connection"
            read += part
        return bytes(read)

    def _require_taken(self, answer: bytes) -> None:
        number, topics, name = struct.unpack_from(">iih", answer)
        assert (number, topics) == (self._answered, 1), "an answer to another request"
        at = 10 + name
        (partitions,) = struct.unpack_from(">i", answer, at)
        for index in range(partitions):
            partition, error = struct.unpack_from(">ih", answer, at + 4 + index * 30)
            assert not error, f"the broker refused a batch for partition {partition} with error {error}"
