"""What a team will spend if nobody says: its own recent rate, and how far from such a rate teams like it then were.

The method: the rate of the last weeks times the horizon, times ratios of actual to such an expectation, seen at earlier days of
the team's own history and, the shorter that is, in a pool of other teams that had used credits as recently. The interval is the
ratios' quantiles, the expectation their mean within it. Nothing is drawn at random: the same history gives the same forecast.

The pool is learned from other teams of the same ledger, by days before the forecast; where they are too few, it is built in.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nlargest
from itertools import accumulate
from typing import NamedTuple

import msgspec

STATED_PERCENT = 80
"""So many of a hundred forecasts are meant to hold what is then spent: a tenth of them end below, a tenth above."""

RATE_DAYS = 28
"""The rate is that of so many days, or of all since the first use where that is less."""

RATE_DAYS_MIN = 4
"""A team that has just begun has not spent every day as it did on its first: its rate is that of at least so many days."""

LOOK_BACK_DAYS_MAX = 56
RATIO_DAYS_MIN = 4
POOL_WEIGHT = 2
"""The pool weighs as much as so many horizons of the team's own history: ratios of days side by side say nearly the same."""

POOL_TEAMS_MIN = 20
"""Ratios of fewer teams say how those few are: then the built-in ones count. Nor can a single team be told from the others."""

POOL_RATIOS_MAX = 1_000
"""A pool keeps so many ratios of a kind, evenly chosen: as many quantiles."""

POOL_BUSIEST = 200
"""So many of the teams looked at, at each day those who had spent most by then."""

MILLION = 1_000_000

# Ratios, in millionths, at every tenth from the 5th to the 95th percentile, by how long ago the last use was: what the 200
# busiest teams of a public trace did before 27 November 2024 (tests/bench/spending_of_the_trace.py learns them again).
PRIOR: tuple[tuple[int, ...], ...] = (
    (0, 0, 0, 0, 0, 0, 0, 0, 373_809, 1_987_363),
    (0, 0, 0, 0, 0, 0, 0, 0, 0, 763_653),
    (0, 0, 0, 0, 0, 0, 0, 0, 0, 182_007),
)


class Forecast(msgspec.Struct, frozen=True):
    """What is spent over a horizon: the expectation, and the interval that is meant to hold it at the stated rate.

    ``rate_micros`` is the recent rate a day; ``own`` and ``pooled`` are how many ratios of its own and of others count.
    ``pool_teams`` is of how many teams of the ledger the others are; 0: they are the built-in ones.
    """

    low_micros: int
    expected_micros: int
    high_micros: int
    rate_micros: int
    stated_percent: int
    own: int
    pooled: int
    pool_teams: int = 0


class Pool(NamedTuple):
    """Ratios of actual to expected spending in millionths, rising, by how recently credits had been used.

    ``teams``: of how many teams each kind was learned; 0: it is built in.
    """

    ratios: tuple[tuple[int, ...], ...]
    teams: tuple[int, ...] = (0, 0, 0)


PRIOR_POOL = Pool(PRIOR)


def recency(days: Sequence[int]) -> int:
    """How recently credits were used: 0 on the last day, 1 within three, 2 longer ago. ``days`` end with the last."""
    idle = next((n for n, spent in enumerate(reversed(days)) if spent), len(days))
    return 0 if idle < 1 else 1 if idle < 3 else 2


def rate_of(days: Sequence[int]) -> tuple[int, int]:
    """What was spent in the days that count, and how many those are: a rate as a fraction."""
    begun = next((n for n, spent in enumerate(days) if spent), len(days))
    recent = days[max(begun, len(days) - RATE_DAYS) :]
    return sum(recent), max(len(recent), RATE_DAYS_MIN)


def ratios_of(days: Sequence[int], horizon: int) -> list[tuple[int, int]]:
    """At earlier days of the history: how recently credits had been used, and what was then spent of what the rate made expect.

    What followed each is as much of the horizon as the history holds, at least ``RATIO_DAYS_MIN`` days.
    """
    behinds = range(RATIO_DAYS_MIN, min(len(days), LOOK_BACK_DAYS_MAX + horizon))
    return [found for behind in behinds if (found := _ratio(days, behind, horizon)) is not None]


def _ratio(days: Sequence[int], behind: int, horizon: int) -> tuple[int, int] | None:
    before, after = days[:-behind], days[-behind:][:horizon]
    spent, length = rate_of(before)
    return (recency(before), sum(after) * length * MILLION // (spent * len(after))) if spent else None


def learn_pool(
    histories: Iterable[Sequence[int]],
    horizon: int,
    busiest: int = POOL_BUSIEST,
    teams_min: int = POOL_TEAMS_MIN,
) -> Pool:
    """The pool of these teams' ratios, each day of those who had spent most by then.

    Of a recency that fewer than ``teams_min`` of them had, the built-in ratios. The histories end on one day. Whoever chose by
    what was spent later would learn only from teams that stayed.
    """
    all_days = [days for days in histories if any(days)]
    kinds: tuple[list[int], ...] = ([], [], [])
    seen: tuple[set[int], ...] = (set(), set(), set())
    by_then = [list(accumulate(days)) for days in all_days]
    longest = max((len(days) for days in all_days), default=0)
    for behind in range(RATIO_DAYS_MIN, longest):
        spent = ((sums[-behind - 1], -team) for team, sums in enumerate(by_then) if len(sums) > behind)
        for team in (-each for _, each in nlargest(busiest, spent)):
            if (found := _ratio(all_days[team], behind, horizon)) is not None:
                kinds[found[0]].append(found[1])
                seen[found[0]].add(team)
    is_enough = [len(teams) >= max(1, teams_min) for teams in seen]
    return Pool(
        tuple(
            _quantiles(kind) if enough else PRIOR[n]
            for n, (kind, enough) in enumerate(zip(kinds, is_enough, strict=True))
        ),
        tuple(len(teams) if enough else 0 for teams, enough in zip(seen, is_enough, strict=True)),
    )


def _quantiles(ratios: list[int]) -> tuple[int, ...]:
    """At most ``POOL_RATIOS_MAX`` of them, rising, evenly chosen from all."""
    rising, count = sorted(ratios), min(len(ratios), POOL_RATIOS_MAX)
    return tuple(rising[len(rising) * (2 * n + 1) // (2 * count)] for n in range(count))


def forecast(days: Sequence[int], horizon: int, pool: Pool = PRIOR_POOL) -> Forecast:
    """What is spent in the ``horizon`` days that follow these, in whole micro-credits rounded down.

    ``days`` are what was spent on each day up to now, less refunds, the oldest first; what precedes the first use does not count.
    """
    spent, length = rate_of(days)
    own = [ratio for _, ratio in ratios_of(days, horizon)]
    pooled = pool.ratios[recency(days)]
    # Weights are whole: all of the pool's together make POOL_WEIGHT horizons of the own.
    weighted = sorted(
        [(ratio, len(pooled)) for ratio in own] + [(ratio, POOL_WEIGHT * horizon) for ratio in pooled]
    )
    weight = sum(each for _, each in weighted)
    mean = sum(ratio * each for ratio, each in weighted)

    def amount(ratio: int, divisor: int = 1) -> int:
        return spent * horizon * ratio // (length * MILLION * divisor)

    tail = (100 - STATED_PERCENT) // 2
    low = _quantile(weighted, weight, tail)
    # Nobody spends less than nothing: where that is the lower end, all that may be missed is above.
    high = _quantile(weighted, weight, 100 - tail if low else STATED_PERCENT)
    # Few teams spend many times what they did: a mean that they lift beyond the interval expects what hardly anybody does.
    return Forecast(
        low_micros=amount(low),
        expected_micros=min(max(amount(mean, weight), amount(low)), amount(high)),
        high_micros=amount(high),
        rate_micros=spent // length,
        stated_percent=STATED_PERCENT,
        own=len(own),
        pooled=len(pooled),
        pool_teams=pool.teams[recency(days)],
    )


def _quantile(weighted: Sequence[tuple[int, int]], weight: int, percent: int) -> int:
    """The least ratio with at least so many percent of the weight at or below it."""
    reached = 0
    for ratio, each in weighted:
        reached += each
        if reached * 100 >= weight * percent:
            return ratio
    raise AssertionError("all of the weight is reached at the last ratio")
