"""Reading accounts: the head as it stands, folded again from the events when its schema is not ours."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import accumulate
from struct import Struct
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg import Cursor
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.rows import TupleRow, tuple_row
from typing_extensions import override

from domain.account.applying import fold
from domain.account.decision import account_id
from domain.account.events import CreditsCharged, UsageWaived
from domain.account.index import IndexKind, UsageOnFile
from domain.account.state import STATE_SCHEMA, TeamAccount
from infra.postgres.mapper import ACCOUNT_SHAPES, decode_account

INDEX_PAGE_ROWS = 200
FOLD_ROWS = 200


_SELECT_HEADS = (
    "SELECT team_id, account_id, version, chain_hash, state, state_schema FROM account_head"
    " WHERE shard = %s AND team_id = ANY(%s) ORDER BY team_id"
)
_SELECT_AND_LOCK_HEADS = f"{_SELECT_HEADS} FOR UPDATE"

# One run of keys for each shard, so that each is a search of its own index range; all in one exchange.
_SELECT_CLAIMS = (
    "SELECT e.usage_key, e.originator_version, e.topic, e.state, e.originator_id"
    " FROM unnest(%b::integer[], %b::integer[], %b::integer[]) AS asked (shard, first, last)"
    " CROSS JOIN LATERAL ("
    "  SELECT * FROM ledger_events AS own"
    "  WHERE own.shard = asked.shard AND own.usage_key = ANY((%b::uuid[])[asked.first:asked.last])"
    " ) AS e"
)


class Head(NamedTuple):
    """An account as of its newest version, with what the next event is chained to."""

    account: TeamAccount
    account_id: UUID
    chain_hash: bytes


def load_heads(
    cursor: Cursor[TupleRow], shard: int, team_ids: Collection[str], *, lock: bool
) -> dict[str, Head]:
    """The heads of these teams of one shard; a team without an account is absent.

    With ``lock`` the rows stay locked until the transaction ends, taken in team order.
    """
    cursor.execute(_SELECT_AND_LOCK_HEADS if lock else _SELECT_HEADS, (shard, list(team_ids)), binary=True)
    return {row[0]: _head(cursor, shard, row) for row in cursor.fetchall()}


def _head(cursor: Cursor[TupleRow], shard: int, row: TupleRow) -> Head:
    team_id, account_id, version, chain_hash, state, state_schema = row
    account = (
        decode_account(state)
        if state_schema == STATE_SCHEMA
        else fold_again(cursor, shard, account_id, version)
    )
    assert account.team_id == team_id, f"the head of {team_id!r} holds the state of {account.team_id!r}"
    assert account.version == version, f"the head of {team_id!r} says {version}, its state {account.version}"
    return Head(account, account_id, chain_hash)


def fold_again(cursor: Cursor[TupleRow], shard: int, account_id: UUID, version: int) -> TeamAccount:
    """The account at a version, folded from all its events, a portion at a time, so that a history of any length fits.

    Raises: UnknownEventShape.
    """
    with cursor.connection.cursor("fold_again", row_factory=tuple_row) as events:
        events.itersize = FOLD_ROWS
        events.format = Format.BINARY
        events.execute(
            "SELECT topic, state FROM ledger_events"
            " WHERE shard = %s AND originator_id = %s AND originator_version <= %s ORDER BY originator_version",
            (shard, account_id, version),
        )
        account, _ = fold(None, (ACCOUNT_SHAPES.decode(topic, state) for topic, state in events))
    assert account is not None, f"account {account_id} has a head and no events"
    return account


class StoredIndex:
    """An account's index, read lazily in the transaction that decides."""

    def __init__(self, cursor: Cursor[TupleRow], shard: int, team_id: str) -> None:
        self._cursor = cursor
        self._shard = shard
        self._team_id = team_id

    def usage(self, usage_key: str) -> UsageOnFile | None:
        """The event that holds the claim, if it is this team's: whoever asks may name a charge of any other."""
        own = account_id(self._team_id)
        return load_claims(self._cursor, {self._shard: [usage_key]}, own).get(usage_key)

    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """The entry of the key."""
        self._cursor.execute(
            "SELECT entry FROM account_index WHERE shard = %s AND team_id = %s AND kind = %s AND key = %s",
            (self._shard, self._team_id, kind, key),
            binary=True,
        )
        row = self._cursor.fetchone()
        return None if row is None else row[0]

    def latest(self, kind: IndexKind) -> Iterator[tuple[str, bytes]]:
        """The entries of a kind, greatest key first, read page by page."""
        before: str | None = None
        while True:
            self._cursor.execute(
                "SELECT key, entry FROM account_index"
                " WHERE shard = %s AND team_id = %s AND kind = %s AND (%s::text IS NULL OR key < %s)"
                " ORDER BY key DESC LIMIT %s",
                (self._shard, self._team_id, kind, before, before, INDEX_PAGE_ROWS),
                binary=True,
            )
            page = self._cursor.fetchall()
            yield from ((key, entry) for key, entry in page)
            if len(page) < INDEX_PAGE_ROWS:
                return
            before = page[-1][0]


class _Keys:
    """Usage keys as PostgreSQL's uuid[] in its binary form: a batch asks for a thousand, and text is slow to parse."""

    _HEADER = Struct(">5i")
    _UUID_OID = 2950

    def __init__(self, keys: Collection[str]) -> None:
        # One dimension, no nulls, from 1; then each element after its length, all written as one run of hex digits.
        header = self._HEADER.pack(1, 0, self._UUID_OID, len(keys), 1)
        self.data = header + bytes.fromhex("".join([f"00000010{key}" for key in keys]))


class _KeysDumper(Dumper):
    format = Format.BINARY
    oid = 2951

    @override
    def dump(self, obj: _Keys) -> bytes:
        return obj.data


psycopg.adapters.register_dumper(_Keys, _KeysDumper)


def load_claims(
    cursor: Cursor[TupleRow], keys: Mapping[int, Sequence[str]], account: UUID | None = None
) -> dict[str, UsageOnFile]:
    """The claims among these usage keys, by shard, that are in the log already, or those of one account; by usage key."""
    ends = list(accumulate(map(len, keys.values())))
    cursor.execute(
        _SELECT_CLAIMS,
        (
            list(keys),
            [end - len(each) + 1 for end, each in zip(ends, keys.values(), strict=True)],
            ends,
            _Keys([key for each in keys.values() for key in each]),
        ),
        binary=True,
    )
    found: dict[str, UsageOnFile] = {}
    for usage_key, version, topic, state, originator in cursor.fetchall():
        if account is not None and originator != account:
            continue
        event = ACCOUNT_SHAPES.decode(topic, state)
        # The column also holds the identities of due facts, which no usage record can have.
        if isinstance(event, CreditsCharged | UsageWaived):
            found[usage_key.hex] = UsageOnFile(version, event)
    return found
