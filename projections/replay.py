"""An account at any version or time: its events folded again, with the running balances of every step, on two clocks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any, Protocol

import msgspec

from domain.account.applying import apply, opened
from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.estimating import NOBODY
from domain.account.events import (
    CHARGES,
    AccountEvent,
    AccountOpened,
    Charge,
    CreditsCharged,
    HoldCaptured,
    RecordedEvent,
    UsageWaived,
)
from domain.account.index import AccountIndex, IndexKind, IndexOverlay, UsageOnFile
from domain.account.state import Hold, TeamAccount
from projections.balance import available_micros
from projections.moves import NOTHING, Sums, sums_of
from projections.statement import told_of
from projections.words import event_words


class EventSource(Protocol):
    """Reads of one team's stream, in version order."""

    def events(self, team_id: str, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        """The events with versions above ``after``, up to and including ``until``; none for a team without an account."""
        ...


class ReplayStep(msgspec.Struct, frozen=True, kw_only=True):
    """One event and the account's balances after it.

    Two clocks: ``recorded_at`` is when the ledger wrote it, ``effective_at`` when it counts from (of usage: when it occurred).
    Balances are those of the account after this event, at ``recorded_at``: settled, and of it what may be spent and what holds
    set aside. What is left of settled is lapsed, withheld or upcoming. ``amount_micros`` is None where no credits move.
    Member, project, action and work of a hold that ends are those it was made for.
    """

    version: int
    kind: str
    recorded_at: datetime
    effective_at: datetime
    amount_micros: int | None
    settled_after_micros: int
    available_after_micros: int
    held_after_micros: int
    debt_after_micros: int
    open_lots: int
    open_holds: int
    charge_id: str | None
    lot_id: str | None
    hold_id: str | None
    action: str | None
    member: str | None
    project: str | None
    work: str | None
    actor: str
    role: str
    reason: str | None
    words: str


class ReplayFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which steps to show; None asks for all. Intervals include their start and exclude their end."""

    kinds: frozenset[str] | None = None
    member: str | None = None
    project: str | None = None
    action: str | None = None
    work: str | None = None
    charge_id: str | None = None
    lot_id: str | None = None
    hold_id: str | None = None
    recorded_from: datetime | None = None
    recorded_until: datetime | None = None
    occurred_from: datetime | None = None
    occurred_until: datetime | None = None

    def shows(self, step: ReplayStep) -> bool:
        """Whether the step is asked for."""
        return (
            (self.kinds is None or step.kind in self.kinds)
            and all(
                wanted is None or wanted == getattr(step, name)
                for name in EQUAL_FIELDS
                if (wanted := getattr(self, name))
            )
            and _within(step.recorded_at, self.recorded_from, self.recorded_until)
            and _within(step.effective_at, self.occurred_from, self.occurred_until)
        )

    def is_past(self, step: ReplayStep) -> bool:
        """Whether no later step can be asked for: the time of recording never goes back."""
        return self.recorded_until is not None and step.recorded_at >= self.recorded_until


CLAIMED = (CreditsCharged, UsageWaived, HoldCaptured)
EQUAL_FIELDS = ("member", "project", "action", "work", "charge_id", "lot_id", "hold_id")
WHOLE = ReplayFilter()


class Replay:
    """Folds one stream event by event; ``account`` and ``index`` are as after the last event that was played.

    Told an ``account``, which is the replay's own from then on, it begins after that account's version, with ``index`` beneath
    what it plays. With ``keeps_index`` False memory is bounded by what is open, however long the stream.
    """

    def __init__(
        self,
        account: TeamAccount | None = None,
        index: AccountIndex | None = None,
        *,
        keeps_index: bool = True,
    ) -> None:
        self.account = account
        self.index = IndexOverlay(index)
        self._keeps_index = keeps_index

    @property
    def sums(self) -> Sums:
        """Settled credits, debt, and what of the settled is set aside, as the account has them."""
        return NOTHING if self.account is None else sums_of(self.account)

    def play(self, recorded: RecordedEvent) -> TeamAccount:
        """The event is applied; returns the account, which the next event changes.

        Raises: AssertionError when the stream begins with another event than the opening, or breaks what an event promises.
        """
        event = recorded.event
        if self.account is None:
            assert isinstance(event, AccountOpened), "the first event opens the account"
            self.account = opened(event)
        else:
            changes = apply(self.account, event)
            if self._keeps_index:
                for change in changes:
                    self.index.put(change)
        return self.account

    def step(self, recorded: RecordedEvent) -> ReplayStep:
        """The event is applied and told, with the balances after it."""
        hold = _hold_of(self.account, recorded.event)
        return _step(recorded, self.play(recorded), hold)

    def due(self, at: datetime, index: AccountIndex | None = None) -> tuple[TeamAccount, list[AccountEvent]]:
        """The account at an instant, and the events that are due by then and not written yet; nothing is changed."""
        assert self.account is not None, "nothing was played"
        return due_by(self.account, at, index or self.index)


def due_by(
    account: TeamAccount, at: datetime, index: AccountIndex | None = None
) -> tuple[TeamAccount, list[AccountEvent]]:
    """A copy of the account with everything booked that is due at ``at``, and the events that this takes."""
    # What is due is booked over the index, never in it: it may be a replay's own.
    decision = Decision(copy_of(account), at, NOBODY, IndexOverlay(index))
    pass_time(decision)
    return decision.account, decision.events


def steps(events: Iterable[RecordedEvent]) -> Iterator[ReplayStep]:
    """Every event of a stream, from its first, with the running balances after it; memory is bounded by what is open."""
    replay = Replay(keeps_index=False)
    for recorded in events:
        yield replay.step(recorded)


def account_at_version(source: EventSource, team_id: str, version: int) -> TeamAccount | None:
    """The account after the event of that version; None when the team has no account or has not come that far."""
    replay = Replay()
    for recorded in source.events(team_id, until=version):
        replay.play(recorded)
    account = replay.account
    return account if account is not None and account.version == version else None


def account_as_of(source: EventSource, team_id: str, at: datetime) -> TeamAccount | None:
    """The account as the ledger knew it at an instant: every event recorded by then, and what was due by then booked.

    None when the team had no account yet. ``version`` counts due facts that were booked later, or never, as if written.
    """
    replay = _known_at(source, team_id, at)
    if replay.account is None:
        return None
    index = PlayedIndex(replay.index, source, team_id, replay.account.version)
    account, _ = replay.due(at, index)
    return account


def account_known_at(source: EventSource, team_id: str, at: datetime) -> TeamAccount | None:
    """The account after the last event recorded by the instant, without what was due but not yet booked."""
    account = _known_at(source, team_id, at).account
    return None if account is None else copy_of(account)


def _known_at(source: EventSource, team_id: str, at: datetime) -> Replay:
    """A replay of every event recorded by the instant."""
    replay = Replay()
    for recorded in source.events(team_id):
        if recorded.event.recorded_at > at:
            break
        replay.play(recorded)
    return replay


class PlayedIndex:
    """The index of an account at a version: entries as a replay left them, charges read from the stream again.

    A replay keeps no charges, or it would need the memory of the whole stream; few due facts ask for them.
    """

    def __init__(self, entries: AccountIndex, source: EventSource, team_id: str, version: int) -> None:
        self._entries = entries
        self._source = source
        self._team_id = team_id
        self._version = version

    def usage(self, usage_key: str) -> UsageOnFile | None:
        """The event that holds the claim."""
        for recorded in self._source.events(self._team_id, until=self._version):
            event = recorded.event
            if isinstance(event, CLAIMED) and event.charge_id == usage_key:
                return UsageOnFile(recorded.originator_version, event)
        return None

    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """The entry as it was."""
        return self._entries.entry(kind, key)

    def latest(self, kind: IndexKind, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """The entries as they were, greatest key first."""
        return self._entries.latest(kind, prefix)

    def charges_since(self, recorded_since: datetime) -> Iterator[Charge]:
        """The charges up to the version, oldest first."""
        for recorded in self._source.events(self._team_id, until=self._version):
            event = recorded.event
            if isinstance(event, CHARGES) and event.recorded_at >= recorded_since:
                yield event


def effective_at(event: AccountEvent) -> datetime:
    """When an event counts from: usage when it occurred, a due fact at its instant, anything else when it was recorded."""
    told = told_of(event)
    if told is not None:
        return told.occurred_at
    effective: datetime = getattr(event, "effective_at", event.recorded_at)
    return effective


def _step(recorded: RecordedEvent, account: TeamAccount, hold: Hold | None) -> ReplayStep:
    event: Any = recorded.event
    told = told_of(event)
    used: Any = event if hasattr(event, "action") else hold
    lot = getattr(event, "lot", None)
    return ReplayStep(
        version=recorded.originator_version,
        kind=type(event).__name__,
        recorded_at=event.recorded_at,
        effective_at=effective_at(event),
        amount_micros=told.amount_micros if told else None,
        settled_after_micros=account.settled_micros,
        available_after_micros=available_micros(account, event.recorded_at),
        held_after_micros=sum(each.held_micros for each in account.lots),
        debt_after_micros=account.debt_micros,
        open_lots=len(account.lots),
        open_holds=len(account.holds),
        charge_id=told.charge_id if told else getattr(event, "charge_id", None),
        lot_id=told.lot_id if told else getattr(lot, "lot_id", None),
        hold_id=getattr(event, "hold_id", None),
        action=getattr(used, "action", None),
        member=getattr(used, "member", None),
        project=getattr(used, "project", None),
        work=getattr(used, "work", None),
        actor=event.actor.id,
        role=event.actor.role,
        reason=event.reason,
        words=event_words(event),
    )


def _hold_of(account: TeamAccount | None, event: AccountEvent) -> Hold | None:
    """The open hold that the event names, as it was before it."""
    hold_id = getattr(event, "hold_id", None)
    if account is None or hold_id is None:
        return None
    return next((hold for hold in account.holds if hold.hold_id == hold_id), None)


def _within(at: datetime, start: datetime | None, end: datetime | None) -> bool:
    return (start is None or start <= at) and (end is None or at < end)
