"""How well spending is forecast on the real trace: `python -m tests.bench.spending_of_the_trace TRACE`.

Of the busiest teams as of an instant, what then came, against the interval and the expectation that were stated, beside a naive
mean (the daily mean since the first use, ± 1.28 standard deviations). Nothing later than the instant is used for a forecast, but
for what is built in; ``--hindsight`` takes the teams that turn out busiest in the end, as far as they had begun.

The method was settled while looking at the first split, from 27 November 12:00 on. The other instants, and what days before that
split brought, took no part in it: they are the hold-out.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import sqrt
from pathlib import Path
from typing import NamedTuple

from domain.account.decision import account_id
from domain.pricing import RateCard, price_usage
from domain.rate_cards import canonical_document, load_rate_card
from domain.shards import shard_of
from domain.spending.forecasting import PRIOR_POOL, Pool, forecast, learn_pool
from domain.spending.learning import DaySpent, learn_volumes
from domain.volumes import PATHS
from infra.local.opening import DEMO_CARD
from infra.local.trace import read_trace
from projections.spending import SAMPLE_TEAMS_MAX

AS_OF = datetime(2024, 11, 27, 12, tzinfo=UTC)
"""The instant by whose split the method was settled."""

TEAMS = 200
SHARDS = 8
DAY = timedelta(days=1)
NAIVE_DEVIATIONS = 1.2816


class Split(NamedTuple):
    """Forecasts made at an instant of what came until another, None: the end of the trace."""

    at: datetime
    until: datetime | None = None


HOLD_OUT = (
    *(Split(datetime(2024, 11, day, 12, tzinfo=UTC)) for day in (20, 22, 24)),
    Split(AS_OF - 7 * DAY, AS_OF),
    Split(AS_OF - 5 * DAY, AS_OF),
)


class Use(NamedTuple):
    """A request that costs something, and what."""

    at: datetime
    micros: int
    action: str


class Told(NamedTuple):
    """What one way to forecast says of one team, and what came."""

    low: float
    expected: float
    high: float
    actual: int


class Judged(NamedTuple):
    """What one way to forecast came to over all teams; amounts in credits. ``nothing``: so many said that nothing would come."""

    way: str
    teams: int
    held: int
    above: int
    nothing: int
    mean_error: float
    mean_width: float
    expected: float
    actual: float

    @property
    def held_percent(self) -> float:
        """So many of a hundred intervals held what came."""
        return 100 * self.held / self.teams

    def line(self) -> str:
        """One line about it."""
        below = self.teams - self.held - self.above
        return (
            f"{self.way:<22} {self.held:>4} of {self.teams} held ({self.held_percent:4.1f} %; {self.above} above,"
            f" {below} below; {self.nothing} say: nothing)  mean error {self.mean_error:8.1f}  mean width {self.mean_width:8.1f}"
            f"  all teams: {self.expected:9.0f} expected, {self.actual:9.0f} spent"
        )


class Compared(NamedTuple):
    """Every way at one split: as the product forecasts, as plans, with all teams' ratios, with the built-in pool, and naively."""

    split: Split
    days_ahead: float
    silent: int
    ways: list[Judged]
    pool: Pool

    def way(self, name: str) -> Judged:
        """The way of that name."""
        return next(each for each in self.ways if each.way == name)

    def text(self) -> str:
        """All of it, for people."""
        until = "its end" if self.split.until is None else f"{self.split.until:%d %b %H:%M}"
        head = (
            f"as of {self.split.at:%d %b %H:%M} until {until}: {self.ways[0].teams} teams, {self.days_ahead:.1f} days ahead;"
            f" {self.silent} spend nothing"
        )
        return "\n".join([head, *(f"  {each.line()}" for each in self.ways)])


def demo_card() -> RateCard:
    """The example card, by which the trace is priced."""
    document = tomllib.loads(DEMO_CARD.read_text(encoding="utf-8"))
    return load_rate_card(canonical_document(document), version=1, publisher="bench", published_at=AS_OF)


def uses_of(path: Path, card: RateCard) -> dict[str, list[Use]]:
    """Every priced request of the trace, by team, in the order of time."""
    uses: dict[str, list[Use]] = {}
    for record in read_trace(path):
        if record.status != "succeeded":
            continue
        price = price_usage(card, record.action, record.meters, record.dimensions, lambda _: 0)
        if price is not None:
            uses.setdefault(record.team_id, []).append(
                Use(record.occurred_at, price.amount_micros, record.action)
            )
    return uses


def days_before(uses: Sequence[Use], at: datetime) -> list[int]:
    """What was spent in each day of 24 hours that ends with ``at``, from the first on which anything was."""
    spent: dict[int, int] = {}
    for use in uses:
        if use.at < at:
            ago = (at - use.at - timedelta(microseconds=1)) // DAY
            spent[ago] = spent.get(ago, 0) + use.micros
    return [spent.get(ago, 0) for ago in range(max(spent, default=-1), -1, -1)]


def naive(days: Sequence[int], horizon: float, actual: int) -> Told:
    """The daily mean goes on."""
    mean = sum(days) / len(days)
    spread = sqrt(sum((spent - mean) ** 2 for spent in days) / max(1, len(days) - 1))
    expected, wide = mean * horizon, NAIVE_DEVIATIONS * spread * sqrt(horizon)
    return Told(max(0.0, expected - wide), expected, expected + wide, actual)


def stated(days: Sequence[int], horizon: int, pool: Pool, actual: int) -> Told:
    """What Coffer says."""
    told = forecast(days, horizon, pool)
    return Told(told.low_micros, told.expected_micros, told.high_micros, actual)


def planned(uses: Sequence[Use], at: datetime, horizon: int, pool: Pool, actual: int) -> Told:
    """What a plan says whose volumes are learned: whole uses at what one cost on average."""
    today = at.date()
    spent = [
        DaySpent(
            today - timedelta((at - use.at - timedelta(microseconds=1)) // DAY), use.action, 1, use.micros
        )
        for use in uses
        if use.at < at
    ]
    lines = learn_volumes(spent, today, horizon, pool).lines
    low, expected, high = (
        sum(line.times(path) * (line.amount_micros or 0) for line in lines) for path in PATHS
    )
    return Told(low, expected, high, actual)


def judged(way: str, told: Sequence[Told]) -> Judged:
    """What the forecasts of one way come to."""
    count = len(told)
    return Judged(
        way,
        count,
        held=sum(each.low <= each.actual <= each.high for each in told),
        above=sum(each.actual > each.high for each in told),
        nothing=sum(not each.high for each in told),
        mean_error=sum(abs(each.expected - each.actual) for each in told) / count / 1e6,
        mean_width=sum(each.high - each.low for each in told) / count / 1e6,
        expected=sum(each.expected for each in told) / 1e6,
        actual=sum(each.actual for each in told) / 1e6,
    )


def sampled(histories: dict[str, list[int]]) -> list[list[int]]:
    """The histories that the product looks at: of each shard the teams with the least account ids."""
    of_shard: dict[int, list[list[int]]] = {}
    for team in sorted((team for team, days in histories.items() if days), key=account_id):
        of_shard.setdefault(shard_of(team, SHARDS), []).append(histories[team])
    return [days for shard in of_shard.values() for days in shard[: SAMPLE_TEAMS_MAX // SHARDS]]


def compared(
    uses: dict[str, list[Use]], split: Split, teams: int = TEAMS, hindsight: bool = False
) -> Compared:
    """Every way to forecast at one split, over the teams that were busiest by then."""
    at = split.at
    end = split.until or max(each[-1].at for each in uses.values()) + timedelta(microseconds=1)
    histories = {team: days_before(each, at) for team, each in uses.items()}
    ahead = (end - at) / DAY
    horizon = max(1, round(ahead))

    def busy(team: str) -> tuple[int, str]:
        return -sum(use.at < at or hindsight for use in uses[team]), team

    chosen = [team for team in sorted(uses, key=busy)[:teams] if histories[team]]
    actual = {team: sum(use.micros for use in uses[team] if at <= use.at < end) for team in chosen}
    everybody = learn_pool(histories.values(), horizon, teams)
    # The product leaves out the team that asks, which is hardly noticed among so many.
    ours = learn_pool(sampled(histories), horizon)
    every = [(team, histories[team], actual[team]) for team in chosen]
    ways = {
        "stated 80 %": [stated(days, horizon, ours, spent) for _, days, spent in every],
        "as spending plans": [planned(uses[team], at, horizon, ours, spent) for team, _, spent in every],
        "pool of all teams": [stated(days, horizon, everybody, spent) for _, days, spent in every],
        "built-in pool": [stated(days, horizon, PRIOR_POOL, spent) for _, days, spent in every],
        "naive mean": [naive(days, ahead, spent) for _, days, spent in every],
    }
    return Compared(
        split,
        ahead,
        sum(not spent for spent in actual.values()),
        [judged(way, told) for way, told in ways.items()],
        ours,
    )


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--as-of", type=datetime.fromisoformat, default=None)
    parser.add_argument("--teams", type=int, default=TEAMS)
    parser.add_argument("--hindsight", action="store_true")
    asked = parser.parse_args()
    uses = uses_of(asked.trace, demo_card())
    splits = [Split(asked.as_of)] if asked.as_of else [Split(AS_OF), *HOLD_OUT]
    for split in splits:
        told = compared(uses, split, asked.teams, asked.hindsight)
        print(told.text())
        for kind, ratios, teams in zip(
            ("used today", "within three days", "before"), told.pool.ratios, told.pool.teams, strict=True
        ):
            tenths = [ratios[len(ratios) * (5 + 10 * n) // 100] for n in range(10)]
            print(f"    ratios of {len(ratios)} earlier days of {teams} teams, {kind}: {tenths}")


if __name__ == "__main__":
    main()
