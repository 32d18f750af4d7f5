"""An account at any version or time: its events folded again, with the running sums of every step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Protocol

import msgspec

from domain.account.applying import apply, opened
from domain.account.decision import copy_of
from domain.account.estimating import account_at
from domain.account.events import AccountOpened, RecordedEvent
from domain.account.index import IndexOverlay
from domain.account.state import TeamAccount


class EventSource(Protocol):
    """Reads of one team's stream, in version order."""

    def events(self, team_id: str, after: int = 0, until: int | None = None) -> Iterator[RecordedEvent]:
        """The events with versions above ``after``, up to and including ``until``; none for a team without an account."""
        ...


class ReplayStep(msgspec.Struct, frozen=True, kw_only=True):
    """One event and the account's sums after it."""

    version: int
    kind: str
    recorded: RecordedEvent
    settled_after_micros: int
    debt_after_micros: int
    open_lots: int


class Replay:
    """Folds one stream event by event; ``account`` and ``index`` are as after the last event that was played."""

    def __init__(self) -> None:
        self.account: TeamAccount | None = None
        self.index = IndexOverlay()

    def play(self, recorded: RecordedEvent) -> TeamAccount:
        """The event is applied; returns the account, which the next event changes.

        Raises: AssertionError when the stream begins with another event than the opening, or breaks what an event promises.
        """
        event = recorded.event
        if self.account is None:
            assert isinstance(event, AccountOpened), "the first event opens the account"
            self.account = opened(event)
        else:
            for change in apply(self.account, event):
                self.index.put(change)
        return self.account


def steps(events: Iterable[RecordedEvent]) -> Iterator[ReplayStep]:
    """Every event of a stream, from its first, with the running sums after it."""
    replay = Replay()
    for recorded in events:
        account = replay.play(recorded)
        yield ReplayStep(
            version=recorded.originator_version,
            kind=type(recorded.event).__name__,
            recorded=recorded,
            settled_after_micros=account.settled_micros,
            debt_after_micros=account.debt_micros,
            open_lots=len(account.lots),
        )


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
    account = account_known_at(source, team_id, at)
    return None if account is None else account_at(account, at)


def account_known_at(source: EventSource, team_id: str, at: datetime) -> TeamAccount | None:
    """The account after the last event recorded by the instant, without what was due but not yet booked."""
    replay = Replay()
    for recorded in source.events(team_id):
        if recorded.event.recorded_at > at:
            break
        replay.play(recorded)
    return None if replay.account is None else copy_of(replay.account)
