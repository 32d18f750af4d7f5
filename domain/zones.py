"""Zones by name, and the first instant at which their clocks show a time: midnights that are skipped or come twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from domain.errors import Malformed

_FIRST, _END = datetime(1900, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


@lru_cache(maxsize=1024)
def zone_named(zone: str) -> ZoneInfo:
    """The zone as this machine's time zone data has it, by exactly this name. Raises: Malformed."""
    try:
        return ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        # ZoneInfo fails in its own way for an unknown name, an odd path, a folder of zones.
        raise Malformed(
            f"zone {zone[:60]!r} is not known: give an IANA name such as 'Europe/Berlin'", field="zone"
        ) from None


def first_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """The first instant, in UTC, at which clocks in the zone show the wall time ``wall`` or a later one.

    Where clocks jump over ``wall``, the jump; where they show it twice, the first of the two.
    """
    wall = wall.replace(tzinfo=zone, fold=0)
    instant = wall.astimezone(UTC)
    if shown(instant, zone) == wall.replace(tzinfo=None):
        return instant
    # In a gap fold=0 lands behind the jump and fold=1 before it: the jump itself is the first second that shows enough.
    before = wall.replace(fold=1).astimezone(UTC)
    low, high = 0, int((instant - before).total_seconds())
    while low < high:
        middle = (low + high) // 2
        if shown(before + timedelta(seconds=middle), zone) >= wall.replace(tzinfo=None):
            high = middle
        else:
            low = middle + 1
    return before + timedelta(seconds=low)


def shown(instant: datetime, zone: ZoneInfo) -> datetime:
    """What clocks in the zone show at an instant, without an offset."""
    return instant.astimezone(zone).replace(tzinfo=None)


def check_instant(at: datetime) -> None:
    """The time is aware and its local date is known well enough to reckon with. Raises: Malformed."""
    if at.tzinfo is None:
        raise Malformed(f"the time {at.isoformat()} has no offset: give an aware time", field="at")
    if not _FIRST <= at < _END:
        raise Malformed(
            f"the time {at.isoformat()} has no period: give one of the years 1900 to 8999", field="at"
        )
