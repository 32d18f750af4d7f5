"""How well spending is forecast on the real trace: `python -m tests.bench.spending_of_the_trace TRACE`.

Of the busiest teams as of an instant, what the trace's remaining days then brought, against the interval and the expectation that
were stated then, beside a naive mean (the daily mean since the first use, ± 1.28 standard deviations). Nothing later than the
instant is used for a forecast; ``--hindsight`` takes the teams that turn out busiest in the end, as far as they had begun.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from math import sqrt
from pathlib import Path
from typing import NamedTuple

from domain.pricing import RateCard, price_usage
from domain.rate_cards import canonical_document, load_rate_card
from domain.spending.forecasting import PRIOR_POOL, Pool, forecast, learn_pool
from domain.spending.learning import DaySpent, learn_volumes
from domain.volumes import PATHS
from infra.local.opening import DEMO_CARD
from infra.local.trace import read_trace

AS_OF = datetime(2024, 11, 27, 12, tzinfo=UTC)
TEAMS = 200
DAY = timedelta(days=1)
NAIVE_DEVIATIONS = 1.2816


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


def report(name: str, told: Sequence[Told]) -> str:
    """One line about one way to forecast."""
    count = len(told)
    held = sum(each.low <= each.actual <= each.high for each in told)
    above = sum(each.actual > each.high for each in told)
    error = sum(abs(each.expected - each.actual) for each in told) / count / 1e6
    width = sum(each.high - each.low for each in told) / count / 1e6
    expected, actual = (
        sum(values) / 1e6 for values in zip(*((each.expected, each.actual) for each in told), strict=True)
    )
    return (
        f"{name:<22} {held:>4} of {count} held ({held / count:.1%}; {above} above, {count - held - above} below)"
        f"  mean error {error:8.1f}  mean width {width:8.1f}  all teams: {expected:9.0f} expected, {actual:9.0f} spent"
    )


def main() -> None:
    """Prints the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("trace", type=Path)
    parser.add_argument("--as-of", type=datetime.fromisoformat, default=AS_OF)
    parser.add_argument("--teams", type=int, default=TEAMS)
    parser.add_argument("--hindsight", action="store_true")
    asked = parser.parse_args()
    uses, at = uses_of(asked.trace, demo_card()), asked.as_of
    histories = {team: days_before(each, at) for team, each in uses.items()}
    end = max(each[-1].at for each in uses.values())
    ahead = (end - at) / DAY
    horizon = max(1, round(ahead))

    def busy(team: str) -> tuple[int, str]:
        return -sum(use.at < at or asked.hindsight for use in uses[team]), team

    teams = [team for team in sorted(uses, key=busy)[: asked.teams] if histories[team]]
    pool = learn_pool(histories.values(), horizon, asked.teams)
    actual = {team: sum(use.micros for use in uses[team] if use.at >= at) for team in teams}
    print(
        f"as of {at.isoformat()}: {len(teams)} teams, {ahead:.1f} days ahead; {sum(not a for a in actual.values())} spend nothing"
    )
    every = [(histories[team], actual[team]) for team in teams]
    print(report("stated 80 %", [stated(days, horizon, pool, spent) for days, spent in every]))
    plans = [planned(uses[team], at, horizon, pool, actual[team]) for team in teams]
    print(report("as spending plans", plans))
    print(report("the prior's pool", [stated(days, horizon, PRIOR_POOL, spent) for days, spent in every]))
    print(report("naive mean", [naive(days, ahead, spent) for days, spent in every]))
    for kind, ratios in zip(("used today", "within three days", "before"), pool.ratios, strict=True):
        tenths = [ratios[len(ratios) * (5 + 10 * n) // 100] for n in range(10)]
        print(f"  ratios of {len(ratios)} earlier days, {kind}: {tenths}")


if __name__ == "__main__":
    main()
