"""Every event of an issuer, with its stable topic: its details, and the numbers it gave out.

Details are one stream of the issuer; the numbers of each year are one more, so that a number is the version of its event.
Any of them may come first, so each names its issuer.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

import msgspec

from domain.actors import Actor
from domain.issuer.details import IssuerDetails

DocumentKind = Literal["invoice", "void", "credit_note"]
"""What has a number; all kinds share the series of their issuer and year."""


class IssuerEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event of an issuer carries: whose it is, when the ledger wrote it, who caused it, why, and on whose behalf."""

    TOPIC: ClassVar[str] = ""
    OLD_TOPICS: ClassVar[tuple[str, ...]] = ()
    """Earlier shapes that read as this one: what they did not say has its default."""

    issuer_id: str
    recorded_at: datetime
    actor: Actor
    correlation_id: str | None = None
    reason: str | None = None


class IssuerDetailsChanged(IssuerEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Invoices are issued under these details from now on."""

    TOPIC: ClassVar[str] = "IssuerDetailsChanged.1"

    details: IssuerDetails


class InvoiceNumbered(IssuerEvent, frozen=True, kw_only=True, omit_defaults=True):
    """The next number of the year is that of one document of one team: ``number`` is the event's version.

    ``invoice`` is how it reads. ``subject`` says which document: of an invoice the start of its period and how often it was
    voided before, of another the id of the command. ``claim`` is the identity of that document, 32 hex digits: it has one number.
    """

    TOPIC: ClassVar[str] = "InvoiceNumbered.1"

    year: int
    number: int
    invoice: str
    kind: DocumentKind
    team_id: str
    subject: str
    claim: str


ISSUER_EVENTS: tuple[type[IssuerEvent], ...] = (IssuerDetailsChanged, InvoiceNumbered)
"""All events that an issuer's streams may hold."""
