"""What always holds of holds, plans, quotes, chargebacks and the clock, for any amounts and any instants."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domain.account.estimating import estimate
from domain.account.events import AccountEvent, CreditsHeld, UsageWaived
from domain.account.quoting import quote_usage
from domain.amounts import format_credits
from domain.commands import PlaceHold
from domain.errors import LedgerError, QuoteExpired
from domain.quotes import sign_quote
from tests.builders import QUOTE_KEY, AnAccount, a_catalogue, a_plan, micros, unit_card, when

START = "2026-11-01 00:00"
HOUR, DAY = 60, 24 * 60


def minute(n: int) -> str:
    """The instant so many minutes after the beginning of November."""
    return (when(START) + timedelta(minutes=n)).replace(tzinfo=None).isoformat(sep=" ")


def state(team: AnAccount) -> tuple[Any, ...]:
    """Lots in burn order with their terms and what they hold, and the debt."""
    lots = [(lot.terms, lot.remaining_micros, lot.held_micros) for lot in team.account.lots]
    return lots, team.account.settled_micros, team.account.debt_micros


def asked_hold(amount: int, seconds: int) -> PlaceHold:
    """A hold that may be denied."""
    return PlaceHold(
        team_id="acme", action="image.generate", amount_micros=micros(amount), lasts_seconds=seconds
    )


any_lots = st.lists(
    st.fixed_dictionaries(
        {
            "amount": st.integers(1, 40),
            "priority": st.sampled_from([10, 20]),
            "action": st.sampled_from([None, None, "image.generate", "video.generate"]),
            "expires": st.sampled_from([None, 3 * DAY, 5 * DAY]),
            "is_bought": st.booleans(),
        }
    ),
    max_size=5,
)


def with_lots(lots: list[dict[str, Any]]) -> AnAccount:
    team = AnAccount(START)
    for n, lot in enumerate(lots):
        terms = {"priority": lot["priority"], "action": lot["action"]}
        if lot["expires"] is not None:
            terms["expires_at"] = minute(lot["expires"])
        (team.bought if lot["is_bought"] else team.granted)(f"lot {n}", lot["amount"], START, **terms)
    return team


@settings(max_examples=80, deadline=None)
@given(
    lots=any_lots,
    before=st.integers(0, 60),
    units=st.integers(1, 120),
    action=st.sampled_from(["image.generate", "video.generate"]),
    hold=st.integers(0, 30),
)
def test_i13_charge_then_full_refund_restores_the_lot_vector_whatever_the_lots_and_holds(
    lots: list[dict[str, Any]], before: int, units: int, action: str, hold: int
) -> None:
    team = with_lots(lots)
    if hold:
        team.asked(minute(HOUR), asked_hold(hold, 86_400))
    team.used("before", before, occurred=minute(2 * HOUR))
    was = state(team)
    team.used("u", units, occurred=minute(3 * HOUR), action=action)

    team.refunded("u", None, minute(4 * HOUR))

    assert state(team) == was


@settings(max_examples=60, deadline=None)
@given(lots=any_lots, other=st.integers(0, 30), amount=st.integers(1, 60), usage=st.booleans())
def test_i13_work_that_took_its_hold_and_is_refunded_leaves_what_a_release_leaves(
    lots: list[dict[str, Any]], other: int, amount: int, usage: bool
) -> None:
    """The hold is taken whole, by capture or by the usage that names it. (Beside debt, E5c says what a refund leaves.)"""

    def story(is_released: bool) -> AnAccount | None:
        team = with_lots(lots)
        given = team.asked(minute(HOUR), asked_hold(amount, 3_600))
        if given.denied is not None:
            return None
        hold = given.fields["hold_id"]
        team.used("other", other, occurred=minute(HOUR))
        assume(team.debt() == "0")
        if is_released:
            team.released(hold, minute(HOUR))
        elif usage:
            team.used("u", amount, occurred=minute(HOUR), hold_id=hold)
            team.refunded("u", None, minute(HOUR))
        else:
            charge_id = team.captured(hold, amount, minute(HOUR))
            team.refunded_charge(charge_id, None, minute(HOUR))
        return team

    worked, released = story(False), story(True)

    if worked is None or released is None:
        assert worked is released, "the same hold is given or denied"
        return
    assert state(worked) == state(released)


purchase_and_use = given(
    others=st.lists(st.integers(1, 40), max_size=3),
    bought=st.integers(1, 100),
    uses=st.lists(st.integers(1, 50), max_size=4),
    refunds=st.lists(st.integers(1, 50), max_size=3),
)


def spent(others: list[int], bought: int, uses: list[int], refunds: list[int]) -> AnAccount:
    """Top-up T and others, usage u0, u1, ..., and a refund of part of each of the first; all of it on the first day."""
    team = AnAccount(START)
    team.bought("T", bought, START, expires_at=minute(20 * DAY))
    for n, amount in enumerate(others):
        team.bought(f"other {n}", amount, START)
    for n, units in enumerate(uses):
        team.used(f"u{n}", units, occurred=minute(HOUR))
    for n, (units, amount) in enumerate(zip(uses, refunds, strict=False)):
        team.refunded(f"u{n}", min(units, amount), minute(2 * HOUR))
    return team


@settings(max_examples=60, deadline=None)
@purchase_and_use
def test_r3_a_chargeback_won_is_the_identity_but_for_the_time_added_whatever_was_spent_and_refunded(
    others: list[int], bought: int, uses: list[int], refunds: list[int]
) -> None:
    team, twin = (spent(others, bought, uses, refunds) for _ in range(2))

    team.charged_back("T", minute(2 * DAY))
    team.won("T", minute(9 * DAY))

    assert (team.left(), team.debt()) == (twin.left(), twin.debt())
    if team.left()["T"] != "0":
        assert team.expiry("T") == when(minute(27 * DAY))
    # Also a lot that stood empty lives a week longer: what returns to it later finds it there.
    for each, at in ((team, 26 * DAY), (twin, 19 * DAY)):
        for n in range(len(uses)):
            with suppress(LedgerError):
                each.refunded(f"u{n}", None, minute(at))
    assert (team.left(), team.debt()) == (twin.left(), twin.debt())


@settings(max_examples=60, deadline=None)
@purchase_and_use
def test_r3_a_chargeback_lost_takes_the_purchase_once_whatever_was_spent_and_refunded(
    others: list[int], bought: int, uses: list[int], refunds: list[int]
) -> None:
    team = spent(others, bought, uses, refunds)
    before = team.account.settled_micros - team.account.debt_micros
    team.charged_back("T", minute(2 * DAY))

    team.lost("T", minute(9 * DAY))

    after = team.account.settled_micros - team.account.debt_micros
    assert before - after == micros(bought), "no more and no less than what was bought"
    for n in range(len(uses)):
        with suppress(LedgerError):
            team.refunded(f"u{n}", None, minute(10 * DAY))
    assert team.left() == {"T": "0"} | {f"other {n}": str(amount) for n, amount in enumerate(others)}
    assert team.debt() == "0"


def priced_at(price: int, **changes: Any) -> dict[str, Any]:
    rate = {
        "action": "image.generate",
        "terms": [{"model": "unit", "meters": ["units"], "price": str(price)}],
    }
    return unit_card(rates=[rate], **changes)


@settings(max_examples=60, deadline=None)
@given(
    dearer=st.integers(0, 120),
    quoted=st.integers(0, 60),
    held=st.integers(0, 40),
    worked=st.integers(0, 20),
    recorded=st.integers(0, 3 * DAY),
    units=st.integers(1, 20),
)
def test_h10_what_was_quoted_or_estimated_is_what_is_charged_whenever_the_price_changes(
    dearer: int, quoted: int, held: int, worked: int, recorded: int, units: int
) -> None:
    """A quote pins card, version and total from its hold on; without one the charge is the estimate for that instant."""
    cards = [priced_at(1), priced_at(2, effective_at=f"{minute(dearer).replace(' ', 'T')}Z")]
    catalogue = a_catalogue(*cards)
    team = AnAccount(START, catalogue)
    team.bought("A", 10_000, START)
    meters = {"units": str(units)}
    quote = quote_usage(
        team.account, catalogue, team.index, when(minute(quoted)), "q", action="image.generate",
        meters=meters, dimensions={}, lasts_seconds=20 * 60,
    )  # fmt: skip
    asking = PlaceHold(team_id="acme", action="image.generate", quote=sign_quote(quote, QUOTE_KEY))
    at = quoted + held

    if held >= 20:
        with pytest.raises(QuoteExpired):
            team.asked(minute(at), asking)
        told = estimate(team.account, catalogue, team.index, when(minute(at)), "image.generate", meters, {})
        charge: Any = team.used("u", units, occurred=minute(at), recorded=minute(at + recorded))
        assert told.priced is not None
        assert (charge.amount_micros, charge.card) == (told.amount_micros, told.priced.card)
        return
    team.asked(minute(at), asking)
    [hold] = team.events_of(CreditsHeld)
    charge = team.used(
        "u",
        units,
        occurred=minute(at + worked),
        recorded=minute(at + worked + recorded),
        hold_id=hold.hold_id,
    )

    assert hold.amount_micros == quote.total_micros == charge.amount_micros
    assert hold.quote.card == quote.card == charge.card


# A step is told by its minute, what happens, an amount, and which of what was made before it is about.
steps = st.lists(
    st.tuples(
        st.integers(0, 75 * DAY),
        st.sampled_from(
            [
                *("use", "late use", "hold", "use of hold", "capture", "release", "refund", "grant", "buy"),
                *("charged_back", "won", "lost"),
            ]
        ),
        st.integers(1, 60),
        st.integers(0, 4),
    ),
    max_size=14,
).map(sorted)


@settings(max_examples=120, deadline=None)
@given(taken=steps, looks=st.lists(st.integers(0, 80 * DAY), min_size=1, max_size=12))
def test_i19_extra_ticks_change_nothing_of_plans_holds_chargebacks_and_late_usage(
    taken: list[tuple[int, str, int, int]], looks: list[int]
) -> None:
    ticked = lived([*taken, *((at, "look", 0, 0) for at in looks)])

    plain = lived(taken)

    assert facts(ticked) == facts(plain)
    assert state(ticked) == state(plain)
    assert (ticked.account.holds, ticked.account.limits) == (plain.account.holds, plain.account.limits)


def lived(taken: list[tuple[int, str, int, int]]) -> AnAccount:
    """A team on a plan with rollover to which this happened; what was refused did not."""
    team = AnAccount(START, a_catalogue(unit_card(), plans=[a_plan("monthly", 60, 25)]))
    team.planned("monthly", START)
    for place, (at, what, amount, which) in enumerate(sorted(taken, key=lambda step: step[0])):
        with suppress(LedgerError, LookupError):
            step(team, minute(at), at, what, amount, which, f"{at}-{place if what != 'look' else ''}")
    team.ticked(minute(120 * DAY))
    return team


def step(team: AnAccount, now: str, at: int, what: str, amount: int, which: int, name: str) -> None:  # noqa: C901 - one branch a step
    holds, charges, tops = (ids(team, kind) for kind in ("CreditsHeld", "CreditsCharged", "CreditsToppedUp"))
    match what:
        case "look":
            team.ticked(now)
        case "use":
            team.used(f"u{len(charges)}", amount, occurred=now)
        case "late use":
            team.used(
                f"u{len(charges)}", amount, occurred=minute(max(0, at - which * 16 * HOUR)), recorded=now
            )
        case "hold":
            team.asked(now, asked_hold(amount, 3_600 + which * 20_000))
        case "use of hold":
            team.used(f"u{len(charges)}", amount, occurred=now, hold_id=holds[which])
        case "capture":
            team.captured(holds[which], amount, now)
        case "release":
            team.released(holds[which], now)
        case "refund":
            team.refunded(f"u{which}", amount, now)
        case "grant":
            team.granted(f"g{name}", amount, now, expires_at=minute(at + 1 + which * 3 * DAY))
        case "buy":
            team.bought(f"b{len(tops)}", amount, now)
        case _:
            getattr(team, what)(f"b{which}", now)


def ids(team: AnAccount, kind: str) -> list[str]:
    made = [event for event in team.events if type(event).__name__ == kind]
    return [getattr(event, "hold_id", "") or "" for event in made]


def facts(team: AnAccount) -> list[tuple[Any, ...]]:
    """What happened, in order, and as of when it counts; not when it was written down."""

    def fact(event: AccountEvent) -> tuple[Any, ...]:
        counts_from: datetime | None = getattr(event, "effective_at", None)
        return type(event).__name__, counts_from, getattr(event, "amount_micros", None)

    return [fact(event) for event in team.events]


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.integers(-HOUR, HOUR), st.integers(1, 20)), min_size=1, max_size=12))
def test_t1_recorded_times_never_decrease_when_the_clock_steps_back_and_order_is_by_version(
    steps: list[tuple[int, int]],
) -> None:
    """I3, I20: the clock jumps by up to an hour either way, or stands still, before each charge."""
    team = AnAccount(minute(0))
    at = 2 * DAY
    for n, (jump, units) in enumerate(steps):
        at += jump
        team.used(str(n), units, occurred=minute(DAY), recorded=minute(at))

    recorded = [event.recorded_at for event in team.events]
    assert recorded == sorted(recorded)
    assert recorded[-1] >= when(minute(at))
    assert team.account.version == len(team.events) == 1 + len(steps)
    assert team.debt() == str(sum(units for _, units in steps))


@pytest.mark.parametrize("skew", [-10, -5, 0, 5])
def test_t2_the_record_says_when_it_counts_and_one_clock_says_what_time_it_is(skew: int) -> None:
    """I8, I19: a producer's clock is off around an expiry; what lapses, and when, is another clock's matter."""
    team = AnAccount(START)
    team.bought("A", 100, START, expires_at=minute(DAY))
    team.bought("B", 100, START)
    occurred = minute(DAY + skew)

    charge = team.used("u", 30, occurred=occurred, recorded=minute(DAY - 1))

    assert not isinstance(charge, UsageWaived)
    assert (charge.occurred_at, charge.recorded_at) == (when(occurred), when(minute(DAY - 1)))
    assert team.left() == ({"A": "70", "B": "100"} if skew < 0 else {"A": "100", "B": "70"})
    assert team.balance(minute(DAY - 1)).lapsed_micros == 0
    assert format_credits(team.balance(minute(DAY)).lapsed_micros) == ("70" if skew < 0 else "100")
