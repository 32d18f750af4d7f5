"""The routes that read a team's people and paperwork."""

from __future__ import annotations

from fastapi import APIRouter

from api.answers_team import AdjustmentsAnswer, BillingDetailsAnswer, MembersAnswer, PaymentMethodAnswer
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

    @router.get("/adjustments", name="list_adjustments", operation_id="list_adjustments")
    async def list_adjustments(team_id: TeamPath) -> AdjustmentsAnswer:
        """Adjustments that wait for a second person."""
        return await queries.teams.adjustments(team_id)
