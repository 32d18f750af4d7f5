"""What is wrong with a field, in words: what was sent and what would be right, never a pattern alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api import fields
from domain.team.card_numbers import holds_card_number

SENT_LENGTH_MAX = 40

RIGHT = {
    fields.ID_PATTERN: "1 to 128 ASCII letters, digits or _.:@~+=- would be right (not first: .:@~+=)",
    fields.RECORD_ID_PATTERN: "1 to 128 ASCII letters, digits or _.:@~+=/- would be right (not first: .:@~+=/)",
    fields.NAME_PATTERN: "a name such as 'image.generate' would be right: lower-case letters, digits, _ and dots",
    fields.AMOUNT_PATTERN: "credits such as '12.5' would be right: no sign, no exponent, at most six decimal places",
    fields.QUANTITY_PATTERN: "a quantity such as '1.25' would be right: no sign, no exponent, at most nine decimal places",
    fields.CARD_PATTERN: "a card such as 'standard' would be right: lower-case letters, digits, _ and -, at most 64",
    fields.CHARGE_PATTERN: "a charge is 32 hex digits in lower case",
    fields.CURRENCY_PATTERN: "an ISO 4217 code such as 'EUR' would be right",
    fields.COUNTRY_PATTERN: "an ISO 3166 code such as 'DE' would be right",
    fields.PAYMENT_PATTERN: "1 to 128 printable ASCII characters without a space would be right",
    fields.LOT_PATTERN: "a lot such as 'lot-2' would be right, as lists of lots name it",
    fields.HOLD_PATTERN: "a hold such as 'hold-12' would be right",
    fields.DISPUTE_PATTERN: "a dispute such as 'dispute-20' would be right",
    fields.EMAIL_PATTERN: "an address such as 'billing@example.org' would be right",
    fields.QUOTE_PATTERN: "the token of a quote would be right, exactly as it was issued",
    fields.INVOICE_PATTERN: "the number of a document such as 'CO-2026-000001' would be right, as it is printed",
    fields.PREFIX_PATTERN: "up to 15 letters, digits, dots, _ and - would be right, such as 'CO-'",
    fields.PERCENT_PATTERN: "a decimal string below 100 such as '19' or '7.7' would be right",
    fields.IBAN_PATTERN: "an IBAN without spaces such as 'DE89370400440532013000' would be right",
    fields.BIC_PATTERN: "8 or 11 capital letters and digits such as 'COBADEFFXXX' would be right",
    fields.REASON_CODE_PATTERN: "a reason code such as 'unknown_action' would be right",
    fields.TOPIC_PATTERN: "the name of a topic such as 'credits.usage.v1' would be right",
    fields.SOURCE_PATTERN: "a URI such as 'urn:render:eu-1' would be right: at most 256 printable ASCII characters",
    fields.TIME_PATTERN: "a time with its offset such as '2026-12-01T09:00:00Z' would be right",
}
"""What would be right, by the pattern that was not met."""


def finding(error: Mapping[str, Any]) -> str:
    """What to say of one validation error; what was sent is cut short and told as it was written.

    A number is told without quotes, so that who sent 5 for "5" sees the difference.
    """
    kind, sent = error["type"], error.get("input")
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return "is not known here: leave it out"
    said = _said(error)
    if isinstance(sent, dict | list | bytes):
        return said
    if holds_card_number(str(sent)):
        # It may be a card's number in the wrong field: nobody needs to read it back.
        return f"[hidden]: {said}"
    shown = repr(sent[:SENT_LENGTH_MAX]) if isinstance(sent, str) else str(sent)[:SENT_LENGTH_MAX]
    return f"{shown}: {said}"


def _said(error: Mapping[str, Any]) -> str:
    if error["type"] == "string_pattern_mismatch":
        return RIGHT.get(error["ctx"]["pattern"], str(error["msg"]))
    if error["type"] == "string_type":
        return "a string would be right"
    return str(error["msg"]).removeprefix("Value error, ")
