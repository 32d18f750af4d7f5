"""The commands about people and paperwork."""

from __future__ import annotations

from fastapi import APIRouter

from api.answers import CommandAnswer
from api.commands.running import AskedHere, Run
from api.parameters import MemberPath, TeamPath
from api.requests.team import BillingDetailsBody, MemberBody, MemberRoleBody, PaymentMethodBody, RemovalBody


def team_routes(router: APIRouter, run: Run) -> None:
    """The routes of people and paperwork."""

    @router.post("/{team_id}/members", status_code=201, name="add_member", operation_id="add_member")
    async def add_member(asked: AskedHere, team_id: TeamPath, body: MemberBody) -> CommandAnswer:
        """A member is in the team, in a role."""
        return await run(asked, body.command(team_id))

    @router.post(
        "/{team_id}/members/{member}/role",
        status_code=201,
        name="change_member_role",
        operation_id="change_member_role",
    )
    async def change_member_role(
        asked: AskedHere, team_id: TeamPath, member: MemberPath, body: MemberRoleBody
    ) -> CommandAnswer:
        """The member has another role; a team is never without an owner."""
        return await run(asked, body.command(team_id, member))

    @router.post(
        "/{team_id}/members/{member}/removal",
        status_code=201,
        name="remove_member",
        operation_id="remove_member",
    )
    async def remove_member(
        asked: AskedHere, team_id: TeamPath, member: MemberPath, body: RemovalBody
    ) -> CommandAnswer:
        """The member is not in the team any more."""
        return await run(asked, body.of_member(team_id, member))

    @router.post(
        "/{team_id}/billing-details",
        status_code=201,
        name="set_billing_details",
        operation_id="set_billing_details",
    )
    async def set_billing_details(
        asked: AskedHere, team_id: TeamPath, body: BillingDetailsBody
    ) -> CommandAnswer:
        """Invoices are made out to these details from now on."""
        return await run(asked, body.command(team_id))

    @router.post(
        "/{team_id}/payment-method",
        status_code=201,
        name="set_payment_method",
        operation_id="set_payment_method",
    )
    async def set_payment_method(
        asked: AskedHere, team_id: TeamPath, body: PaymentMethodBody
    ) -> CommandAnswer:
        """The team pays like this; a card's number is refused wherever it stands."""
        return await run(asked, body.command(team_id))

    @router.post(
        "/{team_id}/payment-method/removal",
        status_code=201,
        name="remove_payment_method",
        operation_id="remove_payment_method",
    )
    async def remove_payment_method(asked: AskedHere, team_id: TeamPath, body: RemovalBody) -> CommandAnswer:
        """How the team pays is forgotten."""
        return await run(asked, body.of_payment_method(team_id))
