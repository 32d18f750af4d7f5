"""Reading accounts: the head as it stands, folded again from the events when its schema is not ours.

A head of an older schema is rewritten with its index by whoever writes next: entries of kinds that the older code did not know
must be there before anything is decided on them. So is a head whose seal is not ours.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import accumulate, islice
from operator import itemgetter
from struct import Struct
from typing import NamedTuple
from uuid import UUID

import msgspec
import psycopg
from psycopg import Cursor
from psycopg.adapt import Dumper
from psycopg.pq import Format
from psycopg.rows import TupleRow, tuple_row
from typing_extensions import override

from domain.account.applying import fold
from domain.account.decision import account_id
from domain.account.due import next_due_at
from domain.account.events import (
    CHARGES,
    AccountEvent,
    Charge,
    CreditsCharged,
    HoldCaptured,
    UsageWaived,
)
from domain.account.index import IndexChange, IndexKind, UsageOnFile
from domain.account.state import STATE_SCHEMA, TeamAccount
from infra.postgres.archived import refuse_archived, refuse_archived_since, without_gap
from infra.postgres.index_rows import change_index
from infra.postgres.mapper import (
    ACCOUNT_SHAPES,
    ISSUER_SHAPES,
    decode_account,
    encode_json,
    old_topics_of,
    topic_of,
)
from infra.postgres.sealing import is_sealed, sealed

INDEX_PAGE_ROWS = 200
CHARGES_PAGE_ROWS = 1_000
FOLD_ROWS = 200

_CHARGE_TOPICS = [topic for each in CHARGES for topic in (topic_of(each), *old_topics_of(each))]

_SELECT_HEADS = (
    "SELECT team_id, account_id, version, chain_hash, state, state_schema FROM account_head"
    " WHERE shard = %s AND team_id = ANY(%s) ORDER BY team_id"
)
# One run of teams for each shard, as for claims.
_SELECT_HEADS_OF_SHARDS = (
    "SELECT h.* FROM unnest(%b::integer[], %b::integer[], %b::integer[]) AS asked (shard, first, last)"
    " CROSS JOIN LATERAL ("
    "  SELECT shard, team_id, account_id, version, chain_hash, state, state_schema FROM account_head AS own"
    "  WHERE own.shard = asked.shard AND own.team_id = ANY((%b::text[])[asked.first:asked.last])"
    " ) AS h"
)
_SELECT_AND_LOCK_HEADS = f"{_SELECT_HEADS} FOR UPDATE"
_SELECT_AND_LOCK_FREE_HEADS = f"{_SELECT_AND_LOCK_HEADS} NOWAIT"

# One run of keys for each shard, so that each is a search of its own index range; all in one exchange. One statement sees an
# event in the log or its claim among those of archived ones, never neither: it leaves the one for the other in one transaction.
# The last condition is asked once, so that a ledger without archives does not look for claims of archived events at all.
_SELECT_CLAIMS = (
    "SELECT e.* FROM unnest(%(shards)b::integer[], %(firsts)b::integer[], %(lasts)b::integer[]) AS asked (shard, first, last)"
    " CROSS JOIN LATERAL ("
    "  SELECT usage_key, originator_version, topic, state, originator_id, NULL::uuid, NULL::integer FROM ledger_events AS own"
    "  WHERE own.shard = asked.shard AND own.usage_key = ANY((%(keys)b::uuid[])[asked.first:asked.last])"
    "  UNION ALL SELECT usage_key, originator_version, topic, state, NULL, content, owner FROM archived_claim AS own"
    "  WHERE own.shard = asked.shard AND own.usage_key = ANY((%(keys)b::uuid[])[asked.first:asked.last])"
    "  AND (SELECT true FROM archive LIMIT 1)"
    " ) AS e"
)


# Named once: the type written with | is made anew each time it is met.
_USED = (CreditsCharged, UsageWaived)
_CHARGED = (CreditsCharged, UsageWaived, HoldCaptured)

_LAST_CODE = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)


class RecordClaim(NamedTuple):
    """The event that a record of a stream left, of usage or of payments, its version and the digest of usage's content.

    Of usage whose event is archived only the claim is here: no event, and the first half of the digest.
    """

    version: int
    event: AccountEvent | None
    content_digest: str


class _ClaimOnFile(NamedTuple):
    """A claim, with the event that made it; of an archived one the event of a payment only, and the owner's mark."""

    key: str
    version: int
    event: AccountEvent | None
    originator: UUID | None
    content: UUID | None
    owner: int | None


class Head(NamedTuple):
    """An account as of its newest version, with what the next event is chained to."""

    account: TeamAccount
    account_id: UUID
    chain_hash: bytes


def load_heads(
    cursor: Cursor[TupleRow], shard: int, team_ids: Collection[str], *, lock: bool, wait: bool = True
) -> dict[str, Head]:
    """The heads of these teams of one shard; a team without an account is absent.

    With ``lock`` the rows stay locked until the transaction ends, taken in team order; without ``wait`` one that another
    transaction holds raises psycopg.errors.LockNotAvailable at once.
    """
    query = _SELECT_HEADS
    if lock:
        query = _SELECT_AND_LOCK_HEADS if wait else _SELECT_AND_LOCK_FREE_HEADS
    cursor.execute(query, (shard, list(team_ids)), binary=True)
    return {row[0]: _head(cursor, shard, row, is_locked=lock) for row in cursor.fetchall()}


def load_heads_of_shards(cursor: Cursor[TupleRow], teams: Mapping[int, Sequence[str]]) -> dict[str, Head]:
    """As ``load_heads`` without locks, for teams of several shards in one question."""
    ends = list(accumulate(map(len, teams.values())))
    firsts = [end - len(each) + 1 for end, each in zip(ends, teams.values(), strict=True)]
    every = [team for each in teams.values() for team in each]
    cursor.execute(_SELECT_HEADS_OF_SHARDS, (list(teams), firsts, ends, every), binary=True)
    return {row[1]: _head(cursor, row[0], row[1:], is_locked=False) for row in cursor.fetchall()}


def _head(cursor: Cursor[TupleRow], shard: int, row: TupleRow, *, is_locked: bool) -> Head:
    team_id, account_id, version, chain_hash, state, state_schema = row
    if state_schema == STATE_SCHEMA and is_sealed(state, account_id, version, chain_hash):
        account = decode_account(state)
    elif state_schema > STATE_SCHEMA:
        account = fold_again(cursor, shard, account_id, version)
    elif is_locked:
        account, chain_hash = _rewritten(cursor, shard, team_id, account_id, version)
    else:
        # Read again under its lock: what is written of it must be of the version that stands.
        return load_heads(cursor, shard, [team_id], lock=True)[team_id]
    assert account.team_id == team_id, f"the head of {team_id!r} holds the state of {account.team_id!r}"
    assert account.version == version, f"the head of {team_id!r} says {version}, its state {account.version}"
    return Head(account, account_id, chain_hash)


def _rewritten(
    cursor: Cursor[TupleRow], shard: int, team_id: str, account_id: UUID, version: int
) -> tuple[TeamAccount, bytes]:
    """The account, folded from all its events, and the hash of the last; its locked head and its whole index are as they say."""
    cursor.execute("DELETE FROM account_index WHERE shard = %s AND team_id = %s", (shard, team_id))
    account = fold_again(
        cursor, shard, account_id, version, lambda changes: change_index(cursor, shard, [(team_id, changes)])
    )
    chain_hash = _hash_at(cursor, shard, account_id, version)
    cursor.execute(
        "UPDATE account_head SET state = %b, state_schema = %s, chain_hash = %b, recorded_at = %s, next_due_at = %s"
        " WHERE shard = %s AND team_id = %s AND version = %s",
        (
            sealed(encode_json(account), account_id, version, chain_hash),
            STATE_SCHEMA,
            chain_hash,
            account.recorded_at,
            next_due_at(account),
            shard,
            team_id,
            version,
        ),
    )
    assert cursor.rowcount == 1, f"the head of {team_id!r} is not locked at version {version}"
    return account, chain_hash


def _hash_at(cursor: Cursor[TupleRow], shard: int, account_id: UUID, version: int) -> bytes:
    cursor.execute(
        "SELECT hash FROM ledger_events WHERE shard = %s AND originator_id = %s AND originator_version = %s",
        (shard, account_id, version),
        binary=True,
    )
    row = cursor.fetchone()
    assert row is not None, f"version {version} of account {account_id} was folded and is not in the log"
    return bytes(row[0])


def fold_again(
    cursor: Cursor[TupleRow],
    shard: int,
    account_id: UUID,
    version: int,
    changed: Callable[[Sequence[IndexChange]], None] = lambda _: None,
) -> TeamAccount:
    """The account at a version, folded from all its events; ``changed`` is told of every change of its index, in order.

    Events and changes go a portion at a time, so that a history of any length fits.
    Raises: UnknownEventShape; EventsArchived.
    """
    account: TeamAccount | None = None
    with cursor.connection.cursor("fold_again", row_factory=tuple_row) as events:
        events.itersize = FOLD_ROWS
        events.format = Format.BINARY
        events.execute(
            "SELECT originator_version, topic, state FROM ledger_events"
            " WHERE shard = %s AND originator_id = %s AND originator_version <= %s ORDER BY originator_version",
            (shard, account_id, version),
        )
        known = without_gap(
            events,
            0,
            version,
            itemgetter(0),
            lambda after, until: refuse_archived(cursor.connection, shard, account_id, after, until),
        )
        while portion := list(islice(known, FOLD_ROWS)):
            account, changes = fold(
                account, (ACCOUNT_SHAPES.decode(topic, state) for _, topic, state in portion)
            )
            if changes:
                changed(changes)
    assert account is not None, f"account {account_id} has a head and no events"
    return account


class StoredIndex:
    """An account's index, read lazily in the transaction that decides."""

    def __init__(self, cursor: Cursor[TupleRow], shard: int, team_id: str) -> None:
        self._cursor = cursor
        self._shard = shard
        self._team_id = team_id

    def usage(self, usage_key: str) -> UsageOnFile | None:
        """The event that holds the claim, if it is this team's: whoever asks may name a charge of any other.

        Raises: EventsArchived.
        """
        own = account_id(self._team_id)
        for claim in _claims(self._cursor, {self._shard: [usage_key]}):
            assert claim.key == usage_key
            if claim.originator == own and isinstance(claim.event, _CHARGED):
                return UsageOnFile(claim.version, claim.event)
            if claim.owner == owner_mark(own) and claim.event is None:
                refuse_archived(self._cursor.connection, self._shard, own, claim.version - 1, claim.version)
        return None

    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """The entry of the key."""
        self._cursor.execute(
            "SELECT entry FROM account_index WHERE shard = %s AND team_id = %s AND kind = %s AND key = %s",
            (self._shard, self._team_id, kind, key),
            binary=True,
        )
        row = self._cursor.fetchone()
        return None if row is None else row[0]

    def latest(self, kind: IndexKind, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """The entries of a kind whose keys begin so, greatest key first, read page by page."""
        before = key_beyond(prefix)
        while True:
            below, bounds = (" AND key < %s", [before]) if before is not None else ("", [])
            self._cursor.execute(
                "SELECT key, entry FROM account_index"  # noqa: S608 - from constants
                f" WHERE shard = %s AND team_id = %s AND kind = %s AND key >= %s{below}"
                " ORDER BY key DESC LIMIT %s",
                (self._shard, self._team_id, kind, prefix, *bounds, INDEX_PAGE_ROWS),
                binary=True,
            )
            page = self._cursor.fetchall()
            yield from ((key, entry) for key, entry in page)
            if len(page) < INDEX_PAGE_ROWS:
                return
            before = page[-1][0]

    def charges_since(self, recorded_since: datetime) -> Iterator[Charge]:
        """The account's charges recorded then or later, oldest first, read page by page from the stream.

        Raises, at the latest after the last one: EventsArchived.
        """
        originator = account_id(self._team_id)
        after = since = last_version_before(self._cursor, self._shard, originator, recorded_since)
        while True:
            self._cursor.execute(
                "SELECT originator_version, topic, state FROM ledger_events WHERE shard = %s AND originator_id = %s"
                " AND originator_version > %s AND topic = ANY(%s) ORDER BY originator_version LIMIT %s",
                (self._shard, originator, after, _CHARGE_TOPICS, CHARGES_PAGE_ROWS),
                binary=True,
            )
            page = self._cursor.fetchall()
            for _, topic, state in page:
                event = ACCOUNT_SHAPES.decode(topic, state)
                assert isinstance(event, CHARGES), f"{topic} is no charge"
                yield event
            if len(page) < CHARGES_PAGE_ROWS:
                break
            after = page[-1][0]
        # Asked last: what leaves while the pages are read is missed before it is looked for.
        refuse_archived(self._cursor.connection, self._shard, originator, since, None)


def key_beyond(prefix: str) -> str | None:
    """The least key that is greater than every key that begins with the prefix, None when there is no such key."""
    for place in range(len(prefix) - 1, -1, -1):
        code = ord(prefix[place])
        if code < _LAST_CODE:
            # The codes of surrogates are no characters, so no key holds them.
            following = code + 1 if code + 1 not in _SURROGATES else _SURROGATES.stop
            return prefix[:place] + chr(following)
    return None


def last_version_before(cursor: Cursor[TupleRow], shard: int, originator: UUID, at: datetime) -> int:
    """The newest version of the stream recorded before the instant, 0 when there is none.

    Halving finds it: ``recorded_at`` never decreases within a stream. Raises: EventsArchived when an archive would have to say.
    """
    cursor.execute(
        "SELECT coalesce(max(originator_version), 0) FROM ledger_events WHERE shard = %s AND originator_id = %s",
        (shard, originator),
    )
    row = cursor.fetchone()
    assert row is not None
    before, beyond = 0, row[0] + 1
    while beyond - before > 1:
        middle = (before + beyond) // 2
        cursor.execute(
            "SELECT state FROM ledger_events WHERE shard = %s AND originator_id = %s AND originator_version = %s",
            (shard, originator, middle),
            binary=True,
        )
        row = cursor.fetchone()
        if row is None:
            # What left the log was recorded before what stayed, so the search goes on among that.
            refuse_archived_since(cursor.connection, shard, originator, middle, at)
        if row is None or recorded_at_of(row[0]) < at:
            before = middle
        else:
            beyond = middle
    return before


class _Recorded(msgspec.Struct):
    """The one field of every event that says when it was recorded."""

    recorded_at: datetime


_decode_recorded = msgspec.json.Decoder(_Recorded).decode


def recorded_at_of(state: bytes) -> datetime:
    """When the event of these stored bytes was recorded, whatever its shape."""
    return _decode_recorded(state).recorded_at


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


def load_claims(cursor: Cursor[TupleRow], keys: Mapping[int, Sequence[str]]) -> dict[str, RecordClaim]:
    """The claims of records among these keys, by shard, that are in the log already; by key."""
    # The column also holds the identities of captures and due facts, which no record can have. Those of usage and of payments
    # are made alike: a source that used an id twice contradicts itself.
    return {
        claim.key: RecordClaim(claim.version, claim.event, _content_digest(claim))
        for claim in _claims(cursor, keys)
        if claim.content is not None
        or isinstance(claim.event, _USED)
        or getattr(claim.event, "record_key", None) is not None
    }


def _content_digest(claim: _ClaimOnFile) -> str:
    """Of usage, the digest of its content, or the half of it that is kept of an archived one."""
    return claim.content.hex if claim.content is not None else getattr(claim.event, "content_digest", "")


def owner_mark(stream_id: UUID) -> int:
    """The first four bytes of a stream's id, as archived claims name their owner."""
    return int.from_bytes(stream_id.bytes[:4], "big", signed=True)


def _claims(cursor: Cursor[TupleRow], keys: Mapping[int, Sequence[str]]) -> Iterator[_ClaimOnFile]:
    """Each claim of one of these keys, in the log or of an archived event."""
    ends = list(accumulate(map(len, keys.values())))
    cursor.execute(
        _SELECT_CLAIMS,
        {
            "shards": list(keys),
            "firsts": [end - len(each) + 1 for end, each in zip(ends, keys.values(), strict=True)],
            "lasts": ends,
            "keys": _Keys([key for each in keys.values() for key in each]),
        },
        binary=True,
    )
    for key, version, topic, state, originator, content, owner in cursor.fetchall():
        # The number of a document has a claim, too, which is nobody's record.
        is_known = topic is not None and topic not in ISSUER_SHAPES
        event = ACCOUNT_SHAPES.decode(topic, state) if is_known else None
        yield _ClaimOnFile(key.hex, version, event, originator, content, owner)
