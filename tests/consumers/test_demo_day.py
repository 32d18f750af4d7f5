"""The demo day is reproducible, and each of its records is what its maker says."""

from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from consumers.rejections import Rejection
from consumers.stream_record import StreamRecord
from consumers.wire import read_usage, time_window_violation
from domain.periods import period_bounds
from domain.usage import UsageRecord
from infra.local.demo_day import DAY, LATE_MAX, SHARE_PARKED, DemoDay
from infra.local.producing import Sent, tally
from infra.local.spoiling import SPOILERS

START = datetime(2026, 2, 27, 13, 30, tzinfo=UTC)


@pytest.fixture(scope="module")
def day() -> list[Sent]:
    """A day of the usual size."""
    return list(DemoDay(7, START))


def _read(sent: Sent, offset: int = 0) -> UsageRecord | Rejection:
    return read_usage(StreamRecord("usage", 0, offset, sent.key, sent.value, sent.headers, START + DAY))


def test_the_same_seed_gives_the_same_bytes_in_the_same_order(day: list[Sent]) -> None:
    again = list(DemoDay(7, START))
    other = list(DemoDay(8, START))

    assert again == day
    assert [sent.value for sent in other] != [sent.value for sent in day]


def test_another_start_moves_the_times_and_nothing_else() -> None:
    first, second = DemoDay(7, START, 2_000), DemoDay(7, START + timedelta(days=100), 2_000)

    for one, other in zip(first, second, strict=True):
        assert (one.key, one.outcome, one.reason) == (other.key, other.outcome, other.reason)
        if one.usage and other.usage:
            assert other.usage.occurred_at - one.usage.occurred_at == timedelta(days=100)
            moved = msgspec.structs.replace(
                other.usage, occurred_at=one.usage.occurred_at, arrived_at=one.usage.arrived_at
            )
            assert moved == one.usage


def test_a_day_has_exactly_the_records_asked_for_and_every_outcome(day: list[Sent]) -> None:
    counts = tally((sent.outcome, sent.reason) for sent in day)

    assert len(day) == 20_000
    assert set(counts) == {"charged", "waived", "duplicate", "conflict", "parked", "rejected"}
    assert set(counts["waived"]) == {"failed", "corrected", "nothing_to_price"}
    assert set(counts["parked"]) == set(SHARE_PARKED)
    assert set(counts["rejected"]) == set(SPOILERS)


def test_three_hundred_teams_send_very_unevenly(day: list[Sent]) -> None:
    teams = Counter(sent.key for sent in day if not sent.key.startswith(b"nobody"))

    assert len(teams) == 300
    assert sum(count for _, count in teams.most_common(30)) > len(day) / 2


def test_the_wire_reads_or_refuses_each_record_as_expected(day: list[Sent]) -> None:
    for offset, sent in enumerate(day):
        read = _read(sent, offset)
        if isinstance(read, Rejection):
            assert (read.outcome, read.reason) == (sent.outcome, sent.reason), read.detail
        else:
            assert sent.usage is not None
            outside = time_window_violation(read, historic=False)
            assert outside == (sent.reason if sent.reason in {"too_old", "in_the_future"} else None)


def test_corrections_name_records_of_the_day_before_or_after_themselves(day: list[Sent]) -> None:
    place = {sent.usage.id: number for number, sent in reversed(list(enumerate(day))) if sent.usage}
    outcome = {sent.usage.id: sent.reason for sent in day if sent.usage and sent.outcome == "waived"}
    before = after = 0

    for number, sent in enumerate(day):
        if sent.usage and sent.usage.corrects and sent.outcome == "waived":
            is_first = number < place[sent.usage.corrects]
            assert (outcome.get(sent.usage.corrects) == "corrected") == is_first
            before, after = before + is_first, after + (not is_first)

    assert before > 20
    assert after > 80


def test_most_records_carry_a_context_of_some_hundred_bytes(day: list[Sent]) -> None:
    sizes = [len(sent.usage.context) for sent in day if sent.usage and sent.usage.context]

    assert len(sizes) > 0.8 * len(day)
    assert 200 < sum(sizes) / len(sizes) < 500


def test_both_cloudevents_modes_are_used(day: list[Sent]) -> None:
    modes = Counter(dict(sent.headers).get("content-type", b"").decode() for sent in day)

    assert modes["application/json"] > 1_000
    assert modes["application/cloudevents+json"] > 1_000


def test_all_use_of_the_day_lies_in_one_period_of_its_team() -> None:
    for days in range(365):
        start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=days)
        for team in DemoDay(1, start, 1_000, 54).teams:
            bounds = period_bounds(start - LATE_MAX, team.zone, team.anchor_day)
            assert bounds == period_bounds(start + DAY, team.zone, team.anchor_day), (start, team)
