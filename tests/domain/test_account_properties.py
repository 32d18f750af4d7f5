"""What always holds of lots and money, for any lots, any usage and any order of arrival."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from fractions import Fraction
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.account.events import (
    ChargeRefunded,
    CreditsCharged,
    CreditsExpired,
    CreditsGranted,
    CreditsToppedUp,
    DebtRepaid,
)
from domain.commands import PlaceHold
from domain.errors import LedgerError, RefundExceedsCharge
from tests.builders import AnAccount, a_catalogue, micros, unit_card, when

FIRST = "2026-11-05 08:00"
HOURS = 60
_HOLD = PlaceHold(team_id="acme", action="image.generate", amount_micros=micros(5))


def minute(n: int) -> str:
    return (when(FIRST) + timedelta(minutes=n)).replace(tzinfo=None).isoformat(sep=" ")


early_lots = st.lists(
    st.fixed_dictionaries(
        {"amount": st.integers(1, 60), "expires": st.one_of(st.none(), st.integers(1, 22 * HOURS))}
    ),
    max_size=4,
)
late_lots = st.lists(
    st.fixed_dictionaries({"amount": st.integers(1, 60), "at": st.integers(0, 20 * HOURS)}), max_size=3
)
uses = st.lists(
    st.fixed_dictionaries({"units": st.integers(0, 40), "occurred": st.integers(0, 10 * HOURS)}),
    min_size=1,
    max_size=7,
)


@settings(max_examples=150, deadline=None)
@given(early=early_lots, late=late_lots, used=uses, data=st.data())
def test_i10_lots_and_debt_do_not_depend_on_the_order_of_arrival(
    early: list[dict[str, Any]], late: list[dict[str, int]], used: list[dict[str, int]], data: st.DataObject
) -> None:
    arrivals = sorted(
        data.draw(
            st.lists(st.integers(10 * HOURS, 20 * HOURS), min_size=len(used), max_size=len(used)),
            label="arrivals",
        )
    )
    order = data.draw(st.permutations(range(len(used))), label="order")

    on_time = lived(early, late, [(use["occurred"], n, use) for n, use in enumerate(used)])
    delayed = lived(early, late, [(arrivals[place], n, used[n]) for place, n in enumerate(order)])

    assert totals(on_time) == totals(delayed)
    end = "2026-11-20 00:00"
    assert (on_time.left(end), on_time.debt(end)) == (delayed.left(end), delayed.debt(end))


def graduated(first: str, then: str, **changes: Any) -> dict[str, Any]:
    """Sixty units of a period at one price, the rest at another."""
    tiers = [{"up_to": "60", "price": first}, {"price": then}]
    term = {"model": "graduated", "meters": ["units"], "tiers": tiers}
    return unit_card(rates=[{"action": "image.generate", "terms": [term]}], **changes)


@settings(max_examples=100, deadline=None)
@given(used=uses, data=st.data())
def test_i10_the_total_price_does_not_depend_on_the_order_of_arrival_whatever_else_happens(
    used: list[dict[str, int]], data: st.DataObject
) -> None:
    """Graduated, a dearer card from the fifth hour on; lots, a hold, a refund and a chargeback come in between."""
    arrivals = data.draw(
        st.lists(st.integers(10 * HOURS, 20 * HOURS), min_size=len(used), max_size=len(used)),
        label="arrivals",
    )
    order = data.draw(st.permutations(range(len(used))), label="order")

    def story(arriving: list[tuple[int, int]]) -> AnAccount:
        dearer = graduated("1", "0.7", effective_at="2026-11-05T13:00:00Z")
        team = AnAccount("2026-11-05 06:00", a_catalogue(graduated("0.0000007", "0.3333333"), dearer))
        team.bought("A", 50, "2026-11-05 07:00")
        between: list[tuple[int, int, Callable[[str], object]]] = [
            (11 * HOURS, -1, lambda at: team.asked(at, _HOLD)),
            (12 * HOURS, -1, lambda at: team.granted("G", 20, at, expires_at=minute(25 * HOURS))),
            (13 * HOURS, -1, lambda at: team.charged_back("A", at)),
            (14 * HOURS, -1, lambda at: team.refunded("0", None, at)),
            (19 * HOURS, -1, lambda at: team.lost("A", at)),
        ]
        arrive: list[tuple[int, int, Callable[[str], object]]] = [
            (at, n, partial(_used, team, n, used[n])) for at, n in arriving
        ]
        for at, _, step in sorted([*between, *arrive], key=lambda each: each[:2]):
            with suppress(LedgerError):
                step(minute(at))
        return team

    on_time = story([(use["occurred"], n) for n, use in enumerate(used)])
    delayed = story([(arrivals[place], n) for place, n in enumerate(order)])

    assert totals(on_time) == totals(delayed)


def _used(team: AnAccount, n: int, use: dict[str, int], at: str) -> None:
    team.used(str(n), use["units"], occurred=minute(use["occurred"]), recorded=at)


def lived(
    early: list[dict[str, Any]], late: list[dict[str, int]], arrivals: list[tuple[int, int, dict[str, int]]]
) -> AnAccount:
    """A team to which the lots and the usage happened in the order of their instants."""
    team = AnAccount(at="2026-11-05 06:00")
    for n, lot in enumerate(early):
        terms = {} if lot["expires"] is None else {"expires_at": minute(lot["expires"])}
        team.bought(f"early-{n}", lot["amount"], "2026-11-05 07:00", **terms)
    steps: list[tuple[int, int, int, dict[str, int]]] = [(lot["at"], 0, n, lot) for n, lot in enumerate(late)]
    steps += [(at, 1, n, use) for at, n, use in arrivals]
    for at, kind, n, step in sorted(steps, key=lambda s: s[:3]):
        if kind == 0:
            team.bought(f"late-{n}", step["amount"], minute(at))
        else:
            team.used(str(n), step["units"], occurred=minute(step["occurred"]), recorded=minute(at))
    return team


def totals(team: AnAccount) -> int:
    return sum(event.amount_micros for event in team.events_of(CreditsCharged))


@settings(max_examples=150, deadline=None)
@given(
    lots=st.lists(st.tuples(st.integers(1, 40), st.sampled_from([None, "2026-11-06 00:00"])), max_size=4),
    units=st.integers(1, 100),
    other=st.integers(0, 40),
    bought=st.integers(0, 60),
    at=st.sampled_from(["2026-11-05 12:00", "2026-11-06 12:00", "2026-11-09 12:00"]),
    is_lost=st.booleans(),
    data=st.data(),
)
def test_i13_any_split_of_a_refund_at_one_instant_equals_one_refund(
    lots: list[tuple[int, str | None]],
    units: int,
    other: int,
    bought: int,
    at: str,
    is_lost: bool,
    data: st.DataObject,
) -> None:
    """R2: also where lots have expired, debt was repaid by later credit, or a bank took the first lot back."""
    amount = data.draw(st.integers(1, units), label="amount")
    cuts = sorted(data.draw(st.sets(st.integers(1, amount), max_size=4), label="cuts") | {amount})
    parts = [high - low for low, high in zip([0, *cuts], cuts, strict=False)]

    def story(refunds: list[int]) -> AnAccount:
        team = AnAccount(at="2026-11-05 06:00")
        for n, (size, expires) in enumerate(lots):
            team.bought(str(n), size, "2026-11-05 07:00", **({"expires_at": expires} if expires else {}))
        team.used("u", units, occurred="2026-11-05 08:00")
        if bought:
            team.bought("later", bought, "2026-11-05 09:00")
        if is_lost and lots:
            team.charged_back("0", "2026-11-05 09:10")
            team.lost("0", "2026-11-05 09:20")
        if bought:
            team.bought("latest", bought, "2026-11-05 09:30")
        if other:
            team.used("other", other, occurred="2026-11-05 10:00")
        for part in refunds:
            team.refunded("u", part, at)
        return team

    whole, split = story([amount]), story(parts)

    assert (split.left(), split.debt()) == (whole.left(), whole.debt())
    for name, issued in [
        *((str(n), size) for n, (size, _) in enumerate(lots)),
        ("later", bought),
        ("latest", bought),
    ]:
        line = [Fraction(left) for lot, left in whole.left().items() if lot.rstrip("'") == name]
        assert sum(line) <= issued, "no lot holds more than it was issued"
    with pytest.raises(RefundExceedsCharge):
        split.refunded("u", units - amount + 1, at)


@settings(max_examples=100, deadline=None)
@given(
    lots=st.lists(st.integers(1, 40), max_size=5),
    units=st.integers(1, 120),
)
def test_i13_charge_then_full_refund_restores_the_lots_exactly(lots: list[int], units: int) -> None:
    team = AnAccount(at="2026-11-05 06:00")
    for n, size in enumerate(lots):
        team.bought(str(n), size, "2026-11-05 07:00")
    before = team.left()
    team.used("u", units, occurred="2026-11-05 08:00")

    team.refunded("u", None, "2026-11-05 09:00")

    assert (team.left(), team.debt()) == (before, "0")


@settings(max_examples=100, deadline=None)
@given(
    early=early_lots,
    late=late_lots,
    used=uses,
    refunds=st.lists(st.tuples(st.integers(0, 6), st.integers(1, 20)), max_size=4),
)
def test_i1_every_lot_is_issued_what_was_used_expired_and_is_left(
    early: list[dict[str, Any]],
    late: list[dict[str, int]],
    used: list[dict[str, int]],
    refunds: list[tuple[int, int]],
) -> None:
    team = lived(early, late, [(use["occurred"], n, use) for n, use in enumerate(used)])
    for place, amount in refunds:
        charged = next((e for e in team.events_of(CreditsCharged) if e.id == str(place)), None)
        refunded = sum(
            e.amount_micros for e in team.refunds() if charged and e.charge_id == charged.charge_id
        )
        if charged and charged.amount_micros - refunded >= micros(amount):
            team.refunded(str(place), amount, "2026-11-07 08:00")
    team.ticked("2026-11-30 00:00")

    posted, debt = postings(team)

    left = {lot.terms.lot_id: lot.remaining_micros for lot in team.account.lots}
    assert {lot: n for lot, n in posted.items() if n} == left
    assert debt == team.account.debt_micros


def postings(team: AnAccount) -> tuple[dict[str, int], int]:  # noqa: C901 - one branch per kind of event
    """What each lot holds and the debt, summed from the events alone."""
    held: dict[str, int] = defaultdict(int)
    debt = 0
    for event in team.events:
        match event:
            case CreditsGranted() | CreditsToppedUp():
                held[event.lot.lot_id] += event.amount_micros
            case CreditsCharged():
                assert (
                    sum(line.amount_micros for line in event.lines) + event.debt_micros == event.amount_micros
                )
                debt += event.debt_micros
                for line in event.lines:
                    held[line.lot_id] -= line.amount_micros
            case ChargeRefunded():
                assert sum(line.amount_micros for line in event.lines) == event.amount_micros
                for back in event.lines:
                    if back.target == "debt":
                        debt -= back.amount_micros
                    else:
                        held[back.lot_id] += back.amount_micros
            case DebtRepaid():
                debt -= event.amount_micros
                for line in event.lines:
                    held[line.lot_id] -= line.amount_micros
            case CreditsExpired():
                held[event.lot_id] -= event.amount_micros
        assert all(n >= 0 for n in held.values())
        assert debt >= 0
    return held, debt


@settings(max_examples=60, deadline=None)
@given(used=uses, looks=st.lists(st.integers(0, 20 * HOURS), max_size=5))
def test_i19_extra_looks_change_nothing(used: list[dict[str, int]], looks: list[int]) -> None:
    lots: list[dict[str, Any]] = [{"amount": 50, "expires": 3 * HOURS}, {"amount": 20, "expires": None}]
    arrivals = [(use["occurred"], n, use) for n, use in enumerate(used)]
    plain = lived(lots, [], arrivals)

    team = AnAccount(at="2026-11-05 06:00")
    team.bought("early-0", 50, "2026-11-05 07:00", expires_at=minute(3 * HOURS))
    team.bought("early-1", 20, "2026-11-05 07:00")
    for at, n, use in sorted([*arrivals, *((look, -1, {}) for look in looks)], key=lambda s: s[:2]):
        if n < 0:
            team.ticked(minute(at))
        else:
            team.used(str(n), use["units"], occurred=minute(use["occurred"]), recorded=minute(at))

    end = "2026-11-20 00:00"
    assert (team.left(end), team.debt(end)) == (plain.left(end), plain.debt(end))
