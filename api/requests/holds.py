"""Bodies about holds: place, extend, capture, release."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.fields import QUOTE_PATTERN, Amount, Id, Name, Reason, Sent, Time, instant
from domain.amounts import parse_credits
from domain.commands import HOLD_SECONDS, CaptureHold, ExtendHold, PlaceHold, ReleaseHold
from domain.errors import Malformed
from domain.quotes import TOKEN_CHARACTERS_MAX

HOLD_SECONDS_MAX = 86_400
Lasts = Annotated[int, Field(ge=1, le=HOLD_SECONDS_MAX, description="How long, in seconds, from now.")]


class HoldBody(Sent):
    """Set credits aside for work that is about to run: an amount, or the total of a quote."""

    action: Name
    amount: Annotated[Amount | None, Field(description="Credits; left out when a quote says how much.")] = (
        None
    )
    quote: Annotated[
        str | None,
        Field(
            pattern=QUOTE_PATTERN,
            max_length=TOKEN_CHARACTERS_MAX,
            description="The token of a quote; it is used up.",
        ),
    ] = None
    lasts_seconds: Lasts = HOLD_SECONDS
    member: Id | None = None
    project: Id | None = None
    work: Id | None = None
    step: Id | None = None
    reason: Reason | None = None

    def command(self, team_id: str) -> PlaceHold:
        """The command that this body asks for. Raises: Malformed unless exactly one of amount and quote is there."""
        if (self.amount is None) == (self.quote is None):
            raise Malformed(
                "amount and quote: send exactly one of them, it says how much to hold", field="amount"
            )
        return PlaceHold(
            team_id=team_id,
            reason=self.reason,
            action=self.action,
            amount_micros=None if self.amount is None else parse_credits(self.amount, "amount"),
            quote=self.quote,
            lasts_seconds=self.lasts_seconds,
            member=self.member,
            project=self.project,
            work=self.work,
            step=self.step,
        )


class ExtensionBody(Sent):
    """Let a hold last so long from now."""

    lasts_seconds: Lasts = HOLD_SECONDS
    reason: Reason | None = None

    def command(self, team_id: str, hold_id: str) -> ExtendHold:
        """The command that this body asks for."""
        return ExtendHold(
            team_id=team_id, hold_id=hold_id, lasts_seconds=self.lasts_seconds, reason=self.reason
        )


class CaptureBody(Sent):
    """Turn part or all of a hold into a charge."""

    amount: Amount
    occurred_at: Annotated[Time | None, Field(description="When the work was done; now, when not given.")] = (
        None
    )
    reason: Reason | None = None

    def command(self, team_id: str, hold_id: str) -> CaptureHold:
        """The command that this body asks for."""
        return CaptureHold(
            team_id=team_id,
            hold_id=hold_id,
            amount_micros=parse_credits(self.amount, "amount"),
            occurred_at=instant(self.occurred_at, "occurred_at"),
            reason=self.reason,
        )


class ReleaseBody(Sent):
    """End a hold; what it still sets aside is available again."""

    reason: Reason | None = None

    def command(self, team_id: str, hold_id: str) -> ReleaseHold:
        """The command that this body asks for."""
        return ReleaseHold(team_id=team_id, hold_id=hold_id, reason=self.reason)
