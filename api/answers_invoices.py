"""Answers about invoices: lists, what became of each, what a line is made of, who sells."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import Field

from api.answers import Instant, Micros, Told
from domain.account.events import CreditsCharged
from domain.invoices.tracing import OnLine
from domain.issuer.state import Issuer
from projections.invoices import Summary


class MoneyAnswer(Told):
    """A document's money in one currency, in minor units, as it stands: due is what is left, over what was paid too much."""

    currency: str
    net_minor: int
    tax_minor: int
    gross_minor: int
    paid_minor: int
    credited_minor: int
    due_minor: int
    over_minor: int


class InvoiceAnswer(Told):
    """A document and what became of it; ``status`` is that of an invoice, null of a void document or credit note."""

    invoice: Annotated[str, Field(description="The number, as it is printed.", examples=["CO-2026-000001"])]
    kind: Annotated[str, Field(description="invoice, void or credit_note")]
    status: Annotated[str | None, Field(description="issued, paid, void or uncollectible")]
    version: int
    issued_at: Instant
    issuer_id: str
    label: str | None
    period_start: Instant | None
    period_end: Instant | None
    opening: Micros | None
    closing: Micros | None
    money: list[MoneyAnswer]
    digest: Annotated[str, Field(description="SHA-256 of the document's canonical JSON.")]
    corrects: Annotated[str | None, Field(description="The invoice that this document is about.")]
    voided_by: str | None
    credit_notes: list[str]

    @classmethod
    def of(cls, told: Summary) -> InvoiceAnswer:
        """The answer for a document."""
        fields: dict[str, Any] = msgspec.structs.asdict(told)
        fields["money"] = [MoneyAnswer(**msgspec.structs.asdict(each)) for each in told.money]
        fields["opening"], fields["closing"] = fields.pop("opening_micros"), fields.pop("closing_micros")
        return cls(**fields)


class InvoicesAnswer(Told):
    """A page of a team's documents, newest first; ``next`` continues it, null on the last page."""

    team_id: str
    position: int
    data: list[InvoiceAnswer]
    next: str | None


class DraftsAnswer(Told):
    """Drafts of the periods that are not closed, oldest first, each a document without a number."""

    team_id: str
    data: list[dict[str, Any]]


class InvoicedCharge(Told):
    """A charge on a line, or what was given back of one (``amount`` below zero)."""

    charge_id: str
    version: int
    refund_id: str | None
    source: Annotated[str | None, Field(description="The record's source; null for a capture by request.")]
    id: Annotated[str | None, Field(description="The record's id; null for a capture by request.")]
    action: str
    member: str | None
    project: str | None
    work: str | None
    occurred_at: Instant
    amount: Micros

    @classmethod
    def of(cls, told: OnLine) -> InvoicedCharge:
        """The answer for a charge on a line."""
        charge = told.charge
        used = charge if isinstance(charge, CreditsCharged) else None
        return cls(
            charge_id=charge.charge_id,
            version=told.version,
            refund_id=told.refund_id,
            source=used.source if used else None,
            id=used.id if used else None,
            action=charge.action,
            member=charge.member,
            project=charge.project,
            work=charge.work,
            occurred_at=charge.occurred_at,
            amount=told.amount_micros,
        )


class InvoicedChargesAnswer(Told):
    """A page of what a line is made of: charges in the order of recording, then refunds; together they sum to the line.

    ``next`` continues it, null on the last page.
    """

    team_id: str
    invoice: Annotated[str | None, Field(description="null for the draft")]
    line: int
    data: list[InvoicedCharge]
    next: str | None


class IssuerAnswer(Told):
    """Who sells, as invoices print it; ``details`` null until they were set."""

    issuer_id: str
    version: int
    details: dict[str, Any] | None

    @classmethod
    def of(cls, issuer: Issuer) -> IssuerAnswer:
        """The answer for an issuer."""
        details = issuer.details
        told = None if details is None else msgspec.structs.asdict(details)
        return cls(issuer_id=issuer.issuer_id, version=issuer.version, details=told)


class RevenueRow(Told):
    """Deferred revenue of one issuer and currency over the periods of one name, in minor units without tax."""

    issuer_id: str
    currency: str
    label: str
    opening_minor: int
    sold_minor: int
    used_minor: int
    breakage_minor: int
    refunded_minor: int
    closing_minor: int


class RevenueAnswer(Told):
    """A team's deferred revenue rolled forward, oldest period first."""

    team_id: str
    data: list[RevenueRow]
