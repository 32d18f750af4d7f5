"""Documents that have a number: on file from the transaction that issued them, and their PDF, which never changes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from psycopg import Cursor
from psycopg.rows import TupleRow, tuple_row

from domain.account.events import AccountEvent, CreditNoteIssued, InvoiceIssued, InvoiceVoided
from infra.postgres.shards import ShardMap

DOCUMENTS = (InvoiceIssued, InvoiceVoided, CreditNoteIssued)
"""The events that issue a document."""

PORTION_DOCUMENTS = 200


class MissingPdf(NamedTuple):
    """A document whose PDF nobody has stored yet: ``version`` is that of its event."""

    team_id: str
    invoice: str
    version: int


class StoredPdf(NamedTuple):
    """A PDF as it was stored, with its SHA-256 in hex and that of the JSON it was made of."""

    pdf: bytes
    pdf_digest: str
    digest: str
    stored_at: datetime


def file_documents(
    cursor: Cursor[TupleRow], shard: int, issued: Sequence[tuple[str, int, AccountEvent]]
) -> None:
    """Each document among these (team, version, event) is on file, still without its PDF."""
    found = [
        (team_id, event.invoice, version, bytes.fromhex(event.digest))
        for team_id, version, event in issued
        if isinstance(event, DOCUMENTS)
    ]
    if not found:
        return
    teams, invoices, versions, digests = zip(*found, strict=True)
    cursor.execute(
        "INSERT INTO invoice_document (shard, team_id, invoice, version, digest)"
        " SELECT %s, * FROM unnest(%b::text[], %b::text[], %b::bigint[], %b::bytea[])",
        (shard, list(teams), list(invoices), list(versions), list(digests)),
    )


class PostgresDocuments:
    """PDFs as issued."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards

    def missing(self, shard: int, after: tuple[str, str] = ("", "")) -> list[MissingPdf]:
        """The next documents of the shard without a PDF, by team and number; found by an index, never by a scan."""
        with self._shards.connection_for(shard) as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            cursor.execute(
                "SELECT team_id, invoice, version FROM invoice_document WHERE shard = %s AND pdf IS NULL"
                " AND (team_id, invoice) > (%s, %s) ORDER BY team_id, invoice LIMIT %s",
                (shard, *after, PORTION_DOCUMENTS),
            )
            return [MissingPdf._make(row) for row in cursor.fetchall()]

    def pdf(self, team_id: str, invoice: str) -> StoredPdf | None:
        """The PDF of the document as it was stored; None while it is not, or when the team has no such document."""
        shard = self._shards.shard_of(team_id)
        with self._shards.connection_for(shard) as connection:
            row = connection.execute(
                "SELECT pdf, encode(pdf_digest, 'hex'), encode(digest, 'hex'), stored_at FROM invoice_document"
                " WHERE shard = %s AND team_id = %s AND invoice = %s AND pdf IS NOT NULL",
                (shard, team_id, invoice),
                binary=True,
            ).fetchone()
        return None if row is None else StoredPdf._make(row)

    def store(self, team_id: str, invoice: str, pdf: bytes) -> bool:
        """The document has a PDF: this one, unless somebody stored another first. Returns whether it is this one."""
        shard = self._shards.shard_of(team_id)
        with self._shards.connection_for(shard) as connection:
            stored = connection.execute(
                "UPDATE invoice_document SET pdf = %b, pdf_digest = %b, stored_at = clock_timestamp()"
                " WHERE shard = %s AND team_id = %s AND invoice = %s AND pdf IS NULL"
                " AND EXISTS (SELECT FROM shard_log l WHERE l.shard = invoice_document.shard AND l.lives_here)",
                (pdf, hashlib.sha256(pdf).digest(), shard, team_id, invoice),
            )
            return stored.rowcount == 1
