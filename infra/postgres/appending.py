"""The one way events reach the log: head, counter and events of an account in one transaction, whoever writes.

Locks are taken in one order everywhere: heads (by shard and team), consumed offsets, then the counters (by shard). So a batch
and a command never wait for each other in a circle.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from struct import Struct
from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec
from psycopg import Cursor
from psycopg.rows import TupleRow

from consumers.batches import ContextRow
from domain.account.claims import claim_of
from domain.account.due import next_due_at
from domain.account.events import AccountEvent
from domain.account.index import IndexChange
from domain.account.state import STATE_SCHEMA, TeamAccount
from domain.chain import event_hash
from infra.postgres import arrays
from infra.postgres.connections import ShardMoved
from infra.postgres.exchange import Exchange, Statement
from infra.postgres.index_rows import change_index
from infra.postgres.mapper import encode_json, encode_json_into, topic_of
from infra.postgres.sealing import sealed

_HEADS = (
    "UPDATE account_head AS h SET version = n.version, chain_hash = n.chain_hash, state = n.state,"  # noqa: S608 - from constants
    f" state_schema = {STATE_SCHEMA}, recorded_at = n.recorded_at, next_due_at = n.next_due_at"
    " FROM unnest({}::integer[], {}::text[], {}::bigint[], {}::bigint[], {}::bytea[], {}::bytea[], {}::timestamptz[],"
    " {}::timestamptz[]) AS n (shard, team_id, expected, version, chain_hash, state, recorded_at, next_due_at)"
    " WHERE h.shard = n.shard AND h.team_id = n.team_id AND h.version = n.expected"
)
_MOVE_HEADS = _HEADS.format(*["%b"] * 8)
MOVE_HEADS = Statement(
    b"move_heads",
    _HEADS.format(*[f"${number}" for number in range(1, 9)]).encode(),
    (
        arrays.INT4S,
        arrays.TEXTS,
        arrays.INT8S,
        arrays.INT8S,
        arrays.BYTEAS,
        arrays.BYTEAS,
        arrays.TIMESTAMPS,
        arrays.TIMESTAMPS,
    ),
)
DRAW = (
    "UPDATE shard_log AS l SET position = l.position + n.events"
    " FROM unnest({}::integer[], {}::bigint[], {}::text[]) AS n (shard, events, channel)"
    " WHERE l.shard = n.shard AND l.lives_here"
    " RETURNING l.shard, l.position, n.events, n.channel"
)
"""Positions are drawn: the shards, how many each, and the channels to tell."""
_DRAW_POSITIONS = (
    f"WITH drawn AS ({DRAW.format('%b', '%b', '%b')})"  # noqa: S608 - from constants
    " SELECT shard, position, pg_notify(channel, position::text) FROM drawn"
)

COPY_EVENTS = (
    "COPY ledger_events (position, shard, originator_id, originator_version, topic, state, usage_key, previous_hash, hash)"
    " FROM STDIN (FORMAT BINARY)"
)
_COPY_CONTEXTS = (
    "COPY usage_context (shard, usage_key, team_id, member, salt, context) FROM STDIN (FORMAT BINARY)"
)
_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END = b"\xff\xff"

# Fields of a COPY row: each after its length, a row after the number of its fields.
_length = Struct(">i").pack
_nine_fields_and_position = Struct(">hiq").pack
_shard_account_and_version = Struct(">iii16siq").pack
_claim_and_hashes = Struct(">i16si32si32s").pack
_no_claim_and_hashes = Struct(">ii32si32s").pack
_six_fields_shard_and_key = Struct(">hiii16s").pack
_NULL = _length(-1)

_PIECE_PARTS = 200
"""So many parts of rows, two for each, are sent together: some hundred kilobytes."""

_EVENT_BYTES = 2_048
"""More than an event of usage usually takes."""


class NewEvent(NamedTuple):
    """An event as it will be stored, in the next version of its stream."""

    topic: str
    state: bytes
    claim: str | None


class AccountWrite(msgspec.Struct):
    """What one transaction writes for one account: events after ``expected_version``, and the head they lead to."""

    team_id: str
    account_id: UUID
    expected_version: int
    previous_hash: bytes
    account: TeamAccount
    events: Sequence[NewEvent]
    index_changes: Sequence[IndexChange]


class EncodedWrite(msgspec.Struct):
    """An account's part of the transaction as bytes: rows for COPY that lack only their position, and the new head."""

    shard: int
    team_id: str
    account_id: UUID
    expected_version: int
    version: int
    chain_hash: bytes
    state: bytes
    recorded_at: datetime
    next_due_at: datetime | None
    rows: list[bytes]


class HeadMoved(Exception):
    """A head is no longer at the version that was decided on; nothing of this transaction may be committed."""


def new_events(events: Iterable[AccountEvent]) -> list[NewEvent]:
    """An account's events as they will be stored."""
    # One buffer for all: growing a new one for each event costs half as much again as the encoding.
    buffer = bytearray(_EVENT_BYTES)
    stored: list[NewEvent] = []
    for event in events:
        encode_json_into(event, buffer)
        stored.append(NewEvent(topic_of(type(event)), bytes(buffer), claim_of(event)))
    return stored


@lru_cache(maxsize=10_000)
def _text_field(text: str) -> bytes:
    encoded = text.encode()
    return _length(len(encoded)) + encoded


def chained(
    shard: int, stream_id: UUID, version: int, previous: bytes, events: Iterable[NewEvent]
) -> tuple[list[bytes], int, bytes]:
    """The rows of the events that follow a version of a stream, each chained to the one before; the last version and hash."""
    originator = stream_id.bytes
    rows: list[bytes] = []
    for topic, state, claim in events:
        version += 1
        own = event_hash(previous, originator, version, topic, state)
        rows.append(
            b"".join(
                (
                    _shard_account_and_version(4, shard, 16, originator, 8, version),
                    _text_field(topic),
                    _length(len(state)),
                    state,
                    _no_claim_and_hashes(-1, 32, previous, 32, own)
                    if claim is None
                    else _claim_and_hashes(16, bytes.fromhex(claim), 32, previous, 32, own),
                )
            )
        )
        previous = own
    return rows, version, previous


def encode(shard: int, write: AccountWrite) -> EncodedWrite:
    """The account's rows and head as bytes, each event chained to the one before it."""
    rows, version, chain_hash = chained(
        shard, write.account_id, write.expected_version, write.previous_hash, write.events
    )
    account = write.account
    assert account.version == version, (
        f"{write.team_id}: state is at {account.version}, its events end at {version}"
    )
    return EncodedWrite(
        shard,
        write.team_id,
        write.account_id,
        write.expected_version,
        version,
        chain_hash,
        sealed(encode_json(account), write.account_id, version, chain_hash),
        account.recorded_at,
        next_due_at(account),
        rows,
    )


def open_head(cursor: Cursor[TupleRow], write: EncodedWrite) -> None:
    """The account has its first head.

    Raises: psycopg.errors.UniqueViolation when another writer opened it.
    """
    cursor.execute(
        "INSERT INTO account_head"
        " (shard, team_id, account_id, version, chain_hash, state, state_schema, recorded_at, next_due_at)"
        " VALUES (%s, %s, %s, %s, %b, %b, %s, %s, %s)",
        (
            write.shard,
            write.team_id,
            write.account_id,
            write.version,
            write.chain_hash,
            write.state,
            STATE_SCHEMA,
            write.recorded_at,
            write.next_due_at,
        ),
    )


def move_heads(cursor: Cursor[TupleRow], writes: Sequence[EncodedWrite]) -> None:
    """Every head went from its expected version to the new one; ``writes`` come in the order of shard and team.

    Raises: HeadMoved when one of them had moved already.
    """
    cursor.execute(_MOVE_HEADS, head_columns(writes))
    require_all_moved(cursor.rowcount, len(writes))


def send_heads(exchange: Exchange, writes: Sequence[EncodedWrite]) -> None:
    """As ``move_heads``, in an exchange; how many moved is the count of its answer."""
    shards, teams, expected, versions, hashes, states, recorded, due = head_columns(writes)
    exchange.send(
        MOVE_HEADS,
        arrays.int4s(shards),
        arrays.texts(teams),
        arrays.int8s(expected),
        arrays.int8s(versions),
        arrays.byteas(hashes),
        arrays.byteas(states),
        arrays.timestamps(recorded),
        arrays.timestamps(due),
    )


def require_all_moved(moved: int, asked: int) -> None:
    """Raises: HeadMoved when fewer heads moved than were asked to."""
    if moved != asked:
        raise HeadMoved(f"{asked - moved} of {asked} heads had moved")


def head_columns(
    writes: Sequence[EncodedWrite],
) -> tuple[
    list[int],
    list[str],
    list[int],
    list[int],
    list[bytes],
    list[bytes],
    list[datetime],
    list[datetime | None],
]:
    """The columns of the heads, in the order of the statement's parameters."""
    return (
        [write.shard for write in writes],
        [write.team_id for write in writes],
        [write.expected_version for write in writes],
        [write.version for write in writes],
        [write.chain_hash for write in writes],
        [write.state for write in writes],
        [write.recorded_at for write in writes],
        [write.next_due_at for write in writes],
    )


def draw_positions(cursor: Cursor[TupleRow], counts: Mapping[int, int]) -> dict[int, int]:
    """The first of so many positions that are ours, by shard; listeners of these shards hear of the last at commit.

    The counters are locked in the order of ``counts``. Other writers of a shard then wait until this transaction ends: so the
    order of positions is the order of commits, and a rollback gives its positions back: no gap, ever.
    Raises: ShardMoved when one of the shards lives in another database by now.
    """
    cursor.execute(
        _DRAW_POSITIONS,
        (list(counts), list(counts.values()), [channel_of(shard) for shard in counts]),
        binary=True,
    )
    last: dict[int, int] = {shard: position for shard, position, _ in cursor.fetchall()}
    if last.keys() != counts.keys():
        raise shard_moved(counts.keys() - last.keys())
    return {shard: last[shard] - count + 1 for shard, count in counts.items()}


def stay_home(cursor: Cursor[TupleRow], shards: Collection[int]) -> None:
    """The shards live in this database until the transaction ends: for writers that draw no position of them.

    Raises: ShardMoved when one of them lives in another by now.
    """
    cursor.execute(
        "SELECT shard FROM shard_log WHERE shard = ANY(%b) AND lives_here ORDER BY shard FOR KEY SHARE",
        (list(shards),),
        binary=True,
    )
    gone = set(shards) - {shard for (shard,) in cursor.fetchall()}
    if gone:
        raise shard_moved(gone)


def shard_moved(shards: Collection[int]) -> ShardMoved:
    """The error that names the shards."""
    return ShardMoved(
        f"shards {', '.join(map(str, sorted(shards)))} do not live in this database: they have moved, see `coffer shards`"
    )


class HasRows(Protocol):
    """What brings rows of events that lack only their position."""

    @property
    def rows(self) -> list[bytes]:
        """The rows, in the order of their stream."""
        ...


class Rows(NamedTuple):
    """Rows of a stream whose head somebody else writes."""

    rows: list[bytes]


def copy_events(cursor: Cursor[TupleRow], shards: Iterable[tuple[int, Sequence[HasRows]]]) -> None:
    """The events of each (first position, writes) are in the log, in this order.

    Raises: psycopg.errors.UniqueViolation when a version or a claim is taken.
    """
    with cursor.copy(COPY_EVENTS) as copy:
        for each in event_data(shards):
            copy.write(each)


def event_data(shards: Iterable[tuple[int, Sequence[HasRows]]]) -> list[bytes]:
    """The events of each (first position, writes) as data of COPY, in pieces that the server can begin with."""
    pieces: list[bytes] = []
    buffer = [_COPY_HEADER]
    for first, writes in shards:
        position = first
        for write in writes:
            for row in write.rows:
                buffer += (_nine_fields_and_position(9, 8, position), row)
                position += 1
            if len(buffer) > _PIECE_PARTS:
                pieces.append(b"".join(buffer))
                buffer = []
    buffer.append(_COPY_END)
    pieces.append(b"".join(buffer))
    return pieces


@contextmanager
def copying_contexts(cursor: Cursor[TupleRow], contexts: Iterable[tuple[int, ContextRow]]) -> Iterator[None]:
    """The erasable context of each (shard, usage record) is stored under its usage key once the block ends.

    The server stores them while the block does work of its own; it may not use the connection.
    """
    buffer = [_COPY_HEADER]
    for shard, (team_id, usage_key, member, salt, context) in contexts:
        buffer += (
            _six_fields_shard_and_key(6, 4, shard, 16, bytes.fromhex(usage_key)),
            _text_field(team_id),
            _NULL if member is None else _text_field(member),
            _length(len(salt)),
            salt,
            _length(len(context)),
            context,
        )
    if len(buffer) == 1:
        yield
        return
    buffer.append(_COPY_END)
    with cursor.copy(_COPY_CONTEXTS) as copy:
        copy.write(b"".join(buffer))
        yield


def channel_of(shard: int) -> str:
    """The channel on which new events of the shard are announced."""
    return f"ledger_shard_{shard}"


def append(
    cursor: Cursor[TupleRow],
    shard: int,
    writes: Sequence[AccountWrite],
    before: Rows | None = None,
    others: Mapping[int, Sequence[Rows]] | None = None,
) -> int:
    """Events, heads and index of the accounts are written; returns the first position, the rest follow in this order.

    ``before`` are rows of a stream whose head is written already; they come first. ``others``, by shard of this database, are
    more of those; in the same shard they come last.
    Raises: HeadMoved; psycopg.errors.UniqueViolation when an account was opened, or a claim made, by another writer.
    """
    encoded = [encode(shard, write) for write in writes]
    for each in encoded:
        if each.expected_version == 0:
            open_head(cursor, each)
    if moving := [each for each in encoded if each.expected_version]:
        move_heads(cursor, moving)
    change_index(cursor, shard, [(write.team_id, write.index_changes) for write in writes])
    streams: dict[int, list[HasRows]] = {shard: [before, *encoded] if before else [*encoded]}
    for other, rows in (others or {}).items():
        streams.setdefault(other, []).extend(rows)
    return append_rows(cursor, streams)[shard]


def append_rows(cursor: Cursor[TupleRow], streams: Mapping[int, Sequence[HasRows]]) -> dict[int, int]:
    """The events of these streams, by shard, are in the log; their heads are written already. Returns the first positions.

    The last thing a transaction does: from here on every other writer of these shards waits for its end.
    Raises: ShardMoved; psycopg.errors.UniqueViolation when a claim was made by another writer.
    """
    ordered = dict(sorted(streams.items()))
    firsts = draw_positions(
        cursor, {shard: sum(len(each.rows) for each in rows) for shard, rows in ordered.items()}
    )
    copy_events(cursor, [(firsts[shard], rows) for shard, rows in ordered.items()])
    return firsts
