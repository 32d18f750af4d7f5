"""Money for invoices comes by the payments stream on PostgreSQL: in parts, twice, beyond, for the wrong thing (I4, I14)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from consumers.payment_wire import PaymentRecord
from consumers.payments import settle_payments
from domain.account.planning import assign_plan
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.invoice_model import PostgresInvoices
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from infra.project import ProjectorLoop
from tests.builders import a_catalogue, a_plan, unit_card
from tests.consumers.payment_stories import PAYMENTS, a_payment, a_payments_read
from tests.infra.invoicing import CLOSED, OPENED, a_seller, a_team, invoiced
from tests.infra.stored import rows, told

INVOICE = "CO-2026-000001"
PRICE = {"price_minor": 4_900, "currency": "EUR"}


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url)
    yield shards
    shards.close()


@pytest.fixture
def store(shards: ShardMap) -> Iterator[PostgresBatchStore]:
    store = PostgresBatchStore(shards)
    for partition in PAYMENTS:
        store.register(partition, 0)
    yield store
    store.close()


def subscribed(shards: ShardMap) -> None:
    """Acme took a plan of EUR 49.00 in November, and is invoiced with 19 % tax: EUR 58.31 are due."""
    plan = a_catalogue(unit_card(), plans=[a_plan("studio", 90, price=PRICE)]).plan("studio")
    assert plan is not None
    a_seller(shards)
    a_team(shards, "acme", bought=0)
    told(shards, "acme", OPENED, lambda decision: assign_plan(decision, plan, "now"))
    assert invoiced(shards).invoices == 1


def paid(
    record_id: str, amount: int, reference: str, invoice: str = INVOICE, **changes: str
) -> PaymentRecord:
    return a_payment(
        "invoice.paid", record_id, reference, at=CLOSED, invoice=invoice, amount_minor=amount,
        currency=changes.get("currency", "EUR"),
    )  # fmt: skip


def status(shards: ShardMap) -> str:
    """The invoice as the read model has it."""
    ProjectorLoop(shards).catch_up()
    (document,) = PostgresInvoices(shards).page("acme").documents
    return str(document.status)


def test_parts_pay_an_invoice_and_every_record_has_its_one_outcome(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    subscribed(shards)
    before = status(shards)
    first = settle_payments(
        store,
        [
            a_payments_read(
                paid("e1", 3_000, "sepa-1"),
                paid("e1", 3_000, "sepa-1"),
                paid("e2", 3_000, "sepa-1"),
                paid("e3", 1, "sepa-2", "CO-2026-000009"),
                paid("e4", 1, "sepa-3", currency="USD"),
            )
        ],
    )
    between = status(shards)
    second = settle_payments(
        store, [a_payments_read(paid("e1", 3_000, "sepa-1"), paid("e5", 2_900, "sepa-4"), first=5)]
    )

    assert [f"{row.outcome} {row.reason}".strip() for row in [*first.outcomes, *second.outcomes]] == [
        "applied invoice.paid",
        "duplicate",
        "duplicate",
        "parked unknown_invoice",
        "parked other_currency",
        "duplicate",
        "applied invoice.paid",
    ]
    assert (before, between, status(shards)) == ("issued", "issued", "paid")
    events = rows(
        database_url,
        "SELECT convert_from(state, 'UTF8')::jsonb ->> 'paid_after_minor',"
        " convert_from(state, 'UTF8')::jsonb ->> 'over_minor' FROM ledger_events"
        " WHERE topic = 'InvoicePaid.1' ORDER BY originator_version",
    )
    assert events == [("3000", None), ("5900", "69")]
    assert verify(shards).findings == []
