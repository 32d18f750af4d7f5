"""Documents and numbers: every number has its document, every document its number and event, every stored PDF its digest."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
from psycopg.rows import TupleRow

from domain.issuer.events import InvoiceNumbered
from infra.postgres.documents import DOCUMENTS
from infra.postgres.mapper import old_topics_of, topic_of
from projections.verify import Finding

FINDINGS_MAX = 100

_TOPICS = [topic for each in DOCUMENTS for topic in (topic_of(each), *old_topics_of(each))]

# Documents of the shard against their events: one for each, at its version, unless that is in an archive.
_DOCUMENTS = """
WITH issued AS (
    SELECT h.team_id, e.originator_version AS version, d.document ->> 'invoice' AS invoice, d.document ->> 'digest' AS digest
    FROM ledger_events e JOIN account_head h ON h.shard = e.shard AND h.account_id = e.originator_id
    CROSS JOIN LATERAL (SELECT convert_from(e.state, 'UTF8')::jsonb AS document) AS d
    WHERE e.shard = %(shard)s AND e.topic = ANY(%(topics)s)
), filed AS (
    SELECT f.team_id, f.version, f.invoice, encode(f.digest, 'hex') AS digest FROM invoice_document f
    JOIN account_head h ON h.shard = f.shard AND h.team_id = f.team_id
    WHERE f.shard = %(shard)s AND NOT EXISTS (SELECT FROM archive_stream s WHERE s.shard = f.shard
        AND s.stream_id = h.account_id AND f.version > s.gone_after AND f.version <= s.gone_through)
)
SELECT coalesce(i.team_id, f.team_id), coalesce(i.version, f.version), i.invoice, f.invoice
FROM issued i FULL JOIN filed f USING (team_id, version, invoice, digest)
WHERE i.invoice IS NULL OR f.invoice IS NULL ORDER BY 1, 2 LIMIT %(most)s
"""

_PDFS = """
SELECT team_id, version, invoice, encode(pdf_digest, 'hex'), encode(sha256(pdf), 'hex') FROM invoice_document
WHERE shard = %(shard)s AND pdf IS NOT NULL AND sha256(pdf) <> pdf_digest ORDER BY team_id, invoice LIMIT %(most)s
"""

_ANY_NUMBERS = "SELECT true FROM issuer_head WHERE shard = %(shard)s AND year > 0 LIMIT 1"

# Numbers of the shard's issuers against documents of teams that live in the same database: of others nothing is known here.
_NUMBERS = """
WITH given AS (
    SELECT n.document ->> 'team_id' AS team_id, n.document ->> 'invoice' AS invoice, e.originator_version AS number
    FROM issuer_head i JOIN ledger_events e ON e.shard = i.shard AND e.originator_id = i.stream_id
    CROSS JOIN LATERAL (SELECT convert_from(e.state, 'UTF8')::jsonb AS document) AS n
    WHERE i.shard = %(shard)s AND i.year > 0 AND e.topic = ANY(%(numbered)s)
)
SELECT g.team_id, g.number, g.invoice FROM given g
JOIN account_head h ON h.team_id = g.team_id JOIN shard_log l ON l.shard = h.shard AND l.lives_here
LEFT JOIN invoice_document d ON d.shard = h.shard AND d.team_id = g.team_id AND d.invoice = g.invoice
WHERE d.invoice IS NULL ORDER BY g.number LIMIT %(most)s
"""


def check_numbers(connection: psycopg.Connection[TupleRow], shard: int) -> Iterator[Finding]:
    """Documents without an event or the other way round, PDFs that were changed, and numbers that no document has."""
    values = {
        "shard": shard,
        "topics": _TOPICS,
        "numbered": [topic_of(InvoiceNumbered), *old_topics_of(InvoiceNumbered)],
        "most": FINDINGS_MAX,
    }
    for team_id, version, issued, filed in connection.execute(_DOCUMENTS, values).fetchall():
        yield Finding(
            table="invoice_document",
            shard=shard,
            team_id=team_id,
            version=version,
            what="document",
            expected=issued or "none: no event issued it",
            found=filed or "none",
        )
    for team_id, version, invoice, digest, own in connection.execute(_PDFS, values).fetchall():
        yield Finding(
            table="invoice_document",
            shard=shard,
            team_id=team_id,
            version=version,
            what=f"SHA-256 of the PDF of {invoice}",
            expected=digest,
            found=own,
        )
    if connection.execute(_ANY_NUMBERS, values).fetchone() is None:
        return
    for team_id, number, invoice in connection.execute(_NUMBERS, values).fetchall():
        yield Finding(
            table="ledger_events",
            shard=shard,
            team_id=team_id,
            version=number,
            what=f"document with the number {invoice}",
            expected="one: the number was given out",
            found="none",
        )
