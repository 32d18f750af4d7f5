"""Every route that changes an account, on one router."""

from __future__ import annotations

from fastapi import APIRouter

from api.commands.accounts import account_routes
from api.commands.credits import credit_routes
from api.commands.disputes import dispute_routes
from api.commands.holds import hold_routes
from api.commands.invoices import invoice_routes
from api.commands.keys import key_routes
from api.commands.limits import limit_routes
from api.commands.payments import payment_routes
from api.commands.running import COMMANDS_AT_ONCE_MAX, runner
from api.commands.spending import spending_routes
from api.commands.team import team_routes
from api.commands.works import work_routes
from api.guard import GuardedRoute
from domain.ledger import Ledger


def command_routes(ledger: Ledger, at_once_max: int = COMMANDS_AT_ONCE_MAX) -> APIRouter:
    """The routes of every command that there is."""
    router = APIRouter(prefix="/v1/accounts", tags=["commands"], route_class=GuardedRoute)
    run = runner(ledger, at_once_max)
    for routes in (
        account_routes,
        credit_routes,
        payment_routes,
        hold_routes,
        limit_routes,
        dispute_routes,
        team_routes,
        key_routes,
        invoice_routes,
        work_routes,
        spending_routes,
    ):
        routes(router, run)
    return router
