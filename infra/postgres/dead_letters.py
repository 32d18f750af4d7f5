"""The table of dead letters: asked, marked as published, tried again."""

# ruff: noqa: S608 (statements are put together from constants of this module only)

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from operator import itemgetter
from typing import Literal, Protocol

import msgspec
import psycopg
from psycopg.rows import TupleRow

from consumers.batches import BatchTransaction, DeadLetter, MovedHeads, PartitionKey
from consumers.dead_letters import Retried, retry_letter
from consumers.usage import DECISIONS_MAX
from domain.catalogue import Catalogue
from domain.errors import Busy
from domain.ledger import OutcomeUnknown
from infra.postgres.erasures import Erasures
from infra.postgres.shards import ShardMap

_LETTER = (
    "dead_letter_id, cluster_id, topic_id, topic, part, kafka_offset, arrived_at, outcome, reason, detail,"
    " record_key, record_value, record_headers, recorded_at, published_at, status, retried_at, retry_outcome,"
    " retry_reason, retry_detail, retry_team_id, retry_version"
)


class StoredLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter with its number and what happened to it since."""

    letter_id: int
    letter: DeadLetter
    recorded_at: datetime
    published_at: datetime | None
    status: Literal["open", "retried", "erased"]
    retried_at: datetime | None
    retry_outcome: str | None
    retry_reason: str | None
    retry_detail: str | None
    retry_team_id: str | None
    retry_version: int | None


class LetterFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which letters are meant; what is None does not narrow."""

    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    outcome: str | None = None
    reason: str | None = None
    status: str | None = "open"
    since: datetime | None = None
    letter_ids: Sequence[int] | None = None


class RetryReport(msgspec.Struct, frozen=True, kw_only=True):
    """One letter's retry: what it came to, or that it was settled before."""

    letter_id: int
    outcome: str
    reason: str
    detail: str
    already_settled: bool = False


class LetterTransaction(BatchTransaction, Protocol):
    """A transaction of the database in which the letter lies."""

    @property
    def connection(self) -> psycopg.Connection[TupleRow]:
        """For the letter itself, which stands or falls with what its retry writes."""
        ...


class LetterStore(Protocol):
    """Where retries are written."""

    def transaction_for(self, partition: PartitionKey) -> AbstractContextManager[LetterTransaction]:
        """One transaction where the partition's rows live."""
        ...


class DeadLetters:
    """The dead letters of one installation."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards
        self.erasures = Erasures(shards)

    def find(self, wanted: LetterFilter, limit: int = 100, after: int = 0) -> list[StoredLetter]:
        """The letters meant, by their number, from the one after number ``after``: oldest first within a database."""
        conditions, values = _conditions(wanted)
        return self._letters(f"dead_letter_id > %s {conditions}", [after, *values], limit)

    def count(self, wanted: LetterFilter) -> dict[tuple[str, str], int]:
        """How many letters are meant, by outcome and reason."""
        conditions, values = _conditions(wanted)
        counts: Counter[tuple[str, str]] = Counter()
        for name in self._shards.databases:
            with self._shards.connection_to(name) as connection:
                rows = connection.execute(
                    "SELECT outcome, reason, count(*) FROM dead_letter JOIN shard_log USING (shard)"
                    f" WHERE lives_here {conditions} GROUP BY 1, 2",
                    values,
                ).fetchall()
            for outcome, reason, letters in rows:
                counts[outcome, reason] += letters
        return dict(counts)

    def show(self, letter_id: int) -> StoredLetter | None:
        """The letter of that number."""
        found = self.find(LetterFilter(status=None, letter_ids=[letter_id]))
        return found[0] if found else None

    def unpublished(self, limit: int = 500) -> list[StoredLetter]:
        """Letters that are not known to be in the dead-letter topic, oldest first."""
        return self._letters("published_at IS NULL AND detail <> 'erased'", [], limit)

    def mark_published(self, letter_ids: Sequence[int]) -> None:
        """The broker has acknowledged these letters."""
        for name in self._shards.databases:
            with self._shards.connection_to(name) as connection:
                # One that its shard left behind is not marked, and one on its way is published again: at least once.
                connection.execute(
                    "UPDATE dead_letter AS d SET published_at = clock_timestamp() FROM shard_log AS l"
                    " WHERE d.dead_letter_id = ANY(%s) AND d.published_at IS NULL AND l.shard = d.shard AND l.lives_here",
                    [list(letter_ids)],
                )

    def retry(
        self,
        store: LetterStore,
        catalogue: Callable[[], Catalogue],
        wanted: LetterFilter,
        limit: int = 10_000,
    ) -> list[RetryReport]:
        """Each letter meant was tried again, in a transaction of its own, oldest first.

        Run twice, in any order or by two at once, it ends the same: a settled letter is left alone, and the claim of
        its record stands for ever.
        """
        letters = self.find(wanted, limit)
        return [self._retry_one(store, catalogue(), each) for each in letters]

    def _retry_one(self, store: LetterStore, catalogue: Catalogue, letter: StoredLetter) -> RetryReport:
        letter_id = letter.letter_id
        for _ in range(DECISIONS_MAX):
            try:
                with store.transaction_for(letter.letter.partition) as transaction:
                    locked = _lock(transaction.connection, letter_id)
                    if locked.status != "open":
                        return _settled_before(locked)
                    retried = retry_letter(locked.letter, transaction, catalogue)
                    transaction.write(retried.batch)
                    _record(transaction.connection, letter_id, retried)
            except (MovedHeads, OutcomeUnknown):
                # Unknown: reading the letter again tells whether the retry was written.
                continue
            return RetryReport(
                letter_id=letter_id, outcome=retried.outcome, reason=retried.reason, detail=retried.detail
            )
        raise Busy(f"the account of dead letter {letter_id} moved {DECISIONS_MAX} times while it was retried")

    def _letters(self, condition: str, values: Sequence[object], limit: int) -> list[StoredLetter]:
        """Letters of all databases by their number, none of them left behind by its shard."""
        rows: list[TupleRow] = []
        for name in self._shards.databases:
            with self._shards.connection_to(name) as connection:
                rows += connection.execute(
                    f"SELECT {_LETTER} FROM dead_letter JOIN shard_log USING (shard) WHERE lives_here AND {condition}"
                    " ORDER BY dead_letter_id LIMIT %s",
                    [*values, limit],
                ).fetchall()
        return [_stored(row) for row in sorted(rows, key=itemgetter(0))[:limit]]


def _settled_before(letter: StoredLetter) -> RetryReport:
    return RetryReport(
        letter_id=letter.letter_id,
        outcome=letter.retry_outcome or "",
        reason=letter.retry_reason or "",
        detail=letter.retry_detail or "",
        already_settled=True,
    )


def _lock(connection: psycopg.Connection[TupleRow], letter_id: int) -> StoredLetter:
    row = connection.execute(
        f"SELECT {_LETTER} FROM dead_letter WHERE dead_letter_id = %s FOR UPDATE", [letter_id]
    ).fetchone()
    assert row is not None, "letters are deleted only after their thirty days"
    return _stored(row)


def _record(connection: psycopg.Connection[TupleRow], letter_id: int, retried: Retried) -> None:
    connection.execute(
        "UPDATE dead_letter SET status = %s, retried_at = now(), retry_outcome = %s, retry_reason = %s,"
        " retry_detail = %s, retry_team_id = %s, retry_version = %s WHERE dead_letter_id = %s",
        [
            "retried" if retried.settled else "open",
            retried.outcome,
            retried.reason,
            retried.detail,
            retried.team_id,
            retried.version,
            letter_id,
        ],
    )


def _conditions(wanted: LetterFilter) -> tuple[str, list[object]]:
    columns: list[tuple[str, object]] = [
        ("topic = %s", wanted.topic),
        ("part = %s", wanted.partition),
        ("kafka_offset = %s", wanted.offset),
        ("outcome = %s", wanted.outcome),
        ("reason = %s", wanted.reason),
        ("status = %s", wanted.status),
        ("recorded_at >= %s", wanted.since),
        ("dead_letter_id = ANY(%s)", None if wanted.letter_ids is None else list(wanted.letter_ids)),
    ]
    given = [(condition, value) for condition, value in columns if value is not None]
    return "".join(f" AND {condition}" for condition, _ in given), [value for _, value in given]


def _stored(row: TupleRow) -> StoredLetter:
    headers = [_header(*stored) for stored in row[12]]
    letter = DeadLetter(
        partition=PartitionKey(*row[1:5]),
        offset=row[5],
        arrived_at=row[6].astimezone(UTC),
        outcome=row[7],
        reason=row[8],
        detail=row[9],
        key=row[10],
        value=row[11],
        headers=headers,
    )
    return StoredLetter(
        letter_id=row[0],
        letter=letter,
        recorded_at=row[13],
        published_at=row[14],
        status=row[15],
        retried_at=row[16],
        retry_outcome=row[17],
        retry_reason=row[18],
        retry_detail=row[19],
        retry_team_id=row[20],
        retry_version=row[21],
    )


def _header(shown: str, value: str | None, name: str | None = None) -> tuple[str, bytes | None]:
    """A header as it was read; its own name follows in hex where it held NUL."""
    own = shown if name is None else bytes.fromhex(name).decode()
    return own, None if value is None else bytes.fromhex(value)
