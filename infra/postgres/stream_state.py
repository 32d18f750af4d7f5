"""What the ledger knows about the stream beside its events: positions, holes, halts, and what became of an offset."""

# ruff: noqa: S608 (statements are put together from constants of this module only)

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec
import psycopg
from psycopg.rows import TupleRow

from consumers.batches import Hole, PartitionKey, RecordOutcome, UsageBatch
from domain.account.decision import account_id
from domain.usage import Origin
from infra.postgres.appending import stay_home
from infra.postgres.archived import refuse_archived, refuse_archived_position
from infra.postgres.shards import ShardMap

Outcomes = dict[str, dict[str, int]]
Connection = psycopg.Connection[TupleRow]

_PARTITION = "shard = %s AND cluster_id = %s AND topic_id = %s AND part = %s"


class StreamPosition(NamedTuple):
    """Where the ledger stands in one partition; ``halted`` says why it is not read on, if it is not."""

    partition: PartitionKey
    next_offset: int
    halted: str | None


class Fate(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one offset.

    ``kind``: an outcome of a record; "hole" (nothing was there, or not yet known: see ``reason``); "not_read".
    An event is named by team and version, a charge or waiver by its id as well. ``charge_id`` of what is no charge is the
    claim of the record.
    """

    kind: RecordOutcome | Literal["hole", "not_read"]
    reason: str = ""
    detail: str = ""
    team_id: str | None = None
    version: int | None = None
    charge_id: str | None = None
    occurred_at: datetime | None = None


class StreamState:
    """Questions and small notes about the stream; each is a short transaction of its own."""

    def __init__(self, shards: ShardMap) -> None:
        self._shards = shards

    def clock_offset_seconds(self) -> float:
        """How far this machine's clock is ahead of the database's, to within half a round trip; of several, the farthest."""
        return max(map(self._clock_offset_to, self._shards.databases), key=abs)

    def _clock_offset_to(self, name: str) -> float:
        with self._shards.connection_to(name) as connection:
            connection.execute("SELECT 1")
            before = time.time()
            there = _only(connection.execute("SELECT clock_timestamp()"))
            after = time.time()
        assert isinstance(there, datetime)
        return (before + after) / 2 - there.timestamp()

    def positions(self, topics: Sequence[str]) -> list[StreamPosition]:
        """Every partition of these topics that was ever registered, also those of topics since recreated."""
        rows = self._everywhere(
            "SELECT cluster_id, topic_id, topic, part, next_offset, halted FROM consumed"
            " JOIN shard_log USING (shard) WHERE lives_here AND topic = ANY(%s) ORDER BY topic, part",
            [list(topics)],
        )
        return [
            StreamPosition(PartitionKey(*row[:4]), row[4], row[5])
            for row in sorted(rows, key=lambda row: row[2:4])
        ]

    def halted(self, topic: str, part: int) -> list[StreamPosition]:
        """The halted partitions of that topic and number: more than one where the topic was made anew."""
        return [each for each in self.positions([topic]) if each.halted and each.partition.partition == part]

    def release(self, partition: PartitionKey) -> bool:
        """A halted partition is read again from where it stood, its crashes forgotten; False when it was not halted."""
        with self._writing(partition) as connection:
            released = connection.execute(
                f"UPDATE consumed SET halted = NULL WHERE {_PARTITION} AND halted IS NOT NULL",
                self._where(partition),
            )
            if released.rowcount:
                connection.execute(f"DELETE FROM crash_attempt WHERE {_PARTITION}", self._where(partition))
            return released.rowcount == 1

    def skip_to(self, partition: PartitionKey, offset: int, why: str) -> bool:
        """A halted partition goes on at ``offset``; what lies before is a hole that names the operator's reason.

        False when it was not halted, or stands there or beyond already.
        """
        with self._writing(partition) as connection:
            row = connection.execute(
                f"SELECT next_offset FROM consumed WHERE {_PARTITION} AND halted IS NOT NULL"
                " AND next_offset < %s FOR UPDATE",
                [*self._where(partition), offset],
            ).fetchone()
            if row is None:
                return False
            connection.execute(
                "INSERT INTO stream_hole (shard, cluster_id, topic_id, topic, part, first_offset, next_offset,"
                " status, recorded_at, settled_at)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s, %s, now(), now())",
                [self._home(partition), *partition, row[0], offset, f"skipped: {why}"],
            )
            connection.execute(
                f"UPDATE consumed SET next_offset = %s, halted = NULL WHERE {_PARTITION}",
                [offset, *self._where(partition)],
            )
            connection.execute(f"DELETE FROM crash_attempt WHERE {_PARTITION}", self._where(partition))
            return True

    # --- holes ---

    def open_holes(self, partitions: Iterable[PartitionKey], limit: int = 500) -> list[Hole]:
        """Holes of these partitions that no second reader has looked into, in order of their offsets."""
        wanted = set(partitions)
        if not wanted:
            return []
        rows = self._everywhere(
            "SELECT cluster_id, topic_id, topic, part, first_offset, next_offset FROM stream_hole"
            " JOIN shard_log USING (shard) WHERE lives_here AND status = 'open' AND topic = ANY(%s)"
            " ORDER BY cluster_id, topic_id, part, first_offset LIMIT %s",
            [sorted({key.topic for key in wanted}), limit],
        )
        holes = [Hole(PartitionKey(*row[:4]), row[4], row[5]) for row in sorted(rows)]
        return [hole for hole in holes if hole.partition in wanted]

    def confirm_hole(self, hole: Hole) -> None:
        """A second reader found nothing in it either."""
        self._change(
            f"UPDATE stream_hole SET status = 'confirmed', settled_at = now()"
            f" WHERE {_PARTITION} AND first_offset = %s AND status = 'open'",
            hole.partition,
            hole.first_offset,
        )

    def fill_hole(self, connection: Connection, hole: Hole, batch: UsageBatch, outcomes: Outcomes) -> bool:
        """The hole had records, which this transaction writes; False when another worker filled it first."""
        stay_home(connection.cursor(), [self._home(hole.partition)])
        changed = connection.execute(
            "UPDATE stream_hole SET status = 'filled', settled_at = now(), outcomes = %s, events = %s"
            f" WHERE {_PARTITION} AND first_offset = %s AND status = 'open'",
            [
                json.dumps(outcomes),
                json.dumps(events_by_offset(batch)),
                *self._where(hole.partition),
                hole.first_offset,
            ],
        )
        return changed.rowcount == 1

    # --- records that crash a worker ---

    def begin_attempt(self, partition: PartitionKey, offset: int) -> int:
        """A worker is about to try the record at ``offset``, or died on it; returns how often that happened."""
        with self._writing(partition) as connection:
            count = _only(
                connection.execute(
                    "INSERT INTO crash_attempt AS seen VALUES (%s, %s, %s, %s, %s, %s, 1, now())"
                    " ON CONFLICT (shard, cluster_id, topic_id, part, kafka_offset)"
                    " DO UPDATE SET attempted_at = now(), attempts = seen.attempts + 1 RETURNING attempts",
                    [self._home(partition), *partition, offset],
                )
            )
        assert isinstance(count, int)
        return count

    def attempts(self, partition: PartitionKey, offset: int) -> int:
        """How often a worker began to try the record at ``offset`` and did not go beyond it."""
        with self._shards.connection_for(self._home(partition)) as connection:
            row = connection.execute(
                f"SELECT attempts FROM crash_attempt WHERE {_PARTITION} AND kafka_offset = %s",
                [*self._where(partition), offset],
            ).fetchone()
        return 0 if row is None else int(row[0])

    def end_attempts(self, partition: PartitionKey, next_offset: int) -> None:
        """The partition went on to ``next_offset``: nobody died on what lies before."""
        self._change(
            f"DELETE FROM crash_attempt WHERE {_PARTITION} AND kafka_offset < %s", partition, next_offset
        )

    # --- what became of what was read ---

    def totals(self, topics: Sequence[str]) -> Outcomes:
        """Records by outcome and reason over all that was read of the topics, retries and filled holes included."""
        totals: Outcomes = {}
        for table in ("consumed_batch", "stream_hole"):
            counted = self._everywhere(
                "SELECT kind.key, reason.key, sum(reason.value::bigint)::bigint"
                f" FROM {table} JOIN shard_log USING (shard), jsonb_each(outcomes) AS kind,"
                " jsonb_each_text(kind.value) AS reason"
                " WHERE lives_here AND topic = ANY(%s) AND outcomes IS NOT NULL GROUP BY 1, 2",
                [list(topics)],
            )
            for outcome, reason, count in counted:
                _add(totals, outcome, reason, count)
        retried = self._everywhere(
            "SELECT outcome, reason, retry_outcome, retry_reason, count(*) FROM dead_letter"
            " JOIN shard_log USING (shard) WHERE lives_here AND topic = ANY(%s) AND status = 'retried'"
            " GROUP BY 1, 2, 3, 4",
            [list(topics)],
        )
        for outcome, reason, retry_outcome, retry_reason, count in retried:
            _add(totals, outcome, reason, -count)
            _add(totals, retry_outcome, retry_reason or "", count)
        return {outcome: reasons for outcome, reasons in sorted(totals.items()) if reasons}

    def outcome_of(self, partition: PartitionKey, offset: int) -> Fate:
        """What became of the record at this offset; after a successful retry, what became of it then."""
        with self._shards.connection_for(self._home(partition)) as connection:
            return (
                self._in_hole(connection, partition, offset)
                or self._row(connection, partition, offset)
                or self._event(connection, partition, offset)
                or Fate(kind="not_read")
            )

    def _in_hole(self, connection: Connection, partition: PartitionKey, offset: int) -> Fate | None:
        row = connection.execute(
            f"SELECT status, events FROM stream_hole WHERE {_PARTITION} AND first_offset <= %s AND next_offset > %s",
            [*self._where(partition), offset, offset],
        ).fetchone()
        if row is None:
            return None
        status, events = row
        placed = (events or {}).get(str(offset))
        if placed is not None:
            return self._fate_at(placed[0], placed[1])
        return None if status == "filled" and self._row(connection, partition, offset) else Fate(
            kind="hole", reason=status
        )  # fmt: skip

    def _row(self, connection: Connection, partition: PartitionKey, offset: int) -> Fate | None:
        row = connection.execute(
            "SELECT o.outcome, o.reason, o.detail, o.team_id, o.first_version, o.usage_key,"
            " d.retry_outcome, d.retry_reason, d.retry_detail, d.retry_team_id, d.retry_version"
            " FROM usage_outcome o LEFT JOIN dead_letter d USING (shard, cluster_id, topic_id, part, kafka_offset)"
            " WHERE o.shard = %s AND o.cluster_id = %s AND o.topic_id = %s AND o.part = %s AND o.kafka_offset = %s",
            [*self._where(partition), offset],
        ).fetchone()
        if row is None:
            return None
        if row[6] in {"charged", "waived"}:
            return self._fate_at(row[9], row[10])
        outcome, reason, detail = (row[6], row[7] or "", row[8] or "") if row[6] else row[:3]
        key = row[5].hex if row[5] else None
        return Fate(
            kind=outcome,
            reason=reason,
            detail=detail,
            team_id=row[3],
            version=row[4] or row[10],
            charge_id=key,
        )

    def _event(self, connection: Connection, partition: PartitionKey, offset: int) -> Fate | None:
        """Found through the positions that the batch of this offset wrote, by the coordinates in its events."""
        row = connection.execute(
            f"SELECT positions FROM consumed_batch WHERE {_PARTITION} AND first_offset <= %s AND next_offset > %s",
            [*self._where(partition), offset, offset],
        ).fetchone()
        if row is None:
            return None
        wanted = Origin(partition.topic, partition.partition, offset)
        for shard, (first, last) in row[0].items():
            fate = self._event_in(int(shard), first, last, wanted)
            if fate is not None:
                return fate
        return Fate(kind="hole", reason="open", detail="the batch that read beyond it has no event of it")

    def _event_in(self, shard: int, first: int, last: int, wanted: Origin) -> Fate | None:
        with self._shards.connection_for(shard) as connection:
            rows = connection.execute(
                "SELECT e.state, e.originator_version, h.team_id FROM ledger_events e"
                " JOIN account_head h ON h.shard = e.shard AND h.account_id = e.originator_id"
                " WHERE e.shard = %s AND e.position BETWEEN %s AND %s AND e.usage_key IS NOT NULL",
                [shard, first, last],
            ).fetchall()
        for state, version, team_id in rows:
            use = _decode_use(state)
            if use.origin == wanted:
                return _fate_of(use, team_id, version)
        with self._shards.connection_for(shard) as connection:
            refuse_archived_position(connection.cursor(), shard, first, last)
        return None

    def _fate_at(self, team_id: str, version: int) -> Fate:
        shard = self._shards.shard_of(team_id)
        with self._shards.connection_for(shard) as connection:
            refuse_archived(connection, shard, account_id(team_id), version - 1, version)
            state = _only(
                connection.execute(
                    "SELECT state FROM ledger_events"
                    " WHERE shard = %s AND originator_id = %s AND originator_version = %s",
                    [shard, account_id(team_id), version],
                )
            )
        assert isinstance(state, bytes)
        return _fate_of(_decode_use(state), team_id, version)

    def _everywhere(self, query: str, values: Sequence[object]) -> list[TupleRow]:
        """The rows of all databases, one after the other; the query leaves out what a shard left behind."""
        rows: list[TupleRow] = []
        for name in self._shards.databases:
            with self._shards.connection_to(name) as connection:
                rows += connection.execute(query.encode(), values).fetchall()
        return rows

    @contextmanager
    def _writing(self, partition: PartitionKey) -> Iterator[Connection]:
        """A transaction where the partition's rows live; its shard stays there until the end. Raises: ShardMoved."""
        home = self._home(partition)
        with self._shards.connection_for(home) as connection, connection.transaction():
            stay_home(connection.cursor(), [home])
            yield connection

    def _change(self, statement: str, partition: PartitionKey, *more: object) -> bool:
        with self._writing(partition) as connection:
            return connection.execute(statement, [*self._where(partition), *more]).rowcount == 1

    def _home(self, partition: PartitionKey) -> int:
        return partition.partition % self._shards.count

    def _where(self, partition: PartitionKey) -> list[object]:
        return [self._home(partition), partition.cluster_id, partition.topic_id, partition.partition]


class _Use(msgspec.Struct, frozen=True):
    """What a charge and a waiver have in common, as far as it is asked here."""

    charge_id: str = ""
    waiver: str = ""
    occurred_at: datetime | None = None
    origin: Origin | None = None


_decode_use = msgspec.json.Decoder(_Use).decode


def _fate_of(use: _Use, team_id: str, version: int) -> Fate:
    return Fate(
        kind="waived" if use.waiver else "charged",
        reason=use.waiver,
        team_id=team_id,
        version=version,
        charge_id=use.charge_id,
        occurred_at=use.occurred_at,
    )


def events_by_offset(batch: UsageBatch) -> dict[str, tuple[str, int]]:
    """Team and version of each charge or waiver of the batch, by the offset of its record."""
    placed: dict[str, tuple[str, int]] = {}
    for team_id, append in batch.appends.items():
        for version, event in enumerate(append.events, append.expected_version + 1):
            origin = getattr(event, "origin", None)
            if origin is not None:
                placed[str(origin.offset)] = (team_id, version)
    return placed


def database_now(connection: Connection) -> datetime:
    """The instant of this transaction by the database's clock."""
    now = _only(connection.execute("SELECT now()"))
    assert isinstance(now, datetime)
    return now.astimezone(UTC)


def _only(cursor: psycopg.Cursor[TupleRow]) -> object:
    row = cursor.fetchone()
    assert row is not None
    return row[0]


def _add(totals: Outcomes, outcome: str, reason: str, count: int) -> None:
    reasons = totals.setdefault(outcome, {})
    reasons[reason] = reasons.get(reason, 0) + count
    if not reasons[reason]:
        del reasons[reason]
