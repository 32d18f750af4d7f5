"""Time passes on idle teams, too: what is due is booked by whoever comes first, by a tick if nobody else comes."""

from __future__ import annotations

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.index import AccountIndex
from domain.account.state import TeamAccount
from domain.actors import Actor

TICK = Actor("tick", "operator")


class DueSession(Protocol):
    """One transaction on one account, its head row locked; committed on clean exit if something was saved."""

    account: TeamAccount | None
    now: datetime
    index: AccountIndex

    def save_due(self, account: TeamAccount, decision: Decision, expected_version: int) -> None:
        """What was due will be durable when the session ends: events, head and index, without an answer to anybody."""


class DueStore(Protocol):
    """Opens sessions. Without ``wait``, raises Busy at once when another transaction is changing the account."""

    def session(self, team_id: str, *, wait: bool = True) -> AbstractContextManager[DueSession]:
        """A transaction on the team's account."""
        ...


def tick(store: DueStore, team_id: str) -> int:
    """All that is due on the account by now is booked, each fact as of its own instant; returns how many events that took.

    Nothing due, nothing written; so it may be called twice, anywhere, beside anything. An account that somebody else is
    changing is theirs to bring up to date. Raises: Busy; OutcomeUnknown; UnknownEventShape.
    """
    with store.session(team_id, wait=False) as session:
        if session.account is None:
            return 0
        decision = Decision(copy_of(session.account), session.now, TICK, session.index)
        pass_time(decision)
        if decision.events:
            session.save_due(decision.account, decision, session.account.version)
        return len(decision.events)
