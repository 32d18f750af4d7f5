"""A record of the payments stream becomes a payment fact, or a reason.

Payments are few, so there is one reading of them, by the exact rules; what it shares with usage is in `cloud_events`.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias, get_args

import msgspec

from consumers.cloud_events import JsonObject, check_fields, read_event, text_of, wrong_kind
from consumers.rejections import Rejection, Unreadable, head_hex, shown
from consumers.stream_record import StreamRecord
from domain.account.events import CostBasis
from domain.amounts import parse_credits
from domain.errors import Malformed
from domain.usage import Origin, usage_key

PaymentKind: TypeAlias = Literal[
    "topup.requested",
    "topup.settled",
    "topup.failed",
    "chargeback.opened",
    "chargeback.won",
    "chargeback.lost",
    "invoice.paid",
]
"""What a payment provider tells: the parts of the CloudEvents type that differ."""

MINOR_UNITS_MAX = 10**15
REFERENCE_PATTERN = r"[\x21-\x7e]{1,128}"
AMOUNT_PATTERN = r"(?!0(?:\.0+)?$)(?:0|[1-9][0-9]{0,12})(?:\.[0-9]{1,6})?"
CURRENCY_PATTERN = r"[A-Z]{3}"
INVOICE_PATTERN = r"[A-Za-z0-9][A-Za-z0-9._/\-]{0,63}"
FAILURE_PATTERN = r"[a-z0-9][a-z0-9_.\-]{0,99}"


class Fields(NamedTuple):
    """The fields of one kind's data."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


_BOUGHT = Fields(("payment_reference", "amount", "price_minor", "currency"), ("tax_minor",))
_NAMED = Fields(("payment_reference",))
FIELDS_OF: dict[PaymentKind, Fields] = {
    "topup.requested": _BOUGHT,
    "topup.settled": _BOUGHT,
    "topup.failed": Fields(("payment_reference", "failure")),
    "chargeback.opened": _NAMED,
    "chargeback.won": _NAMED,
    "chargeback.lost": _NAMED,
    "invoice.paid": Fields(("payment_reference", "invoice", "amount_minor", "currency")),
}


def type_of(kind: PaymentKind) -> str:
    """The CloudEvents type of a kind."""
    return f"com.coffer.{kind}.v1"


KIND_OF: dict[str, PaymentKind] = {type_of(kind): kind for kind in get_args(PaymentKind)}


class PaymentRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A fact of the payments stream as it was read: checked, exact, not yet decided.

    Times are aware UTC; ``arrived_at`` is the broker's append time. ``amount_micros`` and ``cost_basis`` are there for
    what is requested or settled, ``failure`` (the provider's code) for what failed; ``invoice``, ``amount_minor`` and
    ``currency`` for money that came for an invoice.
    """

    kind: PaymentKind
    team_id: str
    source: str
    id: str
    occurred_at: datetime
    arrived_at: datetime
    payment_reference: str
    amount_micros: int = 0
    cost_basis: CostBasis | None = None
    failure: str = ""
    invoice: str = ""
    amount_minor: int = 0
    currency: str = ""
    origin: Origin | None = None

    def record_key(self) -> str:
        """The permanent claim of this record: 32 hex digits, made as for usage."""
        return usage_key(self.team_id, self.source, self.id)


def read_payment(record: StreamRecord) -> PaymentRecord | Rejection:
    """Read one record as a payment fact, or say why not. Never raises, whatever the bytes. Nothing is normalised."""
    try:
        return _read(record)
    except Unreadable as no:
        return Rejection(no.reason, no.detail, head_hex(record.value))


def _read(record: StreamRecord) -> PaymentRecord:
    identity, data, _ = msgspec.structs.astuple(read_event(record, KIND_OF))
    kind = KIND_OF[identity.type]
    required, optional = FIELDS_OF[kind]
    check_fields(data, (*required, *optional), required)
    return PaymentRecord(
        kind=kind,
        team_id=identity.team,
        source=identity.source,
        id=identity.id,
        occurred_at=identity.occurred_at,
        arrived_at=record.arrived_at,
        payment_reference=_reference(data),
        amount_micros=_amount(data) if "amount" in required else 0,
        cost_basis=_cost_basis(data) if "price_minor" in required else None,
        failure=_failure(data) if "failure" in required else "",
        invoice=_invoice(data) if "invoice" in required else "",
        amount_minor=_minor(data, "amount_minor", 1) if "amount_minor" in required else 0,
        currency=_currency(data) if "amount_minor" in required else "",
        origin=Origin(record.topic, record.partition, record.offset),
    )


def _reference(data: JsonObject) -> str:
    text = text_of(data["payment_reference"], "payment_reference")
    if re.fullmatch(REFERENCE_PATTERN, text):
        return text
    raise Unreadable(
        "payment_reference",
        f"payment_reference {shown(text)} is not 1 to 128 visible ASCII characters such as 'pay-2026-0001'",
    )


def _amount(data: JsonObject) -> int:
    text = text_of(data["amount"], "amount")
    try:
        if re.fullmatch(AMOUNT_PATTERN, text):
            return parse_credits(text, "amount")
    except Malformed:
        # Beyond what an account can hold: the same answer as for any other amount that is none.
        pass
    raise Unreadable(
        "amount",
        f"amount {shown(text)} is not credits above 0: write a plain decimal such as '100' or '12.5', "
        "at most six places, no sign, no exponent",
    )


def _cost_basis(data: JsonObject) -> CostBasis:
    return CostBasis(_minor(data, "price_minor"), _currency(data), _minor(data, "tax_minor"))


def _currency(data: JsonObject) -> str:
    currency = text_of(data["currency"], "currency")
    if re.fullmatch(CURRENCY_PATTERN, currency):
        return currency
    raise Unreadable("currency", f"currency {shown(currency)} is not an ISO 4217 code such as 'EUR'")


def _invoice(data: JsonObject) -> str:
    text = text_of(data["invoice"], "invoice")
    if re.fullmatch(INVOICE_PATTERN, text):
        return text
    raise Unreadable(
        "invoice", f"invoice {shown(text)} is not the number of an invoice such as 'CO-2026-000041'"
    )


def _minor(data: JsonObject, field: str, least: int = 0) -> int:
    value = data.get(field, 0)
    # A boolean counts as a number in Python, and 1.0 equals 1: only a whole number is one here.
    if not isinstance(value, int) or isinstance(value, bool):
        raise wrong_kind(value, field, "a whole number of minor units")
    if not least <= value <= MINOR_UNITS_MAX:
        raise Unreadable(
            "money", f"{field} {shown(value)} is not {least} to {MINOR_UNITS_MAX} minor units of the currency"
        )
    return value


def _failure(data: JsonObject) -> str:
    text = text_of(data["failure"], "failure")
    if re.fullmatch(FAILURE_PATTERN, text):
        return text
    raise Unreadable(
        "failure",
        f"failure {shown(text)} is not a code of 1 to 100 lower-case letters, digits or _.- such as 'card_declined'",
    )
