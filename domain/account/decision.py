"""One decision on one account: its instant, its actor, and the events it has led to so far."""

from __future__ import annotations

from datetime import datetime
from uuid import NAMESPACE_URL, UUID, uuid5

import msgspec

from domain.account.applying import apply, opened
from domain.account.events import AccountEvent, AccountOpened, CreditsCharged, HoldCaptured, UsageWaived
from domain.account.index import AccountIndex, IndexChange, IndexOverlay, UsageOnFile
from domain.account.state import TeamAccount
from domain.actors import Actor
from domain.times import instant_text

# Named once: the type written with | is made anew each time it is met.
_CLAIMING = (CreditsCharged, UsageWaived, HoldCaptured)

ACCOUNT_NAMESPACE = uuid5(NAMESPACE_URL, "urn:coffer:account")


def account_id(team_id: str) -> UUID:
    """The id of a team's account: ``uuid5(ACCOUNT_NAMESPACE, team id)``, fixed for ever."""
    return uuid5(ACCOUNT_NAMESPACE, team_id)


def due_id(kind: str, subject: str, instant: datetime) -> str:
    """Identity of a due fact, 32 hex digits: ``uuid5`` of kind, subject and due instant. Whoever comes first books it."""
    return uuid5(ACCOUNT_NAMESPACE, f"{kind} {subject} {instant_text(instant)}").hex


class Decision:
    """Decides on ``account`` in place; whoever may be refused decides on a copy.

    ``account`` is as the events recorded so far made it; there is none until ``is_open``.
    ``at`` is the ``recorded_at`` of every event: the clock's instant, never before the account's last one.
    ``index_changes`` are the entries that changed, in order. ``has_time_passed`` once all that was due up
    to ``at`` is recorded. ``repeated_denial`` is the version of the denial that this decision repeats, if it does.
    """

    __slots__ = (
        "account",
        "actor",
        "at",
        "correlation_id",
        "events",
        "has_time_passed",
        "index",
        "index_changes",
        "is_open",
        "reason",
        "repeated_denial",
    )

    account: TeamAccount

    def __init__(
        self,
        account: TeamAccount | None,
        at: datetime,
        actor: Actor,
        index: AccountIndex | None = None,
        correlation_id: str | None = None,
        reason: str | None = None,
    ) -> None:
        if account is not None:
            self.account = account
        self.is_open = account is not None
        self.at = at if account is None else max(at, account.recorded_at)
        self.actor = actor
        self.correlation_id = correlation_id
        self.reason = reason
        self.index = index if isinstance(index, IndexOverlay) else IndexOverlay(index)
        self.events: list[AccountEvent] = []
        self.index_changes: list[IndexChange] = []
        self.has_time_passed = False
        self.repeated_denial: int | None = None

    def record(self, event: AccountEvent) -> None:
        """The event is applied and will be written."""
        if self.is_open:
            changes = apply(self.account, event)
            if changes:
                for change in changes:
                    self.index.put(change)
                self.index_changes += changes
        else:
            assert isinstance(event, AccountOpened), "the first event opens the account"
            self.account = opened(event)
            self.is_open = True
        self.events.append(event)
        if isinstance(event, _CLAIMING):
            self.index.usages[event.charge_id] = UsageOnFile(self.account.version, event)


def copy_of(account: TeamAccount) -> TeamAccount:
    """An account equal to this one that shares nothing that changes."""
    return msgspec.json.decode(msgspec.json.encode(account), type=TeamAccount)
