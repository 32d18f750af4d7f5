"""Holds: credits set aside for work that runs; made or denied, extended, captured, released."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from domain.account import lots
from domain.account.applying import DENIAL_SECONDS, denial_key, open_hold
from domain.account.auto_top_up import look_at_top_up
from domain.account.calendar import window_at
from domain.account.decision import Decision
from domain.account.due import pass_time, repay_debt
from domain.account.events import (
    CapturePolicy,
    CreditsHeld,
    HoldCaptured,
    HoldDenied,
    HoldExtended,
    HoldReleased,
    LotLine,
    QuotePin,
    QuoteWithdrawn,
)
from domain.account.index import EndedHold, UsedQuote
from domain.account.limiting import Room, passed, reach_thresholds, rooms, window_moves
from domain.account.opening import require_active, require_open
from domain.account.state import OPEN_HOLDS_MAX, Hold, TeamAccount
from domain.amounts import AMOUNT_MAX, format_credits
from domain.errors import (
    AmountOutOfRange,
    CaptureExceedsHold,
    HoldNotOpen,
    HoldTermsRefused,
    InsufficientCredits,
    LimitExceeded,
    Malformed,
    QuoteIsWithdrawn,
    QuoteUsed,
    TooManyHolds,
    UnknownHold,
)
from domain.times import instant_text

LASTS_MAX = timedelta(hours=24)
"""How long a hold may last from its making, or from an extension."""
LASTS_IN_ALL_MAX = timedelta(days=7)


class Use(msgspec.Struct, frozen=True):
    """What credits are set aside for."""

    action: str
    member: str | None = None
    project: str | None = None
    work: str | None = None
    step: str | None = None


class Denied(msgspec.Struct, frozen=True):
    """A hold was not given: the denial, and the version at which it, or its equal within the minute, is on file."""

    denial: HoldDenied
    version: int


def place_hold(
    decision: Decision, amount_micros: int, use: Use, lasts_seconds: int, quote: QuotePin | None = None
) -> str | Denied:
    """Credits are set aside for the use: returns the hold's id, or the denial, which is an outcome and no failure.

    Raises: AccountSuspended; AccountClosed; Malformed for no amount; HoldTermsRefused; TooManyHolds; QuoteUsed; QuoteIsWithdrawn.
    """
    account, at = decision.account, decision.at
    require_active(account)
    pass_time(decision)
    expires_at = at + _lasts(lasts_seconds)
    if quote is not None:
        require_unused(decision, quote.quote_id)
    elif not 0 < amount_micros <= AMOUNT_MAX:
        raise Malformed(
            f"amount {format_credits(amount_micros)}: a hold sets aside more than 0, at most 2^62 micro-credits",
            field="amount",
        )
    if len(account.holds) >= OPEN_HOLDS_MAX:
        raise TooManyHolds(f"the account has {OPEN_HOLDS_MAX} open holds: capture or release some first")
    denial = denial_of(decision, amount_micros, use)
    if denial is not None:
        version = _deny(decision, denial)
        look_at_top_up(decision)
        return Denied(denial, version)
    hold_id = f"hold-{account.version + 1}"
    decision.record(
        CreditsHeld(
            recorded_at=at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            hold_id=hold_id,
            amount_micros=amount_micros,
            lines=lots.draw(account, amount_micros, (at,), use.action, use.project),
            expires_at=expires_at,
            action=use.action,
            member=use.member,
            project=use.project,
            work=use.work,
            step=use.step,
            quote=quote,
        )
    )
    look_at_top_up(decision)
    return hold_id


def extend_hold(decision: Decision, hold_id: str, lasts_seconds: int) -> datetime:
    """The hold lasts so long from now, unless it lasts longer already; returns until when.

    Raises: UnknownHold; HoldNotOpen; HoldTermsRefused beyond seven days from its making; AccountSuspended; AccountClosed.
    """
    require_active(decision.account)
    pass_time(decision)
    hold = require_hold(decision, hold_id)
    asked = decision.at + _lasts(lasts_seconds)
    latest = hold.made_at + LASTS_IN_ALL_MAX
    if asked > latest:
        raise HoldTermsRefused(
            f"hold {hold_id}: until {instant_text(asked)} would be more than seven days from its making, "
            f"{instant_text(latest)} is the latest",
            hold_id=hold_id,
        )
    expires_at = max(hold.expires_at, asked)
    decision.record(
        HoldExtended(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            hold_id=hold_id,
            expires_at=expires_at,
        )
    )
    return expires_at


def capture_hold(
    decision: Decision, hold_id: str, amount_micros: int, occurred_at: datetime | None, charge_id: str
) -> None:
    """So much of the hold is a charge; above what it sets aside the rest is met by the action's policy, within hard limits.

    Raises: UnknownHold; HoldNotOpen; Malformed for no amount, or work done before the hold or in the future;
    CaptureExceedsHold; InsufficientCredits; LimitExceeded; AmountOutOfRange; AccountClosed.
    """
    account, at = decision.account, decision.at
    require_open(account)
    pass_time(decision)
    hold = require_hold(decision, hold_id)
    occurred = occurred_at or at
    _check_capture(hold, amount_micros, occurred, at)
    held = lots.from_lines(account, hold.lines, amount_micros)
    above = amount_micros - lots.total(held)
    drawn: list[LotLine] = []
    if above:
        policy = _policy(account, hold.action)
        if policy == "reject":
            raise CaptureExceedsHold(
                f"hold {hold_id} has {format_credits(hold.held_micros)} credits left, {format_credits(amount_micros)} were to be "
                f"captured: for {hold.action} at most what is left",
                hold_id=hold_id,
            )
        _require_within_limits(decision, hold, amount_micros, above, occurred)
        drawn = lots.draw(account, above, (occurred, at), hold.action, hold.project)
        _require_covered(account, hold, above - lots.total(drawn), policy)
    debt = above - lots.total(drawn)
    moves = window_moves(
        account, decision.index, occurred, amount_micros, hold.member, hold.project, hold.action
    )
    decision.record(
        HoldCaptured(
            recorded_at=at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            settled_after_micros=account.settled_micros - amount_micros + debt,
            debt_after_micros=account.debt_micros + debt,
            hold_id=hold_id,
            charge_id=charge_id,
            occurred_at=occurred,
            action=hold.action,
            member=hold.member,
            project=hold.project,
            work=hold.work,
            step=hold.step,
            amount_micros=amount_micros,
            lines=[*held, *drawn],
            hold_lines=held,
            debt_micros=debt,
            windows=moves,
            limits_passed=passed(account, moves),
        )
    )
    reach_thresholds(decision, moves)
    look_at_top_up(decision)


def release_hold(decision: Decision, hold_id: str, released_by: str | None = None) -> int:
    """The hold has ended and what it had still set aside is available again, debt repaid first; returns how much that was.

    Raises: UnknownHold; HoldNotOpen; AccountClosed.
    """
    require_open(decision.account)
    pass_time(decision)
    hold = require_hold(decision, hold_id)
    amount = hold.held_micros
    decision.record(
        HoldReleased(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            hold_id=hold_id,
            amount_micros=amount,
            released_by=released_by,
        )
    )
    repay_debt(decision, decision.at)
    return amount


def withdraw_quote(decision: Decision, quote_id: str) -> None:
    """No hold may name the quote any more. Raises: QuoteUsed; QuoteIsWithdrawn; AccountClosed."""
    require_open(decision.account)
    pass_time(decision)
    require_unused(decision, quote_id)
    decision.record(
        QuoteWithdrawn(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            quote_id=quote_id,
        )
    )


def require_hold(decision: Decision, hold_id: str) -> Hold:
    """The open hold of that id. Raises: UnknownHold; HoldNotOpen, saying how and when it ended."""
    hold = open_hold(decision.account, hold_id)
    if hold is not None:
        return hold
    entry = decision.index.entry("hold", hold_id)
    if entry is None:
        raise UnknownHold(f"hold {hold_id[:64]!r} is not one of this team's", hold_id=hold_id[:64])
    ended = msgspec.json.decode(entry, type=EndedHold)
    raise HoldNotOpen(
        f"hold {hold_id} was {ended.how} at {instant_text(ended.ended_at)}: it takes no further step",
        hold_id=hold_id,
        how=ended.how,
    )


def _lasts(seconds: int) -> timedelta:
    if not 1 <= seconds <= LASTS_MAX.total_seconds():
        raise HoldTermsRefused(
            f"lasts_seconds {seconds}: 1 to {int(LASTS_MAX.total_seconds())} (24 hours) would be right",
            field="lasts_seconds",
        )
    return timedelta(seconds=seconds)


def require_unused(decision: Decision, quote_id: str) -> None:
    """No hold has named the quote, and it was not withdrawn. Raises: QuoteUsed; QuoteIsWithdrawn."""
    entry = decision.index.entry("quote", quote_id)
    if entry is None:
        return
    hold_id = msgspec.json.decode(entry, type=UsedQuote).hold_id
    if hold_id is None:
        raise QuoteIsWithdrawn(f"quote {quote_id} was withdrawn: ask for a new one", quote_id=quote_id)
    raise QuoteUsed(f"quote {quote_id} was used by {hold_id}: ask for a new one", quote_id=quote_id)


def denial_of(decision: Decision, amount_micros: int, use: Use) -> HoldDenied | None:
    """The denial by the rule that leaves least room, None when every rule has room for the amount. Time has passed already."""
    account, at = decision.account, decision.at
    available = lots.available_micros(account, at, use.action, use.project)
    tightest: Room | None = None
    left = available
    for room in rooms(account, decision.index, at, use.member, use.project, use.action):
        if room.left_micros < amount_micros and (
            room.left_micros < left
            or (
                tightest
                and room.left_micros == left
                and room.limit.terms.limit_id < tightest.limit.terms.limit_id
            )
        ):
            tightest, left = room, room.left_micros
    if tightest is None and available >= amount_micros:
        return None
    denial = HoldDenied(
        recorded_at=at,
        actor=decision.actor,
        correlation_id=decision.correlation_id,
        reason=decision.reason,
        rule="available",
        held_micros=_held_beside(account, use),
        limit_micros=available,
        requested_micros=amount_micros,
        action=use.action,
        member=use.member,
        project=use.project,
        work=use.work,
    )
    if tightest is None:
        return denial
    return msgspec.structs.replace(
        denial,
        rule="limit",
        limit_id=tightest.limit.terms.limit_id,
        window_start=tightest.start,
        window_end=tightest.end,
        used_micros=tightest.used_micros,
        held_micros=tightest.held_micros,
        limit_micros=tightest.limit.terms.cap_micros,
    )


def _held_beside(account: TeamAccount, use: Use) -> int:
    """What open holds set aside in lots that would pay for the use."""
    return sum(lot.held_micros for lot in account.lots if lots.pays_for(lot.terms, use.action, use.project))


def _deny(decision: Decision, denial: HoldDenied) -> int:
    """The denial is appended, or counted when its equal was within the last minute; returns the version that is on file."""
    recent = decision.account.denials.get(denial_key(denial))
    if recent is not None and (decision.at - recent.denied_at).total_seconds() < DENIAL_SECONDS:
        decision.repeated_denial = recent.version
        return recent.version
    decision.record(denial)
    return decision.account.version


def _check_capture(hold: Hold, amount_micros: int, occurred: datetime, at: datetime) -> None:
    if not 0 < amount_micros <= AMOUNT_MAX:
        raise Malformed(
            f"amount {format_credits(amount_micros)}: a capture takes more than 0, at most 2^62 micro-credits",
            field="amount",
        )
    if not hold.made_at <= occurred <= at:
        raise Malformed(
            f"occurred_at {instant_text(occurred)}: from {instant_text(hold.made_at)}, when the hold was made, to now "
            "would be right",
            field="occurred_at",
        )


def _policy(account: TeamAccount, action: str) -> CapturePolicy:
    return "if_available" if account.plan is None else account.plan.captures.get(action, "if_available")


def _require_within_limits(
    decision: Decision, hold: Hold, amount_micros: int, above_micros: int, occurred: datetime
) -> None:
    """Every hard limit has room: in the window of now for what is above the hold, in an earlier one for the whole amount."""
    account, index = decision.account, decision.index
    for room in rooms(account, index, occurred, hold.member, hold.project, hold.action):
        now = window_at(account, index, room.limit.terms.window, decision.at)[0]
        held = room.held_micros if room.start == now else 0
        asked = above_micros if room.start == now else amount_micros
        if room.start >= room.limit.since and room.used_micros + held + asked > room.limit.terms.cap_micros:
            raise LimitExceeded(
                f"limit {room.limit.terms.limit_id}: of {format_credits(room.limit.terms.cap_micros)} credits in the window "
                f"from {instant_text(room.start)}, {format_credits(room.used_micros)} are used and {format_credits(held)} held; "
                f"{format_credits(asked)} more do not fit",
                limit_id=room.limit.terms.limit_id,
            )


def _require_covered(account: TeamAccount, hold: Hold, missing_micros: int, policy: CapturePolicy) -> None:
    if not missing_micros:
        return
    cap = account.plan.overdraft_cap_micros if policy == "overdraft" and account.plan is not None else 0
    if account.debt_micros + missing_micros > cap or policy != "overdraft":
        raise InsufficientCredits(
            f"hold {hold.hold_id}: {format_credits(missing_micros)} credits more are needed than it has left and than are "
            f"available for {hold.action}" + (f", and debt may reach {format_credits(cap)}" if cap else ""),
            hold_id=hold.hold_id,
        )
    if account.debt_micros + missing_micros > AMOUNT_MAX:
        raise AmountOutOfRange(
            "the capture would take the account's debt beyond 2^62 micro-credits", field="amount"
        )
