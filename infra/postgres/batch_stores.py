"""Batches of a ledger in several databases: one transaction where the partition's rows live, others beside it where a team lives
elsewhere.

Producers that partition as we do never need a second one: partition and team have one home. A record of a team that lives in
another database is written there first, under its permanent claim, and its offset passes here after that. Whoever dies in between
leaves an event with the very offset that is read again: it is counted as what it became, and not as a duplicate of itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeAlias, TypeVar
from uuid import UUID

import msgspec
import psycopg
from psycopg.rows import TupleRow
from psycopg.types.json import Jsonb

from consumers.batches import (
    AccountAppend,
    Claim,
    OutcomeRow,
    PartitionAdvance,
    PartitionKey,
    UsageBatch,
)
from domain.account.claims import claim_of
from domain.account.index import AccountIndex
from domain.account.state import TeamAccount
from domain.errors import UnknownEventShape
from domain.usage import Origin
from infra.failpoints import hit
from infra.postgres.batch_writer import ACCOUNTS_KEPT_MAX, PostgresBatchStore, PostgresBatchTransaction
from infra.postgres.ledger_store import Clock
from infra.postgres.shards import ShardMap

T = TypeVar("T")
AnyTransaction: TypeAlias = "PostgresBatchTransaction | SpanningTransaction"


class BatchStores:
    """A batch store for each database of the ledger. Not for use by several threads at once."""

    def __init__(
        self, shards: ShardMap, *, accounts_kept_max: int = ACCOUNTS_KEPT_MAX, clock: Clock | None = None
    ) -> None:
        self._shards = shards
        self._stores = {
            name: PostgresBatchStore(shards, accounts_kept_max=accounts_kept_max, clock=clock, database=name)
            for name in shards.databases
        }

    @contextmanager
    def transaction_for(self, partition: PartitionKey) -> Iterator[AnyTransaction]:
        """A transaction where the partition's rows live, committed after those of other databases that it had to begin.

        Raises: MovedHeads, Fenced, Busy, OutcomeUnknown, as each of them.
        """
        home = self.home_of(partition)
        with self._stores[home].transaction() as own:
            if len(self._stores) == 1:
                yield own
                return
            # Those beside end first, well or not: an offset passes only what is written.
            with ExitStack() as beside:
                yield SpanningTransaction(self._shards, self._stores, home, own, beside)
            hit("stream.between_databases")

    @contextmanager
    def overlapped_for(self, partition: PartitionKey) -> Iterator[AnyTransaction]:
        """As ``transaction_for``, left before its COMMIT is answered; where there are several databases it is waited for."""
        if len(self._stores) == 1:
            with self._stores[self.home_of(partition)].overlapped() as own:
                yield own
        else:
            with self.transaction_for(partition) as transaction:
                yield transaction

    def confirm(self) -> None:
        """No batch waits for the answer to its COMMIT any more. Raises: EarlierBatchLost; Busy, OutcomeUnknown."""
        for store in self._stores.values():
            store.confirm()

    def held_seconds_at(self, partition: PartitionKey) -> float | None:
        """How long the last batch of the partition's database kept others waiting; None when nobody measured it."""
        return self._at(partition).held_seconds

    def home_of(self, partition: PartitionKey) -> str:
        """The database in which the partition's rows live. Raises: ShardMoved while they live in none."""
        return self._shards.home_of(partition.partition % self._shards.count)

    def next_offset(self, partition: PartitionKey) -> int | None:
        """The next offset to read; None for a partition never registered."""
        return self._at(partition).next_offset(partition)

    def register(self, partition: PartitionKey, start: int) -> None:
        """The partition is known and read from ``start``; one that is known already stays as it is."""
        self._at(partition).register(partition, start)

    def halt(self, partition: PartitionKey, why: str) -> None:
        """The partition is stopped until an operator releases it; ``why`` is the message."""
        self._at(partition).halt(partition, why)

    def release(self, partition: PartitionKey) -> None:
        """The partition may be read again."""
        self._at(partition).release(partition)

    def halted(self, partition: PartitionKey) -> str | None:
        """Why the partition is stopped, None when it is not."""
        return self._at(partition).halted(partition)

    def close(self) -> None:
        """No connection is open; what was not committed is not written."""
        for store in self._stores.values():
            store.close()

    def _at(self, partition: PartitionKey) -> PostgresBatchStore:
        return self._stores[self.home_of(partition)]


class SpanningTransaction:
    """A transaction where the partitions live; others, begun when first needed, where teams of other databases do."""

    def __init__(
        self,
        shards: ShardMap,
        stores: Mapping[str, PostgresBatchStore],
        home: str,
        own: PostgresBatchTransaction,
        beside: ExitStack,
    ) -> None:
        self._shards = shards
        self._stores = stores
        self._home = home
        self._own = own
        self._beside = beside
        self._open = {home: own}
        self._homes: dict[str, str] = {}
        self._claims: dict[str, Claim] = {}
        self._made_before: set[str] = set()
        self.now = own.now

    @property
    def connection(self) -> psycopg.Connection[TupleRow]:
        """That of the partitions' own database."""
        return self._own.connection

    @property
    def unreadable(self) -> Mapping[str, UnknownEventShape]:
        """Teams asked for whose stored shape is newer than this code."""
        return {team: error for each in self._open.values() for team, error in each.unreadable.items()}

    def accounts(self, team_ids: Collection[str]) -> dict[str, TeamAccount]:
        """The accounts of these teams, ours to change; a team without an account, or unreadable, is absent."""
        return {
            team_id: account
            for name, teams in self._by_home(team_ids, str)
            for team_id, account in self._at(name).accounts(teams).items()
        }

    def claims(self, keys: Collection[tuple[str, str]]) -> dict[str, Claim]:
        """The claims already in the log among these (team id, claim), by claim."""
        found: dict[str, Claim] = {}
        for name, pairs in self._by_home(keys, lambda pair: pair[0]):
            there = self._at(name).claims(pairs)
            found |= there
            if name != self._home:
                self._claims |= there
        return found

    def index(self, team_id: str) -> AccountIndex:
        """The team's index, read lazily beside its head."""
        return self._at(self._home_of(team_id)).index(team_id)

    def write(self, batch: UsageBatch) -> None:
        """Each database's part is written, in the order in which everybody takes them. Raises: MovedHeads, Fenced."""
        parts = {name: self._part(batch, name) for name in self._open if name != self._home}
        ours = self._counted_once(self._part(batch, self._home))
        for name in self._shards.databases:
            if name == self._home:
                self._own.write(ours)
            elif name in parts and parts[name].appends:
                self._open[name].write(parts[name])
        self._note_positions(ours, list(parts.values()))

    def _part(self, batch: UsageBatch, name: str) -> UsageBatch:
        """What of the batch belongs to the teams of that database; offsets and what lies beside them to the partitions' own."""
        appends = {team: append for team, append in batch.appends.items() if self._home_of(team) == name}
        contexts = [each for each in batch.contexts if self._home_of(each.team_id) == name]
        if name != self._home:
            return UsageBatch(recorded_at=batch.recorded_at, appends=appends, contexts=contexts)
        return msgspec.structs.replace(batch, appends=appends, contexts=contexts)

    def _counted_once(self, batch: UsageBatch) -> UsageBatch:
        """Records whose event was committed elsewhere before their offset could pass have become that event."""
        became = {
            (row.partition, row.offset): event
            for row in batch.outcomes
            if row.outcome == "duplicate" and (event := self._own_event(row)) is not None
        }
        if not became:
            return batch
        self._made_before = {
            row.usage_key for row in batch.outcomes if row.usage_key and (row.partition, row.offset) in became
        }
        return msgspec.structs.replace(
            batch,
            outcomes=[row for row in batch.outcomes if (row.partition, row.offset) not in became],
            advances=[_counted_as(advance, batch.outcomes, became) for advance in batch.advances],
        )

    def _own_event(self, row: OutcomeRow) -> object | None:
        """The event that holds the record's claim, if that very record made it."""
        claim = self._claims.get(row.usage_key or "")
        origin = Origin(row.partition.topic, row.partition.partition, row.offset)
        if claim is None or claim.event is None or getattr(claim.event, "origin", None) != origin:
            return None
        return claim.event

    def _note_positions(self, ours: UsageBatch, parts: Sequence[UsageBatch]) -> None:
        """The rows of this batch also name the positions of its events elsewhere, so that every offset can be asked for."""
        drawn: dict[str, list[int]] = {}
        claims = [*self._made_before, *_claims_of(each for part in parts for each in part.appends.values())]
        for name, transaction in self._open.items():
            if name != self._home and claims:
                drawn |= self._positions(transaction.connection, name, claims)
        if not drawn:
            return
        for advance in ours.advances:
            key = advance.partition
            self.connection.execute(
                "UPDATE consumed_batch SET positions = positions || %s"
                " WHERE shard = %s AND cluster_id = %s AND topic_id = %s AND part = %s AND first_offset = %s",
                (
                    Jsonb(drawn),
                    key.partition % self._shards.count,
                    key.cluster_id,
                    key.topic_id,
                    key.partition,
                    advance.expected_offset,
                ),
            )

    def _positions(
        self, connection: psycopg.Connection[TupleRow], name: str, claims: Sequence[str]
    ) -> dict[str, list[int]]:
        rows = connection.execute(
            "SELECT shard, min(position), max(position) FROM ledger_events"
            " WHERE shard = ANY(%s) AND usage_key = ANY(%s) GROUP BY shard",
            (self._shards.shards_at(name), [UUID(hex=claim) for claim in claims]),
        ).fetchall()
        return {str(shard): [first, last] for shard, first, last in rows}

    def _at(self, name: str) -> PostgresBatchTransaction:
        if name not in self._open:
            self._open[name] = self._beside.enter_context(self._stores[name].transaction())
        return self._open[name]

    def _home_of(self, team_id: str) -> str:
        """Where the team was found; a map that changes meanwhile must not part a team from what was decided on it."""
        if team_id not in self._homes:
            self._homes[team_id] = self._shards.home_of(self._shards.shard_of(team_id))
        return self._homes[team_id]

    def _by_home(self, items: Iterable[T], team_of: Callable[[T], str]) -> list[tuple[str, list[T]]]:
        grouped: dict[str, list[T]] = {}
        for item in items:
            grouped.setdefault(self._home_of(team_of(item)), []).append(item)
        return [(name, grouped[name]) for name in self._shards.databases if name in grouped]


def _counted_as(
    advance: PartitionAdvance,
    rows: Sequence[OutcomeRow],
    became: Mapping[tuple[PartitionKey, int], object],
) -> PartitionAdvance:
    """The advance with records counted as the events that they had become."""
    outcomes = {outcome: dict(reasons) for outcome, reasons in advance.outcomes.items()}
    for row in rows:
        event = became.get((row.partition, row.offset))
        if row.partition == advance.partition and event is not None:
            _add(outcomes, row.outcome, row.reason, -1)
            waiver = getattr(event, "waiver", "")
            _add(outcomes, "waived" if waiver else "charged", waiver, 1)
    return advance._replace(outcomes=outcomes)


def _add(outcomes: dict[str, dict[str, int]], outcome: str, reason: str, count: int) -> None:
    reasons = outcomes.setdefault(outcome, {})
    reasons[reason] = reasons.get(reason, 0) + count
    if not reasons[reason]:
        del reasons[reason]
    if not reasons:
        del outcomes[outcome]


def _claims_of(appends: Iterable[AccountAppend]) -> list[str]:
    """The claims of records among the events."""
    made = (claim_of(event) for append in appends for event in append.events)
    return [claim for claim in made if claim is not None]
