"""Deferred revenue: opening + sold - used - breakage - refunded = closing, to the minor unit, whatever a life brings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.account.events import AccountEvent, ChargebackLost, CostBasis, CreditsToppedUp, RecordedEvent
from domain.account.state import TeamAccount
from domain.commands import TopUpCredits
from projections.revenue import Flow, RollForward, TeamFlow, rolled_forward, team_flows
from tests.builders import AnAccount, micros, when
from tests.domain.invoices.told import all_drafts, recorded
from tests.projections.lives import a_life
from tests.simulation.product import Product
from tests.simulation.stories import story_of


class Source:
    """The events of one account."""

    def __init__(self, events: list[AccountEvent]) -> None:
        self._events = recorded(events)

    def events(self, team_id: str, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        return iter(self._events[after:until])


def flows_of(team: AnAccount) -> list[TeamFlow]:
    return list(team_flows(Source(team.events), "acme"))


def rows(team: AnAccount) -> list[RollForward]:
    return rolled_forward(flows_of(team))


def told(team: AnAccount) -> dict[str, tuple[int, ...]]:
    """By period: opening, sold, used, breakage, refunded, closing."""
    return {
        row.label: (
            row.opening_minor,
            row.sold_minor,
            row.used_minor,
            row.breakage_minor,
            row.refunded_minor,
            row.closing_minor,
        )
        for row in rows(team)
    }


def bought(
    team: AnAccount, name: str, amount: int, price: int, at: str, currency: str = "EUR", **terms: str
) -> None:
    expires = terms.get("expires_at")
    team.asked(
        at,
        TopUpCredits(
            team_id="acme",
            amount_micros=micros(amount),
            payment_reference=f"pay-{name}",
            cost_basis=CostBasis(price, currency, price // 5),
            expires_at=when(expires) if expires else None,
        ),
    )
    (lot,) = [
        event.lot for event in team.events_of(CreditsToppedUp) if event.payment_reference == f"pay-{name}"
    ]
    team.names[lot.lot_id] = name


def test_e21_the_last_credit_brings_what_the_roundings_left() -> None:
    team = AnAccount("2026-09-01 00:00")
    bought(team, "A", 300, 1_000, "2026-09-02 00:00")
    for month in ("09", "10", "11"):
        team.used(month, 100, occurred=f"2026-{month}-10 12:00")

    assert told(team) == {
        "2026-09": (0, 1_000, 333, 0, 0, 667),
        "2026-10": (667, 0, 333, 0, 0, 334),
        "2026-11": (334, 0, 334, 0, 0, 0),
    }


def test_what_is_used_within_one_period_is_rounded_once() -> None:
    team = AnAccount("2026-09-01 00:00")
    bought(team, "A", 300, 1_000, "2026-09-02 00:00")
    for day in range(3, 9):
        team.used(f"u{day}", 50, occurred=f"2026-09-{day:02} 12:00")

    assert told(team) == {"2026-09": (0, 1_000, 1_000, 0, 0, 0)}


def test_what_expires_is_breakage_when_it_is_booked() -> None:
    team = AnAccount("2026-09-01 00:00")
    bought(team, "A", 300, 1_000, "2026-09-02 00:00", expires_at="2026-10-20 00:00")
    team.used("u", 100, occurred="2026-09-10 12:00")
    team.ticked("2026-11-05 00:00")

    assert told(team) == {"2026-09": (0, 1_000, 333, 0, 0, 667), "2026-10": (667, 0, 0, 667, 0, 0)}


def test_a_refund_defers_again_and_a_successor_shares_the_price_of_its_origin() -> None:
    team = AnAccount("2026-09-01 00:00")
    bought(team, "A", 300, 1_000, "2026-09-02 00:00", expires_at="2026-10-01 00:00")
    team.used("u", 300, occurred="2026-09-10 12:00")
    team.refunded("u", 100, "2026-10-10 00:00")
    team.used("again", 40, occurred="2026-10-12 00:00")
    team.ticked("2026-11-05 00:00")

    # The refund serves September, whose books are closed: it is October's, as the new use and the breakage are.
    assert told(team) == {
        "2026-09": (0, 1_000, 1_000, 0, 0, 0),
        "2026-10": (0, 0, -200, 200, 0, 0),
    }


def test_debt_that_is_repaid_by_a_top_up_is_its_revenue() -> None:
    team = AnAccount("2026-09-01 00:00")
    team.used("u", 30, occurred="2026-09-10 12:00")
    bought(team, "A", 100, 1_000, "2026-10-05 00:00")

    assert told(team) == {"2026-10": (0, 1_000, 300, 0, 0, 700)}


def test_a_use_is_never_before_the_sale_of_its_lot() -> None:
    """Usage of November that arrives in its late grace may draw a lot that was sold in December."""
    team = AnAccount("2026-11-01 00:00")
    bought(team, "A", 100, 1_000, "2026-12-01 08:00")
    team.used("u", 30, occurred="2026-11-30 12:00", recorded="2026-12-01 09:00")

    assert told(team) == {"2026-12": (0, 1_000, 300, 0, 0, 700)}


def test_a_chargeback_lost_refunds_the_whole_price_and_takes_back_its_revenue() -> None:
    team = AnAccount("2026-09-01 00:00")
    bought(team, "A", 300, 1_000, "2026-09-02 00:00")
    team.used("u", 100, occurred="2026-09-10 12:00")
    team.charged_back("A", "2026-10-05 00:00")
    team.lost("A", "2026-10-20 00:00")
    bought(team, "B", 200, 500, "2026-10-25 00:00")

    # The hundred credits that were used are owed; B repays them.
    assert told(team) == {
        "2026-09": (0, 1_000, 333, 0, 0, 667),
        "2026-10": (667, 500, -333 + 250, 0, 1_000, 250),
    }


def test_a_chargeback_won_changes_nothing() -> None:
    team = AnAccount("2026-09-01 00:00")
    bought(team, "A", 300, 1_000, "2026-09-02 00:00")
    before = told(team)
    team.charged_back("A", "2026-09-05 00:00")
    team.won("A", "2026-09-20 00:00")

    assert told(team) == before


def test_late_usage_is_revenue_of_the_period_whose_invoice_has_it() -> None:
    team = AnAccount("2026-11-01 00:00")
    bought(team, "A", 300, 1_000, "2026-11-02 00:00")
    team.used("late", 100, occurred="2026-11-28 12:00", recorded="2026-12-05 12:00")

    assert told(team) == {"2026-11": (0, 1_000, 0, 0, 0, 1_000), "2026-12": (1_000, 0, 333, 0, 0, 667)}


def test_currencies_and_issuers_are_rolled_forward_apart_and_teams_together() -> None:
    first, second, other = (
        AnAccount("2026-09-01 00:00"),
        AnAccount("2026-09-01 00:00"),
        AnAccount("2026-09-01 00:00", issuer_id="asia"),
    )
    bought(first, "A", 300, 1_000, "2026-09-02 00:00")
    bought(first, "B", 300, 7_000, "2026-10-02 00:00", "USD")
    bought(second, "A", 300, 500, "2026-10-02 00:00")
    bought(other, "A", 300, 90, "2026-10-02 00:00")

    rolled = rolled_forward([*flows_of(first), *flows_of(second), *flows_of(other)])

    assert [
        (row.issuer_id, row.currency, row.label, row.opening_minor, row.closing_minor) for row in rolled
    ] == [
        ("asia", "EUR", "2026-10", 0, 90),
        ("main", "EUR", "2026-09", 0, 1_000),
        ("main", "EUR", "2026-10", 1_000, 1_500),
        ("main", "USD", "2026-10", 0, 7_000),
    ]


def deferred_by_balance(account: TeamAccount, events: list[AccountEvent]) -> dict[str, int]:
    """By currency, what is deferred as anybody can work it out from what is left of each bought lot and its successors."""
    left: dict[str, int] = defaultdict(int)
    for lot in account.lots:
        left[lot.terms.origin_lot_id] += lot.remaining_micros
    lost = {event.origin_lot_id for event in events if isinstance(event, ChargebackLost)}
    deferred: dict[str, int] = defaultdict(int)
    for event in events:
        if isinstance(event, CreditsToppedUp) and event.lot.cost_basis is not None:
            price, bought_micros = event.lot.cost_basis.price_minor, event.amount_micros
            gone = bought_micros - left[event.lot.lot_id]
            is_lost = event.lot.lot_id in lost
            deferred[event.lot.cost_basis.currency] += 0 if is_lost else price - price * gone // bought_micros
    return dict(deferred)


def closings(rolled: list[RollForward]) -> dict[str, int]:
    """By currency, what the last period closes with."""
    return without_zeros({row.currency: row.closing_minor for row in rolled})


def without_zeros(sums: dict[str, int]) -> dict[str, int]:
    return {name: sum_ for name, sum_ in sums.items() if sum_}


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 100_000))
def test_i8_in_any_life_the_roll_forward_is_exact_and_ends_with_what_the_balance_says(seed: int) -> None:
    team = a_life(seed)

    rolled = rows(team)

    for row in rolled:
        assert (
            row.opening_minor + row.sold_minor - row.used_minor - row.breakage_minor - row.refunded_minor
            == row.closing_minor
        )
        assert row.closing_minor >= 0
    assert all(before.closing_minor == after.opening_minor for before, after in pairwise(rolled))
    assert closings(rolled) == without_zeros(deferred_by_balance(team.account, team.events))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 100_000))
def test_what_was_sold_and_refunded_is_what_the_invoices_say(seed: int) -> None:
    team = a_life(seed)
    said: dict[str, Flow] = defaultdict(Flow)
    for draft in all_drafts(recorded(team.events)):
        for each in draft.document().purchases:
            flow = {
                "top_up": Flow(sold_minor=each.net_minor),
                "charged_back": Flow(refunded_minor=-each.net_minor),
                "plan": Flow(),
            }[each.kind]
            said[draft.period.label] = said[draft.period.label].plus(flow)

    found = {row.label: (row.sold_minor, row.refunded_minor) for row in rows(team)}

    for label in {*said, *found}:
        assert found.get(label, (0, 0)) == (said[label].sold_minor, said[label].refunded_minor)


def test_a_team_without_an_account_has_no_revenue() -> None:
    class Nobody:
        def events(self, team_id: str, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
            return iter(())

    assert list(team_flows(Nobody(), "acme")) == []


@pytest.mark.parametrize("seed", [7, 101, 2_026])
def test_i8_revenue_of_simulated_teams_ends_with_what_their_balances_say(seed: int) -> None:
    told_story = story_of(seed)
    product = Product(told_story.steps[0].at)
    for step in told_story.steps:
        if product.may_hear(step):
            product.hear(step)

    for kept in product.store.teams.values():
        events = [each.event for each in kept.events]
        rolled = rolled_forward(team_flows(Source(events), "acme"))

        assert closings(rolled) == without_zeros(deferred_by_balance(kept.account, events))
