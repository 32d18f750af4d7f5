"""When planned uses occur. A plan says how many there are in so many days; limits count by the hour, so where they lie is a rule.

A day has its share by time, in the middle of what is left of it. Only limits by the hour tell the hours of a day apart: uses that
one counts are laid evenly over the day's working hours instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import NamedTuple

from domain.account.calendar import zone_at
from domain.account.estimating import PlannedUse
from domain.account.index import AccountIndex
from domain.account.limiting import counts
from domain.account.state import TeamAccount
from domain.terms import LimitTerms
from domain.volumes import Path, VolumeLine
from domain.windows import window_bounds
from domain.zones import shown, zone_named

WORK_FROM_HOUR, WORK_UNTIL_HOUR = 9, 18
"""The hours that the team's clocks show when people work, on every day of the week.

All of a day in one hour would pass limits that nobody passes, and even use by day and night none that people do: nine hours
are between. Spending is kept by day; for a profile of its own every charge of weeks would have to be read.
"""

_MICROSECOND = timedelta(microseconds=1)


class Step(NamedTuple):
    """At this instant the use occurs and is recorded, so many times; each costs ``amount_micros``, or (None) by the card."""

    at: datetime
    use: PlannedUse
    times: int = 1
    amount_micros: int | None = None


class Hour(NamedTuple):
    """An hour that the team's clocks show, or what is left of it: start included, end excluded."""

    start: datetime
    end: datetime


def day_ends(account: TeamAccount, index: AccountIndex, at: datetime, days: int) -> list[datetime]:
    """When each of so many days of the team's zone ends, the first being the one that holds ``at``."""
    ends: list[datetime] = []
    for _ in range(days):
        _, end = window_bounds("day", at, zone_at(account, index, at), account.anchor_day)
        assert end is not None
        ends.append(end)
        at = end
    return ends


def spread(
    account: TeamAccount,
    index: AccountIndex,
    lines: Sequence[VolumeLine],
    path: Path,
    at: datetime,
    ends: Sequence[datetime],
) -> list[Step]:
    """Each line's uses from ``at`` to the last end, in the order of time; whole ones, the total kept."""
    by_hour = _limits_by_hour(account)
    steps: list[Step] = []
    for start, end in pairwise([at, *ends]):
        hours: list[Hour] | None = None
        for line in lines:
            times = _share(line.times(path), at, start, end, ends[-1])
            if not times:
                continue
            use = PlannedUse(line.action, line.meters, line.dimensions, line.member, line.project)
            if any(counts(terms, line.member, line.project, line.action) for terms in by_hour):
                hours = hours or hours_to_work(zone_at(account, index, start), start, end)
                steps += _over(hours, times, use, line.amount_micros)
            else:
                steps.append(Step(start + (end - start) / 2, use, times, line.amount_micros))
    return sorted(steps, key=lambda step: step.at)


def hours_to_work(zone: str, start: datetime, end: datetime) -> list[Hour]:
    """The whole working hours from ``start`` to ``end``, of one day; where none is left, every hour that is."""
    hours = list(_hours(zone, start, end))
    clocks = zone_named(zone)
    working = [
        hour
        for hour, is_whole in hours
        if is_whole and WORK_FROM_HOUR <= shown(hour.start, clocks).hour < WORK_UNTIL_HOUR
    ]
    return working or [hour for hour, _ in hours]


def _hours(zone: str, start: datetime, end: datetime) -> Iterator[tuple[Hour, bool]]:
    """The hours of the clocks between, and whether each lies in between as a whole."""
    while start < end:
        began, until = window_bounds("hour", start, zone, 1)
        assert until is not None
        yield Hour(start, min(until, end)), began == start and until <= end
        start = until


def _limits_by_hour(account: TeamAccount) -> list[LimitTerms]:
    """The hard limits by the hour, those of a plan that follows at the turn included."""
    coming = account.pending_plan.plan.limits if account.pending_plan is not None else []
    every = [*(limit.terms for limit in account.limits), *coming]
    return [terms for terms in every if terms.hard and terms.window == "hour"]


def _share(times: int, at: datetime, start: datetime, end: datetime, until: datetime) -> int:
    """How many of the uses between ``at`` and ``until`` the day has. Cumulative, so that none is lost to rounding."""
    length = (until - at) // _MICROSECOND
    done, due = (times * ((each - at) // _MICROSECOND) // length for each in (start, end))
    return due - done


def _over(hours: Sequence[Hour], times: int, use: PlannedUse, amount_micros: int | None) -> Iterator[Step]:
    """So many uses, evenly over the hours, in the middle of each."""
    done = 0
    for number, (start, end) in enumerate(hours, start=1):
        due = times * number // len(hours)
        if due > done:
            yield Step(start + (end - start) / 2, use, due - done, amount_micros)
        done = due
