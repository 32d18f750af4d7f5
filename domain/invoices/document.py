"""The document of an invoice, of its voiding, and of a credit note: what they say, and the bytes that say it for ever.

Whoever shows, prints or sends an invoice reads this and nothing else. Credits and quantities are decimal strings, money is minor
units of an ISO 4217 currency, instants are fixed-width UTC text; there is no float in it. Every field is always written, so the
bytes of a shape can be made again by any later code; what would change them is a new shape beside this one.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from domain.documents import document_digest
from domain.errors import UnknownEventShape

SHAPE = "coffer-invoice.1"

InvoiceKind = Literal["invoice", "void", "credit_note"]
LineKind = Literal["usage", "refund"]
PurchaseKind = Literal["top_up", "plan", "charged_back"]


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """A table of the document; all of its fields are always written."""


class Seller(Part, frozen=True, kw_only=True):
    """Who sells, as it was when the document was issued; ``tax_percent`` is what was added to fees."""

    issuer_id: str
    name: str
    address_lines: list[str]
    country: str
    tax_id: str | None
    email: str | None
    tax_percent: str
    iban: str | None
    bic: str | None
    note: str | None


class Customer(Part, frozen=True, kw_only=True):
    """Whom the document is made out to, as it was when it was issued; ``locale`` is how it is written for them."""

    name: str
    address_lines: list[str]
    country: str
    tax_id: str | None
    email: str | None
    locale: str | None


class Period(Part, frozen=True, kw_only=True):
    """The billing period, start included, end excluded; ``label`` is year and month of its start in ``zone``.

    ``zone`` is null on a void and a credit note, which only name the invoice's period.
    """

    label: str
    start: str
    end: str
    zone: str | None


class Credits(Part, frozen=True, kw_only=True):
    """What became of the team's credits, less its debt: the sums of all that is on this invoice.

    opening + granted + topped_up + raised - lowered - used + refunded - expired - voided - charged_back = closing, exactly.
    """

    opening: str
    granted: str
    topped_up: str
    raised: str
    lowered: str
    used: str
    refunded: str
    expired: str
    voided: str
    charged_back: str
    closing: str


class Line(Part, frozen=True, kw_only=True):
    """What one action used for one project, member and rate in this period, or (kind "refund", below zero) got back of it.

    ``line`` numbers lines and adjustments together, from 1. ``charges`` counts the charges, each once. ``unit_price`` is credits
    for one ``unit_meter``, for one charge where ``unit_meter`` is null; ``is_average``: the charges had different ones, and it is
    the amount divided by the quantity, rounded half up to nine places. Both are null where several meters were counted.
    """

    line: int
    kind: LineKind
    action: str
    project: str | None
    member: str | None
    card: str | None
    card_version: int | None
    charges: int
    quantities: dict[str, str]
    unit_meter: str | None
    unit_price: str | None
    is_average: bool
    amount: str


class Adjustment(Part, frozen=True, kw_only=True):
    """As a line, for usage of an earlier period whose books were closed when it, or its refund, was recorded."""

    line: int
    period_label: str
    period_start: str
    period_end: str
    kind: LineKind
    action: str
    project: str | None
    member: str | None
    card: str | None
    card_version: int | None
    charges: int
    quantities: dict[str, str]
    amount: str


class Purchase(Part, frozen=True, kw_only=True):
    """Money for credits: a top-up, a plan's fee, or (below zero) a top-up that the bank took back.

    ``reference`` is the payment's, or the plan and its version. ``tax_percent`` is null where the tax is not the issuer's rate.
    ``is_paid``: the money has come, or gone, already.
    """

    kind: PurchaseKind
    description: str
    credits: str
    reference: str
    at: str
    currency: str
    tax_percent: str | None
    net_minor: int
    tax_minor: int
    gross_minor: int
    is_paid: bool


class Tax(Part, frozen=True, kw_only=True):
    """The taxes of one currency and rate; ``percent`` null: a tax that is not the issuer's rate."""

    currency: str
    percent: str | None
    net_minor: int
    tax_minor: int


class Total(Part, frozen=True, kw_only=True):
    """The money of one currency: net + tax = gross, gross - paid = due."""

    currency: str
    net_minor: int
    tax_minor: int
    gross_minor: int
    paid_minor: int
    due_minor: int


class Card(Part, frozen=True, kw_only=True):
    """A version of a rate card that priced something on this invoice, and the digest of what was published."""

    card_id: str
    version: int
    digest: str


class NoteLine(Part, frozen=True, kw_only=True):
    """Money that a void or a credit note takes off the invoice it corrects, and what for."""

    text: str
    currency: str
    tax_percent: str | None
    net_minor: int
    tax_minor: int
    gross_minor: int


class Invoice(Part, frozen=True, kw_only=True):
    """An invoice (``number`` null: a draft), its voiding, or a credit note; the kind says which.

    ``version`` is that of the team's stream up to which was counted. Of a void and a credit note, which ``corrects`` names the
    invoice of, money is what they take off it, above zero; they have no credits and no lines.
    """

    shape: str
    kind: InvoiceKind
    number: str | None
    issued_at: str | None
    version: int
    team: str
    issuer: Seller | None
    customer: Customer | None
    period: Period
    credits: Credits | None
    lines: list[Line]
    adjustments: list[Adjustment]
    purchases: list[Purchase]
    taxes: list[Tax]
    totals: list[Total]
    cards: list[Card]
    corrects: str | None
    reason: str | None
    note_lines: list[NoteLine]


def canonical_invoice(invoice: Invoice) -> bytes:
    """The document as canonical JSON: keys sorted, no spaces, UTF-8. The same document always has the same bytes."""
    return msgspec.json.encode(invoice, order="sorted")


def invoice_digest(invoice: Invoice) -> str:
    """SHA-256 of the canonical JSON, in hex."""
    return document_digest(canonical_invoice(invoice))


def read_invoice(canonical: bytes) -> Invoice:
    """The document that these bytes say. Raises: UnknownEventShape for another shape than this code writes."""
    try:
        invoice = msgspec.json.decode(canonical, type=Invoice)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnknownEventShape(f"an invoice cannot be read as {SHAPE}: {error}") from error
    require_shape(invoice.shape)
    return invoice


def require_shape(shape: str) -> None:
    """Raises UnknownEventShape unless this code can write documents of that shape."""
    if shape != SHAPE:
        raise UnknownEventShape(f"invoices of shape {shape[:80]!r} are not known: this code writes {SHAPE!r}")
