"""A read is cut into pieces without losing a record, a hole or an offset."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from infra.consume import singles, within
from infra.kafka.source import jumps
from tests.consumers.batch_stories import PARTITIONS, a_read, a_record


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.integers(1, 8), st.integers(1, 2_000))
def test_cutting_reads_loses_no_record_and_no_hole(gaps: list[int], records_max: int, bytes_max: int) -> None:
    """I5: offsets stay contiguous from piece to piece."""
    offsets = [sum(gaps[: position + 1]) + position for position in range(len(gaps))]
    records = [a_record(offset, f"r{offset}") for offset in offsets]
    holes = list(jumps(PARTITIONS[0], 0, records))
    read = a_read(*records, expected=0, holes=holes)

    for parts in ([[each] for each in singles(read)], list(within([read], records_max, bytes_max))):
        pieces = [piece for part in parts for piece in part]
        assert [record.offset for piece in pieces for record in piece.records] == offsets
        assert [hole for piece in pieces for hole in piece.holes] == holes
        assert [piece.expected_offset for piece in pieces] == [
            0,
            *[piece.next_offset for piece in pieces[:-1]],
        ]
        assert pieces[-1].next_offset == offsets[-1] + 1
        assert all(sum(len(piece.records) for piece in part) <= max(records_max, 1) for part in parts)
