"""At one instant it makes no difference whether commands share a decision, as a batch's records do, or each has its own."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from hypothesis import given, settings
from hypothesis import strategies as st

from domain.account.charging import charge_usage
from domain.account.decision import Decision, copy_of
from domain.account.events import AccountEvent
from domain.account.funding import AskedLot, grant_credits
from domain.account.refunding import refund_charge
from domain.account.state import TeamAccount
from domain.errors import LedgerError
from domain.usage import usage_key
from tests.builders import SOURCE, TESTER, AnAccount, a_usage_record, when

START, NOW = when("2026-11-01 00:00"), when("2026-11-05 00:00")
CREDIT = 1_000_000
Step = tuple[str, int, int]

# Lots that broke before now, lie in their grace, or live on: hours from the start to their expiry, now being 96.
lots = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 150)), min_size=1, max_size=4)
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        st.tuples(st.just("use"), st.integers(1, 40), st.integers(1, 96)),
        st.tuples(st.just("refund"), st.integers(1, 20), st.integers(0, 5)),
        st.tuples(st.just("grant"), st.integers(1, 20), st.integers(1, 48)),
    ),
    min_size=2,
    max_size=8,
)


@settings(max_examples=200, deadline=None)
@given(early=lots, taken=st.lists(steps, min_size=2, max_size=2))
def test_commands_at_one_instant_may_share_a_decision(
    early: list[tuple[int, int]], taken: Sequence[list[Step]]
) -> None:
    first, second = taken
    together, apart = _story(early, first, second, share=True), _story(early, first, second, share=False)

    assert together == apart


def _story(
    early: list[tuple[int, int]], first: list[Step], second: list[Step], share: bool
) -> tuple[TeamAccount, list[AccountEvent]]:
    """Lots, the first steps a day before now, the second steps now; the account and all its events since."""
    told = AnAccount()
    for number, (amount, hours) in enumerate(early):
        told.granted(f"lot {number}", amount, "2026-11-01 00:00", expires_at=_text(hours))
    account, index, events = copy_of(told.account), told.index, list[AccountEvent]()
    for at, steps_then, offset in ((NOW - timedelta(days=1), first, 0), (NOW, second, len(first))):
        decision = Decision(account, at, TESTER, index)
        for place, step in enumerate(steps_then, offset):
            if not share:
                decision = Decision(account, at, TESTER, index)
            before = len(decision.events)
            with suppress(LedgerError):
                _take(told, decision, step, place)
            events += decision.events[before:]
    return account, events


def _take(told: AnAccount, decision: Decision, step: Step, place: int) -> None:
    kind, amount, number = step
    if kind == "use":
        occurred = _text(number)
        charge_usage(decision, a_usage_record(str(place), amount, occurred=occurred), told.catalogue)
    elif kind == "refund":
        refund_charge(decision, usage_key("acme", SOURCE, str(number)), amount * CREDIT, f"refund {place}")
    else:
        asked = AskedLot(expires_at=decision.at + timedelta(hours=number))
        grant_credits(decision, amount * CREDIT, asked=asked)


def _text(hours: int) -> str:
    return (START + timedelta(hours=hours)).replace(tzinfo=None).isoformat(sep=" ")
