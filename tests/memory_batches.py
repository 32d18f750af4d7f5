"""A store of batches in memory: the same promises as PostgreSQL's, for tests without services."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime

from consumers.batches import (
    AccountAppend,
    Claim,
    Fenced,
    MovedHeads,
    PartitionKey,
    UsageBatch,
)
from domain.account.claims import claim_of
from domain.account.decision import Decision, copy_of
from domain.account.events import AccountEvent, CreditsCharged, UsageWaived
from domain.account.funding import grant_credits
from domain.account.index import AccountIndex, IndexOverlay, UsageOnFile
from domain.account.opening import close_account, open_account
from domain.account.state import TeamAccount
from domain.errors import UnknownEventShape
from tests.builders import TESTER


class MemoryBatchStore:
    """Accounts, claims, offsets and every batch written, in dictionaries; one transaction at a time."""

    def __init__(self, now: datetime) -> None:
        self.now = now
        self.accounts: dict[str, TeamAccount] = {}
        self.indexes: dict[str, IndexOverlay] = {}
        self.claims: dict[str, Claim] = {}
        self.events: dict[str, list[AccountEvent]] = {}
        self.offsets: dict[PartitionKey, int] = {}
        self.halts: dict[PartitionKey, str] = {}
        self.batches: list[UsageBatch] = []
        self.moves = 0
        """How many of the next writes find that another writer moved an account."""

    @contextmanager
    def transaction(self) -> Iterator[MemoryBatchTransaction]:
        transaction = MemoryBatchTransaction(self)
        yield transaction
        for batch in transaction.written:
            self._commit(batch)

    def next_offset(self, partition: PartitionKey) -> int | None:
        return self.offsets.get(partition)

    def register(self, partition: PartitionKey, start: int) -> None:
        self.offsets.setdefault(partition, start)

    def halt(self, partition: PartitionKey, why: str) -> None:
        self.halts[partition] = why

    # --- what tests say ---

    def open(self, team_id: str, granted_micros: int = 0) -> None:
        decision = Decision(None, self.now, TESTER)
        open_account(decision, team_id)
        if granted_micros:
            grant_credits(decision, granted_micros)
        self.accounts[team_id] = decision.account
        self.events[team_id] = list(decision.events)
        self.indexes[team_id] = IndexOverlay()

    def close(self, team_id: str) -> None:
        decision = Decision(self.accounts[team_id], self.now, TESTER, self.indexes[team_id])
        close_account(decision)
        self.events[team_id] += decision.events

    def _commit(self, batch: UsageBatch) -> None:
        for team_id, append in batch.appends.items():
            self._append(team_id, append)
        for advance in batch.advances:
            self.offsets[advance.partition] = advance.next_offset
        self.batches.append(batch)

    def _append(self, team_id: str, append: AccountAppend) -> None:
        index = self.indexes[team_id]
        self.accounts[team_id] = append.account
        self.events[team_id] += append.events
        for change in append.index_changes:
            index.put(change)
        for version, event in enumerate(append.events, append.expected_version + 1):
            key = claim_of(event)
            if key is not None:
                assert key not in self.claims, "a claim is unique for ever"
                self.claims[key] = Claim(getattr(event, "content_digest", ""), version, event)
            if isinstance(event, CreditsCharged | UsageWaived):
                index.usages[event.charge_id] = UsageOnFile(version, event)


class MemoryBatchTransaction:
    """One transaction over the dictionaries; what it hands out is copied, so nothing of it stays unless committed."""

    def __init__(self, store: MemoryBatchStore) -> None:
        self._store = store
        self.written: list[UsageBatch] = []
        self.unreadable: dict[str, UnknownEventShape] = {}

    @property
    def now(self) -> datetime:
        return self._store.now.astimezone(UTC)

    def accounts(self, team_ids: Collection[str]) -> dict[str, TeamAccount]:
        known = self._store.accounts
        return {team_id: copy_of(known[team_id]) for team_id in team_ids if team_id in known}

    def claims(self, keys: Collection[tuple[str, str]]) -> dict[str, Claim]:
        known = self._store.claims
        return {key: known[key] for _, key in keys if key in known}

    def index(self, team_id: str) -> AccountIndex:
        return self._store.indexes[team_id]

    def write(self, batch: UsageBatch) -> None:
        if self._store.moves:
            self._store.moves -= 1
            raise MovedHeads("another writer was first")
        for team_id, append in batch.appends.items():
            assert append.account.version == append.expected_version + len(append.events)
            if self._store.accounts[team_id].version != append.expected_version:
                raise MovedHeads(team_id)
        for advance in batch.advances:
            if self._store.offsets.get(advance.partition) != advance.expected_offset:
                raise Fenced(
                    f"partition {advance.partition.partition} is no longer at {advance.expected_offset}"
                )
        self.written.append(batch)
