"""Questions about a team's people and paperwork."""

from __future__ import annotations

from typing import Any

from api.answers_team import (
    AdjustmentAnswer,
    AdjustmentsAnswer,
    BillingAnswer,
    BillingDetailsAnswer,
    MemberAnswer,
    MembersAnswer,
    MethodAnswer,
    PaymentMethodAnswer,
)
from api.moments import unknown_team
from api.ports import AccountReads
from domain.team.state import Team


class TeamQueries:
    """Reads of one team. Raises, everywhere: UnknownTeam, Busy."""

    def __init__(self, accounts: AccountReads) -> None:
        self._accounts = accounts

    async def members(self, team_id: str) -> MembersAnswer:
        """Everyone in the team."""
        team, place = await self._team(team_id)
        told = [
            MemberAnswer(member=member, role=now.role, since=now.since)
            for member, now in team.members.items()
        ]
        return MembersAnswer(**place, data=told)

    async def billing_details(self, team_id: str) -> BillingDetailsAnswer:
        """Whom invoices are made out to."""
        team, place = await self._team(team_id)
        details = team.billing_details
        told = (
            BillingAnswer(
                name=details.name,
                address_lines=details.address_lines,
                country=details.country,
                email=details.email,
                tax_id=details.tax_id,
                locale=details.locale,
            )
            if details
            else None
        )
        return BillingDetailsAnswer(**place, billing_details=told)

    async def payment_method(self, team_id: str) -> PaymentMethodAnswer:
        """How the team pays."""
        team, place = await self._team(team_id)
        method = team.payment_method
        told = (
            MethodAnswer(
                brand=method.brand,
                last_four=method.last_four,
                expires_month=method.expires_month,
                expires_year=method.expires_year,
            )
            if method
            else None
        )
        return PaymentMethodAnswer(**place, payment_method=told)

    async def adjustments(self, team_id: str) -> AdjustmentsAnswer:
        """Adjustments that wait for a second person."""
        team, place = await self._team(team_id)
        told = [
            AdjustmentAnswer(
                adjustment_id=each.adjustment_id,
                direction=each.direction,
                amount=each.amount_micros,
                proposed_by=each.proposed_by.id,
                proposed_at=each.proposed_at,
                reason=each.reason,
            )
            for each in team.adjustments.values()
        ]
        return AdjustmentsAnswer(**place, data=told)

    async def _team(self, team_id: str) -> tuple[Team, dict[str, Any]]:
        found = await self._accounts.team(team_id)
        if found is None:
            raise unknown_team(team_id)
        place = {
            "team_id": team_id,
            "team_version": found.team.version,
            "position": found.position,
            "as_of": found.now,
        }
        return found.team, place
