"""The commands about periods and invoices."""

from __future__ import annotations

from fastapi import APIRouter

from api.answers import CommandAnswer
from api.commands.running import AskedHere, Run
from api.parameters import InvoicePath, TeamPath
from api.requests.invoices import ClosePeriodBody, CreditNoteBody, UncollectibleBody, VoidInvoiceBody


def invoice_routes(router: APIRouter, run: Run) -> None:
    """The routes of periods and invoices."""

    @router.post(
        "/{team_id}/periods/close", status_code=201, name="close_period", operation_id="close_period"
    )
    async def close_period(asked: AskedHere, team_id: TeamPath, body: ClosePeriodBody) -> CommandAnswer:
        """The oldest open period, which has ended, is closed before late grace is over; its invoice follows."""
        return await run(asked, body.command(team_id))

    @router.post(
        "/{team_id}/invoices/{invoice}/void",
        status_code=201,
        name="void_invoice",
        operation_id="void_invoice",
    )
    async def void_invoice(
        asked: AskedHere, team_id: TeamPath, invoice: InvoicePath, body: VoidInvoiceBody
    ) -> CommandAnswer:
        """The invoice counts no more: a document under a number of its own says so. Its period may get another."""
        return await run(asked, body.command(team_id, invoice))

    @router.post(
        "/{team_id}/invoices/{invoice}/uncollectible",
        status_code=201,
        name="mark_uncollectible",
        operation_id="mark_uncollectible",
    )
    async def mark_uncollectible(
        asked: AskedHere, team_id: TeamPath, invoice: InvoicePath, body: UncollectibleBody
    ) -> CommandAnswer:
        """Nobody expects the money of the invoice any more; it still counts if it comes."""
        return await run(asked, body.command(team_id, invoice))

    @router.post(
        "/{team_id}/invoices/{invoice}/credit-notes",
        status_code=201,
        name="issue_credit_note",
        operation_id="issue_credit_note",
    )
    async def issue_credit_note(
        asked: AskedHere, team_id: TeamPath, invoice: InvoicePath, body: CreditNoteBody
    ) -> CommandAnswer:
        """Money of the invoice is corrected by a credit note under a number of its own."""
        return await run(asked, body.command(team_id, invoice))
