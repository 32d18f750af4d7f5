"""Usage records are settled: each is charged or waived, or it is known why not."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from functools import partial
from typing import Literal

from typing_extensions import override

from consumers.batches import BatchStore, BatchTransaction, Claim, ContextRow, RecordOutcome, UsageBatch
from consumers.rejections import REASONS, Rejection
from consumers.settling import (
    DECISIONS_MAX,
    Arrived,
    HalfDecided,
    Parsed,
    PartitionRead,
    Place,
    Progress,
    Refused,
    Settling,
    in_arrival_order,
    settle,
)
from consumers.stream_record import StreamRecord
from consumers.wire import read_usage, read_usages, time_window_violation
from domain.account.charging import charge_usage
from domain.account.decision import Decision
from domain.account.events import CreditsCharged, UsageWaived
from domain.account.index import UsageOnFile
from domain.actors import Actor
from domain.catalogue import Catalogue
from domain.errors import LedgerError
from domain.times import instant_text
from domain.usage import UsageRecord

__all__ = [
    "DECISIONS_MAX",
    "STREAM_ACTOR",
    "HalfDecided",
    "PartitionRead",
    "Place",
    "Progress",
    "context_digest",
    "decide_batch",
    "in_arrival_order",
    "settle_reads",
]

STREAM_ACTOR = Actor("usage-stream", "ingest")
"""Who charges what arrives on the stream."""

SALT_BYTES = 16
SALTS_AT_ONCE = 256


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

    return settle(store, reads, partial(decide_usage, catalogue, actor), progress)


def decide_batch(
    reads: Sequence[PartitionRead],
    transaction: BatchTransaction,
    catalogue: Catalogue,
    actor: Actor = STREAM_ACTOR,
    *,
    progress: Progress | None = None,
    refused: Refused | None = None,
) -> UsageBatch:
    """What to write so that each record ends in its one outcome, decided in the order of arrival.

    ``refused`` names records that a rule is known to refuse. Nothing is written here. Raises: HalfDecided; whatever is
    no LedgerError, because it is a bug or the store's.
    """
    return decide_usage(catalogue, actor, reads, transaction, progress or Progress(), refused or {})


def decide_usage(
    catalogue: Catalogue,
    actor: Actor,
    reads: Sequence[PartitionRead],
    transaction: BatchTransaction,
    progress: Progress,
    refused: Refused,
) -> UsageBatch:
    """As ``decide_batch``, with everything named: what a worker binds for a topic of usage."""
    settling = _UsageSettling(transaction, catalogue, actor, progress, refused)
    settling.decide(reads)
    return settling.batch(reads)


class _UsageSettling(Settling[UsageRecord]):
    """One batch of usage while it is decided."""

    def __init__(
        self,
        transaction: BatchTransaction,
        catalogue: Catalogue,
        actor: Actor,
        progress: Progress,
        refused: Refused,
    ) -> None:
        super().__init__(transaction, actor, progress, refused)
        self._catalogue = catalogue
        self._salts: list[bytes] = []
        self._salts_given: dict[str, bytes] = {}

    @override
    def _anew(self) -> _UsageSettling:
        anew = _UsageSettling(self._transaction, self._catalogue, self._actor, self._progress, self._refused)
        # The rows of contexts are written by now: an event decided anew must bear the digest of the row that is there.
        anew._salts_given = {row.usage_key: row.salt for row in self._contexts}
        return anew

    @override
    def _read(self, record: StreamRecord) -> Parsed[UsageRecord] | Rejection:
        return _parsed(read_usage(record))

    @override
    def _read_all(self, arrived: Sequence[Arrived]) -> Sequence[Parsed[UsageRecord] | Rejection]:
        """All at once; should that crash, one by one, so that the one at fault is named. A crash is never passed over."""
        try:
            return [_parsed(usage) for usage in read_usages([record for _, record in arrived])]
        except Exception:
            super()._read_all(arrived)
            raise

    @override
    def _settle(self, place: Place, record: StreamRecord, parsed: Parsed[UsageRecord]) -> None:
        """The claim is asked before the time window: a record that was charged stays a duplicate however late."""
        usage, key = parsed.fact, parsed.key
        decision = self._decisions.get(usage.team_id)
        if decision is not None:
            here = decision.index.usages.get(key)
            claim = self._claims.get(key) if here is None else _claim_made(here)
            if claim is not None:
                self._seen_before(place, parsed, claim)
                return
        if violation := time_window_violation(usage, self._catalogue.is_historic(usage.source)):
            self._dead(place, record, "parked", violation, _window_detail(violation, usage), parsed)
        elif decision is not None or (decision := self._decision_for(place, record, parsed)) is not None:
            self._charge(place, record, parsed, decision)

    def _seen_before(self, place: Place, parsed: Parsed[UsageRecord], claim: Claim) -> None:
        """What is no usage but has the same identity says other things: a conflict."""
        digest = parsed.fact.content_digest()
        same = claim.content_digest and digest.startswith(claim.content_digest)
        outcome: RecordOutcome = "duplicate" if same else "conflict"
        first = claim.event.origin if isinstance(claim.event, CreditsCharged | UsageWaived) else None
        where = f", read at offset {first.offset} of {first.topic}/{first.partition}" if first else ""
        detail = f"the id is held by version {claim.version} of team {parsed.team_id}{where}"
        if outcome == "conflict":
            there = claim.content_digest or type(claim.event).__name__
            detail += f": content {there} there, {digest} here; nothing is charged again"
        self._note(place, parsed, outcome, "", detail, claim.version)

    def _charge(
        self, place: Place, record: StreamRecord, parsed: Parsed[UsageRecord], decision: Decision
    ) -> None:
        if self._refused and place in self._refused:
            self._park(place, record, parsed, self._refused[place])
            return
        usage, events_before = parsed.fact, len(decision.events)
        context, digest, salt = usage.context, None, b""
        if context is not None:
            salt = (
                self._salts_given[parsed.key]
                if self._salts_given
                else self._salts.pop()
                if self._salts
                else self._salt()
            )
            digest = context_digest(salt, context)
        try:
            charge_usage(decision, usage, self._catalogue, digest)
        except LedgerError as error:
            if len(decision.events) != events_before:
                raise HalfDecided(place, error) from error
            self._park(place, record, parsed, error)
            return
        # Other events may follow the charge: a threshold reached, a top-up asked for.
        event = decision.index.usages[parsed.key].event
        if isinstance(event, CreditsCharged):
            self._count(place, "charged", "")
        else:
            assert isinstance(event, UsageWaived), "a usage record ends in a charge or a waiver"
            self._count(place, "waived", event.waiver)
        if context is not None:
            self._contexts.append(ContextRow(usage.team_id, parsed.key, usage.member, salt, context))

    def _salt(self) -> bytes:
        """A random salt of its own; the system is asked for many at a time."""
        fresh = os.urandom(SALT_BYTES * SALTS_AT_ONCE)
        self._salts = [fresh[at : at + SALT_BYTES] for at in range(0, len(fresh), SALT_BYTES)]
        return self._salts.pop()


def _parsed(usage: UsageRecord | Rejection) -> Parsed[UsageRecord] | Rejection:
    return usage if isinstance(usage, Rejection) else Parsed(usage.team_id, usage.usage_key(), usage)


def _claim_made(here: UsageOnFile) -> Claim:
    return Claim(_content_digest(here.event), here.version, here.event)


def _content_digest(event: object) -> str:
    return event.content_digest if isinstance(event, CreditsCharged | UsageWaived) else ""


def context_digest(salt: bytes, context: bytes | None) -> str | None:
    """SHA-256, in hex, of salt and context: what the event keeps when the context itself is erased."""
    return None if context is None else hashlib.sha256(salt + context).hexdigest()


def _window_detail(violation: Literal["too_old", "in_the_future"], usage: UsageRecord) -> str:
    times = f"occurred_at {instant_text(usage.occurred_at)}, arrived {instant_text(usage.arrived_at)}"
    return f"{REASONS[violation].explanation} {times}"
