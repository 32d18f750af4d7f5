"""Refunds keep the account within its bounds: no sum beyond 2^62, no more open lots than the small state allows."""

from __future__ import annotations

import pytest

from domain.account import refunding
from domain.amounts import AMOUNT_MAX, format_credits
from domain.errors import AmountOutOfRange, TooManyLots
from tests.builders import AnAccount

ALL = format_credits(AMOUNT_MAX)


def full_again() -> AnAccount:
    """An account that was full, spent nearly all of it and was filled up once more."""
    team = AnAccount()
    team.bought("A", ALL, "2026-11-01 00:00")
    team.used("u1", "4000000000000", occurred="2026-11-02 00:00")
    team.bought("B", "4000000000000", "2026-11-03 00:00")
    return team


def test_a_refund_that_would_fill_the_account_beyond_its_bound_is_refused_i22() -> None:
    team = full_again()

    with pytest.raises(AmountOutOfRange, match="2\\^62"):
        team.refunded("u1", None, "2026-11-04 00:00")

    assert team.settled() == ALL


def test_a_correction_that_would_fill_the_account_beyond_its_bound_is_refused_before_anything_is_recorded_i15() -> (
    None
):
    team = full_again()
    events_before = len(team.events)

    with pytest.raises(AmountOutOfRange):
        team.used("u2", occurred="2026-11-04 00:00", status="failed", corrects="u1")

    assert (team.settled(), len(team.events)) == (ALL, events_before)


@pytest.fixture
def three_lots_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refunding, "OPEN_LOTS_MAX", 3)


def spent_and_bought_again() -> AnAccount:
    """Two lots were spent, three others are open."""
    team = AnAccount()
    for name, at in (("A", "2026-11-01 00:00"), ("B", "2026-11-02 00:00")):
        team.bought(name, 1, at)
    team.used("u1", 2, occurred="2026-11-03 00:00")
    for name, at in (("C", "2026-11-04 00:00"), ("D", "2026-11-05 00:00"), ("E", "2026-11-06 00:00")):
        team.bought(name, 1, at)
    return team


@pytest.mark.usefixtures("three_lots_at_most")
def test_a_refund_opens_no_more_lots_than_the_small_state_allows_i24() -> None:
    team = spent_and_bought_again()

    with pytest.raises(TooManyLots):
        team.refunded("u1", None, "2026-11-07 00:00")
    with pytest.raises(TooManyLots):
        team.used("u2", occurred="2026-11-07 00:00", status="failed", corrects="u1")

    assert team.left() == {"A": "0", "B": "0", "C": "1", "D": "1", "E": "1"}


@pytest.mark.usefixtures("three_lots_at_most")
def test_a_refund_that_repays_debt_with_what_it_returns_needs_no_room_i27() -> None:
    team = spent_and_bought_again()
    team.used("u2", 5, occurred="2026-11-07 00:00")

    team.refunded("u1", None, "2026-11-08 00:00")

    assert (team.settled(), team.debt()) == ("0", "0")
