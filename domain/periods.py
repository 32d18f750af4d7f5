"""Monthly billing periods in a team's zone: they tile the time line, whatever its clocks do."""

from __future__ import annotations

from calendar import monthrange
from datetime import datetime
from functools import lru_cache

from domain.errors import Malformed
from domain.times import instant_text
from domain.zones import check_instant, first_instant, shown, zone_named

ANCHOR_DAY_MIN, ANCHOR_DAY_MAX = 1, 31
# The period found last for a zone and day, which nearly every later usage lies in; as many as there are zones and days.
_latest: dict[tuple[str, int], tuple[datetime, datetime]] = {}


def period_bounds(at: datetime, zone: str, anchor_day: int) -> tuple[datetime, datetime]:
    """The monthly period that holds ``at``, as UTC bounds: start included, end excluded.

    A period starts on the anchor day (in shorter months on the last day) at local midnight; where clocks jump over
    midnight, at the first instant that exists; where midnight comes twice, at the first of the two.
    Raises: Malformed for a naive time, one outside the years 1900 to 8999, an unknown zone or an anchor day not 1 to 31.
    """
    latest = _latest.get((zone, anchor_day))
    if latest is not None and at.tzinfo is not None and latest[0] <= at < latest[1]:
        return latest
    _check(at, anchor_day)
    local = at.astimezone(zone_named(zone))
    month = local.year * 12 + local.month - 1
    # Clocks turned back over midnight may show last month's date again after the period has turned: look both ways.
    while (start := _start(month, zone, anchor_day)) > at:
        month -= 1
    while (end := _start(month + 1, zone, anchor_day)) <= at:
        month, start = month + 1, end
    _latest[zone, anchor_day] = start, end
    return start, end


@lru_cache(maxsize=16_384)
def period_text(start: datetime) -> str:
    """The start of a period as text, as counters are kept under it; every graduated charge asks, and starts are few."""
    return instant_text(start)


def period_label(start: datetime, end: datetime, zone: str, anchor_day: int) -> str:
    """The period's name: year and month in which clocks in the zone show its start, such as "2026-11".

    Bounds that a change of zone or of its rules has moved may begin a day early: what counts is the start of the whole period
    that holds their middle, so no two periods of a team have one name.
    """
    wall = shown(period_bounds(start + (end - start) / 2, zone, anchor_day)[0], zone_named(zone))
    return f"{wall.year:04d}-{wall.month:02d}"


def check_zone(zone: str) -> str:
    """The zone, known to this machine's time zone data by exactly this name. Raises: Malformed."""
    zone_named(zone)
    return zone


def _check(at: datetime, anchor_day: int) -> None:
    check_instant(at)
    if not ANCHOR_DAY_MIN <= anchor_day <= ANCHOR_DAY_MAX:
        raise Malformed(f"anchor day {anchor_day} is not a day of a month: give 1 to 31", field="anchor_day")


@lru_cache(maxsize=16_384)
def _start(month: int, zone: str, anchor_day: int) -> datetime:
    """UTC start of the period of a month, counted from year 0."""
    year, month_index = divmod(month, 12)
    day = min(anchor_day, monthrange(year, month_index + 1)[1])
    return first_instant(datetime(year, month_index + 1, day), zone_named(zone))  # noqa: DTZ001 - a wall time
