"""A batch of records of one topic becomes one write: every record ends in exactly one outcome."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import accumulate
from typing import Generic, NamedTuple, TypeAlias, TypeVar

import msgspec

from consumers.batches import (
    AccountAppend,
    BatchStore,
    BatchTransaction,
    Claim,
    ContextRow,
    DeadLetter,
    Hole,
    MovedHeads,
    OutcomeRow,
    PartitionAdvance,
    PartitionKey,
    RecordOutcome,
    UsageBatch,
)
from consumers.rejections import Rejection
from consumers.stream_record import StreamRecord, key_matches_team
from domain.account.decision import Decision
from domain.account.events import UsageWaived
from domain.account.index import IndexOverlay
from domain.account.state import TeamAccount
from domain.actors import Actor
from domain.errors import Busy, LedgerError, UnknownTeam

DECISIONS_MAX = 10
"""How often heads may move while one batch is decided, before the store counts as too busy."""

DETAIL_LENGTH_MAX = 500


class Place(NamedTuple):
    """The coordinates of one record, for ever."""

    partition: PartitionKey
    offset: int


class PartitionRead(msgspec.Struct, frozen=True):
    """What was read of one partition, in the order of its offsets.

    ``records`` lie in ``expected_offset`` to ``next_offset`` (excluded); what the broker did not give is in ``holes``.
    ``advances`` is False for records read again, whose offsets were passed before.
    """

    partition: PartitionKey
    expected_offset: int
    next_offset: int
    records: Sequence[StreamRecord]
    holes: Sequence[Hole] = ()
    advances: bool = True


class Progress:
    """Which record is being decided right now, for whoever must name it after a failure.

    ``foreign_keys`` counts records whose Kafka key names another team than the record: settled rightly, but their
    producer partitions wrongly.
    """

    def __init__(self) -> None:
        self.place: Place | None = None
        self.foreign_keys = 0


class HalfDecided(Exception):
    """A rule said no to a record after events of it were recorded: the batch must be decided again without it."""

    def __init__(self, place: Place, error: LedgerError) -> None:
        super().__init__(
            f"offset {place.offset} of {place.partition.topic}/{place.partition.partition}: {error}"
        )
        self.place = place
        self.error = error


Refused: TypeAlias = Mapping[Place, LedgerError]
"""Records that a rule is known to refuse."""

Decide: TypeAlias = Callable[[Sequence[PartitionRead], BatchTransaction, Progress, Refused], UsageBatch]
"""What to write for reads of one topic; the last argument names records that a rule is known to refuse.

Raises: HalfDecided; whatever is no LedgerError, because it is a bug or the store's.
"""


def settle(
    store: BatchStore, reads: Sequence[PartitionRead], decide: Decide, progress: Progress | None = None
) -> UsageBatch:
    """All records of the reads are decided and written in one transaction; returns what was written.

    Raises: Fenced; Busy when other writers kept moving the same accounts.
    """

    return decide_and_write(store.transaction, reads, decide, _write, progress)


def _write(transaction: BatchTransaction, batch: UsageBatch) -> None:
    transaction.write(batch)


TransactionT = TypeVar("TransactionT", bound=BatchTransaction)


def decide_and_write(
    begin: Callable[[], AbstractContextManager[TransactionT]],
    reads: Sequence[PartitionRead],
    decide: Decide,
    write: Callable[[TransactionT, UsageBatch], None],
    progress: Progress | None = None,
) -> UsageBatch:
    """The reads were decided and given to ``write`` in one transaction, decided again whenever an account moved.

    Raises: Fenced; Busy when other writers kept moving the same accounts.
    """
    progress = progress or Progress()
    refused: dict[Place, LedgerError] = {}
    moves = 0
    while moves < DECISIONS_MAX:
        try:
            with begin() as transaction:
                batch = decide(reads, transaction, progress, refused)
                write(transaction, batch)
        except MovedHeads:
            moves += 1
        except HalfDecided as half:
            # Each names another record, so this ends however many there are.
            if half.place in refused:
                raise
            refused[half.place] = half.error
        else:
            return batch
    raise Busy(f"the accounts of one batch moved {DECISIONS_MAX} times while it was decided")


FactT = TypeVar("FactT")

Arrived: TypeAlias = tuple[Place, StreamRecord]


class Parsed(msgspec.Struct, Generic[FactT], frozen=True, gc=False):
    """A record as it was read: whose it is, its claim, and what it says."""

    team_id: str
    key: str
    fact: FactT


class Settling(ABC, Generic[FactT]):
    """One batch while it is decided: one decision per team, shared by all its records.

    ``refused`` names records that a rule is known to refuse. What a topic's records mean is its subclass's.
    """

    def __init__(
        self, transaction: BatchTransaction, actor: Actor, progress: Progress, refused: Refused
    ) -> None:
        self._transaction = transaction
        self._now = transaction.now
        self._actor = actor
        self._progress = progress
        self._refused = refused
        self._decisions: dict[str, Decision] = {}
        self._versions: dict[str, int] = {}
        self._claims: dict[str, Claim] = {}
        self._counts: dict[PartitionKey, dict[str, dict[str, int]]] = {}
        self._contexts: list[ContextRow] = []
        self._outcomes: list[OutcomeRow] = []
        self._letters: list[DeadLetter] = []
        self._settled: list[tuple[Arrived, Parsed[FactT] | Rejection]] = []

    @abstractmethod
    def _read(self, record: StreamRecord) -> Parsed[FactT] | Rejection:
        """The record as a fact, or why not."""

    @abstractmethod
    def _settle(self, place: Place, record: StreamRecord, parsed: Parsed[FactT]) -> None:
        """The record that could be read has its outcome."""

    def decide(self, reads: Sequence[PartitionRead]) -> None:
        """Every record of the reads has its outcome, in the order of arrival."""
        arrived = in_arrival_order(reads)
        read = self._read_all(arrived)
        self._load(arrived, read)
        self._settled = list(zip(arrived, read, strict=True))
        self._settle_all(self._settled)

    def _settle_all(self, records: Sequence[tuple[Arrived, Parsed[FactT] | Rejection]]) -> None:
        progress, settle = self._progress, self._settle
        for (place, record), parsed in records:
            progress.place = place
            if isinstance(parsed, Rejection):
                self._dead(place, record, parsed.outcome, parsed.reason, _rejection_detail(parsed))
            else:
                settle(place, record, parsed)
        progress.place = None

    def batch(self, reads: Sequence[PartitionRead]) -> UsageBatch:
        """All that was decided, with the offsets that it advances."""
        return UsageBatch(
            recorded_at=self._now,
            appends={team: self._append(team, made) for team, made in self._decisions.items() if made.events},
            contexts=self._contexts,
            outcomes=self._outcomes,
            dead_letters=self._letters,
            holes=[hole for read in reads for hole in read.holes],
            advances=[self._advance(read) for read in reads if read.advances],
            again=self._again,
        )

    def _again(self, accounts: Mapping[str, TeamAccount]) -> Mapping[str, AccountAppend] | None:
        """The parts of these teams, decided anew on the accounts; None when more than their events would differ.

        Outcomes, letters and counts of the others stand as they are, so a team that has one of its own is not done alone.
        """
        if any(row.team_id in accounts for row in self._outcomes):
            return None
        of_teams = [
            (arrived, parsed)
            for arrived, parsed in self._settled
            if not isinstance(parsed, Rejection) and parsed.team_id in accounts
        ]
        anew = self._anew().decided_on(accounts, of_teams, self._claims)
        if anew is None:
            return None
        if any(_results(self._decisions[team]) != _results(made) for team, (made, _) in anew.items()):
            return None
        return {team: append for team, (_, append) in anew.items()}

    def decided_on(
        self,
        accounts: Mapping[str, TeamAccount],
        records: Sequence[tuple[Arrived, Parsed[FactT]]],
        claims: dict[str, Claim],
    ) -> dict[str, tuple[Decision, AccountAppend]] | None:
        """The records are decided on these accounts, their claims known; None when one has an outcome beside its event."""
        for team, account in accounts.items():
            self._take(team, account)
        self._claims = claims
        self._settle_all(records)
        if self._outcomes:
            return None
        return {team: (made, self._append(team, made)) for team, made in self._decisions.items()}

    def _anew(self) -> Settling[FactT]:
        """Another one of its kind with nothing decided yet."""
        return type(self)(self._transaction, self._actor, self._progress, self._refused)

    # --- for subclasses ---

    def _count(self, place: Place, outcome: RecordOutcome, reason: str) -> None:
        try:
            self._counts[place.partition][outcome][reason] += 1
        except KeyError:
            self._counts.setdefault(place.partition, {}).setdefault(outcome, {})[reason] = 1

    def _note(
        self,
        place: Place,
        parsed: Parsed[FactT] | None,
        outcome: RecordOutcome,
        reason: str,
        detail: str,
        version: int | None = None,
    ) -> None:
        """The record is counted and has its outcome row."""
        self._count(place, outcome, reason)
        self._outcomes.append(
            OutcomeRow(
                partition=place.partition,
                offset=place.offset,
                outcome=outcome,
                reason=reason,
                detail=detail,
                team_id=parsed.team_id if parsed else None,
                usage_key=parsed.key if parsed else None,
                first_version=version,
            )
        )

    def _dead(
        self,
        place: Place,
        record: StreamRecord,
        outcome: RecordOutcome,
        reason: str,
        detail: str,
        parsed: Parsed[FactT] | None = None,
    ) -> None:
        """The record has its outcome row and lies, untouched, among the dead letters."""
        assert outcome in {"rejected", "parked"}
        detail = detail[:DETAIL_LENGTH_MAX]
        self._note(place, parsed, outcome, reason, detail)
        self._letters.append(
            DeadLetter(
                partition=place.partition,
                offset=place.offset,
                arrived_at=record.arrived_at,
                outcome="rejected" if outcome == "rejected" else "parked",
                reason=reason,
                detail=detail,
                key=record.key,
                value=record.value,
                headers=list(record.headers),
            )
        )

    def _park(self, place: Place, record: StreamRecord, parsed: Parsed[FactT], error: LedgerError) -> None:
        self._dead(place, record, "parked", error.code, error.detail, parsed)

    def _decision_for(self, place: Place, record: StreamRecord, parsed: Parsed[FactT]) -> Decision | None:
        """The decision on the record's team; None once the record is parked because there is none."""
        error: LedgerError | None = self._transaction.unreadable.get(parsed.team_id)
        decision = self._decisions.get(parsed.team_id)
        if error is None and decision is None:
            error = UnknownTeam(f"no account was opened for team {parsed.team_id!r}: open it, then retry")
        if error is not None:
            self._park(place, record, parsed, error)
            return None
        return decision

    # --- the same for every topic ---

    def _read_all(self, arrived: Sequence[Arrived]) -> Sequence[Parsed[FactT] | Rejection]:
        """Each record as a fact, or why not; should one of them crash the reading, it is named."""
        read: list[Parsed[FactT] | Rejection] = []
        for place, record in arrived:
            self._progress.place = place
            read.append(self._read(record))
        return read

    def _load(self, arrived: Sequence[Arrived], read: Sequence[Parsed[FactT] | Rejection]) -> None:
        """Accounts and known claims of all that could be read, each asked for once."""
        keys: list[tuple[str, str]] = []
        for (_, record), parsed in zip(arrived, read, strict=True):
            if not isinstance(parsed, Rejection):
                keys.append((parsed.team_id, parsed.key))
                if not key_matches_team(record, parsed.team_id):
                    self._progress.foreign_keys += 1
        accounts = self._transaction.accounts({team for team, _ in keys})
        for team, account in accounts.items():
            self._take(team, account)
        known = {key for key in keys if key[0] in accounts}
        self._claims = self._transaction.claims(known) if known else {}
        # One of its claims may be of a shape that its head did not show: then nothing of the team can be decided.
        for team in self._transaction.unreadable:
            self._decisions.pop(team, None)

    def _take(self, team: str, account: TeamAccount) -> None:
        """The team is decided on, from this account on."""
        index = IndexOverlay(self._transaction.index(team))
        self._decisions[team] = Decision(account, self._now, self._actor, index)
        self._versions[team] = account.version

    def _append(self, team: str, decision: Decision) -> AccountAppend:
        return AccountAppend(
            account=decision.account,
            expected_version=self._versions[team],
            events=decision.events,
            index_changes=decision.index_changes,
        )

    def _advance(self, read: PartitionRead) -> PartitionAdvance:
        outcomes = self._counts.get(read.partition, {})
        return PartitionAdvance(
            read.partition, read.expected_offset, read.next_offset, len(read.records), outcomes
        )


def _results(decision: Decision) -> list[tuple[str, str | None]]:
    """What each record of the team's that was read ended in, as far as it is counted."""
    return [
        (key, on_file.event.waiver if isinstance(on_file.event, UsageWaived) else None)
        for key, on_file in decision.index.usages.items()
    ]


def in_arrival_order(reads: Sequence[PartitionRead]) -> list[Arrived]:
    """The records of all partitions as the brokers got them; within a partition always in the order of offsets."""
    placed = [(Place(read.partition, each.offset), each) for read in reads for each in read.records]
    if len(reads) > 1:
        # A partition's append times may step back when its leader changes; the latest so far keeps its offsets in order.
        latest = [at for read in reads for at in accumulate((each.arrived_at for each in read.records), max)]
        order = sorted(range(len(placed)), key=latest.__getitem__)
        placed = [placed[at] for at in order]
    return placed


def _rejection_detail(rejection: Rejection) -> str:
    head = f" [value begins {rejection.head_hex}]" if rejection.head_hex else ""
    return rejection.detail[: DETAIL_LENGTH_MAX - len(head)] + head
