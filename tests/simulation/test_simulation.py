"""The simulator as a test: every seed that ever failed, a few fixed ones, and in CI a thousand new ones."""

from __future__ import annotations

import os

import pytest

from tests.simulation.living import live, live_seed
from tests.simulation.run import kept_seeds, simulate
from tests.simulation.stories import story_of

FIXED_SEEDS = [1, 2, 3, 5, 8, 13, 21, 34]
COMMANDS_MIN = 200


@pytest.mark.parametrize("seed", sorted({*FIXED_SEEDS, *kept_seeds()}))
def test_a_seed_that_once_failed_is_lived_through(seed: int) -> None:
    lived = live(story_of(seed))

    assert lived.commands >= COMMANDS_MIN


def test_a_seed_is_the_same_story_for_ever() -> None:
    assert story_of(7).steps == story_of(7).steps
    assert live_seed(7).counts == live_seed(7).counts


def test_many_seeds_are_lived_through_and_reach_everything() -> None:
    """``COFFER_SIMULATE_SEEDS`` new lives, from ``COFFER_SIMULATE_FIRST`` on; each kind of event and refusal is reached."""
    seeds = int(os.environ.get("COFFER_SIMULATE_SEEDS", "1000"))
    first = int(os.environ.get("COFFER_SIMULATE_FIRST", "1000000"))

    assert simulate(seeds, first) == 0
