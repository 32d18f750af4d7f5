"""An account's beginning and end."""

from __future__ import annotations

from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from domain.account.decision import Decision
from domain.account.due import pass_time
from domain.account.events import AccountClosed, AccountOpened
from domain.account.state import TeamAccount
from domain.errors import AccountAlreadyOpen, Malformed
from domain.errors import AccountClosed as AccountIsClosed


def open_account(
    decision: Decision, team_id: str, zone: str = "UTC", anchor_day: int = 1, card_id: str = "standard"
) -> None:
    """The team has an account with monthly periods from ``anchor_day`` (1 to 31) in ``zone``.

    Raises: AccountAlreadyOpen; Malformed for an unknown zone or an anchor day that is none.
    """
    if decision.is_open:
        raise AccountAlreadyOpen(
            f"team {team_id!r} has an account since {decision.account.opened_at:%Y-%m-%d}"
        )
    _check_zone(zone)
    if not 1 <= anchor_day <= 31:
        raise Malformed(
            f"anchor_day {anchor_day} is no day of a month: 1 to 31 would be right", field="anchor_day"
        )
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
        )
    )


def close_account(decision: Decision) -> None:
    """The account takes no further command and no usage; what it holds stays on record and expires as it would have.

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


def require_open(account: TeamAccount) -> None:
    """Raises AccountClosed unless the account takes commands."""
    if account.status == "closed":
        raise AccountIsClosed(
            f"the account of team {account.team_id!r} is closed: it takes no command and no usage"
        )


def _check_zone(zone: str) -> None:
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Malformed(
            f"zone {zone[:60]!r} is no time zone: one such as 'Europe/Berlin' would be right", field="zone"
        ) from None
