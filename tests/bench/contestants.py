"""The three ways to make usage durable that are compared: our batch path, the library's default path, raw COPY."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from time import perf_counter, process_time
from typing import Any, Protocol
from uuid import UUID

import msgspec
import psycopg
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow, tuple_row
from typing_extensions import override

from consumers.batches import UsageBatch
from consumers.settling import decide_and_write
from consumers.stream_record import StreamRecord
from consumers.usage import STREAM_ACTOR, PartitionRead, context_digest, decide_usage, settle_reads
from consumers.wire import read_usage
from domain.account import limiting, lots
from domain.account.applying import find_limit
from domain.account.charging import price_for
from domain.account.decision import account_id
from domain.account.events import (
    CreditsCharged,
    CreditsGranted,
    CreditsToppedUp,
    LimitSet,
    LotLine,
    LotTerms,
    WindowMove,
)
from domain.account.index import EmptyIndex
from domain.account.state import Dated, Limit, TeamAccount, WindowUse
from domain.catalogue import Catalogue
from domain.periods import period_bounds, period_text
from domain.shards import shard_of
from domain.terms import LimitTerms
from domain.times import instant_text
from domain.usage import UsageRecord
from infra.postgres.batch_writer import PostgresBatchStore, PostgresBatchTransaction
from infra.postgres.ledger_store import PostgresAccountSession
from infra.postgres.shards import ShardMap
from tests.bench.demand import (
    BENCH,
    PARTITIONS,
    Demand,
    Team,
    batches,
    demo_catalogue,
    partition_key,
    started,
)

TEAMS_TOGETHER = 100
PART_RECORDS = 8_000
SALT = bytes(16)


class Measured(msgspec.Struct):
    """What one run did: ``records`` in ``seconds`` of wall clock and ``cpu_seconds`` of this process.

    ``batches`` are the instants that Coffer recorded its batches at; ``longest_seconds`` is the slowest batch or record.
    """

    records: int
    seconds: float
    cpu_seconds: float
    charged_micros: int = 0
    longest_seconds: float = 0.0
    batches: list[datetime] = []

    @property
    def rate(self) -> float:
        """Records per second."""
        return self.records / self.seconds


class Contestant(Protocol):
    """One way to make usage durable, in a process of its own."""

    def close(self) -> None:
        """Nothing is open any more."""


class _Watch:
    """Sums wall clock and processor time over the parts that count."""

    def __init__(self) -> None:
        self.seconds = self.cpu_seconds = self.longest_seconds = 0.0

    def __enter__(self) -> None:
        self._cpu, self._wall = process_time(), perf_counter()

    def __exit__(self, *_: object) -> None:
        took = perf_counter() - self._wall
        self.seconds += took
        self.cpu_seconds += process_time() - self._cpu
        self.longest_seconds = max(self.longest_seconds, took)


class BatchPath:
    """Coffer: records in memory as the broker's bytes, decided batch by batch, each batch one durable transaction."""

    def __init__(
        self,
        database_url: str,
        teams: int,
        seed: int,
        *,
        is_trivial: bool = False,
        partitions: Sequence[int] = range(PARTITIONS),
        overlaps: bool = False,
    ) -> None:
        self._demand = Demand(teams, seed, is_trivial=is_trivial)
        self._partitions, self._overlaps = frozenset(partitions), overlaps
        self._prepared: list[StreamRecord] = []
        self._catalogue = demo_catalogue()
        self._shards = ShardMap(database_url)
        self._store = PostgresBatchStore(self._shards)
        for number in partitions:
            self._store.register(partition_key(number), 0)
        mine = [each for each in self._demand.teams if shard_of(each.team_id, PARTITIONS) in self._partitions]
        open_accounts(self._shards, mine, is_trivial=is_trivial)

    def run(self, records: int, batch_records: int) -> Measured:
        """The next records are charged and durable; of another worker's partitions none is looked at."""
        self.prepare(records)
        return self.charge_prepared(batch_records)

    def prepare(self, records: int) -> None:
        """The next records lie in memory."""
        self._prepared = [each for each in self._demand.stream(records) if each.partition in self._partitions]

    def charge_prepared(self, batch_records: int) -> Measured:
        """What was prepared is charged and durable."""
        prepared, self._prepared = self._prepared, []
        return self.charge(prepared, batch_records)

    def run_in_parts(self, records: int, batch_records: int) -> Measured:
        """As ``run``, with no more than a few batches in memory at a time."""
        parts = [
            self.run(min(PART_RECORDS, records - at), batch_records) for at in range(0, records, PART_RECORDS)
        ]
        return Measured(
            sum(part.records for part in parts),
            sum(part.seconds for part in parts),
            sum(part.cpu_seconds for part in parts),
            sum(part.charged_micros for part in parts),
            max(part.longest_seconds for part in parts),
        )

    def charge(self, records: Sequence[StreamRecord], batch_records: int) -> Measured:
        """These records are charged and durable, so many in a batch."""
        watch, charged_micros, recorded = _Watch(), 0, []
        for reads in batches(records, batch_records):
            with watch:
                batch = self._settle(reads)
            charged_micros += sum(
                each.amount_micros
                for append in batch.appends.values()
                for each in append.events
                if isinstance(each, CreditsCharged)
            )
            assert not batch.outcomes, f"not an event: {batch.outcomes[0]}"
            recorded.append(batch.recorded_at)
        with watch:
            self._store.confirm()
        return Measured(
            len(records), watch.seconds, watch.cpu_seconds, charged_micros, watch.longest_seconds, recorded
        )

    def _settle(self, reads: list[PartitionRead]) -> UsageBatch:
        """As a worker does: with overlap the batch is sent, and durable when the next one has been."""
        if not self._overlaps:
            return settle_reads(self._store, reads, self._catalogue)
        decide = partial(decide_usage, self._catalogue, STREAM_ACTOR)
        return decide_and_write(self._store.overlapped, reads, decide, PostgresBatchTransaction.write)

    def peak_rss_mib(self) -> float:
        """The most memory this process ever had, the input of its runs included."""
        return _peak_rss_mib()

    def close(self) -> None:
        """Connections are closed."""
        self._store.close()
        self._shards.close()


def open_accounts(shards: ShardMap, teams: Sequence[Team], *, is_trivial: bool = False) -> None:
    """Every team has its account, with the lots and limits that the bench gives."""
    by_shard: dict[int, list[Team]] = {}
    for team in sorted(teams):
        by_shard.setdefault(shards.shard_of(team.team_id), []).append(team)
    for shard, members in by_shard.items():
        for at in range(0, len(members), TEAMS_TOGETHER):
            _open(shards, shard, members[at : at + TEAMS_TOGETHER], is_trivial)


def _open(shards: ShardMap, shard: int, teams: Sequence[Team], is_trivial: bool) -> None:
    with shards.connection_for(shard) as connection, connection.transaction():
        cursor = connection.cursor(row_factory=tuple_row)
        for team in teams:
            session = PostgresAccountSession(cursor, shard, team.team_id)
            decision = started(team, session.now, is_trivial=is_trivial)
            session.save(
                decision.account, decision, 0, principal=BENCH.id, key="start", body_digest=b"", answer=b""
            )


class LibraryAccount(Aggregate):
    """An account written as the library's documentation shows; price and lots are decided by Coffer's own functions."""

    @event("AccountOpened")
    def __init__(self, team_id: str, zone: str, anchor_day: int, card_id: str, opened_at: datetime) -> None:
        books_start, books_end = period_bounds(opened_at, zone, anchor_day)
        self.account = TeamAccount(
            team_id=team_id,
            anchor_day=anchor_day,
            zones=[Dated(opened_at, zone)],
            cards=[Dated(opened_at, card_id)],
            opened_at=opened_at,
            books_start=books_start,
            books_end=books_end,
            recorded_at=opened_at,
            passed_at=opened_at,
        )

    @staticmethod
    @override
    def create_id(team_id: str, **_: object) -> UUID:
        """The same id as in Coffer."""
        return account_id(team_id)

    @event("CreditsGranted")
    def grant(self, lot: dict[str, Any], amount_micros: int) -> None:
        """A lot is issued."""
        lots.issue(self.account, msgspec.convert(lot, LotTerms), amount_micros)

    @event("LimitSet")
    def set_limit(self, terms: dict[str, Any], since: str) -> None:
        """The limit counts from here on."""
        since_at = datetime.fromisoformat(since)
        self.account.limits.append(Limit(msgspec.convert(terms, LimitTerms), since_at, None, {}))

    def charge(self, usage: UsageRecord, catalogue: Catalogue) -> int:
        """The usage is priced, drawn from lots and charged; returns the micro-credits."""
        account, now = self.account, datetime.now(UTC)
        priced = price_for(
            account,
            catalogue,
            EmptyIndex(),
            usage.action,
            usage.meters,
            usage.dimensions,
            usage.occurred_at,
        )
        if priced is None:
            return 0
        amount = priced.price.amount_micros
        lines = lots.draw(account, amount, (usage.occurred_at, now), usage.action, usage.project)
        drawn = sum(line.amount_micros for line in lines)
        moves = limiting.window_moves(
            account, EmptyIndex(), usage.occurred_at, amount, usage.member, usage.project, usage.action
        )
        self.charged(
            charge_id=usage.usage_key(),
            source=usage.source,
            record_id=usage.id,
            occurred_at=usage.occurred_at,
            action=usage.action,
            meters=usage.meters,
            dimensions=usage.dimensions,
            member=usage.member,
            project=usage.project,
            work=usage.work,
            step=usage.step,
            content_digest=usage.content_digest(),
            context_digest=context_digest(SALT, usage.context),
            context=usage.context.decode() if usage.context else None,
            card=[priced.card.card_id, priced.card.version, priced.card.digest],
            computation=priced.price.computation.decode(),
            amount_micros=amount,
            lines=[[line.lot_id, line.amount_micros] for line in lines],
            debt_micros=amount - drawn,
            counters=[
                [move.key, instant_text(move.period_start), move.position_after] for move in priced.counters
            ],
            settled_after_micros=account.settled_micros - drawn,
            debt_after_micros=account.debt_micros + amount - drawn,
            windows=msgspec.to_builtins(moves),
            limits_passed=limiting.passed(account, moves),
        )
        return amount

    @event("CreditsCharged")
    def charged(
        self,
        charge_id: str,
        source: str,
        record_id: str,
        occurred_at: datetime,
        action: str,
        meters: dict[str, str],
        dimensions: dict[str, str],
        member: str | None,
        project: str | None,
        work: str | None,
        step: str | None,
        content_digest: str,
        context_digest: str | None,
        context: str | None,
        card: list[Any],
        computation: str,
        amount_micros: int,
        lines: list[list[Any]],
        debt_micros: int,
        counters: list[list[Any]],
        settled_after_micros: int,
        debt_after_micros: int,
        windows: list[list[Any]],
        limits_passed: list[str],
    ) -> None:
        """The lots are drawn, the rest is debt, and counters and windows stand where the charge left them."""
        account = self.account
        lots.take(account, [LotLine(lot_id, amount) for lot_id, amount in lines])
        account.debt_micros += debt_micros
        for key, period, position in counters:
            account.counters.setdefault(period, {})[key] = position
        for move in msgspec.convert(windows, list[WindowMove]):
            limit = find_limit(account, move.limit_id)
            assert limit is not None
            limit.windows[period_text(move.start)] = WindowUse(move.end, move.used_after_micros, move.reached)
        assert account.settled_micros == settled_after_micros
        assert account.debt_micros == debt_after_micros


class LibraryDefault:
    """The library as it comes: PostgreSQL recorder, JSON transcoder, cache with fast-forward; get, decide, save."""

    def __init__(self, database_url: str, teams: int, seed: int) -> None:
        self._demand = Demand(teams, seed)
        self._catalogue = demo_catalogue()
        address = conninfo_to_dict(database_url)
        self._application = Application[UUID](
            env={
                "PERSISTENCE_MODULE": "eventsourcing.postgres",
                "POSTGRES_DBNAME": str(address["dbname"]),
                "POSTGRES_HOST": str(address["host"]),
                "POSTGRES_PORT": str(address["port"]),
                "POSTGRES_USER": str(address["user"]),
                "POSTGRES_PASSWORD": str(address["password"]),
                "AGGREGATE_CACHE_MAXSIZE": str(teams),
            }
        )
        for team in self._demand.teams:
            self._open(team)
        # Every team is in the cache before anything is measured.
        for team in self._demand.teams:
            self._application.repository.get(account_id(team.team_id))

    def run(self, records: int) -> Measured:
        """The next records are charged and durable."""
        return self.charge(self._demand.stream(records))

    def charge(self, records: Sequence[StreamRecord]) -> Measured:
        """These records are charged and durable, one by one."""
        watch, charged_micros = _Watch(), 0
        for record in records:
            with watch:
                usage = read_usage(record)
                assert isinstance(usage, UsageRecord), usage
                account = self._account(usage.team_id)
                charged_micros += account.charge(usage, self._catalogue)
                self._application.save(account)
        return Measured(len(records), watch.seconds, watch.cpu_seconds, charged_micros, watch.longest_seconds)

    def close(self) -> None:
        """Connections are closed."""
        self._application.close()

    def _account(self, team_id: str) -> LibraryAccount:
        found: Any = self._application.repository.get(account_id(team_id))
        assert isinstance(found, LibraryAccount)
        return found

    def _open(self, team: Team) -> None:
        decision = started(team, datetime.now(UTC))
        account = LibraryAccount(team.team_id, team.zone, team.anchor_day, "standard", decision.at)
        for each in decision.events:
            if isinstance(each, CreditsGranted | CreditsToppedUp):
                account.grant(msgspec.to_builtins(each.lot), each.amount_micros)
            if isinstance(each, LimitSet):
                account.set_limit(msgspec.to_builtins(each.limit), each.window_start.isoformat())
        self._application.save(account)


class RawCopy:
    """The rows that Coffer wrote, ready as bytes, copied into tables of the same definition: a commit for each batch.

    Both tables that grow with every charge: events, and contexts in their own.
    """

    def __init__(self, database_url: str, rows_from_url: str) -> None:
        self._connection = psycopg.connect(database_url, row_factory=tuple_row)
        self._rows_from = psycopg.connect(rows_from_url, row_factory=tuple_row)
        self._times = 0

    def run(self, recorded: Sequence[datetime], seconds: float = 0.0) -> Measured:
        """The rows of the batches recorded at these instants are durable once more, and again for about so many seconds.

        Each time they go into shards of their own, as nothing may be there twice.
        """
        watch, rows = _Watch(), 0
        while not rows or watch.seconds < seconds:
            ready = [(self._rows(each, EVENTS), self._rows(each, CONTEXTS)) for each in recorded]
            self._times += 1
            for events, contexts in ready:
                with watch:
                    rows += self._copied("ledger_events", events)
                    self._copied("usage_context", contexts)
                    self._connection.commit()
        return Measured(rows, watch.seconds, watch.cpu_seconds, 0, watch.longest_seconds)

    def close(self) -> None:
        """Connections are closed."""
        self._connection.close()
        self._rows_from.close()

    def _copied(self, table: str, ready: bytes) -> int:
        with self._connection.cursor() as cursor:
            with cursor.copy(f"COPY {table} FROM STDIN (FORMAT BINARY)".encode()) as copy:
                copy.write(ready)
            return cursor.rowcount

    def _rows(self, recorded: datetime, of_range: str) -> bytes:
        """What one batch wrote, in the order in which it was written, as one binary COPY."""
        with self._rows_from.cursor() as cursor:
            cursor.execute("SELECT positions FROM consumed_batch WHERE recorded_at = %s LIMIT 1", (recorded,))
            row: TupleRow | None = cursor.fetchone()
            assert row is not None, f"no batch was recorded at {recorded}"
            ranges = [(int(shard), *bounds) for shard, bounds in row[0].items()]
            places = ", ".join(f"({shard}, {first}, {last})" for shard, first, last in ranges)
            query = of_range.format(places=places, more=self._times * SHARDS_APART)
            with cursor.copy(f"COPY ({query}) TO STDOUT (FORMAT BINARY)".encode()) as copy:
                ready = b"".join(bytes(data) for data in copy)
        self._rows_from.rollback()
        return ready


SHARDS_APART = 1_000
_OF_RANGE = (
    " FROM (VALUES {places}) AS p (shard, first, last) CROSS JOIN LATERAL"
    " (SELECT * FROM ledger_events AS e WHERE e.shard = p.shard AND e.position BETWEEN p.first AND p.last"
    " ORDER BY e.position) AS e"
)
EVENTS = (
    "SELECT e.shard + {more}, originator_id, originator_version, position, topic, state, usage_key, previous_hash, hash"
    + _OF_RANGE
)
CONTEXTS = (
    "SELECT c.shard + {more}, c.usage_key, c.team_id, c.member, c.salt, c.context"
    + _OF_RANGE
    + " JOIN usage_context AS c ON (c.shard, c.usage_key) = (e.shard, e.usage_key)"
)


def _peak_rss_mib() -> float:
    """From the kernel's own high-water mark; it begins anew with the program, unlike getrusage's."""
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - no file in the sense of paths
        for line in status:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    raise AssertionError("the kernel reports no peak memory")
