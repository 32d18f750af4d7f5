"""A key and a body have one answer for ever, a refusal leaves no trace, and an estimate is the charge it foretells."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest

from api.ports import StoredEvent
from domain.account.estimating import estimate
from domain.commands import GrantCredits, OpenAccount, RefundCharge, ReleaseHold
from domain.errors import IdempotencyKeyReused, UnknownCharge, UnknownHold
from domain.ledger import Caller, Ledger
from tests.builders import a_usage_record, unit_card
from tests.memory_store import MemoryLedger

ANN, BOB = Caller("ann", "operator"), Caller("bob", "operator")
GRANT = GrantCredits(team_id="acme", amount_micros=5_000_000, reason="welcome")


def a_ledger() -> tuple[MemoryLedger, Ledger]:
    store = MemoryLedger()
    store.publish(
        unit_card(
            dimensions={"size": "of the image"},
            rates=[
                {
                    "action": "image.generate",
                    "terms": [
                        {
                            "model": "graduated",
                            "meters": ["units"],
                            "tiers": [{"up_to": "10", "price": "1"}, {"price": "0.3"}],
                        }
                    ],
                    "multipliers": [
                        {"kind": "table", "dimension": "size", "values": {"large": "2"}, "default": "1"}
                    ],
                }
            ],
        )
    )
    ledger = Ledger(store)
    ledger.execute(OpenAccount(team_id="acme"), ANN, "open")
    return store, ledger


def stored(store: MemoryLedger) -> list[StoredEvent]:
    return asyncio.run(store.events("acme", limit=1_000))


def test_i14_a_key_and_its_body_are_answered_again_and_done_once() -> None:
    store, ledger = a_ledger()

    answers = [ledger.execute(GRANT, ANN, "grant") for _ in range(3)]

    assert len(stored(store)) == 2
    assert [answer.is_replayed for answer in answers] == [False, True, True]
    assert {answer.lot_id for answer in answers} == {"lot-2"}


def test_i14_another_body_under_a_used_key_is_refused_and_changes_nothing() -> None:
    store, ledger = a_ledger()
    ledger.execute(GRANT, ANN, "grant")

    with pytest.raises(IdempotencyKeyReused):
        ledger.execute(GrantCredits(team_id="acme", amount_micros=1), ANN, "grant")

    assert len(stored(store)) == 2


def test_i16_keys_of_two_principals_do_not_meet() -> None:
    store, ledger = a_ledger()

    for caller in (ANN, BOB):
        ledger.execute(GRANT, caller, "grant")

    assert len(stored(store)) == 3


def test_i15_a_refused_command_leaves_neither_event_nor_key() -> None:
    store, ledger = a_ledger()
    record = a_usage_record("u", 4, occurred="2026-11-01 12:00")
    refund = RefundCharge(team_id="acme", charge_id=record.usage_key(), reason="black")
    with pytest.raises(UnknownCharge):
        ledger.execute(refund, ANN, "refund")
    with pytest.raises(UnknownHold):
        ledger.execute(ReleaseHold(team_id="acme", hold_id="hold-9"), ANN, "release")
    assert len(stored(store)) == 1

    store.use(record)
    answer = ledger.execute(refund, ANN, "refund")

    assert (answer.amount_micros, answer.is_replayed) == (4_000_000, False)


def test_an_estimate_is_the_charge_that_follows() -> None:
    store, ledger = a_ledger()
    ledger.execute(GRANT, ANN, "grant")
    store.use(a_usage_record("before", 8, occurred="2026-11-01 12:00"))
    kept = store.teams["acme"]
    meters, dimensions = {"units": "7"}, {"size": "large"}

    told = estimate(
        kept.account, store.catalogue, kept.index, store.now, "image.generate", meters, dimensions
    )

    assert Fraction(told.amount_micros, 1_000_000) == 2 + Fraction(12 * 3, 10)
    record = a_usage_record("after", 7, occurred="2026-11-01 12:00", dimensions=dimensions)
    store.use(record)
    charge = kept.index.usage(record.usage_key())
    assert charge is not None
    assert charge.event.amount_micros == told.amount_micros  # type: ignore[union-attr]
