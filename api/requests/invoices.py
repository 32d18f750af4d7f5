"""Bodies about periods and invoices: close, void, give up, correct; and who sells."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.fields import (
    BIC_PATTERN,
    COUNTRY_PATTERN,
    CURRENCY_PATTERN,
    EMAIL_PATTERN,
    IBAN_PATTERN,
    PERCENT_PATTERN,
    PREFIX_PATTERN,
    Line,
    Reason,
    Sent,
    Time,
    Zone,
    instant,
)
from domain.account.events import CreditNoteLine
from domain.commands import ClosePeriod, IssueCreditNote, MarkUncollectible, VoidInvoice
from domain.issuer.details import IssuerDetails

NOTE_LINES_MAX = 100
MINOR_MAX = 2**53


class ClosePeriodBody(Sent):
    """Close the oldest open period, which has ended, before late grace is over."""

    period_start: Annotated[
        Time | None, Field(description="Which period it must be; any, when it is not given.")
    ] = None
    reason: Reason

    def command(self, team_id: str) -> ClosePeriod:
        """The command that this body asks for."""
        start = instant(self.period_start, "period_start")
        return ClosePeriod(team_id=team_id, period_start=start, reason=self.reason)


class VoidInvoiceBody(Sent):
    """Let an invoice count no more."""

    reissue: Annotated[bool, Field(description="Its period gets another invoice.")] = False
    reason: Reason

    def command(self, team_id: str, invoice: str) -> VoidInvoice:
        """The command that this body asks for."""
        return VoidInvoice(team_id=team_id, invoice=invoice, reissue=self.reissue, reason=self.reason)


class UncollectibleBody(Sent):
    """Expect no more money for an invoice."""

    reason: Reason

    def command(self, team_id: str, invoice: str) -> MarkUncollectible:
        """The command that this body asks for."""
        return MarkUncollectible(team_id=team_id, invoice=invoice, reason=self.reason)


class NoteLineBody(Sent):
    """Money to give back, and what for."""

    text: Line
    net_minor: Annotated[int, Field(ge=0, le=MINOR_MAX, description="Minor units.", examples=[500])]
    tax_minor: Annotated[int, Field(ge=0, le=MINOR_MAX, examples=[95])] = 0


class CreditNoteBody(Sent):
    """Correct the money of an invoice."""

    currency: Annotated[str, Field(pattern=CURRENCY_PATTERN, examples=["EUR"])]
    lines: Annotated[list[NoteLineBody], Field(min_length=1, max_length=NOTE_LINES_MAX)]
    reason: Reason

    def command(self, team_id: str, invoice: str) -> IssueCreditNote:
        """The command that this body asks for."""
        lines = [
            CreditNoteLine(text=each.text, net_minor=each.net_minor, tax_minor=each.tax_minor)
            for each in self.lines
        ]
        return IssueCreditNote(
            team_id=team_id, invoice=invoice, currency=self.currency, lines=lines, reason=self.reason
        )


class IssuerBody(Sent):
    """Who sells, as invoices print it from now on."""

    name: Line
    address_lines: Annotated[list[Line], Field(min_length=1, max_length=6)]
    country: Annotated[str, Field(pattern=COUNTRY_PATTERN, examples=["DE"])]
    tax_id: Annotated[Line | None, Field(max_length=40, examples=["DE123456789"])] = None
    email: Annotated[str | None, Field(pattern=EMAIL_PATTERN, examples=["billing@example.org"])] = None
    zone: Annotated[Zone, Field(description="Decides to which year an invoice belongs.")] = "UTC"
    prefix: Annotated[
        str,
        Field(
            pattern=PREFIX_PATTERN,
            description="Stands before the year in a number.",
            examples=["CO-"],
        ),
    ] = ""
    tax_percent: Annotated[
        str,
        Field(pattern=PERCENT_PATTERN, description="Tax added to fees.", examples=["19"]),
    ] = "0"
    iban: Annotated[str | None, Field(pattern=IBAN_PATTERN, examples=["DE89370400440532013000"])] = None
    bic: Annotated[str | None, Field(pattern=BIC_PATTERN, examples=["COBADEFFXXX"])] = None
    note: Annotated[Line | None, Field(description="Printed at the foot of every invoice.")] = None
    reason: Reason | None = None

    def details(self, issuer_id: str) -> IssuerDetails:
        """The details that this body sets."""
        return IssuerDetails(
            issuer_id=issuer_id,
            name=self.name,
            address_lines=list(self.address_lines),
            country=self.country,
            tax_id=self.tax_id,
            email=self.email,
            zone=self.zone,
            prefix=self.prefix,
            tax_percent=self.tax_percent,
            iban=self.iban,
            bic=self.bic,
            note=self.note,
        )
