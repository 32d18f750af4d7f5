"""Why a stream record was not read: one table of stable reason codes, each with its outcome and its meaning."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

HEAD_BYTES = 64
"""A rejection shows this many bytes of the value, in hex: enough to recognise it, too few to leak it."""

SHOWN_CHARACTERS_MAX = 40

Reason = Literal[
    "empty",
    "too_large",
    "too_many_headers",
    "attribute_name",
    "attribute_twice",
    "attribute_value",
    "attribute_missing",
    "content_type",
    "header_disagrees",
    "data_encoding",
    "unknown_schema",
    "byte_order_mark",
    "not_utf8",
    "not_json",
    "not_a_number",
    "number_too_large",
    "too_deep",
    "duplicate_key",
    "surrogate",
    "nul",
    "not_an_object",
    "unknown_field",
    "missing_field",
    "null_value",
    "wrong_type",
    "record_id",
    "source",
    "team",
    "time",
    "time_zone",
    "time_precision",
    "action",
    "status",
    "too_many_meters",
    "meter_name",
    "quantity",
    "too_many_dimensions",
    "dimension_name",
    "dimension_value",
    "identifier",
    "corrects",
    "corrects_itself",
    "corrects_without_failure",
    "context_too_large",
    "payment_reference",
    "amount",
    "money",
    "currency",
    "failure",
    "invoice",
    "too_old",
    "in_the_future",
]

RejectionOutcome = Literal["rejected", "parked"]


class Meaning(NamedTuple):
    """What becomes of a record with this reason, and the sentence that explains it."""

    outcome: RejectionOutcome
    explanation: str


def _rejected(explanation: str) -> Meaning:
    return Meaning("rejected", explanation)


def _parked(explanation: str) -> Meaning:
    return Meaning("parked", explanation)


REASONS: dict[Reason, Meaning] = {
    "empty": _rejected("The value is null or has no bytes."),
    "too_large": _rejected("The value is larger than 64 KiB."),
    "too_many_headers": _rejected("The record has more than 64 headers."),
    "attribute_name": _rejected(
        "A CloudEvents header or member is not spelled in lower-case letters and digits, or may not be a header."
    ),
    "attribute_twice": _rejected(
        "A `ce_` header or `content-type` is there twice: which one counts is unknown."
    ),
    "attribute_value": _rejected("A header that is needed is null or not UTF-8."),
    "attribute_missing": _rejected(
        "One of `specversion`, `type`, `id`, `source`, `subject`, `time` (or `data` in structured mode) is missing."
    ),
    "content_type": _rejected(
        "`content-type` is missing or is neither `application/json` nor `application/cloudevents+json`, in UTF-8."
    ),
    "header_disagrees": _rejected("In structured mode, a `ce_` header says something else than the value."),
    "data_encoding": _rejected("The data came as `data_base64`; it must be a JSON object in `data`."),
    "unknown_schema": _parked(
        "`specversion` is not 1.0, or `type` is none that this topic knows: a later version may read it."
    ),
    "byte_order_mark": _rejected("The value begins with a byte order mark."),
    "not_utf8": _rejected("The value is not UTF-8."),
    "not_json": _rejected(
        "The value is not one JSON text: truncated, binary, XML, or something after its end."
    ),
    "not_a_number": _rejected("`NaN`, `Infinity` or `-Infinity`, which JSON does not have."),
    "number_too_large": _rejected("A JSON number is longer than 40 characters or beyond ±2^62."),
    "too_deep": _rejected("Objects and lists are nested more than 32 levels deep, counted from the data."),
    "duplicate_key": _rejected("An object has a key twice, at any depth: which one counts is unknown."),
    "surrogate": _rejected("A string holds half of a surrogate pair, which no text can hold."),
    "nul": _rejected("A string or the value holds NUL."),
    "not_an_object": _rejected("The value, or `data` in structured mode, is not a JSON object."),
    "unknown_field": _rejected(
        "The data has a field that version 1 does not know; nothing is ignored in silence."
    ),
    "missing_field": _rejected("A field that every record of its type has is missing."),
    "null_value": _rejected("A field is null; leave it out instead."),
    "wrong_type": _rejected(
        "A field is a number, boolean, list, object or string where another kind belongs."
    ),
    "record_id": _rejected(
        "`id` is not 1 to 128 ASCII letters, digits or `_.:@~+=/-`, beginning with letter, digit, `_` or `-`."
    ),
    "source": _rejected("`source` is not a URI reference of 1 to 256 ASCII characters."),
    "team": _rejected(
        "`subject` is not 1 to 128 ASCII letters, digits or `_.:@~+=-`, beginning with letter, digit, `_` or `-`."
    ),
    "time": _rejected("`time` is not an RFC 3339 time of the years 1 to 9999 (UTC), or names a second 60."),
    "time_zone": _rejected("`time` does not state its offset."),
    "time_precision": _rejected("`time` has more than six fractional digits; nothing is cut off."),
    "action": _rejected(
        "`action` is not a name: lower-case, digits and `_`, in parts joined by dots, at most 100."
    ),
    "status": _rejected("`status` is none of `succeeded`, `failed`, `cancelled`."),
    "too_many_meters": _rejected("More than 16 meters."),
    "meter_name": _rejected("A meter's name is not a name (as for `action`)."),
    "quantity": _rejected(
        "A quantity is not a plain decimal string: at most nine places, no sign, no exponent, at most 2^62."
    ),
    "too_many_dimensions": _rejected("More than 32 dimensions."),
    "dimension_name": _rejected("A dimension's name is not a name (as for `action`)."),
    "dimension_value": _rejected(
        "A dimension's value is not 1 to 128 printable characters in NFC, without invisible or directional ones "
        "and without a space at either end."
    ),
    "identifier": _rejected("`member`, `project`, `work`, `step` or `hold` is not an id (as for `team`)."),
    "corrects": _rejected("`corrects` is not a record id."),
    "corrects_itself": _rejected("`corrects` names the record's own id."),
    "corrects_without_failure": _rejected(
        "`corrects` with status `succeeded`; only failed or cancelled work corrects."
    ),
    "context_too_large": _rejected("The context is larger than 8 KiB as received."),
    "payment_reference": _rejected("`payment_reference` is not 1 to 128 visible ASCII characters."),
    "amount": _rejected(
        "`amount` is not credits above 0 as a plain decimal string: at most six places, no sign, no exponent."
    ),
    "money": _rejected(
        "`price_minor` or `tax_minor` is not 0 to 10^15 minor units, or `amount_minor` not 1 to 10^15."
    ),
    "currency": _rejected("`currency` is not three capital letters (ISO 4217)."),
    "failure": _rejected("`failure` is not a code of 1 to 100 lower-case letters, digits or `_.-`."),
    "invoice": _rejected("`invoice` is not 1 to 64 ASCII letters, digits or `._/-`."),
    "too_old": _parked("It occurred more than 400 days before it arrived, and its source is not historic."),
    "in_the_future": _parked("It occurred more than 5 minutes after it arrived."),
}
"""Codes never change their meaning: dead letters of years ago carry them."""


class Rejection(msgspec.Struct, frozen=True):
    """A record that was not read: ``reason`` is the stable code, ``detail`` the sentence for people.

    ``detail`` names the field, what it held (shortened, ASCII) and what would be right. ``head_hex`` is the beginning
    of the value, 64 bytes in hex.
    """

    reason: Reason
    detail: str
    head_hex: str

    @property
    def outcome(self) -> RejectionOutcome:
        """Rejected for ever, or parked because a retry may succeed."""
        return REASONS[self.reason].outcome


class Unreadable(Exception):
    """Raised inside the reading of one record and turned into its Rejection; never leaves the wire."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.detail = detail


def shown(value: object) -> str:
    """What was received, as ASCII on one line, shortened: safe in a log, a table and a terminal."""
    if isinstance(value, str | bytes):
        short = value[:SHOWN_CHARACTERS_MAX]
        return ascii(short) + ("..." if len(short) < len(value) else "")
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return f"the number {value}"


def head_hex(value: bytes | None) -> str:
    """The first 64 bytes of a value in hex; empty for no value."""
    return (value or b"")[:HEAD_BYTES].hex()
