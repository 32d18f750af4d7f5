"""The windows that limits count over, in a team's zone: of every kind they tile the time line, whatever its clocks do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from domain.periods import period_bounds
from domain.terms import LimitWindow
from domain.zones import check_instant, first_instant, shown, zone_named

LIFETIME_START = datetime(1970, 1, 1, tzinfo=UTC)

Bounds = tuple[datetime, datetime | None]
# The window found last of a kind, zone and day, which nearly every later usage lies in.
_latest: dict[tuple[str, str, int], tuple[datetime, datetime]] = {}


def window_bounds(window: LimitWindow, at: datetime, zone: str, anchor_day: int) -> Bounds:
    """The window of that kind that holds ``at``, as UTC bounds: start included, end excluded, None for no end.

    Days, weeks (from Monday) and months start at local midnight; where clocks jump over midnight, at the first instant that
    exists; where midnight comes twice, at the first of the two. Hours are those that the clock shows, so in a zone half an hour
    off they start at half past in UTC, and an hour that comes twice is two. A period is the team's billing period from
    ``anchor_day``. A lifetime starts with 1970, for earlier usage too, and never ends.
    Raises: Malformed for a naive time, one outside the years 1900 to 8999, an unknown zone or an anchor day not 1 to 31.
    """
    if window == "lifetime":
        return LIFETIME_START, None
    latest = _latest.get((window, zone, anchor_day))
    if latest is not None and at.tzinfo is not None and latest[0] <= at < latest[1]:
        return latest
    bounds = _found(window, at, zone, anchor_day)
    _latest[window, zone, anchor_day] = bounds
    return bounds


def _found(window: LimitWindow, at: datetime, zone: str, anchor_day: int) -> tuple[datetime, datetime]:
    if window == "period":
        return period_bounds(at, zone, anchor_day)
    if window == "month":
        return period_bounds(at, zone, 1)
    check_instant(at)
    if window == "hour":
        return _hour(at.astimezone(UTC), zone)
    return _days(at, zone, 7 if window == "week" else 1)


def _days(at: datetime, zone: str, length: int) -> tuple[datetime, datetime]:
    """Windows of whole local days, counted from Monday, 1 January of year 1."""
    number = (shown(at, zone_named(zone)).toordinal() - 1) // length
    # Clocks turned back over midnight may show yesterday's date again after the day has turned: look both ways.
    while (start := _day_start(number * length, zone)) > at:
        number -= 1
    while (end := _day_start((number + 1) * length, zone)) <= at:
        number, start = number + 1, end
    return start, end


@lru_cache(maxsize=16_384)
def _day_start(day: int, zone: str) -> datetime:
    """UTC start of a local day, counted from 1 January of year 1."""
    return first_instant(datetime.fromordinal(day + 1), zone_named(zone))


def _hour(at: datetime, zone: str) -> tuple[datetime, datetime]:
    """The run of instants around ``at`` with one offset and one hour on the clock; a change of clocks ends it."""
    local = at.astimezone(zone_named(zone))
    start = at - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
    end = start + timedelta(hours=1)
    second = at.replace(microsecond=0)
    return _change(start, second, zone) or start, _change(second, end - timedelta(seconds=1), zone) or end


def _change(low: datetime, high: datetime, zone: str) -> datetime | None:
    """The second, up to ``high``, at which clocks no longer have the offset that they have at ``low``; None if they keep it."""
    named = zone_named(zone)
    before = low.astimezone(named).utcoffset()
    if high.astimezone(named).utcoffset() == before:
        return None
    while high - low > timedelta(seconds=1):
        middle = low + timedelta(seconds=(high - low) // timedelta(seconds=1) // 2)
        if middle.astimezone(named).utcoffset() == before:
            low = middle
        else:
            high = middle
    return high
