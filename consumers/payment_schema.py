"""The JSON Schema of the payment data, made from the rules that the reading uses; `schemas/payment.v1.json` is its copy.

One schema for all types: `$defs` holds one for each, under the name of its type. What it refuses, the reading refuses.
"""

from __future__ import annotations

import json
from pathlib import Path

from consumers.payment_wire import (
    AMOUNT_PATTERN,
    CURRENCY_PATTERN,
    FAILURE_PATTERN,
    FIELDS_OF,
    INVOICE_PATTERN,
    MINOR_UNITS_MAX,
    REFERENCE_PATTERN,
    PaymentKind,
    type_of,
)

SCHEMA_FILE = Path(__file__).parent / "schemas" / "payment.v1.json"

_PROPERTIES: dict[str, dict[str, object]] = {
    "payment_reference": {
        "description": "The provider's reference of the payment; it counts once in the team.",
        "type": "string",
        "pattern": f"^{REFERENCE_PATTERN}$",
    },
    "amount": {
        "description": "Credits bought, above 0: a plain decimal of at most six places.",
        "type": "string",
        "pattern": f"^{AMOUNT_PATTERN}$",
    },
    "price_minor": {
        "description": "What was paid, without tax, in minor units of the currency.",
        "type": "integer",
        "minimum": 0,
        "maximum": MINOR_UNITS_MAX,
    },
    "currency": {"description": "ISO 4217.", "type": "string", "pattern": f"^{CURRENCY_PATTERN}$"},
    "tax_minor": {
        "description": "Tax on top, in minor units of the currency; 0 when left out.",
        "type": "integer",
        "minimum": 0,
        "maximum": MINOR_UNITS_MAX,
    },
    "invoice": {
        "description": "The number of the invoice, as it is printed.",
        "type": "string",
        "pattern": f"^{INVOICE_PATTERN}$",
    },
    "amount_minor": {
        "description": "What was paid, tax included, in minor units of the currency.",
        "type": "integer",
        "minimum": 1,
        "maximum": MINOR_UNITS_MAX,
    },
    "failure": {
        "description": "The provider's code for why, such as card_declined.",
        "type": "string",
        "pattern": f"^{FAILURE_PATTERN}$",
    },
}


def payment_schema() -> dict[str, object]:
    """The schema of the data of every type of the payments stream (JSON Schema 2020-12)."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:coffer:schema:payment:v1",
        "title": "com.coffer.topup, com.coffer.chargeback and com.coffer.invoice, v1",
        "description": "What a payment provider tells; id, source, subject (the team) and time are CloudEvents attributes.",
        "anyOf": [{"$ref": f"#/$defs/{type_of(kind)}"} for kind in FIELDS_OF],
        "$defs": {type_of(kind): data_schema(kind) for kind in FIELDS_OF},
    }


def data_schema(kind: PaymentKind) -> dict[str, object]:
    """The schema of the data of one type."""
    required, optional = FIELDS_OF[kind]
    return {
        "title": type_of(kind),
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": {field: _PROPERTIES[field] for field in (*required, *optional)},
    }


def schema_text() -> str:
    """The schema as it stands in its file."""
    return json.dumps(payment_schema(), indent=2) + "\n"
