"""What may be asked of a team's invoices, for HTTP and the command line alike: lists, documents, drafts, lines, forms."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING

import psycopg

from api.errors import UnknownInvoiceLine
from api.ports import InvoiceForm, InvoicesOnFile
from domain.actors import Actor
from domain.errors import Busy, Malformed, UnknownInvoice, UnknownTeam
from domain.invoices.assigning import BillingPeriod
from domain.invoices.document import Invoice
from domain.invoices.drafting import Draft
from domain.invoices.tracing import OnLine, charges_of_line, line_of
from domain.issuer.details import IssuerDetails
from domain.issuer.state import Issuer
from domain.ledger import Caller
from infra.closing import print_document, reading
from infra.postgres.connections import NOT_REACHED
from infra.postgres.documents import PostgresDocuments
from infra.postgres.histories import PostgresEvents
from infra.postgres.invoice_model import PostgresInvoices
from infra.postgres.invoice_reading import InvoiceReading
from infra.postgres.issuer_heads import PostgresNumbers, read_issuer, write_details
from infra.postgres.shards import ShardMap
from infra.postgres.team_heads import load_team_head
from infra.statements import statement_form, statement_of
from projections.invoice_csv import invoice_csv
from projections.invoices import Summary
from projections.revenue import RollForward, rolled_forward, team_flows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from domain.billing import BillingDetails


class InvoiceDesk:
    """Answers about invoices. Raises, everywhere: UnknownTeam, Busy."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards
        self._view = PostgresInvoices(shards)
        self._documents = PostgresDocuments(shards)

    def page(self, team_id: str, *, before: int | None = None, limit: int = 100) -> InvoicesOnFile:
        """The team's documents, newest first, from the one before a version on."""
        with self._team(team_id):
            found = self._view.page(team_id, before=before, limit=limit)
        return InvoicesOnFile(found.documents, found.position, found.has_more)

    def summary(self, team_id: str, invoice: str) -> Summary:
        """One document and what became of it, as far as the read model has come. Raises: UnknownInvoice."""
        with self._team(team_id):
            found = self._view.document(team_id, invoice)
        if found is None:
            raise UnknownInvoice(
                f"invoice {invoice[:80]!r} is not one of this team's, or was issued a moment ago: list them",
                invoice=invoice[:80],
            )
        return found

    def document(self, team_id: str, invoice: str) -> Invoice:
        """The document as it was issued, derived from the events. Raises: UnknownInvoice; EventsArchived."""
        with self._team(team_id) as invoices:
            return invoices.issued(invoice).document

    def drafts(self, team_id: str) -> list[Invoice]:
        """Drafts of the periods that are not closed, oldest first, with the parties' details as they are now."""
        with self._team(team_id) as invoices:
            drafts = invoices.drafts()
            issuer, customer = self._parties(invoices)
        return [each.document(issuer, customer) for each in drafts]

    def charges(
        self, team_id: str, invoice: str | None, line: int, *, skip: int = 0, limit: int | None = None
    ) -> list[OnLine]:
        """What a line of a document, or (None) of the oldest draft, is made of: at most so many after the first ``skip``.

        Charges are in the order of recording, then what was given back.
        Raises: UnknownInvoice, UnknownInvoiceLine, EventsArchived.
        """
        with self._team(team_id) as invoices:
            document, period, until = self._lined(invoices, invoice)
            key = line_of(document, line)
            if key is None:
                lines = len(document.lines) + len(document.adjustments)
                raise UnknownInvoiceLine(
                    f"line {line} is none of {document.number or 'the draft'}: it has {lines} lines, counted from 1",
                    line=line,
                )
            events = invoices.events_for(period, until)
            found = charges_of_line(events, period, invoices, key, until_version=until)
            return list(islice(found, skip, None if limit is None else skip + limit))

    def form(self, document: Invoice, form: InvoiceForm) -> bytes:
        """The document in another form; the PDF of one that was issued is as it was stored, or as it will be."""
        if form == "csv":
            return "".join(invoice_csv(document)).encode()
        return self._pdf(document) if form == "pdf" else _html(document)

    def statement(self, team_id: str, since: datetime, until: datetime, form: InvoiceForm) -> bytes:
        """The statement of account of what was recorded from ``since`` (included) to ``until`` (excluded).

        Raises: Malformed for an empty range, or one of too many rows to print.
        """
        from infra.forms.statements import TooLongToPrint

        try:
            with _reached():
                return b"".join(statement_form(statement_of(self._shards, team_id, since, until), form))
        except TooLongToPrint as error:
            raise Malformed(str(error), field="until") from error

    def revenue(self, team_id: str) -> list[RollForward]:
        """The team's deferred revenue rolled forward, by issuer, currency and period."""
        source = PostgresEvents(self._shards)
        with _reached():
            if not source.has(team_id):
                raise UnknownTeam(f"team {team_id!r} has no account: open one first", team_id=team_id)
            return rolled_forward(team_flows(source, team_id))

    # --- who sells ---

    def issuer(self, issuer_id: str) -> Issuer:
        """The issuer as it stands; at version 0 before it has details."""
        with _reached():
            return read_issuer(self._shards, issuer_id)

    def set_details(self, details: IssuerDetails, caller: Caller, reason: str | None = None) -> Issuer:
        """The issuer with the details; those that it has already change nothing. Raises: Malformed."""
        actor = Actor(caller.principal, caller.role)
        with _reached():
            issuer, _ = write_details(
                self._shards, details, actor, correlation_id=caller.correlation_id, reason=reason
            )
        return issuer

    # --- how ---

    @contextmanager
    def _team(self, team_id: str) -> Iterator[InvoiceReading]:
        with _reached(), reading(self._shards, team_id) as invoices:
            if invoices is None:
                raise UnknownTeam(f"team {team_id!r} has no account: open one first", team_id=team_id)
            yield invoices

    def _parties(self, invoices: InvoiceReading) -> tuple[IssuerDetails | None, BillingDetails | None]:
        shard = self._shards.shard_of(invoices.team_id)
        # By the connection at hand where it can be: a pool may have no other.
        numbers = PostgresNumbers(invoices.cursor, self._shards, self._shards.home_of(shard))
        issuer = numbers.issuer(invoices.issuer_id).details
        paperwork = load_team_head(invoices.cursor, shard, invoices.team_id).team
        return issuer, paperwork.billing_details

    @staticmethod
    def _lined(invoices: InvoiceReading, invoice: str | None) -> tuple[Invoice, BillingPeriod, int | None]:
        """A document with lines, its period, and the version up to which was counted."""
        if invoice is None:
            oldest: Draft = invoices.drafts()[0]
            return oldest.document(), oldest.period, oldest.version
        issued = invoices.issuing_event(invoice)
        document = invoices.issued(invoice).document
        return document, invoices.period_of(issued), issued.closed_version

    def _pdf(self, document: Invoice) -> bytes:
        if document.number is not None:
            stored = self._documents.pdf(document.team, document.number)
            if stored is not None:
                return stored.pdf
        return print_document(document)


def _html(document: Invoice) -> bytes:
    # Templates and languages are loaded by whoever shows pages, and by nobody else.
    from infra.forms.invoices import invoice_html

    return invoice_html(document)


@contextmanager
def _reached() -> Iterator[None]:
    """Raises: Busy when the database does not answer within its bounds."""
    try:
        yield
    except NOT_REACHED as error:
        raise Busy(f"the database could not be reached in time: {error}") from error
    except psycopg.errors.DeadlockDetected as error:
        raise Busy(str(error)) from error
