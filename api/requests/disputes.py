"""Bodies about charges that a customer contests: open, uphold, reject."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.fields import ChargeId, Evidence, Reason, Sent
from domain.commands import OpenChargeDispute, RejectChargeDispute, UpholdChargeDispute

CHARGES_MAX = 100


class DisputeBody(Sent):
    """Contest charges, with evidence."""

    charge_ids: Annotated[list[ChargeId], Field(min_length=1, max_length=CHARGES_MAX)]
    evidence: Evidence
    reason: Reason | None = None

    def command(self, team_id: str) -> OpenChargeDispute:
        """The command that this body asks for."""
        return OpenChargeDispute(
            team_id=team_id,
            charge_ids=list(self.charge_ids),
            evidence=self.evidence,
            reason=self.reason,
        )


class DecisionBody(Sent):
    """Decide a dispute."""

    reason: Reason

    def upholds(self, team_id: str, dispute_id: str) -> UpholdChargeDispute:
        """The command that gives the charges back."""
        return UpholdChargeDispute(team_id=team_id, dispute_id=dispute_id, reason=self.reason)

    def rejects(self, team_id: str, dispute_id: str) -> RejectChargeDispute:
        """The command that lets the charges stand."""
        return RejectChargeDispute(team_id=team_id, dispute_id=dispute_id, reason=self.reason)
