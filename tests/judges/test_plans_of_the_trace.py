"""Spending plans of the real trace: what came lies in the stated interval at about the stated rate, also on days not tuned on."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain.spending.forecasting import STATED_PERCENT
from tests.bench.spending_of_the_trace import (
    AS_OF,
    HOLD_OUT,
    Compared,
    Split,
    Use,
    compared,
    demo_card,
    uses_of,
)

pytestmark = pytest.mark.trace

TUNED = Split(AS_OF)


@pytest.fixture(scope="module")
def uses(real_trace: Path) -> dict[str, list[Use]]:
    """The requests of the trace with their prices, by team."""
    return uses_of(real_trace, demo_card())


def told(uses: dict[str, list[Use]], split: Split) -> Compared:
    """The figures, printed: they are to be read."""
    found = compared(uses, split)
    print(f"\n{'tuned on' if split == TUNED else 'held out'}: {found.text()}")
    return found


def test_plans_of_the_200_busiest_teams_hold_what_came_at_about_the_stated_rate(
    uses: dict[str, list[Use]],
) -> None:
    found = told(uses, TUNED)

    for way in ("stated 80 %", "as spending plans"):
        ours, naive = found.way(way), found.way("naive mean")
        assert ours.teams == 200
        assert abs(ours.held_percent - STATED_PERCENT) <= 8
        assert ours.mean_error < naive.mean_error / 2


@pytest.mark.parametrize("split", HOLD_OUT, ids=lambda split: f"{split.at:%d}-{split.until or split.at:%d}")
def test_on_days_that_nothing_was_tuned_on_the_interval_holds_and_the_error_is_below_the_naive_one(
    uses: dict[str, list[Use]], split: Split
) -> None:
    found = told(uses, split)

    ours, naive = found.way("as spending plans"), found.way("naive mean")
    assert abs(ours.held_percent - STATED_PERCENT) <= 15
    assert ours.held > naive.held
    assert ours.mean_error < naive.mean_error
