"""A batch of usage records becomes one write: every record ends in exactly one outcome."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Literal, NamedTuple

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
    UsageBatch,
)
from consumers.rejections import REASONS, Rejection
from consumers.stream_record import StreamRecord
from consumers.wire import key_matches_team, read_usage, time_window_violation
from domain.account.charging import charge_usage
from domain.account.decision import Decision
from domain.account.events import CreditsCharged, UsageWaived
from domain.account.index import IndexOverlay
from domain.actors import Actor
from domain.catalogue import Catalogue
from domain.errors import Busy, LedgerError, UnknownTeam
from domain.times import instant_text
from domain.usage import OutcomeKind, UsageRecord

STREAM_ACTOR = Actor("usage-stream", "ingest")
"""Who charges what arrives on the stream."""

DECISIONS_MAX = 10
"""How often one batch is decided before the store counts as too busy; the second time heads are locked first."""

SALT_BYTES = 16
SALTS_AT_ONCE = 256
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

    ``foreign_keys`` counts records whose Kafka key names another team than the record: charged rightly, but their
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


def settle_reads(
    store: BatchStore,
    reads: Sequence[PartitionRead],
    catalogue: Catalogue,
    actor: Actor = STREAM_ACTOR,
    progress: Progress | None = None,
) -> UsageBatch:
    """All records of the reads are decided and written in one transaction; returns what was written.

    Raises: Fenced; Busy when other writers kept moving the same accounts.
    """
    refused: dict[Place, LedgerError] = {}
    for _ in range(DECISIONS_MAX):
        try:
            with store.transaction() as transaction:
                batch = decide_batch(reads, transaction, catalogue, actor, progress=progress, refused=refused)
                transaction.write(batch)
        except MovedHeads:
            continue
        except HalfDecided as half:
            refused[half.place] = half.error
            continue
        return batch
    raise Busy(f"the accounts of one batch moved {DECISIONS_MAX} times while it was decided")


def decide_batch(
    reads: Sequence[PartitionRead],
    transaction: BatchTransaction,
    catalogue: Catalogue,
    actor: Actor = STREAM_ACTOR,
    *,
    progress: Progress | None = None,
    refused: Mapping[Place, LedgerError] | None = None,
) -> UsageBatch:
    """What to write so that each record ends in its one outcome, decided in the order of arrival.

    ``refused`` names records that a rule is known to refuse. Nothing is written here. Raises: HalfDecided; whatever is
    no LedgerError, because it is a bug or the store's.
    """
    deciding = _Deciding(transaction, catalogue, actor, progress or Progress(), refused or {})
    deciding.decide(reads)
    return deciding.batch(reads)


class _Read(NamedTuple):
    place: Place
    record: StreamRecord
    usage: UsageRecord | Rejection
    usage_key: str


class _Deciding:
    """One batch while it is decided: one decision per team, shared by all its records."""

    def __init__(
        self,
        transaction: BatchTransaction,
        catalogue: Catalogue,
        actor: Actor,
        progress: Progress,
        refused: Mapping[Place, LedgerError],
    ) -> None:
        self._transaction = transaction
        self._now = transaction.now
        self._catalogue = catalogue
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
        self._salts: list[bytes] = []

    def decide(self, reads: Sequence[PartitionRead]) -> None:
        """Every record of the reads has its outcome."""
        read = [self._parse(place, record) for place, record in in_arrival_order(reads)]
        self._load(
            [(each.usage.team_id, each.usage_key) for each in read if isinstance(each.usage, UsageRecord)]
        )
        for place, record, usage, usage_key in read:
            self._progress.place = place
            if isinstance(usage, UsageRecord):
                self._settle(place, record, usage, usage_key)
            else:
                self._dead(place, record, usage.outcome, usage.reason, _rejection_detail(usage))
        self._progress.place = None

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
        )

    def _parse(self, place: Place, record: StreamRecord) -> _Read:
        self._progress.place = place
        usage = read_usage(record)
        if not isinstance(usage, UsageRecord):
            return _Read(place, record, usage, "")
        if not key_matches_team(record, usage):
            self._progress.foreign_keys += 1
        return _Read(place, record, usage, usage.usage_key())

    def _load(self, keys: Sequence[tuple[str, str]]) -> None:
        """Accounts and known claims of all (team id, usage key), each asked for once."""
        accounts = self._transaction.accounts({team for team, _ in keys})
        for team, account in accounts.items():
            index = IndexOverlay(self._transaction.index(team))
            self._decisions[team] = Decision(account, self._now, self._actor, index)
            self._versions[team] = account.version
        known = {key for key in keys if key[0] in accounts}
        self._claims = self._transaction.claims(known) if known else {}
        # One of its claims may be of a shape that its head did not show: then nothing of the team can be decided.
        for team in self._transaction.unreadable:
            self._decisions.pop(team, None)

    def _settle(self, place: Place, record: StreamRecord, usage: UsageRecord, usage_key: str) -> None:
        """The claim is asked before the time window: a record that was charged stays a duplicate however late."""
        decision = self._decisions.get(usage.team_id)
        if decision is not None and (claim := self._claim_of(decision, usage_key)):
            self._seen_before(place, usage, claim)
        elif violation := time_window_violation(usage, self._catalogue.is_historic(usage.source)):
            self._dead(place, record, "parked", violation, _window_detail(violation, usage), usage)
        elif (unreadable := self._transaction.unreadable.get(usage.team_id)) is not None:
            self._park(place, record, usage, unreadable)
        elif decision is None:
            unknown = UnknownTeam(f"no account was opened for team {usage.team_id!r}: open it, then retry")
            self._park(place, record, usage, unknown)
        else:
            self._charge(place, record, usage, decision)

    def _claim_of(self, decision: Decision, usage_key: str) -> Claim | None:
        here = decision.index.usages.get(usage_key)
        if here is not None:
            return Claim(here.event.content_digest, here.version, here.event)
        return self._claims.get(usage_key)

    def _seen_before(self, place: Place, usage: UsageRecord, claim: Claim) -> None:
        digest = usage.content_digest()
        outcome: OutcomeKind = "duplicate" if digest == claim.content_digest else "conflict"
        first = claim.event.origin
        where = f", read at offset {first.offset} of {first.topic}/{first.partition}" if first else ""
        detail = f"the id is held by version {claim.version} of team {usage.team_id}{where}"
        if outcome == "conflict":
            detail += f": content {claim.content_digest} there, {digest} here; nothing is charged again"
        self._count(place, outcome, "")
        self._outcomes.append(
            OutcomeRow(
                partition=place.partition,
                offset=place.offset,
                outcome=outcome,
                reason="",
                detail=detail,
                team_id=usage.team_id,
                usage_key=usage.usage_key(),
                first_version=claim.version,
            )
        )

    def _charge(self, place: Place, record: StreamRecord, usage: UsageRecord, decision: Decision) -> None:
        if place in self._refused:
            self._park(place, record, usage, self._refused[place])
            return
        events_before = len(decision.events)
        salt = self._salt() if usage.context is not None else b""
        try:
            charge_usage(decision, usage, self._catalogue, context_digest(salt, usage.context))
        except LedgerError as error:
            if len(decision.events) != events_before:
                raise HalfDecided(place, error) from error
            self._park(place, record, usage, error)
            return
        event = decision.events[-1]
        if isinstance(event, CreditsCharged):
            self._count(place, "charged", "")
        else:
            assert isinstance(event, UsageWaived), "a usage record ends in a charge or a waiver"
            self._count(place, "waived", event.waiver)
        if usage.context is not None:
            self._contexts.append(
                ContextRow(usage.team_id, event.charge_id, usage.member, salt, usage.context)
            )

    def _salt(self) -> bytes:
        """A random salt of its own; the system is asked for many at a time."""
        if not self._salts:
            fresh = os.urandom(SALT_BYTES * SALTS_AT_ONCE)
            self._salts = [fresh[at : at + SALT_BYTES] for at in range(0, len(fresh), SALT_BYTES)]
        return self._salts.pop()

    def _park(self, place: Place, record: StreamRecord, usage: UsageRecord, error: LedgerError) -> None:
        self._dead(place, record, "parked", error.code, error.detail, usage)

    def _dead(
        self,
        place: Place,
        record: StreamRecord,
        outcome: OutcomeKind,
        reason: str,
        detail: str,
        usage: UsageRecord | None = None,
    ) -> None:
        """The record has its outcome row and lies, untouched, among the dead letters."""
        assert outcome in {"rejected", "parked"}
        detail = detail[:DETAIL_LENGTH_MAX]
        self._count(place, outcome, reason)
        self._outcomes.append(
            OutcomeRow(
                partition=place.partition,
                offset=place.offset,
                outcome=outcome,
                reason=reason,
                detail=detail,
                team_id=usage.team_id if usage else None,
                usage_key=usage.usage_key() if usage else None,
            )
        )
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

    def _count(self, place: Place, outcome: str, reason: str) -> None:
        reasons = self._counts.setdefault(place.partition, {}).setdefault(outcome, {})
        reasons[reason] = reasons.get(reason, 0) + 1

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


def in_arrival_order(reads: Sequence[PartitionRead]) -> list[tuple[Place, StreamRecord]]:
    """The records of all partitions as the brokers got them; within a partition always in the order of offsets."""
    placed = [(Place(read.partition, each.offset), each) for read in reads for each in read.records]
    if len(reads) > 1:
        # A partition's append times may step back when its leader changes; the latest so far keeps its offsets in order.
        latest = [at for read in reads for at in accumulate((each.arrived_at for each in read.records), max)]
        order = sorted(range(len(placed)), key=latest.__getitem__)
        placed = [placed[at] for at in order]
    return placed


def context_digest(salt: bytes, context: bytes | None) -> str | None:
    """SHA-256, in hex, of salt and context: what the event keeps when the context itself is erased."""
    return None if context is None else hashlib.sha256(salt + context).hexdigest()


def _window_detail(violation: Literal["too_old", "in_the_future"], usage: UsageRecord) -> str:
    times = f"occurred_at {instant_text(usage.occurred_at)}, arrived {instant_text(usage.arrived_at)}"
    return f"{REASONS[violation].explanation} {times}"


def _rejection_detail(rejection: Rejection) -> str:
    head = f" [value begins {rejection.head_hex}]" if rejection.head_hex else ""
    return rejection.detail[: DETAIL_LENGTH_MAX - len(head)] + head
