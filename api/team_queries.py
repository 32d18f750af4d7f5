"""Questions about a team's people and paperwork."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from api.answers_keys import AccessAnswer, AccessesAnswer, ActAnswer, ActsAnswer, KeyAnswer, KeysAnswer
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
from api.cursors import Cursors
from api.moments import unknown_team
from api.ports import AccountReads, StoredTeamEvent
from domain.team.events import AccessRecorded
from domain.team.state import Team

PAGE_EVENTS = 500


class TeamQueries:
    """Reads of one team. Raises, everywhere: UnknownTeam, Busy."""

    def __init__(self, accounts: AccountReads, cursors: Cursors) -> None:
        self._accounts = accounts
        self._cursors = cursors

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

    async def keys(self, team_id: str, used: Mapping[str, datetime]) -> KeysAnswer:
        """Every key that was not revoked."""
        team, place = await self._team(team_id)
        told = [
            KeyAnswer(
                key_id=key_id,
                member=key.member,
                created_at=key.created_at,
                expires_at=key.expires_at,
                scopes=key.scopes,
                last_used_at=used.get(key_id),
            )
            for key_id, key in team.keys.items()
        ]
        return KeysAnswer(**place, data=told)

    async def acts(self, team_id: str) -> ActsAnswer:
        """What waits for a second person."""
        team, place = await self._team(team_id)
        told = [
            ActAnswer(
                act_id=each.act_id,
                operation=each.operation,
                amount=each.amount_micros,
                proposed_by=each.proposed_by.id,
                proposed_at=each.proposed_at,
                reason=each.reason,
            )
            for each in team.acts.values()
            if not each.is_late(place["as_of"])
        ]
        return ActsAnswer(**place, data=told)

    async def accesses(self, team_id: str, limit: int, after: str | None) -> AccessesAnswer:
        """What support and operators read of the team, newest first."""
        _, place = await self._team(team_id)
        before = self._cursors.read(after, team_id, "accesses", {}) if after else None
        found: list[tuple[StoredTeamEvent, AccessRecorded]] = []
        more = True
        while more and len(found) <= limit:
            page = await self._accounts.paperwork(team_id, after=before, limit=PAGE_EVENTS, newest_first=True)
            found += [(each, each.event) for each in page if isinstance(each.event, AccessRecorded)]
            more = len(page) == PAGE_EVENTS
            before = page[-1].version if page else before
        shown = found[:limit]
        told = [
            AccessAnswer(
                version=stored.version,
                principal=event.actor.id,
                role=event.actor.role,
                operation=event.operation,
                hour=event.hour,
                first_at=event.recorded_at,
            )
            for stored, event in shown
        ]
        cut = len(found) > limit
        last = self._cursors.write(shown[-1][0].version, team_id, "accesses", {}) if cut else None
        return AccessesAnswer(**place, data=told, next=last)

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
