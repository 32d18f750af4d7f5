"""A payment fact ends in one outcome, is applied once, and is told from its copies and contradictions by its event."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from consumers.batches import UsageBatch
from consumers.dead_letters import retry_letter
from consumers.payment_wire import PaymentRecord
from consumers.payments import settle_payments, terms_of_event, terms_of_record
from consumers.settling import PartitionRead
from consumers.stream_record import StreamRecord
from consumers.usage import settle_reads
from domain.account.claims import claim_of
from domain.account.decision import Decision
from domain.account.due import pass_time
from domain.account.events import (
    ChargebackOpened,
    CostBasis,
    CreditsToppedUp,
    DebtRepaid,
    InvoicePaid,
    TopUpRequested,
)
from tests.builders import TESTER
from tests.consumers.batch_stories import PARTITIONS, a_card, a_read, a_record
from tests.consumers.payment_stories import BASIS, PAYMENTS, a_payment, a_payments_read, placed
from tests.domain.paperwork import due, issued, voided
from tests.memory_batches import MemoryBatchStore

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
DECEMBER = datetime(2026, 12, 5, 12, tzinfo=UTC)


@pytest.fixture
def store() -> MemoryBatchStore:
    store = MemoryBatchStore(NOW)
    store.open("acme", 100_000_000)
    for partition in (*PAYMENTS, *PARTITIONS):
        store.register(partition, 0)
    return store


def told(*payments: PaymentRecord) -> tuple[PaymentRecord, ...]:
    return payments


def outcomes(batch: UsageBatch) -> list[str]:
    return [f"{row.outcome} {row.reason}".strip() for row in batch.outcomes]


def settled_micros(store: MemoryBatchStore) -> int:
    return store.accounts["acme"].settled_micros


def test_a_payment_from_request_to_a_chargeback_lost(store: MemoryBatchStore) -> None:
    batch = settle_payments(
        store,
        [
            a_payments_read(
                a_payment("topup.requested", "e1", at=NOW),
                a_payment("topup.settled", "e2", at=NOW),
                a_payment("chargeback.opened", "e3", at=NOW),
                a_payment("chargeback.lost", "e4", at=NOW),
            )
        ],
    )

    assert outcomes(batch) == [
        "applied topup.requested",
        "applied topup.settled",
        "applied chargeback.opened",
        "applied chargeback.lost",
    ]
    assert [row.first_version for row in batch.outcomes] == [3, 4, 5, 6]
    assert settled_micros(store) == 100_000_000
    (advance,) = batch.advances
    assert sum(sum(each.values()) for each in advance.outcomes.values()) == 4
    assert store.offsets[PAYMENTS[0]] == 4


def test_a_settled_top_up_carries_its_cost_basis_and_its_claim_and_repays_debt(
    store: MemoryBatchStore,
) -> None:
    """I4, I27."""
    settle_reads(store, [a_read(a_record(0, "big", 150))], a_card())
    payment = a_payment("topup.settled", "e1", at=NOW)
    settle_payments(store, [a_payments_read(payment)])

    bought, repaid = store.events["acme"][-2:]
    assert isinstance(bought, CreditsToppedUp)
    assert isinstance(repaid, DebtRepaid)
    assert bought.lot.cost_basis == BASIS
    assert claim_of(bought) == payment.record_key() == bought.record_key
    assert (settled_micros(store), store.accounts["acme"].debt_micros) == (50_000_000, 0)


@pytest.mark.parametrize("together", [True, False])
def test_the_same_fact_again_is_a_duplicate_and_another_under_its_id_a_conflict(
    store: MemoryBatchStore, together: bool
) -> None:
    """I4, in one batch and in the log."""
    first = a_payment("topup.settled", "e1", at=NOW)
    payments = told(
        first,
        msgspec.structs.replace(first, occurred_at=NOW + timedelta(hours=1)),
        msgspec.structs.replace(first, amount_micros=1),
        msgspec.structs.replace(first, cost_basis=CostBasis(2_000, "USD", 380)),
        a_payment("topup.failed", "e1", at=NOW),
    )
    if together:
        found = outcomes(settle_payments(store, [a_payments_read(*payments)]))
    else:
        found = [
            outcomes(settle_payments(store, [a_payments_read(each, first=offset)]))[0]
            for offset, each in enumerate(payments)
        ]

    assert found == ["applied topup.settled", "duplicate", "conflict", "conflict", "conflict"]
    assert settled_micros(store) == 200_000_000


def test_a_payment_told_again_under_another_id_is_a_duplicate(store: MemoryBatchStore) -> None:
    """A provider that numbers its messages anew charges nobody twice."""
    facts = ("topup.requested", "topup.settled", "chargeback.opened", "chargeback.won")
    once = [a_payment(kind, f"a-{kind}", at=NOW) for kind in facts]  # type: ignore[arg-type]
    again = [
        msgspec.structs.replace(each, id=f"b-{each.kind}")
        for each in once
        if each.kind != "chargeback.opened"
    ]
    batch = settle_payments(store, [a_payments_read(*once, *again)])

    assert outcomes(batch)[4:] == ["duplicate", "duplicate", "duplicate"]
    assert settled_micros(store) == 200_000_000


def test_a_rule_that_says_no_parks_the_record_under_its_code_and_changes_nothing(
    store: MemoryBatchStore,
) -> None:
    """I15."""
    batch = settle_payments(
        store,
        [
            a_payments_read(
                a_payment("topup.settled", "e0", at=NOW, team_id="nobody"),
                a_payment("topup.failed", "e1", "pay-9", at=NOW),
                a_payment("chargeback.opened", "e2", "pay-9", at=NOW),
                a_payment("topup.requested", "e3", at=NOW),
                a_payment("topup.settled", "e4", amount=99, at=NOW),
                a_payment("chargeback.opened", "e5", at=NOW),
                a_payment("topup.settled", "e6", at=NOW),
                a_payment("topup.settled", "e7", amount=99, at=NOW),
                a_payment("chargeback.lost", "e8", at=NOW),
                a_payment("topup.failed", "e9", at=NOW),
            )
        ],
    )

    assert outcomes(batch) == [
        "parked unknown_team",
        "parked unknown_payment",
        "parked unknown_payment",
        "applied topup.requested",
        "parked payment_refused",
        "parked payment_not_settled",
        "applied topup.settled",
        "parked payment_reference_used",
        "parked chargeback_refused",
        "parked payment_refused",
    ]
    assert [letter.offset for letter in batch.dead_letters] == [0, 1, 2, 4, 5, 7, 8, 9]
    assert [type(event) for event in store.events["acme"][2:]] == [TopUpRequested, CreditsToppedUp]


def test_a_payment_that_failed_may_still_settle(store: MemoryBatchStore) -> None:
    """The money came."""
    batch = settle_payments(
        store,
        [
            a_payments_read(
                a_payment("topup.requested", "e1", at=NOW),
                a_payment("topup.failed", "e2", at=NOW),
                a_payment("topup.failed", "e3", at=NOW),
                a_payment("topup.settled", "e4", at=NOW),
                a_payment("topup.requested", "e5", at=NOW),
            )
        ],
    )

    assert outcomes(batch) == [
        "applied topup.requested",
        "applied topup.failed",
        "duplicate",
        "applied topup.settled",
        "duplicate",
    ]


def paid(record_id: str, amount: int, reference: str, **changes: Any) -> PaymentRecord:
    """Money for acme's invoice."""
    told_of: dict[str, Any] = {
        "invoice": "CO-2026-000001",
        "amount_minor": amount,
        "currency": "EUR",
    } | changes
    return a_payment("invoice.paid", record_id, reference, at=DECEMBER, **told_of)


@pytest.fixture
def invoiced(store: MemoryBatchStore) -> MemoryBatchStore:
    """Acme's November is invoiced over EUR 400.00; it is 5 December."""
    store.now = DECEMBER
    decision = Decision(store.accounts["acme"], DECEMBER, TESTER, store.indexes["acme"])
    pass_time(decision)
    issued(decision, 1, due(40_000))
    store.events["acme"] += decision.events
    return store


def test_an_invoice_is_paid_in_parts_beyond_and_never_twice_by_one_payment(
    invoiced: MemoryBatchStore,
) -> None:
    """I4: the copy under the same id, and the same payment told under another, change nothing."""
    batch = settle_payments(
        invoiced,
        [
            a_payments_read(
                paid("e1", 15_000, "sepa-1"),
                paid("e1", 15_000, "sepa-1"),
                paid("e2", 15_000, "sepa-1"),
                paid("e1", 15_001, "sepa-1"),
                paid("e3", 26_000, "sepa-2"),
            )
        ],
    )

    assert outcomes(batch) == [
        "applied invoice.paid",
        "duplicate",
        "duplicate",
        "conflict",
        "applied invoice.paid",
    ]
    first, last = invoiced.events["acme"][-2:]
    assert isinstance(first, InvoicePaid)
    assert isinstance(last, InvoicePaid)
    assert (first.paid_after_minor, first.is_settled, first.over_minor) == (15_000, False, 0)
    assert (last.paid_after_minor, last.is_settled, last.over_minor) == (41_000, True, 1_000)
    assert "15000 EUR of invoice CO-2026-000001) there" in batch.outcomes[3].detail


def test_money_for_no_invoice_a_void_one_or_in_another_currency_is_parked(invoiced: MemoryBatchStore) -> None:
    """Each for a stable reason; a payment that bought credits pays no invoice, and the other way round."""
    decision = Decision(
        invoiced.accounts["acme"], DECEMBER, TESTER, invoiced.indexes["acme"], reason="wrong company"
    )
    voided(decision, "CO-2026-000001", 2, reissue=True)
    issued(decision, 3, due(40_000))
    invoiced.events["acme"] += decision.events
    batch = settle_payments(
        invoiced,
        [
            a_payments_read(
                paid("e1", 1, "sepa-1", invoice="CO-2026-000009"),
                paid("e2", 1, "sepa-2"),
                paid("e3", 1, "sepa-3", invoice="CO-2026-000003", currency="USD"),
                paid("e4", 1, "sepa-4", invoice="CO-2026-000002"),
                a_payment("topup.settled", "e5", "sepa-5", at=DECEMBER),
                paid("e6", 1, "sepa-5", invoice="CO-2026-000003"),
                paid("e7", 1, "sepa-6", invoice="CO-2026-000003"),
                a_payment("topup.settled", "e8", "sepa-6", at=DECEMBER),
                a_payment("topup.requested", "e9", "sepa-6", at=DECEMBER),
                paid("e10", 2, "sepa-6", invoice="CO-2026-000003"),
            )
        ],
    )

    assert outcomes(batch) == [
        "parked unknown_invoice",
        "parked invoice_void",
        "parked other_currency",
        "parked unknown_invoice",
        "applied topup.settled",
        "parked payment_reference_used",
        "applied invoice.paid",
        "parked payment_reference_used",
        "parked payment_reference_used",
        "parked payment_reference_used",
    ]


def test_a_payment_that_came_before_its_invoice_is_applied_by_a_retry(store: MemoryBatchStore) -> None:
    store.now = DECEMBER
    early = settle_payments(store, [a_payments_read(paid("e1", 40_000, "sepa-1"))])
    decision = Decision(store.accounts["acme"], DECEMBER, TESTER, store.indexes["acme"])
    pass_time(decision)
    issued(decision, 1, due(40_000))
    store.events["acme"] += decision.events

    with store.transaction() as transaction:
        retried = retry_letter(early.dead_letters[0], transaction, a_card())
        transaction.write(retried.batch)

    assert (outcomes(early), retried.outcome, retried.reason) == (
        ["parked unknown_invoice"], "applied", "invoice.paid",
    )  # fmt: skip


def test_what_cannot_be_read_is_rejected_and_lies_untouched_among_the_dead_letters(
    store: MemoryBatchStore,
) -> None:
    record = StreamRecord("credits.payments.v1", 0, 0, b"k", b"{", [("x", None)], NOW)
    batch = settle_payments(store, [PartitionRead(PAYMENTS[0], 0, 1, [record])])

    assert outcomes(batch) == ["rejected content_type"]
    (letter,) = batch.dead_letters
    assert (letter.key, letter.value, letter.headers) == (b"k", b"{", [("x", None)])


def test_usage_under_the_identity_of_a_payment_is_a_conflict_and_the_other_way_round(
    store: MemoryBatchStore,
) -> None:
    """A source that uses an id twice contradicts itself; nobody waits for ever."""
    payment = a_payment("topup.settled", "x", at=NOW, source="urn:test:usage")
    settle_payments(store, [a_payments_read(payment)])
    usage = a_record(0, "x", source="urn:test:usage")
    other = a_record(1, "y", source="urn:test:usage")
    batch = settle_reads(store, [a_read(usage, other)], a_card())
    assert [row.outcome for row in batch.outcomes] == ["conflict"]
    assert "CreditsToppedUp" in batch.outcomes[0].detail

    late = msgspec.structs.replace(payment, id="y", payment_reference="pay-2")
    assert outcomes(settle_payments(store, [a_payments_read(late, first=1)])) == ["conflict"]


def test_hundreds_of_facts_of_one_team_in_one_batch(store: MemoryBatchStore) -> None:
    """I18: a batch's work grows with its records alone."""
    payments = [a_payment("topup.settled", f"e{n}", f"pay-{n}", 1, at=NOW) for n in range(400)]
    batch = settle_payments(store, [a_payments_read(*payments)])

    assert set(outcomes(batch)) == {"applied topup.settled"}
    assert settled_micros(store) == 500_000_000


def test_a_parked_fact_is_applied_once_its_cause_is_gone_and_only_once(store: MemoryBatchStore) -> None:
    """The bank was quicker than the provider: oldest first, all of it comes right."""
    batch = settle_payments(
        store,
        [
            a_payments_read(
                a_payment("chargeback.opened", "e1", at=NOW),
                a_payment("chargeback.won", "e2", at=NOW),
                a_payment("topup.settled", "e3", at=NOW),
            )
        ],
    )
    assert outcomes(batch)[:2] == ["parked unknown_payment", "parked unknown_payment"]

    ended = []
    for letter in [*batch.dead_letters, *batch.dead_letters]:
        with store.transaction() as transaction:
            retried = retry_letter(letter, transaction, a_card())
            transaction.write(retried.batch)
        ended.append((retried.outcome, retried.reason, retried.version))

    assert ended == [
        ("applied", "chargeback.opened", 4),
        ("applied", "chargeback.won", 5),
        ("duplicate", "", 4),
        ("duplicate", "", 5),
    ]


def test_the_terms_of_a_record_are_those_of_its_event(store: MemoryBatchStore) -> None:
    payments = [
        a_payment("topup.requested", "e1", at=NOW),
        a_payment("topup.settled", "e2", at=NOW),
        a_payment("chargeback.opened", "e3", at=NOW),
        a_payment("chargeback.won", "e4", at=NOW),
        a_payment("topup.requested", "e5", "pay-2", at=NOW),
        a_payment("topup.failed", "e6", "pay-2", at=NOW),
        a_payment("topup.settled", "e7", "pay-3", at=NOW),
        a_payment("chargeback.opened", "e8", "pay-3", at=NOW),
        a_payment("chargeback.lost", "e9", "pay-3", at=NOW),
    ]
    settle_payments(store, [a_payments_read(*payments)])

    by_claim = {claim_of(event): event for event in store.events["acme"]}
    for payment in payments:
        assert terms_of_event(by_claim[payment.record_key()]) == terms_of_record(payment)
    assert isinstance(by_claim[payments[2].record_key()], ChargebackOpened)
    assert placed(0, payments[0]).value is not None
