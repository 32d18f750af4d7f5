"""Windows of every kind tile the time line in every zone (I21), whatever clocks do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from typing import get_args
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.errors import Malformed
from domain.periods import period_bounds
from domain.terms import LimitWindow
from domain.windows import LIFETIME_START, window_bounds

WINDOWS: list[LimitWindow] = ["hour", "day", "week", "month", "period"]
ZONES = sorted(available_timezones())
BERLIN, KATHMANDU, LORD_HOWE = "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"
MICROSECOND = timedelta(microseconds=1)
# No window of its kind lasts longer: an autumn day has 25 hours, and zones have moved their side of the date line.
LONGEST: dict[LimitWindow, timedelta] = {
    "hour": timedelta(hours=1),
    "day": timedelta(hours=48),
    "week": timedelta(days=8),
    "month": timedelta(days=33),
    "period": timedelta(days=33),
}


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "zone", "at", "start", "end"),
    [
        ("day", BERLIN, "2026-10-25T12:00", "2026-10-24T22:00", "2026-10-25T23:00"),
        ("day", BERLIN, "2026-03-29T12:00", "2026-03-28T23:00", "2026-03-29T22:00"),
        ("week", BERLIN, "2026-10-25T22:59", "2026-10-18T22:00", "2026-10-25T23:00"),
        ("month", BERLIN, "2026-10-01T00:00", "2026-09-30T22:00", "2026-10-31T23:00"),
        ("hour", BERLIN, "2026-10-25T00:30", "2026-10-25T00:00", "2026-10-25T01:00"),
        ("hour", BERLIN, "2026-10-25T01:30", "2026-10-25T01:00", "2026-10-25T02:00"),
        ("day", "UTC", "2026-12-31T23:59:59.999999", "2026-12-31", "2027-01-01"),
        ("week", "UTC", "2027-01-03T23:59:59.999999", "2026-12-28", "2027-01-04"),
        ("week", "UTC", "2027-01-04T00:00", "2027-01-04", "2027-01-11"),
        ("hour", KATHMANDU, "2026-01-01T00:14:59", "2025-12-31T23:15", "2026-01-01T00:15"),
        ("hour", "Asia/Kolkata", "2026-01-01T00:30", "2026-01-01T00:30", "2026-01-01T01:30"),
        ("day", "Pacific/Kiritimati", "2026-01-01T10:00", "2026-01-01T10:00", "2026-01-02T10:00"),
        ("day", "Etc/GMT+12", "2026-01-01T11:59", "2025-12-31T12:00", "2026-01-01T12:00"),
        # Lord Howe goes back from 02:00 to 01:30: one hour of the clock, then its second half once more.
        ("hour", LORD_HOWE, "2026-04-04T14:59", "2026-04-04T14:00", "2026-04-04T15:00"),
        ("hour", LORD_HOWE, "2026-04-04T15:00", "2026-04-04T15:00", "2026-04-04T15:30"),
        # In spring it goes from 02:00 to 02:30.
        ("hour", LORD_HOWE, "2026-10-03T15:45", "2026-10-03T15:30", "2026-10-03T16:00"),
        ("day", LORD_HOWE, "2026-04-05T01:00", "2026-04-04T13:00", "2026-04-05T13:30"),
        # Midnight of 8 September 2019 does not exist: clocks go from 24:00 to 01:00.
        ("day", "America/Santiago", "2019-09-08T12:00", "2019-09-08T04:00", "2019-09-09T03:00"),
        # Midnight comes twice on 1 November 2015: the first one counts.
        ("day", "America/Havana", "2015-11-01T12:00", "2015-11-01T04:00", "2015-11-02T05:00"),
        # At 00:01 clocks went back to 23:01: the day had turned, and stays turned.
        ("day", "America/St_Johns", "2009-11-01T03:00", "2009-11-01T02:30", "2009-11-02T03:30"),
        # 30 December 2011 did not happen: the 29th touches the 31st.
        ("day", "Pacific/Apia", "2011-12-30T09:59", "2011-12-29T10:00", "2011-12-30T10:00"),
        ("day", "Pacific/Apia", "2011-12-30T10:00", "2011-12-30T10:00", "2011-12-31T10:00"),
    ],
)
def test_a_window_is_what_clocks_in_the_zone_show(
    window: LimitWindow, zone: str, at: str, start: str, end: str
) -> None:
    assert window_bounds(window, utc(at), zone, 15) == (utc(start), utc(end))


def test_a_period_is_the_billing_period_and_a_month_is_the_calendars() -> None:
    at = utc("2026-10-20T00:00")

    assert window_bounds("period", at, BERLIN, 15) == period_bounds(at, BERLIN, 15)
    assert window_bounds("month", at, BERLIN, 15) == period_bounds(at, BERLIN, 1)


@pytest.mark.parametrize("at", ["1969-12-31", "1970-01-01", "2026-10-25", "8999-12-31"])
def test_a_lifetime_never_ends(at: str) -> None:
    assert window_bounds("lifetime", utc(at), BERLIN, 1) == (LIFETIME_START, None)


@pytest.mark.parametrize(("day", "hours"), [("2026-03-29", 23), ("2026-10-24", 24), ("2026-10-25", 25)])
def test_a_day_has_as_many_hours_as_its_clock_shows(day: str, hours: int) -> None:
    at, end = window_bounds("day", utc(f"{day}T12:00"), BERLIN, 1)
    assert end is not None

    counted = 0
    while at < end:
        _, at = _bounds("hour", at, BERLIN)
        counted += 1

    assert at == end
    assert counted == hours


@settings(max_examples=600, deadline=None)
@given(
    window=st.sampled_from(WINDOWS),
    at=st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - timezones
    zone=st.sampled_from(ZONES),
    anchor=st.integers(1, 31),
)
def test_each_instant_is_in_exactly_one_window_and_windows_touch(
    window: LimitWindow, at: datetime, zone: str, anchor: int
) -> None:
    assert_tiles(window, at, zone, anchor)


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_tile_around_every_change_of_clocks_of_every_zone(window: LimitWindow) -> None:
    """T3, I21: all changes of one year, two thousand or so, told apart by their zone's rules."""
    for zone, change in {_rules(zone): (zone, _changes(zone)) for zone in ZONES}.values():
        for at in change:
            for seconds in (-3_700, -1, 0, 1_799, 3_600):
                assert_tiles(window, at + timedelta(seconds=seconds), zone, 31)


def test_days_of_a_year_follow_each_other_in_every_zone() -> None:
    for zone in {_rules(zone): zone for zone in ZONES}.values():
        at, end, days = utc("2026-01-01"), utc("2027-01-01"), []
        while at < end:
            start, at = _bounds("day", at, zone)
            days.append(start.astimezone(ZoneInfo(zone)).date().toordinal())
        assert days == list(range(days[0], days[0] + len(days))), zone


def test_periods_of_every_anchor_tile_four_years_in_every_zone() -> None:
    """T4, I21: anchors 1 to 31, 48 months with a leap day, in one zone of each set of rules."""
    for zone in {_rules(zone): zone for zone in ZONES}.values():
        for anchor in range(1, 32):
            at = first = period_bounds(utc("2026-01-16T12:00"), zone, anchor)[0]
            for _ in range(48):
                start, at = period_bounds(at, zone, anchor)
                assert start < at
            began, ended = first.astimezone(ZoneInfo(zone)), at.astimezone(ZoneInfo(zone))
            assert (ended.year, ended.month) == (began.year + 4, began.month), (zone, anchor)


def assert_tiles(window: LimitWindow, at: datetime, zone: str, anchor: int) -> None:
    start, end = _bounds(window, at, zone, anchor)
    assert start <= at < end
    assert end - start <= LONGEST[window]
    for inside in (start, start + (end - start) / 2, end - MICROSECOND):
        assert _bounds(window, inside, zone, anchor) == (start, end)
    assert _bounds(window, end, zone, anchor)[0] == end
    assert _bounds(window, start - MICROSECOND, zone, anchor)[1] == start


def _bounds(window: LimitWindow, at: datetime, zone: str, anchor: int = 1) -> tuple[datetime, datetime]:
    start, end = window_bounds(window, at, zone, anchor)
    assert end is not None
    return start, end


@cache
def _changes(zone: str) -> tuple[datetime, ...]:
    """The seconds of 2026 at which clocks in the zone change."""
    found, at, named = [], utc("2026-01-01"), ZoneInfo(zone)
    for _ in range(365):
        following = at + timedelta(days=1)
        if at.astimezone(named).utcoffset() != following.astimezone(named).utcoffset():
            low, high = 0, 86_400
            while high - low > 1:
                middle = (low + high) // 2
                same = (at + timedelta(seconds=middle)).astimezone(named).utcoffset() == at.astimezone(
                    named
                ).utcoffset()
                low, high = (middle, high) if same else (low, middle)
            found.append(at + timedelta(seconds=high))
        at = following
    return tuple(found)


@cache
def _rules(zone: str) -> tuple[object, ...]:
    """What tells the zone from others in 2026: its offset in January, and when clocks change by how much."""
    named = ZoneInfo(zone)
    offsets = [each.astimezone(named).utcoffset() for each in (utc("2026-01-01"), *_changes(zone))]
    return (*offsets, *_changes(zone))


def test_every_kind_of_window_has_bounds() -> None:
    for window in get_args(LimitWindow):
        assert window_bounds(window, utc("2026-10-25"), "UTC", 1)[0] <= utc("2026-10-25")


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize(
    ("at", "zone"),
    [
        (datetime(2026, 1, 1), "UTC"),  # noqa: DTZ001 - the naive time is the point
        (datetime.min.replace(tzinfo=UTC), "UTC"),
        (datetime.max.replace(tzinfo=UTC), "UTC"),
        (datetime(2026, 1, 1, tzinfo=UTC), "Mars/Olympus"),
    ],
)
def test_what_has_no_window_is_malformed(window: LimitWindow, at: datetime, zone: str) -> None:
    window_bounds(window, utc("2026-01-01"), "UTC", 1)

    with pytest.raises(Malformed):
        window_bounds(window, at, zone, 1)
