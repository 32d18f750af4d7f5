"""The routes that read a team's people and paperwork."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request

from api.answers_keys import AccessesAnswer, ActsAnswer, KeysAnswer
from api.answers_team import AdjustmentsAnswer, BillingDetailsAnswer, MembersAnswer, PaymentMethodAnswer
from api.cursors import CURSOR_LENGTH_MAX, LIMIT_DEFAULT, LIMIT_MAX
from api.gate import Gate
from api.parameters import TeamPath
from api.queries import Queries


def team_routes(router: APIRouter, queries: Queries) -> None:
    """The routes of members, billing details, payment method and adjustments that wait."""

    @router.get("/members", name="list_members", operation_id="list_members")
    async def list_members(team_id: TeamPath) -> MembersAnswer:
        """Everyone in the team, in the order of joining."""
        return await queries.teams.members(team_id)

    @router.get("/billing-details", name="read_billing_details", operation_id="read_billing_details")
    async def read_billing_details(team_id: TeamPath) -> BillingDetailsAnswer:
        """Whom invoices are made out to."""
        return await queries.teams.billing_details(team_id)

    @router.get("/payment-method", name="read_payment_method", operation_id="read_payment_method")
    async def read_payment_method(team_id: TeamPath) -> PaymentMethodAnswer:
        """How the team pays: what a person recognises it by, never the provider's token."""
        return await queries.teams.payment_method(team_id)

    @router.get("/keys", name="list_keys", operation_id="list_keys")
    async def list_keys(request: Request, team_id: TeamPath) -> KeysAnswer:
        """The keys of the team's members that were not revoked, without their secrets."""
        gate: Gate = request.app.state.gate
        return await queries.teams.keys(team_id, await gate.ring.last_used(team_id))

    @router.get("/acts", name="list_acts", operation_id="list_acts")
    async def list_acts(team_id: TeamPath) -> ActsAnswer:
        """What waits for a second person."""
        return await queries.teams.acts(team_id)

    @router.get("/accesses", name="list_accesses", operation_id="list_accesses")
    async def list_accesses(
        team_id: TeamPath,
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Rows at most.")] = LIMIT_DEFAULT,
        after: Annotated[
            str | None, Query(max_length=CURSOR_LENGTH_MAX, description="`next` of the page before.")
        ] = None,
    ) -> AccessesAnswer:
        """What support and operators read of the team, newest first: once per person, operation and hour."""
        return await queries.teams.accesses(team_id, limit, after)

    @router.get("/adjustments", name="list_adjustments", operation_id="list_adjustments")
    async def list_adjustments(team_id: TeamPath) -> AdjustmentsAnswer:
        """Adjustments that wait for a second person."""
        return await queries.teams.adjustments(team_id)
