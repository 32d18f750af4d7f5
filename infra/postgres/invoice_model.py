"""The invoice read model on PostgreSQL: rows of documents and their money, and the questions that are asked of them."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import Cursor
from psycopg.rows import TupleRow, tuple_row

from domain.account.events import RecordedEvent
from infra.postgres.mapper import ACCOUNT_SHAPES, old_topics_of, topic_of
from infra.postgres.read_models import CannotProject, Taking, Teams
from infra.postgres.shards import ShardMap
from projections.invoices import (
    INVOICE_EVENTS,
    INVOICE_SHAPE,
    InvoicePage,
    InvoiceRow,
    Summary,
    rows_of,
    summary_of,
)
from projections.statement import page_limit

_TOPICS = frozenset(topic for each in INVOICE_EVENTS for topic in (topic_of(each), *old_topics_of(each)))
_COLUMNS = ", ".join(InvoiceRow._fields)
_BY_INVOICE = f"SELECT {_COLUMNS} FROM invoice_entry WHERE shard = %s AND team_id = %s AND invoice = ANY(%s) ORDER BY version"  # noqa: S608 - our own columns


class InvoiceModel:
    """The invoice read model: a row per event of a period's close, of a document, or of its money."""

    name = "invoice"
    table = "invoice_entry"
    shape = INVOICE_SHAPE
    key: Sequence[str] = ()
    columns: Sequence[tuple[str, str]] = tuple(
        zip(
            InvoiceRow._fields,
            (
                *("int4", "text", "int8", "text", "timestamptz", "text", "text", "text", "int4", "int8"),
                *("timestamptz", "timestamptz", "text", "int8", "int8", "int8"),
                *("text", "text", "text", "text", "int8", "int8", "text", "text", "text"),
            ),
            strict=True,
        )
    )

    def __init__(self) -> None:
        self._teams = Teams()

    def rows(self, cursor: Cursor[TupleRow], taking: Taking) -> Sequence[tuple[object, ...]]:
        """As the protocol says; most events add no row, and are not even read."""
        events = [event for event in taking.events if event.topic in _TOPICS]
        if not events:
            return ()
        teams = self._teams.of(cursor, taking.shard, (event.stream for event in events))
        rows: list[tuple[object, ...]] = []
        for event in events:
            try:
                recorded = RecordedEvent(None, event.version, ACCOUNT_SHAPES.decode(event.topic, event.state))
                rows += rows_of(recorded, taking.shard, teams[event.stream])
            except Exception as error:
                # Whatever it is, it is this event's: the projection halts here and says so, and the others go on.
                raise CannotProject(event, rows, error) from error
        return rows


class PostgresInvoices:
    """The invoice read model's view."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards

    def page(self, team_id: str, *, before: int | None = None, limit: int = 100) -> InvoicePage:
        """As the port says."""
        limit = page_limit(limit)
        shard = self._shards.shard_of(team_id)
        with self._shards.connection_for(shard) as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            # The position is read first: rows that come between are beyond it, never missing below it.
            position = _position(cursor, shard)
            cursor.execute(
                f"SELECT {_COLUMNS} FROM invoice_entry WHERE shard = %s AND team_id = %s AND document IS NOT NULL"  # noqa: S608
                " AND version < %s ORDER BY version DESC LIMIT %s",
                (shard, team_id, 2**62 if before is None else before, limit + 1),
                binary=True,
            )
            found = [InvoiceRow._make(row) for row in cursor.fetchall()]
            documents = _summaries(cursor, shard, team_id, found[:limit])
        return InvoicePage(documents, position, len(found) > limit)

    def document(self, team_id: str, invoice: str) -> Summary | None:
        """As the port says."""
        shard = self._shards.shard_of(team_id)
        with self._shards.connection_for(shard) as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            cursor.execute(
                f"SELECT {_COLUMNS} FROM invoice_entry WHERE shard = %s AND team_id = %s AND document = %s",  # noqa: S608
                (shard, team_id, invoice),
                binary=True,
            )
            found = [InvoiceRow._make(row) for row in cursor.fetchall()]
            return next(iter(_summaries(cursor, shard, team_id, found)), None)

    def entries(self, team_id: str, invoice: str) -> list[InvoiceRow]:
        """As the port says."""
        shard = self._shards.shard_of(team_id)
        with self._shards.connection_for(shard) as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            cursor.execute(_BY_INVOICE, (shard, team_id, [invoice]), binary=True)
            return [InvoiceRow._make(row) for row in cursor.fetchall()]

    def position(self, team_id: str) -> int:
        """How far the read model has come in the log of the team's shard."""
        shard = self._shards.shard_of(team_id)
        with self._shards.connection_for(shard) as connection:
            return _position(connection.cursor(row_factory=tuple_row), shard)


def _position(cursor: Cursor[TupleRow], shard: int) -> int:
    cursor.execute(
        "SELECT position FROM tracking WHERE shard = %s AND projection = %s", (shard, InvoiceModel.name)
    )
    row = cursor.fetchone()
    return int(row[0]) if row else 0


def _summaries(
    cursor: Cursor[TupleRow], shard: int, team_id: str, documents: Sequence[InvoiceRow]
) -> list[Summary]:
    """These documents, each with what became of it."""
    invoices = sorted({row.invoice for row in documents if row.invoice is not None})
    cursor.execute(_BY_INVOICE, (shard, team_id, invoices), binary=True)
    about: dict[str | None, list[InvoiceRow]] = {}
    for row in cursor.fetchall():
        entry = InvoiceRow._make(row)
        about.setdefault(entry.invoice, []).append(entry)
    return [summary_of(row, about.get(row.invoice, ())) for row in documents]
