"""The books of a team close period by period: each is closed late grace after its end, once, by whoever comes first."""

from __future__ import annotations

from datetime import datetime

from domain.account.calendar import LATE_GRACE, label_at, period_after, zone_at
from domain.account.decision import Decision, due_id
from domain.account.events import PeriodClosed
from domain.account.state import TeamAccount


def closes_at(account: TeamAccount) -> datetime | None:
    """When time alone closes the oldest open period of the books: late grace after its end, and after the account was opened.

    None once a closed account has closed the period in which it was closed.
    """
    if account.closed_at is not None and account.closed_at < account.books_start:
        return None
    return max(account.books_end, account.opened_at) + LATE_GRACE


def close_period(decision: Decision, effective_at: datetime, reason: str | None = None) -> None:
    """The oldest open period of the books is closed as of ``effective_at``, and the next one is the oldest."""
    account = decision.account
    start, end = account.books_start, account.books_end
    decision.record(
        PeriodClosed(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=reason,
            # Not that of the instant: closed early or late, a period is closed once.
            due_id=due_id("close", account.team_id, start),
            effective_at=effective_at,
            period_start=start,
            period_end=end,
            zone=zone_at(account, decision.index, start),
            label=label_at(account, decision.index, start, end),
            following_end=period_after(account, decision.index, end),
            settled_after_micros=account.settled_micros,
            debt_after_micros=account.debt_micros,
        )
    )
