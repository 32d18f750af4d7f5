"""What a team has set aside for running work: every open hold, and what became of one that has ended."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from domain.account.applying import open_hold
from domain.account.events import CreditsHeld, LotLine, QuotePin
from domain.account.index import AccountIndex, EndedHold
from domain.account.state import Hold, TeamAccount

HoldState = Literal["open", "captured", "released", "expired"]


class HoldBalance(msgspec.Struct, frozen=True, kw_only=True):
    """One hold: what it set aside when made, what it still does, until when at the latest, and for what.

    ``lines`` are what an open hold sets aside; of an ended one, what late usage that names it may still draw.
    """

    hold_id: str
    state: HoldState
    amount_micros: int | None
    held_micros: int
    lines: list[LotLine]
    made_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    action: str
    member: str | None
    project: str | None
    work: str | None
    step: str | None
    quote: QuotePin | None


def holds_of(account: TeamAccount) -> list[HoldBalance]:
    """The open holds in the order in which they were made; ``amount_micros`` is not kept in the state."""
    return [_open(hold, None) for hold in account.holds]


def hold_of(account: TeamAccount, index: AccountIndex, hold_id: str, made: CreditsHeld) -> HoldBalance | None:
    """The hold as it is on this account, open or ended; None before it was made. ``made`` is the event that made it."""
    hold = open_hold(account, hold_id)
    if hold is not None:
        return _open(hold, made.amount_micros)
    entry = index.entry("hold", hold_id)
    if entry is None:
        return None
    return _ended(msgspec.json.decode(entry, type=EndedHold), _left(index, hold_id), hold_id, made)


def _left(index: AccountIndex, hold_id: str) -> list[LotLine] | None:
    entry = index.entry("hold_left", hold_id)
    return None if entry is None else msgspec.json.decode(entry, type=list[LotLine])


def _open(hold: Hold, amount_micros: int | None) -> HoldBalance:
    return HoldBalance(
        hold_id=hold.hold_id,
        state="open",
        amount_micros=amount_micros,
        held_micros=hold.held_micros,
        lines=hold.lines,
        made_at=hold.made_at,
        expires_at=hold.expires_at,
        ended_at=None,
        action=hold.action,
        member=hold.member,
        project=hold.project,
        work=hold.work,
        step=hold.step,
        quote=hold.quote,
    )


def _ended(ended: EndedHold, left: list[LotLine] | None, hold_id: str, made: CreditsHeld) -> HoldBalance:
    return HoldBalance(
        hold_id=hold_id,
        state=ended.how,
        amount_micros=made.amount_micros,
        held_micros=0,
        lines=ended.lines if left is None else left,
        made_at=ended.made_at,
        expires_at=None,
        ended_at=ended.ended_at,
        action=made.action,
        member=made.member,
        project=made.project,
        work=made.work,
        step=made.step,
        quote=ended.quote,
    )
