"""An account's beginning and end, its suspension, and its move to another zone."""

from __future__ import annotations

from datetime import datetime, timedelta

from domain.account.calendar import period_at, zone_at
from domain.account.decision import Decision
from domain.account.due import pass_time
from domain.account.events import (
    AccountClosed,
    AccountOpened,
    AccountResumed,
    AccountSuspended,
    ZoneChangeScheduled,
)
from domain.account.state import TeamAccount
from domain.errors import AccountAlreadyOpen, AccountNotSuspended, Malformed, ZoneChangeRefused
from domain.errors import AccountClosed as AccountIsClosed
from domain.errors import AccountSuspended as AccountIsSuspended
from domain.issuer.deciding import check_issuer_id
from domain.issuer.details import MAIN_ISSUER
from domain.periods import check_zone, period_bounds
from domain.times import instant_text

BOOKS_BEFORE_MAX = timedelta(days=20 * 366)
"""How long before its opening the books of an account may begin: every month of it is closed by one event."""


def open_account(
    decision: Decision,
    team_id: str,
    zone: str = "UTC",
    anchor_day: int = 1,
    card_id: str = "standard",
    *,
    issuer_id: str = MAIN_ISSUER,
    books_from: datetime | None = None,
) -> None:
    """The team has an account with monthly periods from ``anchor_day`` (1 to 31) in ``zone``, sold to by ``issuer_id``.

    Its books begin with the period that holds ``books_from`` (None: now), at most ``BOOKS_BEFORE_MAX`` ago.
    Raises: AccountAlreadyOpen; Malformed for an unknown zone, an anchor day or issuer id that is none, or books from the future.
    """
    if decision.is_open:
        raise AccountAlreadyOpen(
            f"team {team_id!r} has an account since {decision.account.opened_at:%Y-%m-%d}"
        )
    check_zone(zone)
    if not 1 <= anchor_day <= 31:
        raise Malformed(
            f"anchor_day {anchor_day} is no day of a month: 1 to 31 would be right", field="anchor_day"
        )
    check_issuer_id(issuer_id)
    _check_books_from(decision.at, books_from)
    books_start, books_end = period_bounds(books_from or decision.at, zone, anchor_day)
    decision.record(
        AccountOpened(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            team_id=team_id,
            zone=zone,
            anchor_day=anchor_day,
            card_id=card_id,
            issuer_id=issuer_id,
            books_from=books_from,
            books_start=books_start,
            books_end=books_end,
        )
    )


def _check_books_from(at: datetime, books_from: datetime | None) -> None:
    if books_from is None:
        return
    if books_from.tzinfo is None:
        raise Malformed(
            f"books_from {books_from.isoformat()} has no offset: give an aware time", field="books_from"
        )
    if not at - BOOKS_BEFORE_MAX <= books_from <= at:
        raise Malformed(
            f"books_from {instant_text(books_from)} is in the future or too long ago: "
            f"{instant_text(at - BOOKS_BEFORE_MAX)} to {instant_text(at)} would be right",
            field="books_from",
        )


def suspend_account(decision: Decision) -> None:
    """The account takes no new request to spend. Raises: AccountSuspended when it takes none already; AccountClosed."""
    require_active(decision.account)
    pass_time(decision)
    decision.record(
        AccountSuspended(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
        )
    )


def resume_account(decision: Decision) -> None:
    """The account takes requests to spend again. Raises: AccountNotSuspended; AccountClosed."""
    require_open(decision.account)
    pass_time(decision)
    if decision.account.status != "suspended":
        raise AccountNotSuspended(f"the account of team {decision.account.team_id!r} is not suspended")
    decision.record(
        AccountResumed(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
        )
    )


def close_account(decision: Decision) -> None:
    """The account takes no further command about credits and no usage.

    What it holds stays on record and expires as it would have. Its periods close up to the running one; their documents go on.

    Raises: AccountClosed when it is closed already.
    """
    require_open(decision.account)
    pass_time(decision)
    decision.record(
        AccountClosed(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
        )
    )


def schedule_zone_change(decision: Decision, zone: str) -> None:
    """Periods and windows are those of ``zone`` from the next turn on.

    Raises: Malformed for an unknown zone; ZoneChangeRefused when it is the zone already, or a change is scheduled; AccountClosed.
    """
    account = decision.account
    require_open(account)
    pass_time(decision)
    check_zone(zone)
    latest = account.zones[-1]
    if latest.since > decision.at:
        raise ZoneChangeRefused(
            f"zone {zone!r}: a change to {latest.value!r} takes effect at {instant_text(latest.since)} already",
            zone=zone,
        )
    if zone == zone_at(account, decision.index, decision.at):
        raise ZoneChangeRefused(f"zone {zone!r} is the team's already", zone=zone)
    _, turn = period_at(account, decision.index, decision.at)
    decision.record(
        ZoneChangeScheduled(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            zone=zone,
            effective_at=turn,
        )
    )


def require_open(account: TeamAccount) -> None:
    """Raises AccountClosed unless the account takes commands."""
    if account.status == "closed":
        raise AccountIsClosed(
            f"the account of team {account.team_id!r} is closed: it takes no command and no usage"
        )


def require_active(account: TeamAccount) -> None:
    """Raises AccountClosed or AccountSuspended unless the account takes requests to spend."""
    require_open(account)
    if account.status == "suspended":
        raise AccountIsSuspended(
            f"the account of team {account.team_id!r} is suspended: it takes no new request to spend until it is resumed"
        )
