"""What each limit of a team has left at an instant: used, held and remaining of its window, and when that resets."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import msgspec

from domain.account.applying import window_key
from domain.account.calendar import window_at
from domain.account.estimating import account_at
from domain.account.index import AccountIndex, Window
from domain.account.state import Hold, Limit, TeamAccount
from domain.periods import period_text
from domain.terms import LimitTerms, LimitWindow


class LimitBalance(msgspec.Struct, frozen=True, kw_only=True):
    """One limit at an instant: its terms, and the window that holds the instant; ``window_end`` is when it resets.

    ``held_micros`` is what open holds of its scope set aside now. ``remaining_micros`` is the cap less both, never below
    zero. ``reached`` are the thresholds, in percent of the cap, that this window has come to.
    """

    limit_id: str
    window: LimitWindow
    cap_micros: int
    hard: bool
    member: str | None
    project: str | None
    action: str | None
    thresholds: list[int]
    plan_id: str | None
    since: datetime
    window_start: datetime
    window_end: datetime | None
    used_micros: int
    held_micros: int
    remaining_micros: int
    reached: list[int]


def limits_at(account: TeamAccount, index: AccountIndex, at: datetime) -> list[LimitBalance]:
    """Every limit as it stands at ``at``, with everything booked that is due by then; in the order of the state.

    An instant before the account's last event is answered for the instant of that event. The account is not changed.
    Source: design, "Read models" (rows store facts, answers are computed for the instant they state).
    """
    at = max(at, account.recorded_at)
    return limits_as_booked(account_at(account, at, index), index, at)


def limits_as_booked(account: TeamAccount, index: AccountIndex, at: datetime) -> list[LimitBalance]:
    """Every limit as it stands at ``at`` on an account on which everything due by then is booked."""
    return [_limit(limit, account, index, at) for limit in account.limits]


def held_for(terms: LimitTerms, holds: Iterable[Hold]) -> int:
    """What open holds set aside that counts in the limit: those whose own member, project and action are its scope."""
    return sum(hold.held_micros for hold in holds if _counts(terms, hold))


def _limit(limit: Limit, account: TeamAccount, index: AccountIndex, at: datetime) -> LimitBalance:
    terms = limit.terms
    start, end = window_at(account, index, terms.window, at)
    used, reached = _use(limit, index, period_text(start))
    held = held_for(terms, account.holds)
    return LimitBalance(
        limit_id=terms.limit_id,
        window=terms.window,
        cap_micros=terms.cap_micros,
        hard=terms.hard,
        member=terms.member,
        project=terms.project,
        action=terms.action,
        thresholds=terms.thresholds,
        plan_id=limit.plan_id,
        since=limit.since,
        window_start=start,
        window_end=end,
        used_micros=used,
        held_micros=held,
        remaining_micros=max(0, terms.cap_micros - used - held),
        reached=reached,
    )


def _use(limit: Limit, index: AccountIndex, start: str) -> tuple[int, list[int]]:
    """What was used in a window and the thresholds it reached: from the state, else from the index, else nothing."""
    use = limit.windows.get(start)
    if use is not None:
        return use.used_micros, use.reached
    if len(limit.windows) < 2 or start > min(limit.windows):
        return 0, []
    entry = index.entry("window", window_key(limit.terms.limit_id, start))
    if entry is None:
        return 0, []
    window = msgspec.json.decode(entry, type=Window)
    return window.used_micros, window.reached


def _counts(terms: LimitTerms, hold: Hold) -> bool:
    return (
        terms.member in (None, hold.member)
        and terms.project in (None, hold.project)
        and terms.action in (None, hold.action)
    )
