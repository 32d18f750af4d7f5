"""The closer: issues invoices of periods that closed, then stores their PDFs; several may run, and any may die at any step.

A period waits for its invoice until one is committed, and a document waits for its PDF until one is stored. So whatever a closer
left undone, the next pass does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec
import psycopg
import structlog
from psycopg import Cursor
from psycopg.rows import TupleRow, tuple_row

from api.errors import EventsArchived
from domain.errors import LedgerError, UnknownInvoice
from domain.invoices.document import Invoice, invoice_digest
from domain.invoices.sorting import NotTied
from infra.failpoints import hit
from infra.postgres.documents import MissingPdf, PostgresDocuments
from infra.postgres.invoice_reading import InvoiceReading, Issued, read_invoices
from infra.postgres.issuing import Issuing
from infra.postgres.ledger_store import Clock
from infra.postgres.shards import ShardMap

log = structlog.get_logger("closing")

Printer = Callable[[Invoice], bytes]
"""Makes the PDF of a document: the same bytes for the same document."""

Stop = Callable[[], bool]


class Closed(msgspec.Struct, frozen=True, kw_only=True):
    """What a pass did: invoices issued, periods without content, PDFs stored; accounts whose issuer has no details yet.

    ``failed`` accounts or documents could not be read or are in others' hands; the log says why, and they are met again.
    """

    invoices: int = 0
    omitted: int = 0
    pdfs: int = 0
    waiting: int = 0
    failed: int = 0

    def plus(self, other: Closed) -> Closed:
        """Both together."""
        return Closed(
            invoices=self.invoices + other.invoices,
            omitted=self.omitted + other.omitted,
            pdfs=self.pdfs + other.pdfs,
            waiting=self.waiting + other.waiting,
            failed=self.failed + other.failed,
        )


Progress = Callable[[Closed], None]


class Closer:
    """Issues invoices and stores their PDFs. Told no other clock, the database's decides."""

    def __init__(
        self, shards: ShardMap, printer: Printer | None = None, *, clock: Clock | None = None
    ) -> None:
        self._shards = shards
        self._issuing = Issuing(shards, clock=clock)
        self._documents = PostgresDocuments(shards)
        self._printer = printer or print_document

    def run(self, *, stop: Stop = lambda: False, progress: Progress = lambda _: None) -> Closed:
        """Every period that waited has its invoice and every document its PDF, but for what is told.

        Raises: psycopg.OperationalError when a database is away; what was not done waits for the next pass.
        """
        began = time.monotonic()
        issued = self.issue(stop=stop, progress=progress)
        told = issued.plus(self.store_pdfs(stop=stop, progress=lambda so_far: progress(issued.plus(so_far))))
        if told != Closed():
            took = round((time.monotonic() - began) * 1000, 1)
            log.info("periods_invoiced", **msgspec.structs.asdict(told), took_ms=took)
        return told

    def issue(self, *, stop: Stop = lambda: False, progress: Progress = lambda _: None) -> Closed:
        """Every period that waited has its invoice, but for what is told. Raises: psycopg.OperationalError."""
        told = Closed()
        for shard in range(self._shards.count):
            for teams in self._issuing.teams(shard):
                if stop():
                    return told
                done = self._issuing.issue(shard, teams)
                told = told.plus(Closed(**msgspec.structs.asdict(done)))
                progress(told)
        return told

    def store_pdfs(self, *, stop: Stop = lambda: False, progress: Progress = lambda _: None) -> Closed:
        """Every document has its PDF, but for those told as failed. Raises: psycopg.OperationalError."""
        told = Closed()
        for shard in range(self._shards.count):
            for missing in self._missing(shard):
                if stop():
                    return told
                told = told.plus(self._print(shard, missing))
                progress(told)
        return told

    def _missing(self, shard: int) -> Iterator[MissingPdf]:
        after = ("", "")
        while portion := self._documents.missing(shard, after):
            yield from portion
            after = (portion[-1].team_id, portion[-1].invoice)

    def _print(self, shard: int, missing: MissingPdf) -> Closed:
        try:
            issued = read_document(self._shards, missing.team_id, missing.invoice)
            require_as_issued(missing.team_id, issued)
            pdf = self._printer(issued.document)
        except psycopg.Error:
            raise
        except (LedgerError, EventsArchived, NotTied, AssertionError, ValueError, RuntimeError) as error:
            log.exception(
                "document_not_printed", team=missing.team_id, invoice=missing.invoice, error=str(error)
            )
            return Closed(failed=1)
        hit("close.before_pdf")
        is_ours = self._documents.store(missing.team_id, missing.invoice, pdf)
        hit("close.after_pdf")
        return Closed(pdfs=1 if is_ours else 0)


class NotAsIssued(RuntimeError):
    """A document that is derived from the events is not the one that was issued: its digest is another."""


def require_as_issued(team_id: str, issued: Issued) -> None:
    """The document is, byte for byte, the one that was issued. Raises: NotAsIssued."""
    own = invoice_digest(issued.document)
    if own != issued.event.digest:
        raise NotAsIssued(
            f"team {team_id!r}, version {issued.version}: document {issued.event.invoice} was issued with the digest"
            f" {issued.event.digest}, its events say {own}: run `coffer verify --team {team_id}`"
        )


@contextmanager
def reading(shards: ShardMap, team_id: str) -> Iterator[InvoiceReading | None]:
    """The team's invoices, everything of one instant; None for a team without an account."""
    shard = shards.shard_of(team_id)
    with shards.connection_for(shard) as connection, connection.transaction():
        cursor: Cursor[TupleRow] = connection.cursor(row_factory=tuple_row)
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield read_invoices(cursor, shard, team_id)


def read_document(shards: ShardMap, team_id: str, invoice: str) -> Issued:
    """The document of that number, derived from the events. Raises: UnknownInvoice; NotTied; EventsArchived."""
    with reading(shards, team_id) as invoices:
        if invoices is None:
            raise UnknownInvoice(f"team {team_id[:80]!r} has no account, so no invoice", invoice=invoice[:80])
        return invoices.issued(invoice)


def print_document(document: Invoice) -> bytes:
    """The PDF of the document, in the language of its customer."""
    # Fonts and the typesetter are loaded by whoever prints, and by nobody else.
    from infra.forms.invoices import printed_invoice

    printed = printed_invoice(document)
    if printed.no_xml_because is not None:
        log.info("invoice_without_xml", invoice=document.number, why=printed.no_xml_because)
    return printed.pdf
