"""Billing periods tile the time line in every zone (I21), whatever clocks do at midnight. Worked case E14."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import Malformed
from domain.periods import check_zone, period_bounds

ZONES = [
    "UTC",
    "Europe/Berlin",
    "Australia/Lord_Howe",  # half an hour of summer time
    "Pacific/Apia",  # 30 December 2011 did not happen
    "Asia/Kathmandu",  # +05:45
    "America/Santiago",  # clocks jump over midnight
    "America/Havana",  # an hour after midnight comes twice
    "America/St_Johns",  # clocks once went back from 00:01 to 23:01
    "Asia/Beirut",
    "Pacific/Kiritimati",  # +14
    "Etc/GMT+12",
]


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "start", "end"),
    [
        ("2027-01-31T00:00", "2027-01-31", "2027-02-28"),
        ("2027-02-27T23:59:59.999999", "2027-01-31", "2027-02-28"),
        ("2027-02-28T00:00", "2027-02-28", "2027-03-31"),
        ("2027-03-31T00:00", "2027-03-31", "2027-04-30"),
        ("2027-05-01T00:00", "2027-04-30", "2027-05-31"),
        ("2028-02-29T00:00", "2028-02-29", "2028-03-31"),
    ],
)
def test_e14_anchor_31_turns_on_the_last_day_of_shorter_months(at: str, start: str, end: str) -> None:
    assert period_bounds(utc(at), "UTC", 31) == (utc(start), utc(end))


@pytest.mark.parametrize(
    ("zone", "anchor", "at", "start", "end"),
    [
        ("Europe/Berlin", 1, "2026-10-25T12:00", "2026-09-30T22:00", "2026-10-31T23:00"),
        ("Asia/Kathmandu", 1, "2026-01-15T00:00", "2025-12-31T18:15", "2026-01-31T18:15"),
        ("Australia/Lord_Howe", 5, "2026-04-10T00:00", "2026-04-04T13:00", "2026-05-04T13:30"),
        # The whole 30 December 2011 is missing: the period starts with the first instant of the 31st.
        ("Pacific/Apia", 30, "2012-01-15T00:00", "2011-12-30T10:00", "2012-01-29T10:00"),
        # Midnight of 8 September 2019 does not exist: clocks go from 24:00 to 01:00.
        ("America/Santiago", 8, "2019-09-20T00:00", "2019-09-08T04:00", "2019-10-08T03:00"),
        # Midnight lies inside the jump from 23:30 to 00:30: the jump itself is the turn.
        ("America/Toronto", 31, "1919-04-10T00:00", "1919-03-31T04:30", "1919-04-30T04:00"),
        # Midnight comes twice on 1 November 2015: the first one counts.
        ("America/Havana", 1, "2015-11-10T00:00", "2015-11-01T04:00", "2015-12-01T05:00"),
        # At 00:01 of 1 November 2009 clocks went back to 31 October: the period had turned, and stays turned.
        ("America/St_Johns", 1, "2009-11-01T03:00", "2009-11-01T02:30", "2009-12-01T03:30"),
    ],
)
def test_a_period_turns_at_the_first_local_midnight_or_what_comes_for_it(
    zone: str, anchor: int, at: str, start: str, end: str
) -> None:
    assert period_bounds(utc(at), zone, anchor) == (utc(start), utc(end))


@settings(max_examples=400, deadline=None)
@given(
    at=st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - timezones
    zone=st.sampled_from(ZONES),
    anchor=st.integers(1, 31),
)
def test_each_instant_is_in_exactly_one_period_and_periods_touch(
    at: datetime, zone: str, anchor: int
) -> None:
    start, end = period_bounds(at, zone, anchor)

    assert start <= at < end
    assert timedelta(days=26) < end - start < timedelta(days=33)
    for inside in (start, start + (end - start) / 2, end - timedelta(microseconds=1)):
        assert period_bounds(inside, zone, anchor) == (start, end)
    assert period_bounds(end, zone, anchor)[0] == end
    assert period_bounds(start - timedelta(microseconds=1), zone, anchor)[1] == start


@pytest.mark.parametrize("zone", ZONES)
def test_every_anchor_tiles_four_years_with_48_periods(zone: str) -> None:
    for anchor in range(1, 32):
        # Noon by local clocks: Apia changed its side of the date line in between.
        first = at = period_bounds(datetime(2010, 1, 15, 12, tzinfo=ZoneInfo(zone)), zone, anchor)[0]
        for _ in range(48):
            start, at = period_bounds(at, zone, anchor)
            assert start < at
        assert period_bounds(datetime(2014, 1, 15, 12, tzinfo=ZoneInfo(zone)), zone, anchor)[0] == at
        assert first < at


@settings(max_examples=300, deadline=None)
@given(
    zone=st.sampled_from(sorted(available_timezones())),
    month=st.integers(0, 12 * 80),
    anchor=st.integers(1, 31),
)
def test_a_period_starts_at_local_midnight_or_where_midnight_was_skipped(
    zone: str, month: int, anchor: int
) -> None:
    at = datetime(1971 + month // 12, month % 12 + 1, 15, 12, tzinfo=UTC)

    start, _ = period_bounds(at, zone, anchor)

    shown = start.astimezone(ZoneInfo(zone))
    before = (start - timedelta(microseconds=1)).astimezone(ZoneInfo(zone))
    if (shown.hour, shown.minute, shown.second) != (0, 0, 0):
        jumped = shown.replace(tzinfo=None) - before.replace(tzinfo=None)
        assert jumped > timedelta(minutes=1)
    assert before.date() < shown.date()


@pytest.mark.parametrize(
    "zone", ["", "Mars/Olympus", "../etc/passwd", "Europe", "/etc/localtime", "Europe/Berlin\0", "x" * 5000]
)
def test_an_unknown_zone_is_malformed(zone: str) -> None:
    with pytest.raises(Malformed, match="IANA name"):
        period_bounds(utc("2026-01-01"), zone, 1)


def test_a_known_zone_is_given_back() -> None:
    assert check_zone("Europe/Berlin") == "Europe/Berlin"


@pytest.mark.parametrize(
    ("at", "anchor"),
    [
        (datetime(2026, 1, 1), 1),  # noqa: DTZ001 - the naive time is the point
        (datetime.min.replace(tzinfo=UTC), 1),
        (datetime.max.replace(tzinfo=UTC), 1),
        (datetime(2026, 1, 1, tzinfo=UTC), 0),
        (datetime(2026, 1, 1, tzinfo=UTC), 32),
    ],
)
def test_what_has_no_period_is_malformed(at: datetime, anchor: int) -> None:
    with pytest.raises(Malformed):
        period_bounds(at, "UTC", anchor)
