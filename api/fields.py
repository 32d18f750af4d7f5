"""What each part of a request must look like; the patterns are published in the OpenAPI document."""

from __future__ import annotations

import unicodedata
from datetime import datetime
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from domain.amounts import parse_credits
from domain.errors import Malformed
from domain.times import parse_instant

ID_PATTERN = r"^[A-Za-z0-9_\-][A-Za-z0-9_.:@~+=\-]{0,127}$"
RECORD_ID_PATTERN = r"^[A-Za-z0-9_\-][A-Za-z0-9_.:@~+=/\-]{0,127}$"
NAME_PATTERN = r"^[a-z][a-z0-9_]*(\.[a-z0-9_]+)*$"
AMOUNT_PATTERN = r"^(0|[1-9][0-9]{0,12})(\.[0-9]{1,6})?$"
QUANTITY_PATTERN = r"^(0|[1-9][0-9]{0,18})(\.[0-9]{1,9})?$"
CARD_PATTERN = r"^[a-z][a-z0-9_-]{0,63}$"
TIME_PATTERN = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$"
)
CHARGE_PATTERN = r"^[0-9a-f]{32}$"
CURRENCY_PATTERN = r"^[A-Z]{3}$"
COUNTRY_PATTERN = r"^[A-Z]{2}$"
PAYMENT_PATTERN = r"^[\x21-\x7e]{1,128}$"
LOT_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.:@~+=\-]{0,511}$"
HOLD_PATTERN = r"^hold-[1-9][0-9]{0,15}$"
DISPUTE_PATTERN = r"^dispute-[1-9][0-9]{0,15}$"
EMAIL_PATTERN = r"^[A-Za-z0-9.!#$%&'*+/=?^_`{|}~\-]{1,64}@[A-Za-z0-9.\-]{1,189}$"
QUOTE_PATTERN = r"^[A-Za-z0-9_.\-]+$"
INVOICE_PATTERN = r"^[A-Za-z0-9._\-]{1,40}$"
PREFIX_PATTERN = r"^[A-Za-z0-9._\-]{0,15}$"
PERCENT_PATTERN = r"^[0-9]{1,2}(\.[0-9]{1,2})?$"
IBAN_PATTERN = r"^[A-Z]{2}[0-9]{2}[A-Z0-9]{11,30}$"
BIC_PATTERN = r"^[A-Z]{6}[A-Z0-9]{2}([A-Z0-9]{3})?$"
KEY_PATTERN = r"^[\x21-\x7e]{1,200}$"
REASON_CODE_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
TOPIC_PATTERN = r"^[A-Za-z0-9._\-]{1,249}$"
SOURCE_PATTERN = r"^[\x21-\x7e]{1,256}$"
VERSION_MAX = 2**53


def _plain(text: str, allowed: str = "") -> str:
    """The text holds nothing that a log, a terminal or a reader could take for something else."""
    for character in text:
        if character not in allowed and unicodedata.category(character) in {
            "Cc",
            "Cf",
            "Cs",
            "Co",
            "Cn",
            "Zl",
            "Zp",
        }:
            raise ValueError(f"holds the control or invisible character U+{ord(character):04X}: leave it out")
    return text


def _said(text: str) -> str:
    """The text says something."""
    if not text.strip():
        raise ValueError("is blank: say why, for whoever reads the history")
    return _plain(text)


def _pasted(text: str) -> str:
    """The text says something, on as many lines as it takes."""
    if not text.strip():
        raise ValueError("is blank: say what speaks for the customer")
    return _plain(text, allowed="\n\t")


def _time(text: str) -> str:
    """The text is a time with its offset, within the years that periods cover."""
    try:
        at = parse_instant(text, "the time")
        if not 1900 <= at.year < 9000:
            raise ValueError("is outside the years 1900 to 8999")
    except (Malformed, OverflowError) as error:
        raise ValueError(str(error)) from None
    return text


def _amount(text: str) -> str:
    try:
        parse_credits(text, "the amount")
    except Malformed as error:
        raise ValueError(error.detail) from None
    return text


TeamId = Annotated[
    str, Field(pattern=ID_PATTERN, description="The team, as its usage records name it.", examples=["acme"])
]
Id = Annotated[str, Field(pattern=ID_PATTERN)]
RecordId = Annotated[str, Field(pattern=RECORD_ID_PATTERN)]
Source = Annotated[str, Field(pattern=SOURCE_PATTERN)]
Name = Annotated[str, Field(pattern=NAME_PATTERN, max_length=100, examples=["image.generate"])]
CardId = Annotated[str, Field(pattern=CARD_PATTERN, examples=["standard"])]
ChargeId = Annotated[
    str, Field(pattern=CHARGE_PATTERN, description="The charge: the digest of team, source and record id.")
]
Amount = Annotated[
    str,
    Field(pattern=AMOUNT_PATTERN, description="Credits, up to six decimal places.", examples=["12.5"]),
    AfterValidator(_amount),
]
Quantity = Annotated[
    str, Field(pattern=QUANTITY_PATTERN, description="Up to nine decimal places.", examples=["30"])
]
Time = Annotated[
    str,
    Field(
        pattern=TIME_PATTERN,
        description="RFC 3339 with its offset.",
        examples=["2026-12-01T09:00:00Z"],
        json_schema_extra={"format": "date-time"},
    ),
    AfterValidator(_time),
]
Reason = Annotated[
    str,
    Field(
        min_length=1, max_length=500, description="Why, for whoever reads the history.", examples=["goodwill"]
    ),
    AfterValidator(_said),
]
Line = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_said)]
Evidence = Annotated[
    str,
    Field(
        min_length=1,
        max_length=4_000,
        description="What speaks for the customer, for instance an explanation as text.",
        examples=["the picture was never delivered"],
    ),
    AfterValidator(_pasted),
]
PlanId = Annotated[str, Field(pattern=CARD_PATTERN, examples=["studio"])]
LotId = Annotated[str, Field(pattern=LOT_PATTERN, examples=["lot-2"])]
HoldId = Annotated[str, Field(pattern=HOLD_PATTERN, examples=["hold-12"])]
DisputeId = Annotated[str, Field(pattern=DISPUTE_PATTERN, examples=["dispute-20"])]
InvoiceNumber = Annotated[
    str,
    Field(
        pattern=INVOICE_PATTERN,
        description="The number of the document, as it is printed.",
        examples=["CO-2026-000001"],
    ),
]
IssuerId = Annotated[
    str, Field(pattern=CARD_PATTERN, description="Who sells, by its own id.", examples=["main"])
]
PaymentReference = Annotated[
    str,
    Field(pattern=PAYMENT_PATTERN, description="The payment, as its provider names it.", examples=["pay-7"]),
]
DimensionValue = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_plain)]
Zone = Annotated[str, Field(pattern=r"^[A-Za-z0-9_+\-/]{1,64}$", examples=["Europe/Berlin"])]


class Sent(BaseModel):
    """A body as a caller sends it: nothing is converted, nothing unknown is taken."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


def instant(text: str | None, field: str) -> datetime | None:
    """The time that a checked field holds."""
    return None if text is None else parse_instant(text, field)
