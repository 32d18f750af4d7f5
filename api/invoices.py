"""The routes that read invoices, and who sells; documents are told byte for byte as they were issued."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, Any, Literal

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response

from api.answers_invoices import (
    DraftsAnswer,
    InvoiceAnswer,
    InvoicedCharge,
    InvoicedChargesAnswer,
    InvoicesAnswer,
    IssuerAnswer,
    RevenueAnswer,
    RevenueRow,
)
from api.cursors import CURSOR_LENGTH_MAX, LIMIT_DEFAULT, LIMIT_MAX, Cursors
from api.fields import Time
from api.guard import GuardedRoute, caller_of
from api.parameters import InvoiceLinePath, InvoicePath, IssuerPath, TeamPath
from api.ports import InvoiceReads, IssuerStore
from api.requests.invoices import IssuerBody
from domain.invoices.document import Invoice, canonical_invoice
from domain.times import parse_instant

DRAFT = "draft"
"""In the place of a number: the draft of the oldest period that is not closed."""

Form = Literal["json", "csv", "html", "pdf"]
_TYPES: dict[Form, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8; header=present",
    "html": "text/html; charset=utf-8",
    "pdf": "application/pdf",
}
_DOCUMENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The document: JSON, or the form asked for.",
        "content": {
            "application/json": {"schema": {"type": "object"}},
            "text/csv": {"schema": {"type": "string"}},
            "text/html": {"schema": {"type": "string"}},
            "application/pdf": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_DRAFTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The drafts as JSON, or the oldest in the form asked for.",
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "text/html": {"schema": {"type": "string"}},
            "application/pdf": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_STATEMENT: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The statement in the form asked for.",
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "text/html": {"schema": {"type": "string"}},
            "application/pdf": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Rows at most.")]
After = Annotated[str | None, Query(max_length=CURSOR_LENGTH_MAX, description="`next` of the page before.")]
AskedForm = Annotated[Form, Query(alias="form", description="How the document is told.")]


def invoice_routes(invoices: InvoiceReads, cursors: Cursors) -> APIRouter:
    """The routes of a team's documents."""
    router = APIRouter(prefix="/v1/accounts/{team_id}/invoices", tags=["invoices"], route_class=GuardedRoute)
    _list_routes(router, invoices, cursors)
    _document_routes(router, invoices)
    _line_routes(router, invoices, cursors)
    return router


def document_routes(invoices: InvoiceReads) -> APIRouter:
    """The routes of what else is told as a document: statements of account, revenue."""
    router = APIRouter(prefix="/v1/accounts/{team_id}", tags=["invoices"], route_class=GuardedRoute)

    @router.get(
        "/statement-of-account",
        name="read_statement_of_account",
        operation_id="read_statement_of_account",
        response_class=Response,
        responses=_STATEMENT,
    )
    async def read_statement_of_account(
        team_id: TeamPath,
        since: Annotated[Time, Query(alias="from", description="Recorded from then on, included.")],
        until: Annotated[Time, Query(description="Recorded before then, excluded.")],
        form: Annotated[Literal["csv", "html", "pdf"], Query(description="How it is told.")] = "csv",
    ) -> Response:
        """A range of the running history, with the balances before and after it: CSV, or HTML and PDF for people."""
        first, last = parse_instant(since, "from"), parse_instant(until, "until")
        body = await asyncio.to_thread(invoices.statement, team_id, first, last, form)
        return Response(body, media_type=_TYPES[form])

    @router.get("/revenue", name="read_revenue", operation_id="read_revenue")
    async def read_revenue(team_id: TeamPath) -> RevenueAnswer:
        """Deferred revenue rolled forward: opening + sold - used - breakage - refunded = closing, in minor units."""
        rows = await asyncio.to_thread(invoices.revenue, team_id)
        return RevenueAnswer(
            team_id=team_id, data=[RevenueRow(**msgspec.structs.asdict(row)) for row in rows]
        )

    return router


def issuer_routes(issuers: IssuerStore) -> APIRouter:
    """The routes of who sells."""
    router = APIRouter(prefix="/v1/issuers", tags=["issuers"], route_class=GuardedRoute)

    @router.get("/{issuer_id}", name="read_issuer", operation_id="read_issuer")
    async def read_issuer(issuer_id: IssuerPath) -> IssuerAnswer:
        """Who sells, as invoices print it from now on; null details until they were set."""
        return IssuerAnswer.of(await asyncio.to_thread(issuers.issuer, issuer_id))

    @router.put("/{issuer_id}", name="set_issuer", operation_id="set_issuer")
    async def set_issuer(request: Request, issuer_id: IssuerPath, body: IssuerBody) -> IssuerAnswer:
        """Invoices are issued under these details from now on; the same details again change nothing."""
        details = body.details(issuer_id)
        return IssuerAnswer.of(
            await asyncio.to_thread(issuers.set_details, details, caller_of(request), body.reason)
        )

    return router


def _list_routes(router: APIRouter, invoices: InvoiceReads, cursors: Cursors) -> None:
    @router.get("", name="list_invoices", operation_id="list_invoices")
    async def list_invoices(
        team_id: TeamPath,
        limit: Limit = LIMIT_DEFAULT,
        after: After = None,
    ) -> InvoicesAnswer:
        """The team's invoices, void documents and credit notes, newest first, with what became of each."""
        place = cursors.read(after, team_id, "invoices", {}) if after else None
        found = await asyncio.to_thread(invoices.page, team_id, before=place, limit=limit)
        last = found.documents[-1].version if found.more else None
        return InvoicesAnswer(
            team_id=team_id,
            position=found.position,
            data=[InvoiceAnswer.of(each) for each in found.documents],
            next=None if last is None else cursors.write(last, team_id, "invoices", {}),
        )

    @router.get(
        "/draft",
        name="read_invoice_draft",
        operation_id="read_invoice_draft",
        response_model=DraftsAnswer,
        responses=_DRAFTS,
    )
    async def read_invoice_draft(
        team_id: TeamPath, form: Annotated[Form, Depends(_form)]
    ) -> DraftsAnswer | Response:
        """Drafts of the periods that are not closed, oldest first, as exact as the invoice will be; in a form, the oldest."""
        drafts = await asyncio.to_thread(invoices.drafts, team_id)
        if form != "json":
            return await _told(invoices, drafts[0], form)
        return DraftsAnswer(team_id=team_id, data=[msgspec.to_builtins(each) for each in drafts])


def _document_routes(router: APIRouter, invoices: InvoiceReads) -> None:
    @router.get(
        "/{invoice}",
        name="read_invoice",
        operation_id="read_invoice",
        response_class=Response,
        responses=_DOCUMENT,
    )
    async def read_invoice(
        team_id: TeamPath, invoice: InvoicePath, form: Annotated[Form, Depends(_form)]
    ) -> Response:
        """One document as it was issued: canonical JSON byte for byte, its PDF as stored, or as CSV or HTML."""
        document = await asyncio.to_thread(invoices.document, team_id, invoice)
        return await _told(invoices, document, form)

    @router.get("/{invoice}/status", name="read_invoice_status", operation_id="read_invoice_status")
    async def read_invoice_status(team_id: TeamPath, invoice: InvoicePath) -> InvoiceAnswer:
        """What became of a document: paid, void, what is due, its credit notes."""
        return InvoiceAnswer.of(await asyncio.to_thread(invoices.summary, team_id, invoice))


def _line_routes(router: APIRouter, invoices: InvoiceReads, cursors: Cursors) -> None:
    @router.get(
        "/{invoice}/lines/{line}/charges",
        name="list_invoice_charges",
        operation_id="list_invoice_charges",
    )
    async def list_invoice_charges(
        team_id: TeamPath,
        invoice: InvoicePath,
        line: InvoiceLinePath,
        limit: Limit = LIMIT_DEFAULT,
        after: After = None,
    ) -> InvoicedChargesAnswer:
        """What a line is made of: its charges, each of which can be explained. `draft` stands for the draft."""
        number = None if invoice == DRAFT else invoice
        bound = {"invoice": invoice, "line": str(line)}
        skip = cursors.read(after, team_id, "invoice charges", bound) if after else 0
        told = await asyncio.to_thread(invoices.charges, team_id, number, line, skip=skip, limit=limit + 1)
        place = cursors.write(skip + limit, team_id, "invoice charges", bound) if len(told) > limit else None
        return InvoicedChargesAnswer(
            team_id=team_id,
            invoice=number,
            line=line,
            data=[InvoicedCharge.of(each) for each in told[:limit]],
            next=place,
        )


def _form(form: AskedForm = "json") -> Form:
    return form


async def _told(invoices: InvoiceReads, document: Invoice, form: Form) -> Response:
    canonical = canonical_invoice(document)
    body = canonical if form == "json" else await asyncio.to_thread(invoices.form, document, form)
    headers = {
        "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
        "Content-Disposition": f'inline; filename="{document.number or DRAFT}.{form}"',
    }
    return Response(body, media_type=_TYPES[form], headers=headers)
