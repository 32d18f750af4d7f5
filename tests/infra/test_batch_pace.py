"""Batches are bounded in time: nobody who writes beside them waits for long."""

from __future__ import annotations

from infra.batch_pace import RECORDS_MIN, BatchPace


def after(pace: BatchPace, batches: int, microseconds_each: float, commit_seconds: float = 0.0) -> int:
    """The bound after so many full batches."""
    for _ in range(batches):
        pace.held(pace.records, pace.records * microseconds_each / 1e6 + commit_seconds)
    return pace.records


def test_batches_come_to_hold_their_shards_for_as_long_as_is_allowed() -> None:
    pace = BatchPace(10_000, 40)

    assert 1_900 <= after(pace, 30, microseconds_each=20) <= 2_000
    assert 950 <= after(pace, 30, microseconds_each=40) <= 1_000


def test_a_batch_never_has_more_records_than_it_may_or_fewer_than_pay() -> None:
    assert after(BatchPace(4_000, 40), 50, microseconds_each=1) == 4_000
    assert after(BatchPace(4_000, 40), 50, microseconds_each=1_000) == RECORDS_MIN
    assert BatchPace(100, 40).records == 100


def test_a_small_batch_that_met_a_slow_disk_makes_no_batch_smaller() -> None:
    pace = BatchPace(4_000, 40)
    before = pace.records

    for _ in range(20):
        pace.held(10, 0.2)
        pace.held(before, None)

    assert pace.records == before


def test_one_stall_costs_a_half_and_is_made_good_within_a_few_batches() -> None:
    pace = BatchPace(4_000, 40)
    before = after(pace, 30, microseconds_each=20)

    pace.held(before, 1.0)
    assert pace.records == before // 2
    assert after(pace, 4, microseconds_each=20) > 0.9 * before
