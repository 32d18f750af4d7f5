"""What a team will spend if nobody says: deterministic, its own rate, and intervals that widen with how it varied."""

from __future__ import annotations

import random
from datetime import date, timedelta

import pytest

from domain.spending.forecasting import (
    MILLION,
    POOL_RATIOS_MAX,
    POOL_TEAMS_MIN,
    PRIOR,
    STATED_PERCENT,
    Pool,
    forecast,
    learn_pool,
    rate_of,
    ratios_of,
    recency,
)
from domain.spending.learning import DaySpent, by_day, learn_volumes

STEADY = Pool(((MILLION,) * 10,) * 3)


def test_a_steady_team_is_expected_to_go_on_and_its_interval_is_narrow() -> None:
    told = forecast([5_000_000] * 80, 10)

    assert (told.low_micros, told.expected_micros, told.high_micros) == (
        50_000_000,
        48_000_000,
        50_000_000,
    ) or (told.low_micros <= told.expected_micros <= told.high_micros == 50_000_000)
    assert told.expected_micros > 40_000_000


def test_with_a_pool_that_never_varied_a_steady_team_is_forecast_exactly() -> None:
    told = forecast([5_000_000] * 80, 10, STEADY)

    assert told.low_micros == told.expected_micros == told.high_micros == 50_000_000


def test_a_team_that_has_just_begun_is_told_by_the_pool_and_one_with_a_long_past_by_itself() -> None:
    young, old = forecast([3_000_000], 7), forecast([3_000_000] * 70, 7)

    assert (young.own, young.pooled) == (0, 10)
    assert young.low_micros == 0
    assert old.own > 40


def test_nothing_spent_nothing_expected() -> None:
    assert forecast([], 5).high_micros == 0
    assert forecast([0, 0, 0], 5).expected_micros == 0


def test_the_same_history_gives_the_same_forecast() -> None:
    draw = random.Random(7)
    days = [draw.randint(0, 9_000_000) for _ in range(50)]

    assert forecast(days, 12) == forecast(list(days), 12)


@pytest.mark.parametrize("seed", range(3))
def test_of_teams_that_vary_alike_about_the_stated_share_of_intervals_holds_what_follows(seed: int) -> None:
    draw = random.Random(seed)
    kept = 0
    for _ in range(200):
        days = [draw.choice([0, 1, 2, 3, 8]) * draw.randint(1, 1_000_000) for _ in range(100)]
        told = forecast(days[:90], 10, STEADY)
        kept += told.low_micros <= sum(days[90:]) <= told.high_micros

    assert STATED_PERCENT - 15 <= kept / 2 <= STATED_PERCENT + 15


def test_the_rate_counts_from_the_first_use_and_forgets_what_is_older_than_weeks() -> None:
    assert rate_of([0, 0, 8, 0]) == (8, 4)
    assert rate_of([1_000] + [2] * 40) == (56, 28)


def test_how_recently_credits_were_used_has_three_kinds() -> None:
    assert [recency(days) for days in ([1], [1, 0], [1, 0, 0], [1, 0, 0, 0], [])] == [0, 1, 1, 2, 0]


def test_a_pool_learns_from_those_who_were_busiest_then_not_from_those_who_are_now() -> None:
    faded, risen = [9, 9, 9, 9, 0, 0, 0, 0], [1, 1, 1, 1, 50, 50, 50, 50]

    pool = learn_pool([faded, risen], 4, busiest=1, teams_min=1)

    assert 50 * MILLION not in pool.ratios[0]
    assert (pool.ratios[2], pool.teams) == (PRIOR[2], (1, 0, 0))
    assert ratios_of(risen, 4)[0] == (0, 50 * MILLION)


def test_a_pool_of_enough_teams_takes_the_place_of_the_built_in_one_and_says_of_how_many_it_is() -> None:
    """Teams that double what they spend: one that has just begun is expected to, instead of fading as the built-in ones do."""
    doubling = [[2] * 20 + [4] * 6 for _ in range(POOL_TEAMS_MIN)]

    pool = learn_pool(doubling, 6)
    few = learn_pool(doubling[1:], 6)
    told, built_in = forecast([5_000_000] * 4, 6, pool), forecast([5_000_000] * 4, 6, few)

    assert (pool.teams[0], told.pool_teams) == (POOL_TEAMS_MIN, POOL_TEAMS_MIN)
    assert 2 * MILLION in pool.ratios[0]
    assert (few.ratios, few.teams, built_in.pool_teams) == (PRIOR, (0, 0, 0), 0)
    assert built_in == forecast([5_000_000] * 4, 6)
    assert told.expected_micros > built_in.expected_micros


def test_a_pool_is_learned_from_what_came_before_the_forecast_alone_and_stays_small() -> None:
    draw = random.Random(11)
    histories = [[draw.randint(0, 9) for _ in range(60)] for _ in range(120)]

    pool = learn_pool(histories, 14, 100)

    assert all(len(kind) <= POOL_RATIOS_MAX for kind in pool.ratios)
    assert all(list(kind) == sorted(kind) for kind in pool.ratios)
    assert abs(pool.ratios[0][len(pool.ratios[0]) // 2] - MILLION) < MILLION // 10


def test_learned_volumes_come_to_the_forecast_and_share_it_by_action() -> None:
    today = date(2026, 11, 23)
    spent = [
        DaySpent(today - timedelta(n), action, uses, net)
        for n in range(60)
        for action, uses, net in (("image.generate", 4, 8_000_000), ("video.generate", 1, 2_000_000))
    ]

    learned = learn_volumes(spent, today, 10, STEADY)

    assert [(line.action, line.expected, line.amount_micros) for line in learned.lines] == [
        ("image.generate", 40, 2_000_000),
        ("video.generate", 10, 2_000_000),
    ]
    assert (
        sum(line.expected * (line.amount_micros or 0) for line in learned.lines)
        == learned.forecast.expected_micros
    )


def test_days_without_spending_are_there_and_those_before_the_first_are_not() -> None:
    today = date(2026, 11, 23)

    days = by_day(
        [DaySpent(today - timedelta(3), "a", 1, 5), DaySpent(today + timedelta(1), "a", 1, 9)], today
    )

    assert days == [5, 0, 0, 0]
    assert learn_volumes([], today, 5).lines == []
