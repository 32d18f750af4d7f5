"""Limits: what counts in which window, what a request finds left, and thresholds that alert once in a window."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import msgspec

from domain.account.applying import find_limit, window_key
from domain.account.calendar import window_at
from domain.account.decision import Decision
from domain.account.events import (
    Charge,
    LimitRemoved,
    LimitSet,
    LimitTerms,
    LimitThresholdReached,
    WindowMove,
)
from domain.account.index import AccountIndex, RefundsOfCharge, Window
from domain.account.state import Limit, TeamAccount, WindowUse
from domain.periods import period_text

AHEAD_MAX = timedelta(hours=1)
"""Usage may have occurred later than it was recorded by no more than this (arrival allows five minutes)."""


class Room(msgspec.Struct, frozen=True):
    """What a limit's window holds at an instant: used, held by open holds now, and the cap."""

    limit: Limit
    start: datetime
    end: datetime | None
    used_micros: int
    held_micros: int

    @property
    def left_micros(self) -> int:
        """What a request may still ask for; below zero when usage has passed the cap."""
        return self.limit.terms.cap_micros - self.used_micros - self.held_micros


def counts(terms: LimitTerms, member: str | None, project: str | None, action: str) -> bool:
    """Whether the limit counts such a use."""
    return (
        (terms.member is None or terms.member == member)
        and (terms.project is None or terms.project == project)
        and (terms.action is None or terms.action == action)
    )


def window_moves(
    account: TeamAccount,
    index: AccountIndex,
    at: datetime,
    amount_micros: int,
    member: str | None,
    project: str | None,
    action: str,
) -> list[WindowMove]:
    """The windows of ``at`` that count such a use, with the amount added (a refund's is below zero); nothing is changed.

    A window that had ended when its limit was set is not counted.
    """
    moves: list[WindowMove] = []
    for limit in account.limits:
        terms = limit.terms
        if counts(terms, member, project, action):
            start, end = window_at(account, index, terms.window, at)
            if start >= limit.since:
                use = limit.windows.get(period_text(start)) or use_of(index, limit, start, end)
                used = use.used_micros + amount_micros
                moves.append(WindowMove(terms.limit_id, start, end, used if used > 0 else 0, use.reached))
    return moves


def passed(account: TeamAccount, moves: list[WindowMove]) -> list[str]:
    """The hard limits whose window is beyond its cap after the moves."""
    beyond: list[str] = []
    for move in moves:
        limit = find_limit(account, move.limit_id)
        if limit is not None and move.used_after_micros > limit.terms.cap_micros and limit.terms.hard:
            beyond.append(move.limit_id)
    return beyond


def use_of(index: AccountIndex, limit: Limit, start: datetime, end: datetime | None) -> WindowUse:
    """The use of one window: in the state for the two latest used, in the index before them, else none."""
    text = period_text(start)
    use = limit.windows.get(text)
    if use is not None:
        return use
    if len(limit.windows) == 2 and text < min(limit.windows):
        entry = index.entry("window", window_key(limit.terms.limit_id, text))
        if entry:
            window = msgspec.json.decode(entry, type=Window)
            return WindowUse(window.end, window.used_micros, window.reached)
    return WindowUse(end, 0, [])


def rooms(
    account: TeamAccount,
    index: AccountIndex,
    at: datetime,
    member: str | None,
    project: str | None,
    action: str,
) -> Iterator[Room]:
    """What each hard limit that counts such a use has left at ``at``; held credit counts in the windows of now."""
    for limit in account.limits:
        terms = limit.terms
        if terms.hard and counts(terms, member, project, action):
            start, end = window_at(account, index, terms.window, at)
            used = 0 if start < limit.since else use_of(index, limit, start, end).used_micros
            yield Room(limit, start, end, used, held_micros(account, terms))


def held_micros(account: TeamAccount, terms: LimitTerms) -> int:
    """What open holds set aside for uses that the limit counts."""
    return sum(
        hold.held_micros for hold in account.holds if counts(terms, hold.member, hold.project, hold.action)
    )


def reach_thresholds(decision: Decision, moves: list[WindowMove]) -> None:
    """Every threshold that a window has come to for the first time is recorded, rising."""
    for move in moves:
        used = move.used_after_micros
        if not used:
            continue
        limit = find_limit(decision.account, move.limit_id)
        assert limit is not None, f"limit {move.limit_id} is not set"
        terms, reached, hundredfold = limit.terms, move.reached, used * 100
        cap_micros = terms.cap_micros
        for threshold in terms.thresholds:
            if hundredfold < threshold * cap_micros or threshold in reached:
                continue
            reached = [*reached, threshold]
            decision.record(
                LimitThresholdReached(
                    recorded_at=decision.at,
                    actor=decision.actor,
                    correlation_id=decision.correlation_id,
                    limit_id=move.limit_id,
                    threshold_percent=threshold,
                    window_start=move.start,
                    window_end=move.end,
                    used_micros=used,
                    cap_micros=terms.cap_micros,
                    reached=reached,
                )
            )


def put_limit(decision: Decision, terms: LimitTerms, effective_at: datetime, plan_id: str | None) -> None:
    """The limit holds from ``effective_at``, whatever was there under its id before."""
    account, index = decision.account, decision.index
    before = find_limit(account, terms.limit_id)
    if before is not None and scope_of(before.terms) != scope_of(terms):
        take_limit(decision, terms.limit_id, effective_at)
        before = None
    start, end = window_at(account, index, terms.window, effective_at)
    if before is not None:
        used = use_of(index, before, start, end).used_micros if start >= before.since else 0
    else:
        used = used_so_far(index, terms, start, end)
    decision.record(
        LimitSet(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            limit=terms,
            effective_at=effective_at,
            window_start=start,
            window_end=end,
            used_micros=used,
            plan_id=plan_id,
        )
    )


def take_limit(decision: Decision, limit_id: str, effective_at: datetime) -> None:
    """The limit holds no more from ``effective_at``."""
    decision.record(
        LimitRemoved(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            limit_id=limit_id,
            effective_at=effective_at,
        )
    )


def used_so_far(index: AccountIndex, terms: LimitTerms, start: datetime, end: datetime | None) -> int:
    """What the charges on file used of a window, less what was refunded of them."""
    used = 0
    refunded: dict[str, int] | None = None
    for charge in index.charges_since(start - AHEAD_MAX):
        is_within = start <= charge.occurred_at and (end is None or charge.occurred_at < end)
        if not (is_within and _counts_charge(terms, charge)):
            continue
        if refunded is None:
            # Asked once: a window may hold a million charges, of which few were refunded.
            refunded = {key: _refunded(entry) for key, entry in index.latest("refund")}
        used += charge.amount_micros - refunded.get(charge.charge_id, 0)
    return used


def refunded_micros(index: AccountIndex, charge_id: str) -> int:
    """All that was refunded of the charge so far."""
    entry = index.entry("refund", charge_id)
    return _refunded(entry) if entry else 0


def _refunded(entry: bytes) -> int:
    return msgspec.json.decode(entry, type=RefundsOfCharge).refunded_micros


def _counts_charge(terms: LimitTerms, charge: Charge) -> bool:
    return counts(terms, charge.member, charge.project, charge.action)


def scope_of(terms: LimitTerms) -> tuple[str | None, ...]:
    """What a limit keeps for its life: its window and what it counts."""
    return terms.window, terms.member, terms.project, terms.action
