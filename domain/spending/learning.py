"""Volumes that nobody gave: learned from what the team itself spent by day and action."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import NamedTuple

from domain.spending.forecasting import LOOK_BACK_DAYS_MAX, PRIOR_POOL, RATE_DAYS, Forecast, Pool, forecast
from domain.spending.planning import LINES_MAX
from domain.volumes import VolumeLine

HISTORY_DAYS = LOOK_BACK_DAYS_MAX + RATE_DAYS
"""So many days up to today say how a team spends."""


class DaySpent(NamedTuple):
    """What was used on a day for an action: how many charges, and their credits less refunds."""

    day: date
    action: str
    uses: int
    net_micros: int


class Learned(NamedTuple):
    """Volumes from the past, and the forecast of their cost that they add up to, but for whole uses."""

    lines: list[VolumeLine]
    forecast: Forecast


def by_day(spent: Iterable[DaySpent], today: date) -> list[int]:
    """What was spent on each day up to ``today``, which is the last, from the first on which anything was."""
    sums: dict[date, int] = {}
    for each in spent:
        if each.day <= today:
            sums[each.day] = sums.get(each.day, 0) + each.net_micros
    first = min((day for day, net in sums.items() if net), default=None)
    if first is None:
        return []
    return [sums.get(first + timedelta(n), 0) for n in range((today - first).days + 1)]


def learn_volumes(spent: Sequence[DaySpent], today: date, days: int, pool: Pool = PRIOR_POOL) -> Learned:
    """What the team will use in ``days`` days, today included, if it goes on as it did: each action its share of the last weeks.

    A use costs what one of the action cost on average. Nothing spent, nothing learned: no lines.
    """
    told = forecast(by_day(spent, today), days, pool)
    since = today - timedelta(RATE_DAYS)
    recent: dict[str, tuple[int, int]] = {}
    for each in spent:
        if since < each.day <= today:
            uses, net = recent.get(each.action, (0, 0))
            recent[each.action] = uses + each.uses, net + each.net_micros
    shares = sorted(
        ((net, uses, action) for action, (uses, net) in recent.items() if net > 0 and uses), reverse=True
    )
    total = sum(net for net, _, _ in shares)
    lines = [_line(told, action, uses, net, total) for net, uses, action in shares[:LINES_MAX]]
    return Learned(lines, told)


def _line(told: Forecast, action: str, uses: int, net: int, total: int) -> VolumeLine:
    price = max(1, net // uses)

    def share(micros: int) -> int:
        return micros * net // total

    # Whole uses: fewer for low and more for high, so the interval is not cut.
    return VolumeLine(
        action=action,
        low=share(told.low_micros) // price,
        expected=(share(told.expected_micros) + price // 2) // price,
        high=-(-share(told.high_micros) // price),
        amount_micros=price,
    )
