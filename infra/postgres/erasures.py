"""What an erasure leaves to do outside its own transaction: dead letters of any database, copies that shards left behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

import psycopg
from psycopg.rows import TupleRow

from infra.postgres.shards import ShardMap

_LOCK = 0x45726173
"""Of the first database: shared by whoever publishes dead letters, held alone by whoever empties their topic."""

ERASED = "erased"
"""The detail of a dead letter of which nothing is left but where it was read, its reason, and what its retry came to."""

# A letter that cannot be read names its team and its member all the same, as bytes.
_ERASE_LETTERS = (
    "UPDATE dead_letter SET status = CASE status WHEN 'open' THEN 'erased' ELSE status END,"
    " record_key = NULL, record_value = NULL, record_headers = '[]', detail = 'erased', retry_detail = NULL"
    " WHERE detail <> 'erased' AND (position(convert_to(%(member)s, 'UTF8') IN coalesce(record_value, '')) > 0"
    " OR position(encode(convert_to(%(member)s, 'UTF8'), 'hex') IN record_headers::text) > 0)"
    " AND (record_key = convert_to(%(team)s, 'UTF8')"
    " OR position(convert_to(%(team)s, 'UTF8') IN coalesce(record_value, '')) > 0"
    " OR position(encode(convert_to(%(team)s, 'UTF8'), 'hex') IN record_headers::text) > 0)"
    " RETURNING shard, cluster_id, topic_id, part, kafka_offset"
)
_LEFT_BEHIND = (
    "DELETE FROM {} AS c USING shard_log AS l WHERE c.shard = %(shard)s AND c.team_id = %(team)s AND c.member = %(member)s"
    " AND l.shard = c.shard AND NOT l.lives_here"
)
# Nor is a digest left behind by which a text could be guessed: where the shard lives, the erasure changed those itself.
_DIGESTS_LEFT_BEHIND = (
    "DELETE FROM idempotency AS i USING shard_log AS l WHERE i.shard = %(shard)s AND i.team_id = %(team)s"
    " AND position('\"work_version\"'::bytea IN i.answer) > 0 AND l.shard = i.shard AND NOT l.lives_here"
)


class Erasure(NamedTuple):
    """An erasure that is not through: whose contexts, by which version of the account, and whether the letters are gone."""

    shard: int
    team_id: str
    member: str
    version: int
    letters_gone: bool


class Erasures:
    """Finishes erasures; whatever is done twice changes nothing, so it may be killed anywhere and asked again."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards

    def unfinished(self) -> list[Erasure]:
        """Erasures whose text may still be somewhere, of all shards."""
        found: list[Erasure] = []
        for name in self._shards.databases:
            with self._shards.connection_to(name) as connection:
                rows = connection.execute(
                    "SELECT e.shard, team_id, member, version, letters_gone_at IS NOT NULL FROM context_erasure e"
                    " JOIN shard_log USING (shard) WHERE lives_here AND topic_emptied_at IS NULL ORDER BY team_id, version"
                ).fetchall()
            found += [Erasure._make(row) for row in rows]
        return found

    def topics(self) -> list[str]:
        """The topics whose records are among the dead letters, by name."""
        found: set[str] = set()
        for name in self._shards.databases:
            with self._shards.connection_to(name) as connection:
                found.update(
                    topic for (topic,) in connection.execute("SELECT DISTINCT topic FROM dead_letter")
                )
        return sorted(found)

    def erase_letters(self, erasures: Sequence[Erasure]) -> int:
        """No dead letter and no copy that was left behind names the members any more; returns how many letters were erased."""
        return sum(self._erase_letters(each) for each in erasures if not each.letters_gone)

    def _erase_letters(self, erasure: Erasure) -> int:
        values = {"shard": erasure.shard, "team": erasure.team_id, "member": erasure.member}
        erased = 0
        with ExitStack() as opened:
            # All of them before anything is erased: what a move copied before would come in after.
            still = [opened.enter_context(self._standing_still(name)) for name in self._shards.databases]
            for connection in still:
                letters = connection.execute(_ERASE_LETTERS, values).fetchall()
                # What was said of the record may repeat a part of it.
                connection.cursor().executemany(
                    "UPDATE usage_outcome SET detail = 'erased' WHERE shard = %s AND cluster_id = %s AND topic_id = %s"
                    " AND part = %s AND kafka_offset = %s",
                    letters,
                )
                erased += len(letters)
                self._erase_left_behind(connection, erasure)
        self._note("letters_gone_at", erasure)
        return erased

    @contextmanager
    def _standing_still(self, name: str) -> Iterator[psycopg.Connection[TupleRow]]:
        """A transaction until whose end no shard leaves that database; whoever only writes goes on."""
        with self._shards.connection_to(name) as connection, connection.transaction():
            connection.execute("SELECT FROM shard_log ORDER BY shard FOR KEY SHARE")
            yield connection

    def _erase_left_behind(self, connection: psycopg.Connection[TupleRow], erasure: Erasure) -> None:
        """Copies of what was erased that lie where the shard does not live: it left them, or was on its way."""
        values = {"shard": erasure.shard, "team": erasure.team_id, "member": erasure.member}
        # A portion that is being copied is there for good first: it may have been read before the erasure.
        connection.execute("SELECT FROM shard_arrival WHERE shard = %(shard)s FOR UPDATE", values)
        for table in ("usage_context", "work_context"):
            connection.execute(_LEFT_BEHIND.format(table).encode(), values)
        connection.execute(_DIGESTS_LEFT_BEHIND, values)

    def topics_emptied(self, erasures: Sequence[Erasure]) -> None:
        """The topics of dead letters were emptied after the letters were gone: nothing is left to do."""
        for each in erasures:
            self._note("topic_emptied_at", each)

    def publish_again(self) -> None:
        """Every dead letter that has not been erased is published once more: its topic is empty."""
        for name in self._shards.databases:
            with self._shards.connection_to(name) as connection:
                connection.execute(
                    "UPDATE dead_letter SET published_at = NULL WHERE published_at IS NOT NULL AND detail <> 'erased'"
                )

    @contextmanager
    def publishing(self, *, alone: bool = False) -> Iterator[None]:
        """Nobody empties the topics of dead letters meanwhile; ``alone``: nor does anybody publish into them."""
        with self._shards.first_connection() as connection:
            _lock(connection, "pg_advisory_lock" if alone else "pg_advisory_lock_shared")
            try:
                yield
            finally:
                _lock(connection, "pg_advisory_unlock" if alone else "pg_advisory_unlock_shared")

    def _note(self, column: str, erasure: Erasure) -> None:
        with self._shards.connection_for(erasure.shard) as connection:
            connection.execute(
                f"UPDATE context_erasure SET {column} = clock_timestamp()"  # noqa: S608 - one of two columns
                f" WHERE shard = %s AND team_id = %s AND version = %s AND {column} IS NULL",
                (erasure.shard, erasure.team_id, erasure.version),
            )


def _lock(connection: psycopg.Connection[TupleRow], function: str) -> None:
    connection.execute(f"SELECT {function}(%s)".encode(), (_LOCK,))
