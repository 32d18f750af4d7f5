"""Bodies about a use that is planned: its estimate, its quote."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.fields import DimensionValue, Id, Name, Quantity, Reason, Sent
from domain.account.quoting import QUOTE_SECONDS, QUOTE_SECONDS_MAX, QUOTE_SECONDS_MIN
from domain.commands import WithdrawQuote

METERS_MAX = 16
DIMENSIONS_MAX = 32


class EstimateBody(Sent):
    """A use that is planned: what would it cost now?"""

    action: Name
    meters: Annotated[dict[Name, Quantity], Field(max_length=METERS_MAX, examples=[{"images": "4"}])]
    dimensions: Annotated[
        dict[Name, DimensionValue], Field(max_length=DIMENSIONS_MAX, examples=[{"model": "base"}])
    ] = Field(default_factory=dict)
    project: Id | None = None


class QuoteBody(EstimateBody):
    """A use that is planned: at which price will the ledger honour it?"""

    lasts_seconds: Annotated[
        int,
        Field(ge=QUOTE_SECONDS_MIN, le=QUOTE_SECONDS_MAX, description="How long the price is honoured."),
    ] = QUOTE_SECONDS


class QuoteWithdrawalBody(Sent):
    """Let no hold name a quote any more."""

    reason: Reason | None = None

    def command(self, team_id: str, quote_id: str) -> WithdrawQuote:
        """The command that this body asks for."""
        return WithdrawQuote(team_id=team_id, quote_id=quote_id, reason=self.reason)
