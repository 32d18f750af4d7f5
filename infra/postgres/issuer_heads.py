"""Issuers: their details as the head says, and numbers drawn in the transaction that issues the document.

Locks: the row of a year is locked after the heads of accounts and before the counters of shards. So whoever issues never waits in
a circle with a batch, a command, or another that issues.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec
from psycopg import Cursor
from psycopg.rows import TupleRow, tuple_row

from domain.actors import Actor
from domain.chain import GENESIS
from domain.errors import UnknownEventShape
from domain.issuer.applying import fold
from domain.issuer.deciding import draw_number, require_details, set_details, year_of
from domain.issuer.details import IssuerDetails
from domain.issuer.events import DocumentKind, InvoiceNumbered, IssuerEvent
from domain.issuer.numbering import Drawn
from domain.issuer.state import (
    ISSUER_SCHEMA,
    Issuer,
    Series,
    issuer_stream_id,
    number_claim,
    series_stream_id,
)
from infra.failpoints import hit
from infra.postgres.appending import HeadMoved, NewEvent, Rows, append_rows, chained
from infra.postgres.archived import refuse_archived
from infra.postgres.mapper import ISSUER_SHAPES, encode_json, topic_of
from infra.postgres.shards import ShardMap

DETAILS = 0
"""In the place of a year: the head of the issuer's details."""

CLOSER = Actor("closer", "operator")
"""Who draws numbers; whoever asked for the document is on the event of the account."""

_SELECT_DETAILS = (
    "SELECT version, chain_hash, state, state_schema FROM issuer_head"
    " WHERE shard = %s AND issuer_id = %s AND year = %s"
)
_SELECT_AND_LOCK_DETAILS = f"{_SELECT_DETAILS} FOR UPDATE"

_decode_issuer = msgspec.json.Decoder(Issuer).decode


class IssuerHead(NamedTuple):
    """An issuer as of its newest version, with what its next event is chained to."""

    issuer: Issuer
    chain_hash: bytes


def load_issuer(cursor: Cursor[TupleRow], shard: int, issuer_id: str, *, lock: bool = False) -> IssuerHead:
    """The issuer as it stands; one at version 0 before its first event. Raises: UnknownEventShape."""
    query = _SELECT_AND_LOCK_DETAILS if lock else _SELECT_DETAILS
    cursor.execute(query, (shard, issuer_id, DETAILS), binary=True)
    row = cursor.fetchone()
    if row is None:
        return IssuerHead(Issuer(issuer_id=issuer_id), GENESIS)
    version, chain_hash, state, state_schema = row
    issuer = (
        _decoded(state) if state_schema == ISSUER_SCHEMA else _fold_again(cursor, shard, issuer_id, version)
    )
    assert (issuer.issuer_id, issuer.version) == (issuer_id, version), (
        f"the head of issuer {issuer_id!r} at {version} holds {issuer.issuer_id!r} at {issuer.version}"
    )
    return IssuerHead(issuer, chain_hash)


def _decoded(state: bytes) -> Issuer:
    try:
        return _decode_issuer(state)
    except msgspec.MsgspecError as error:
        raise UnknownEventShape(
            f"a stored head of an issuer is not of schema {ISSUER_SCHEMA}: {error}"
        ) from error


def _fold_again(cursor: Cursor[TupleRow], shard: int, issuer_id: str, version: int) -> Issuer:
    stream_id = issuer_stream_id(issuer_id)
    cursor.execute(
        "SELECT topic, state FROM ledger_events"
        " WHERE shard = %s AND originator_id = %s AND originator_version <= %s ORDER BY originator_version",
        (shard, stream_id, version),
        binary=True,
    )
    rows = cursor.fetchall()
    if len(rows) != version:
        refuse_archived(cursor.connection, shard, stream_id, 0, version)
    return fold(Issuer(issuer_id=issuer_id), (ISSUER_SHAPES.decode(topic, state) for topic, state in rows))


class _SeriesHead(NamedTuple):
    """The numbers of a year as they stand, locked, with what the next one is chained to."""

    shard: int
    series: Series
    chain_hash: bytes


class PostgresNumbers:
    """Numbers for documents of accounts that one transaction changes; ``write`` puts them into the log beside those.

    An issuer whose shard lives in another database draws there first, in a transaction of its own: whoever comes again for the
    same document gets the number that it was given.
    """

    def __init__(
        self, cursor: Cursor[TupleRow], shards: ShardMap, database: str, actor: Actor = CLOSER
    ) -> None:
        self._cursor = cursor
        self._shards = shards
        self._database = database
        self._actor = actor
        self._issuers: dict[str, Issuer] = {}
        self._series: dict[tuple[str, int], _SeriesHead] = {}
        self._drawn: dict[tuple[str, int], list[InvoiceNumbered]] = {}
        self._on_file: dict[str, InvoiceNumbered] = {}

    def draw(self, issuer_id: str, kind: DocumentKind, team_id: str, subject: str, at: datetime) -> Drawn:
        """As the port says."""
        issuer = self.issuer(issuer_id)
        details = require_details(issuer)
        numbered = self._numbered(issuer_id, details, kind, team_id, subject, at)
        return Drawn(details, issuer.version, numbered.year, numbered.number, numbered.invoice)

    def issuer(self, issuer_id: str) -> Issuer:
        """The issuer as it stood when this transaction first asked."""
        if issuer_id not in self._issuers:
            self._issuers[issuer_id] = read_issuer(self._shards, issuer_id, self._here(issuer_id))
        return self._issuers[issuer_id]

    def _here(self, issuer_id: str) -> Cursor[TupleRow] | None:
        """This transaction's cursor when the issuer lives in its database."""
        home = self._shards.home_of(self._shards.shard_of(issuer_id))
        return self._cursor if home == self._database else None

    def _numbered(
        self,
        issuer_id: str,
        details: IssuerDetails,
        kind: DocumentKind,
        team_id: str,
        subject: str,
        at: datetime,
    ) -> InvoiceNumbered:
        claim = number_claim(kind, team_id, subject)
        if claim in self._on_file:
            return self._on_file[claim]
        if self._here(issuer_id) is None:
            numbered = self._drawn_apart(issuer_id, details, kind, team_id, subject, at)
        else:
            numbered = self._drawn_here(issuer_id, details, kind, team_id, subject, at)
        self._on_file[claim] = numbered
        return numbered

    def _drawn_here(
        self,
        issuer_id: str,
        details: IssuerDetails,
        kind: DocumentKind,
        team_id: str,
        subject: str,
        at: datetime,
    ) -> InvoiceNumbered:
        place = issuer_id, year_of(details, at)
        head = self._series.get(place)
        if head is None:
            head = self._series[place] = _locked(self._cursor, self._shards.shard_of(issuer_id), *place)
        # Under the lock: whoever drew for the document has committed, or will not.
        found = _on_file(self._cursor, head.shard, number_claim(kind, team_id, subject))
        if found is not None:
            return found
        numbered = draw_number(head.series, details, kind, team_id, subject, at, self._actor)
        self._drawn.setdefault(place, []).append(numbered)
        return numbered

    def _drawn_apart(
        self,
        issuer_id: str,
        details: IssuerDetails,
        kind: DocumentKind,
        team_id: str,
        subject: str,
        at: datetime,
    ) -> InvoiceNumbered:
        shard = self._shards.shard_of(issuer_id)
        with self._shards.connection_for(shard) as connection, connection.transaction():
            there = PostgresNumbers(
                connection.cursor(row_factory=tuple_row),
                self._shards,
                self._shards.home_of(shard),
                self._actor,
            )
            numbered = there._drawn_here(issuer_id, details, kind, team_id, subject, at)
            if rows := there.write():
                append_rows(there._cursor, rows)
        hit("close.drawn_apart")
        return numbered

    def write(self) -> dict[int, list[Rows]]:
        """The heads of the years are as drawn; returns the rows of the events, by shard, which the same transaction appends.

        Raises: HeadMoved.
        """
        rows: dict[int, list[Rows]] = {}
        for place, drawn in sorted(self._drawn.items()):
            head = self._series[place]
            rows.setdefault(head.shard, []).append(_series_rows(self._cursor, head, drawn))
        self._drawn = {}
        return rows


def read_issuer(shards: ShardMap, issuer_id: str, cursor: Cursor[TupleRow] | None = None) -> Issuer:
    """The issuer as it stands, by the cursor where one of its database is at hand. Raises: psycopg.OperationalError."""
    shard = shards.shard_of(issuer_id)
    if cursor is not None:
        return load_issuer(cursor, shard, issuer_id).issuer
    with shards.connection_for(shard) as connection:
        return load_issuer(connection.cursor(row_factory=tuple_row), shard, issuer_id).issuer


def write_details(
    shards: ShardMap,
    details: IssuerDetails,
    actor: Actor,
    *,
    correlation_id: str | None = None,
    reason: str | None = None,
) -> tuple[Issuer, bool]:
    """The issuer has the details; returns it, and whether anything changed: details that it has already change nothing.

    Raises: Malformed; psycopg.OperationalError, after which it may be asked again.
    """
    shard = shards.shard_of(details.issuer_id)
    with shards.connection_for(shard) as connection, connection.transaction():
        cursor = connection.cursor(row_factory=tuple_row)
        # The first event has no row to lock yet.
        cursor.execute(
            "SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))",
            (f"issuer {details.issuer_id}", shard),
        )
        cursor.execute("SELECT clock_timestamp()", binary=True)
        row = cursor.fetchone()
        assert row is not None
        head = load_issuer(cursor, shard, details.issuer_id, lock=True)
        event = set_details(head.issuer, details, row[0], actor, correlation_id, reason)
        if event is not None:
            rows = _details_rows(cursor, shard, head, event)
            append_rows(cursor, {shard: [rows]})
        return head.issuer, event is not None


def _details_rows(cursor: Cursor[TupleRow], shard: int, head: IssuerHead, event: IssuerEvent) -> Rows:
    """``head.issuer`` is after the event."""
    issuer = head.issuer
    stream_id = issuer_stream_id(issuer.issuer_id)
    rows, version, chain_hash = chained(
        shard, stream_id, issuer.version - 1, head.chain_hash, [_new(event, None)]
    )
    _move_head(cursor, shard, issuer.issuer_id, DETAILS, stream_id, version - 1, version, chain_hash, issuer)
    return Rows(rows)


def _series_rows(cursor: Cursor[TupleRow], head: _SeriesHead, drawn: Sequence[InvoiceNumbered]) -> Rows:
    series = head.series
    stream_id = series_stream_id(series.issuer_id, series.year)
    before = series.version - len(drawn)
    rows, version, chain_hash = chained(
        head.shard, stream_id, before, head.chain_hash, [_new(each, each.claim) for each in drawn]
    )
    assert series.version == version, f"the series is at {series.version}, its events end at {version}"
    _move_head(
        cursor, head.shard, series.issuer_id, series.year, stream_id, before, version, chain_hash, series
    )
    return Rows(rows)


def _new(event: IssuerEvent, claim: str | None) -> NewEvent:
    return NewEvent(topic_of(type(event)), encode_json(event), claim)


def _move_head(
    cursor: Cursor[TupleRow],
    shard: int,
    issuer_id: str,
    year: int,
    stream_id: UUID,
    before: int,
    version: int,
    chain_hash: bytes,
    state: Issuer | Series,
) -> None:
    """Raises: HeadMoved."""
    cursor.execute(
        "INSERT INTO issuer_head AS h (shard, issuer_id, year, stream_id, version, chain_hash, state, state_schema, recorded_at)"
        " VALUES (%s, %s, %s, %s, %s, %b, %b, %s, %s) ON CONFLICT (shard, issuer_id, year)"
        " DO UPDATE SET version = EXCLUDED.version, chain_hash = EXCLUDED.chain_hash, state = EXCLUDED.state,"
        " state_schema = EXCLUDED.state_schema, recorded_at = EXCLUDED.recorded_at WHERE h.version = %s",
        (
            shard,
            issuer_id,
            year,
            stream_id,
            version,
            chain_hash,
            encode_json(state),
            ISSUER_SCHEMA,
            state.recorded_at,
            before,
        ),
    )
    if cursor.rowcount != 1:
        raise HeadMoved(f"the stream of issuer {issuer_id!r} ({year or 'details'}) moved from {before}")


def _locked(cursor: Cursor[TupleRow], shard: int, issuer_id: str, year: int) -> _SeriesHead:
    """The numbers of the year, in nobody else's hands until this transaction ends."""
    # The first number of a year has no row to lock yet: an empty one is made, which says nothing if nothing is drawn.
    cursor.execute(
        "INSERT INTO issuer_head (shard, issuer_id, year, stream_id, version, chain_hash, state, state_schema, recorded_at)"
        " VALUES (%s, %s, %s, %s, 0, %b, %b, %s, clock_timestamp()) ON CONFLICT DO NOTHING",
        (
            shard,
            issuer_id,
            year,
            series_stream_id(issuer_id, year),
            GENESIS,
            encode_json(Series(issuer_id=issuer_id, year=year)),
            ISSUER_SCHEMA,
        ),
    )
    cursor.execute(
        "SELECT version, chain_hash, recorded_at FROM issuer_head"
        " WHERE shard = %s AND issuer_id = %s AND year = %s FOR UPDATE",
        (shard, issuer_id, year),
        binary=True,
    )
    row = cursor.fetchone()
    assert row is not None
    version, chain_hash, recorded_at = row
    series = Series(
        issuer_id=issuer_id, year=year, version=version, recorded_at=recorded_at if version else None
    )
    return _SeriesHead(shard, series, chain_hash)


def _on_file(cursor: Cursor[TupleRow], shard: int, claim: str) -> InvoiceNumbered | None:
    """The number that the document was given, if it was."""
    cursor.execute(
        "SELECT topic, state FROM ledger_events WHERE shard = %s AND usage_key = %s",
        (shard, UUID(claim)),
        binary=True,
    )
    row = cursor.fetchone()
    if row is None:
        return None
    event = ISSUER_SHAPES.decode(*row)
    assert isinstance(event, InvoiceNumbered), f"the claim of a number is that of a {row[0]}"
    return event


def known_issuers(shards: ShardMap) -> Mapping[str, Issuer]:
    """Every issuer that has details, by id."""
    found: dict[str, Issuer] = {}
    for shard in range(shards.count):
        with shards.connection_for(shard) as connection:
            cursor = connection.cursor(row_factory=tuple_row)
            cursor.execute(
                "SELECT issuer_id FROM issuer_head WHERE shard = %s AND year = %s ORDER BY issuer_id",
                (shard, DETAILS),
            )
            for (issuer_id,) in cursor.fetchall():
                found[issuer_id] = load_issuer(cursor, shard, issuer_id).issuer
    return dict(sorted(found.items()))
