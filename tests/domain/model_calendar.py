"""Days, weeks, months and periods of the independent model, reckoned the slow way; no code of the product."""

from __future__ import annotations

from calendar import monthrange
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)
LONG_AGO, EPOCH, FAR = datetime(1, 1, 1), datetime(1970, 1, 1), datetime(9999, 1, 1)  # noqa: DTZ001


def shown(t: datetime, zone: str) -> datetime:
    return t.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None)


@cache
def bounds(kind: str, t: datetime, zone: str, anchor: int) -> tuple[datetime, datetime]:
    """The day, week, month or period around an instant; each begins at the first instant that shows its first day."""
    near = [shown(t, zone).date() + DAY * n for n in (range(-3, 4) if kind == "day" else range(-40, 41))]
    starts = [first_instant(day, zone) for day in near if begins(kind, day, anchor)]
    return max(start for start in starts if start <= t), min(start for start in starts if start > t)


def begins(kind: str, day: date, anchor: int) -> bool:
    of_month = {"month": 1, "period": min(anchor, monthrange(day.year, day.month)[1])}
    return day.weekday() == 0 if kind == "week" else day.day == of_month.get(kind, day.day)


@cache
def first_instant(day: date, zone: str) -> datetime:
    wall = datetime(day.year, day.month, day.day)  # noqa: DTZ001 - a wall time
    t = wall.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC).replace(tzinfo=None)
    while shown(t - MINUTE, zone) >= wall:  # midnight does not exist: back to the jump
        t -= MINUTE
    return t


def hour(t: datetime, zone: str) -> tuple[datetime, datetime]:
    """The hour of one clock: where clocks change, an hour ends and another begins."""
    wall = shown(t, zone)
    start = t - (wall - wall.replace(minute=0, second=0, microsecond=0))
    minutes = [start + n * MINUTE for n in range(60)]
    of_one_clock = [minute for minute in minutes if shown(minute, zone) - minute == wall - t]
    return of_one_clock[0], of_one_clock[-1] + MINUTE


def window(
    kind: str, t: datetime, zones: list[tuple[datetime, str]], anchor: int
) -> tuple[datetime, datetime]:
    """The window around an instant, clipped where the team's zone changes."""
    (since, zone), later = max(z for z in zones if z[0] <= t), [z[0] for z in zones if z[0] > t]
    if kind == "lifetime":
        return EPOCH, FAR
    start, end = hour(t, zone) if kind == "hour" else bounds(kind, t, zone, anchor)
    if kind == "period" and since > LONG_AGO:  # a zone's first period starts where the last one ended
        first_end = bounds(kind, since, zone, anchor)[1]
        if first_end - since < 2 * DAY:
            first_end = bounds(kind, first_end, zone, anchor)[1]
        start, end = (since, first_end) if t < first_end else (start, end)
    return max(start, since), min([end, *later])
