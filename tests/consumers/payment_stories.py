"""What tests of the payments stream are told in: facts of a provider at offsets of partitions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from consumers.batches import Hole, PartitionKey
from consumers.payment_encoding import encode_payment, encode_payment_structured
from consumers.payment_wire import PaymentKind, PaymentRecord
from consumers.settling import PartitionRead
from consumers.stream_record import StreamRecord
from domain.account.events import CostBasis

PROVIDER = "urn:test:provider"
PAYMENTS = [PartitionKey("cluster", "payments-id", "credits.payments.v1", number) for number in range(2)]
BASIS = CostBasis(2_000, "EUR", 380)


def a_payment(
    kind: PaymentKind,
    record_id: str,
    reference: str = "pay-1",
    amount: int = 100,
    *,
    at: datetime,
    **changes: Any,
) -> PaymentRecord:
    """A fact of a provider about acme's payment: 100 credits for 20 EUR and tax, unless said otherwise."""
    is_bought = kind in ("topup.requested", "topup.settled")
    told: dict[str, Any] = {
        "team_id": "acme",
        "source": PROVIDER,
        "amount_micros": amount * 1_000_000 if is_bought else 0,
        "cost_basis": BASIS if is_bought else None,
        "failure": "card_declined" if kind == "topup.failed" else "",
    }
    return PaymentRecord(
        kind=kind, id=record_id, payment_reference=reference, occurred_at=at, arrived_at=at, **told | changes
    )


def placed(offset: int, payment: PaymentRecord, partition: int = 0) -> StreamRecord:
    """The fact as the broker gives it, in one mode or the other."""
    sent = (encode_payment_structured if offset % 2 else encode_payment)(payment)
    key = PAYMENTS[partition]
    return StreamRecord(key.topic, partition, offset, sent.key, sent.value, sent.headers, payment.arrived_at)


def a_payments_read(
    *payments: PaymentRecord, first: int = 0, partition: int = 0, holes: Sequence[Hole] = ()
) -> PartitionRead:
    """These facts, one after the other, as one read."""
    records = [placed(offset, each, partition) for offset, each in enumerate(payments, first)]
    return PartitionRead(PAYMENTS[partition], first, first + len(records), records, holes)
