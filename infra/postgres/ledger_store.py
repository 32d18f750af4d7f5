"""Sessions for commands: one transaction on one account, its head locked first, every wait bounded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TypeAlias

from psycopg import Cursor, errors
from psycopg.rows import TupleRow, tuple_row

from domain.account.decision import Decision, account_id
from domain.account.events import AccountEvent
from domain.account.index import AccountIndex
from domain.account.state import TeamAccount
from domain.chain import GENESIS
from domain.errors import Busy
from domain.ledger import OutcomeUnknown
from domain.team.decision import TeamDecision
from domain.team.state import Team
from domain.work.costs import WorkMove
from domain.work.decision import WorkDecision
from domain.work.state import Work
from domain.work.texts import SALT_BYTES
from infra.failpoints import hit
from infra.postgres.appending import AccountWrite, HeadMoved, Rows, append, new_events, stay_home
from infra.postgres.archived import refuse_archived
from infra.postgres.connections import NOT_REACHED
from infra.postgres.documents import file_documents
from infra.postgres.frozen import end_frozen_workers
from infra.postgres.heads import Head, StoredIndex, load_heads
from infra.postgres.issuer_heads import PostgresNumbers
from infra.postgres.mapper import ACCOUNT_SHAPES
from infra.postgres.shards import ShardMap
from infra.postgres.team_heads import TeamHead, load_team_head, write_team_head
from infra.postgres.work_costs import work_moves
from infra.postgres.work_heads import WorkHead, load_work_head, write_work_head

Clock: TypeAlias = "Callable[[Cursor[TupleRow]], datetime]"
"""Tells the instant at which something is decided, on the connection that will write it."""


class PostgresLedgerStore:
    """Opens sessions on the database that holds the team's shard; told no other clock, the database's decides."""

    def __init__(self, shards: ShardMap, *, clock: Clock | None = None) -> None:
        self._shards = shards
        self._clock = clock or database_clock

    @contextmanager
    def session(self, team_id: str, *, wait: bool = True) -> Iterator[PostgresAccountSession]:
        """A transaction on the team's account, committed when the block ends well.

        Without ``wait`` an account that another transaction is changing is Busy at once.
        Raises: Busy when nothing was written and a retry is safe; OutcomeUnknown when COMMIT was sent and not answered.
        """
        shard = self._shards.shard_of(team_id)
        session: PostgresAccountSession | None = None
        committing = False
        try:
            with self._shards.connection_for(shard) as connection, connection.transaction():
                session = PostgresAccountSession(
                    connection.cursor(row_factory=tuple_row),
                    shard,
                    team_id,
                    self._clock,
                    wait=wait,
                    shards=self._shards,
                )
                yield session
                committing = session.saved
                if committing:
                    hit("command.before_commit")
            if committing:
                hit("command.after_commit")
        except HeadMoved as error:
            raise Busy(str(error)) from error
        except errors.UniqueViolation as error:
            # Two openings of one account, or two uses of one key on it, met in spite of the locks: the retry will see.
            raise Busy(
                f"another writer was first on team {team_id!r}: {error.diag.constraint_name}"
            ) from error
        except NOT_REACHED as error:
            if committing and not isinstance(error, errors.QueryCanceled):
                raise OutcomeUnknown(f"the answer to COMMIT for team {team_id!r} was lost") from error
            if wait and isinstance(error, errors.LockNotAvailable):
                end_frozen_workers(self._shards, [self._shards.home_of(shard)])
            raise Busy(f"the account of team {team_id!r} could not be reached in time: {error}") from error


class PostgresAccountSession:
    """One transaction on one account; its head row stays locked until the end."""

    def __init__(
        self,
        cursor: Cursor[TupleRow],
        shard: int,
        team_id: str,
        clock: Clock | None = None,
        *,
        wait: bool = True,
        shards: ShardMap | None = None,
    ) -> None:
        self._cursor = cursor
        self._shard = shard
        self._shards = shards
        self._team_id = team_id
        self._head = self._locked_head(wait)
        self._team_head: TeamHead | None = None
        self._work_heads: dict[str, WorkHead] = {}
        self._numbers: PostgresNumbers | None = None
        self.saved = False
        self.account: TeamAccount | None = self._head.account if self._head else None
        self.index: AccountIndex = StoredIndex(cursor, shard, team_id)
        # Read once the lock is ours, so that waiting for it does not make this decision older than the one before.
        self.now = (clock or database_clock)(cursor)

    def _locked_head(self, wait: bool) -> Head | None:
        head = load_heads(self._cursor, self._shard, [self._team_id], lock=True, wait=wait).get(self._team_id)
        if head is None:
            # No row to lock yet: whoever opens the account holds this lock instead, and the next one sees the row.
            self._cursor.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))", (self._team_id, self._shard)
            )
            head = load_heads(self._cursor, self._shard, [self._team_id], lock=True).get(self._team_id)
        return head

    @property
    def numbers(self) -> PostgresNumbers:
        """Draws numbers for documents of this account; they are durable when the session ends, with the rest."""
        if self._numbers is None:
            assert self._shards is not None, "a session that draws numbers knows where issuers live"
            self._numbers = PostgresNumbers(self._cursor, self._shards, self._shards.home_of(self._shard))
        return self._numbers

    def event_at(self, version: int) -> AccountEvent:
        """The event that made this version of the account. Raises: EventsArchived; UnknownEventShape."""
        originator = account_id(self._team_id)
        self._cursor.execute(
            "SELECT topic, state FROM ledger_events"
            " WHERE shard = %s AND originator_id = %s AND originator_version = %s",
            (self._shard, originator, version),
            binary=True,
        )
        row = self._cursor.fetchone()
        if row is None:
            refuse_archived(self._cursor.connection, self._shard, originator, version - 1, version)
        assert row is not None, f"version {version} of team {self._team_id!r} is missing"
        return ACCOUNT_SHAPES.decode(*row)

    def load_team(self) -> Team:
        """The team's people and paperwork, under the lock of its account; empty at version 0 before the first event."""
        return self._found_team().team

    def load_work(self, work_id: str) -> Work:
        """The team's work, under the lock of its account; a new one at version 0 before its first event."""
        return self._found_work(work_id).work

    def _found_work(self, work_id: str) -> WorkHead:
        if work_id not in self._work_heads:
            self._work_heads[work_id] = load_work_head(self._cursor, self._shard, self._team_id, work_id)
        return self._work_heads[work_id]

    def salt(self) -> bytes:
        """Random bytes of the system's."""
        return os.urandom(SALT_BYTES)

    def erase_contexts(self, member: str, version: int) -> tuple[int, int]:
        """What the member wrote is gone when the session ends, and on file is what else has to go; how many of each kind."""
        values = (self._shard, self._team_id, member)
        where = "WHERE shard = %s AND team_id = %s AND member = %s"
        contexts = self._cursor.execute(f"DELETE FROM usage_context {where}", values).rowcount  # noqa: S608 - from constants
        texts = self._cursor.execute(
            f"DELETE FROM work_context {where} RETURNING work_id, version",  # noqa: S608 - from constants
            values,
        ).fetchall()
        # Nor may anybody guess at a text by the digest of the request that brought it: that request is not repeated any more.
        self._cursor.execute(
            "UPDATE idempotency SET body_digest = sha256(uuid_send(gen_random_uuid())) WHERE shard = %s AND team_id = %s"
            " AND position('\"work_version\"'::bytea IN answer) > 0"
            " AND (convert_from(answer, 'UTF8')::jsonb ->> 'work_id',"
            " (convert_from(answer, 'UTF8')::jsonb ->> 'work_version')::bigint)"
            " IN (SELECT * FROM unnest(%s::text[], %s::bigint[]))",
            (
                self._shard,
                self._team_id,
                [work_id for work_id, _ in texts],
                [version for _, version in texts],
            ),
        )
        self._cursor.execute(
            "INSERT INTO context_erasure (shard, team_id, member, version, erased_at) VALUES (%s, %s, %s, %s, clock_timestamp())",
            (*values, version),
        )
        return contexts, len(texts)

    def work_moves(self, work_id: str) -> list[WorkMove]:
        """What was charged for the work up to the account's head. Raises: Busy."""
        assert self._head is not None, "works are those of an account"
        return work_moves(self._cursor, self._shard, self._team_id, work_id, self._head.account.version)

    def _found_team(self) -> TeamHead:
        if self._team_head is None:
            self._team_head = load_team_head(self._cursor, self._shard, self._team_id)
        return self._team_head

    def answer_on_file(self, principal: str, key: str) -> tuple[bytes, bytes] | None:
        """Body digest and answer of the command that used the key, None for a new key."""
        self._cursor.execute(
            "SELECT body_digest, answer FROM idempotency"
            " WHERE shard = %s AND team_id = %s AND principal = %s AND key = %s",
            (self._shard, self._team_id, principal, key),
            binary=True,
        )
        row = self._cursor.fetchone()
        return None if row is None else (row[0], row[1])

    def save(
        self,
        account: TeamAccount,
        decision: Decision,
        expected_version: int,
        *,
        principal: str,
        key: str,
        body_digest: bytes,
        answer: bytes,
        team: TeamDecision | None = None,
        work: WorkDecision | None = None,
    ) -> None:
        """Events, heads, index and answer will be durable together when the session ends, with those of team and work."""
        write = self._write_of(account, decision, expected_version)
        self._keep_answer(account, principal, key, body_digest, answer, decision.at)
        hit("command.after_answer")
        self._count_repeated_denial(decision)
        self._append(write, decision, team, work)

    def save_due(self, account: TeamAccount, decision: Decision, expected_version: int) -> None:
        """What was due will be durable when the session ends: events, head and index, and no answer, since nobody asked."""
        self._append(self._write_of(account, decision, expected_version), decision)

    def _write_of(self, account: TeamAccount, decision: Decision, expected_version: int) -> AccountWrite:
        assert not self.saved, "a session saves once"
        found = self._head.account.version if self._head else 0
        if found != expected_version:
            raise HeadMoved(f"team {self._team_id!r} is at version {found}, decided on {expected_version}")
        return AccountWrite(
            team_id=self._team_id,
            account_id=self._head.account_id if self._head else account_id(self._team_id),
            expected_version=expected_version,
            previous_hash=self._head.chain_hash if self._head else GENESIS,
            account=account,
            events=new_events(decision.events),
            index_changes=decision.index_changes,
        )

    def _append(
        self,
        write: AccountWrite,
        decision: Decision,
        team: TeamDecision | None = None,
        work: WorkDecision | None = None,
    ) -> None:
        versions = enumerate(decision.events, write.expected_version + 1)
        file_documents(self._cursor, self._shard, [(self._team_id, *versioned) for versioned in versions])
        numbers = self._numbers.write() if self._numbers else None
        beside = self._beside(team, work)
        # Last, because from here on every other writer of the shard waits for our commit.
        if write.events or beside:
            append(self._cursor, self._shard, [write] if write.events else [], beside, numbers)
        else:
            stay_home(self._cursor, [self._shard])
        hit("command.after_events")
        self.saved = True

    def _beside(self, team: TeamDecision | None, work: WorkDecision | None) -> Rows | None:
        """The rows of other streams than the account's, whose heads are as decided."""
        rows: list[bytes] = []
        if team and (written := write_team_head(self._cursor, self._shard, self._found_team(), team)):
            rows += written.rows
        if work:
            found = self._found_work(work.work.work_id)
            if written := write_work_head(self._cursor, self._shard, found, work):
                rows += written.rows
        return Rows(rows) if rows else None

    def _count_repeated_denial(self, decision: Decision) -> None:
        if decision.repeated_denial is None:
            return
        self._cursor.execute(
            "INSERT INTO denial_repeat AS d (shard, team_id, version, repeats, last_at) VALUES (%s, %s, %s, 1, %s)"
            " ON CONFLICT (shard, team_id, version)"
            " DO UPDATE SET repeats = d.repeats + 1, last_at = greatest(d.last_at, EXCLUDED.last_at)",
            (self._shard, self._team_id, decision.repeated_denial, decision.at),
        )

    def _keep_answer(
        self, account: TeamAccount, principal: str, key: str, body_digest: bytes, answer: bytes, at: datetime
    ) -> None:
        self._cursor.execute(
            "INSERT INTO idempotency (shard, team_id, principal, key, body_digest, answer, version, recorded_at)"
            " VALUES (%s, %s, %s, %s, %b, %b, %s, %s)",
            (self._shard, self._team_id, principal, key, body_digest, answer, account.version, at),
        )


def database_clock(cursor: Cursor[TupleRow]) -> datetime:
    """The instant on the database's clock, aware, UTC."""
    cursor.execute("SELECT clock_timestamp()", binary=True)
    row = cursor.fetchone()
    assert row is not None
    now: datetime = row[0]
    return now
