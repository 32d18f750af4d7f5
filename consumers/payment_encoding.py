"""A payment fact as its provider sends it: key, CloudEvents headers and value, in both modes."""

from __future__ import annotations

import msgspec

from consumers.payment_wire import PaymentRecord, type_of
from consumers.usage_encoding import EncodedUsage, time_text
from consumers.wire_rules import BINARY_CONTENT_TYPE, SPEC_VERSION, STRUCTURED_CONTENT_TYPE
from domain.amounts import format_credits

_encoder = msgspec.json.Encoder()

EncodedPayment = EncodedUsage


def encode_payment(payment: PaymentRecord) -> EncodedPayment:
    """The fact in CloudEvents binary mode. ``arrived_at`` and ``origin`` are the broker's to say and are not sent."""
    headers = [(f"ce_{name}", text.encode()) for name, text in _attributes(payment).items()]
    headers.append(("content-type", BINARY_CONTENT_TYPE.encode()))
    return EncodedPayment(payment.team_id.encode(), headers, _encoder.encode(_data(payment)))


def encode_payment_structured(payment: PaymentRecord) -> EncodedPayment:
    """The fact in CloudEvents structured mode: one JSON object holds attributes and data."""
    event = {
        **_attributes(payment),
        "datacontenttype": BINARY_CONTENT_TYPE,
        "data": _data(payment),
    }
    headers = [("content-type", STRUCTURED_CONTENT_TYPE.encode())]
    return EncodedPayment(payment.team_id.encode(), headers, _encoder.encode(event))


def _attributes(payment: PaymentRecord) -> dict[str, str]:
    return {
        "specversion": SPEC_VERSION,
        "type": type_of(payment.kind),
        "id": payment.id,
        "source": payment.source,
        "subject": payment.team_id,
        "time": time_text(payment.occurred_at),
    }


def _data(payment: PaymentRecord) -> dict[str, object]:
    data: dict[str, object] = {"payment_reference": payment.payment_reference}
    if payment.cost_basis is not None:
        paid = payment.cost_basis
        data |= {
            "amount": format_credits(payment.amount_micros),
            "price_minor": paid.price_minor,
            "currency": paid.currency,
            "tax_minor": paid.tax_minor,
        }
    if payment.invoice:
        data |= {
            "invoice": payment.invoice,
            "amount_minor": payment.amount_minor,
            "currency": payment.currency,
        }
    if payment.failure:
        data["failure"] = payment.failure
    return data
