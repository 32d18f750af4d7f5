"""Invoices of the ledger in plain dicts, behind the ports that the API reads them by; nothing is printed there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from api.errors import UnknownInvoiceLine
from api.ports import InvoiceForm, InvoicesOnFile
from domain.account.events import CreditNoteIssued, InvoiceIssued, InvoiceVoided, RecordedEvent
from domain.actors import Actor
from domain.errors import UnknownInvoice, UnknownTeam
from domain.invoices.corrections import derive_credit_note, derive_void
from domain.invoices.document import Invoice, canonical_invoice
from domain.invoices.drafting import derive, open_drafts
from domain.invoices.reading import WholeHistory
from domain.invoices.tracing import OnLine, charges_of_line, line_of
from domain.issuer.deciding import set_details
from domain.issuer.details import IssuerDetails
from domain.issuer.state import Issuer
from domain.ledger import Caller
from domain.shards import shard_of
from projections.invoice_csv import invoice_csv
from projections.invoices import InvoiceRow, Summary, rows_of, summary_of
from projections.revenue import RollForward, rolled_forward, team_flows
from projections.statement import StatementFilter
from tests.memory_store import SHARDS, MemoryLedger


class MemoryInvoices:
    """As ``api.ports.InvoiceReads`` and ``IssuerStore`` say."""

    def __init__(self, memory: MemoryLedger) -> None:
        self._memory = memory
        self._issuers: dict[str, Issuer] = {}

    def page(self, team_id: str, *, before: int | None = None, limit: int = 100) -> InvoicesOnFile:
        """The team's documents, newest first."""
        rows = self._rows(team_id)
        issued = [row for row in reversed(rows) if row.document and (before is None or row.version < before)]
        told = [self._told(row, rows) for row in issued[:limit]]
        return InvoicesOnFile(
            told, self._memory.positions.get(shard_of(team_id, SHARDS), 0), len(issued) > limit
        )

    def summary(self, team_id: str, invoice: str) -> Summary:
        """One document and what became of it."""
        rows = self._rows(team_id)
        return self._told(next((row for row in rows if row.document == invoice), None), rows, invoice)

    def document(self, team_id: str, invoice: str) -> Invoice:
        """The document as it was issued."""
        events = self._events(team_id)
        event = self._event(team_id, invoice)
        if isinstance(event, InvoiceIssued):
            return derive(events, event)
        if isinstance(event, InvoiceVoided):
            issued = self._event(team_id, event.voided_invoice)
            assert isinstance(issued, InvoiceIssued)
            return derive_void(team_id, issued, event)
        issued = self._event(team_id, event.corrected_invoice)
        assert isinstance(issued, InvoiceIssued)
        return derive_credit_note(team_id, issued, event)

    def drafts(self, team_id: str) -> list[Invoice]:
        """Drafts of the periods that are not closed."""
        return [draft.document() for draft in open_drafts(self._events(team_id))]

    def charges(
        self, team_id: str, invoice: str | None, line: int, *, skip: int = 0, limit: int | None = None
    ) -> list[OnLine]:
        """What a line is made of."""
        events = self._events(team_id)
        history = WholeHistory(events)
        if invoice is None:
            draft = open_drafts(events)[0]
            document, period, until = draft.document(), draft.period, draft.version
        else:
            document = self.document(team_id, invoice)
            event = self._event(team_id, invoice)
            assert isinstance(event, InvoiceIssued)
            period = next(each for each in history.books.closed if each.start == event.period_start)
            until = event.closed_version
        key = line_of(document, line)
        if key is None:
            raise UnknownInvoiceLine(f"line {line} is none of {invoice or 'the draft'}: count from 1")
        found = list(charges_of_line(events, period, history, key, until_version=until))
        return found[skip : None if limit is None else skip + limit]

    def form(self, document: Invoice, form: InvoiceForm) -> bytes:
        """Its lines as CSV; in the place of a page, its JSON."""
        return "".join(invoice_csv(document)).encode() if form == "csv" else canonical_invoice(document)

    def statement(self, team_id: str, since: datetime, until: datetime, form: InvoiceForm) -> bytes:
        """How many rows the range has."""
        asked = StatementFilter(recorded_from=since, recorded_until=until)
        self._events(team_id)
        page = self._memory.page(team_id, asked=asked, after=None, limit=500, newest_first=False)
        return f"{form},{len(page.rows)}\n".encode()

    def revenue(self, team_id: str) -> list[RollForward]:
        """Deferred revenue."""
        events = self._events(team_id)

        class Source:
            def events(
                self, team_id: str, after: int = 0, until: int | None = None
            ) -> Iterator[RecordedEvent]:
                return iter(events)

        return rolled_forward(team_flows(Source(), team_id))

    def issuer(self, issuer_id: str) -> Issuer:
        """The issuer."""
        # The ledger may have been cleared since.
        if issuer_id not in self._memory.issuers:
            self._issuers.pop(issuer_id, None)
        return self._issuers.get(issuer_id) or Issuer(issuer_id=issuer_id)

    def set_details(self, details: IssuerDetails, caller: Caller, reason: str | None = None) -> Issuer:
        """The issuer with the details."""
        issuer = self._issuers[details.issuer_id] = self.issuer(details.issuer_id)
        set_details(issuer, details, self._memory.now, Actor(caller.principal, caller.role))
        self._memory.issuers[details.issuer_id] = details
        return issuer

    def _events(self, team_id: str) -> list[RecordedEvent]:
        team = self._memory.teams.get(team_id)
        if team is None:
            raise UnknownTeam(f"team {team_id!r} has no account: open one first", team_id=team_id)
        return [RecordedEvent(None, each.version, each.event) for each in team.events]

    def _rows(self, team_id: str) -> list[InvoiceRow]:
        return [row for each in self._events(team_id) for row in rows_of(each, 0, team_id)]

    def _event(self, team_id: str, invoice: str) -> InvoiceIssued | InvoiceVoided | CreditNoteIssued:
        for recorded in self._events(team_id):
            event = recorded.event
            if (
                isinstance(event, InvoiceIssued | InvoiceVoided | CreditNoteIssued)
                and event.invoice == invoice
            ):
                return event
        raise UnknownInvoice(f"invoice {invoice!r} is not one of this team's", invoice=invoice)

    @staticmethod
    def _told(row: InvoiceRow | None, rows: list[InvoiceRow], invoice: str = "") -> Summary:
        if row is None:
            raise UnknownInvoice(f"invoice {invoice!r} is not one of this team's", invoice=invoice)
        return summary_of(row, [each for each in rows if each.invoice == row.invoice])
