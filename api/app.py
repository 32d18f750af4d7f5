"""The application: its routes, its guard and its edge, put together from what it is given."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

from fastapi import FastAPI
from starlette.types import ASGIApp

from api import problems
from api.auditing import audit_routes
from api.commands.routes import command_routes
from api.cursors import Cursors
from api.dead_letters import LetterDesk, StreamDesk, dead_letter_routes, offset_routes
from api.edge import BODY_SECONDS_MAX, Edge
from api.gate import Gate
from api.intake import Intake, intake_routes
from api.invoices import document_routes, invoice_routes, issuer_routes
from api.keys import KeyRing, KeyStore
from api.live import Streams, live_routes
from api.openapi import document_of
from api.operations import operation_routes
from api.ports import (
    AccountReads,
    CatalogueReads,
    InvoiceReads,
    IssuerStore,
    PublicKey,
    Readiness,
    StatementReads,
    WorkReads,
)
from api.publishing import CatalogueStore, publishing_routes
from api.queries import MIN_VERSION_WAIT_SECONDS, Queries
from api.rates import Rates
from api.reads import plan_routes, rate_card_routes, read_routes
from api.spending import spending_routes
from api.spending_queries import SpendingQueries
from api.tokens import TokenReader
from api.works import signing_key_routes, work_read_routes
from domain.ledger import Ledger
from projections.spending import SpendingView

Closing = Callable[[], Awaitable[None]]


@dataclass(frozen=True)
class Behind:
    """What stands behind the API.

    ``pepper`` keys the digests of API keys and the signatures of cursors; ``quote_keys`` sign quotes, the newest first. Without
    ``tokens`` no token is believed, without ``rates`` everybody may ask as often as they like.
    """

    ledger: Ledger
    accounts: AccountReads
    statements: StatementReads
    catalogue: CatalogueReads
    keys: KeyStore
    readiness: Readiness
    pepper: bytes
    quote_keys: Sequence[bytes]
    invoices: InvoiceReads
    issuers: IssuerStore
    works: WorkReads
    signing_key: PublicKey
    spending: SpendingView
    intake: Intake
    publishing: CatalogueStore
    letters: LetterDesk
    streams: StreamDesk
    tokens: TokenReader | None = None
    rates: Rates | None = None

    def gate(self) -> Gate:
        """Who may ask it."""
        ring = KeyRing(self.keys, self.pepper)
        return Gate(ring, self.ledger, tokens=self.tokens, rates=self.rates)

    def queries(self, wait_seconds: float = MIN_VERSION_WAIT_SECONDS) -> Queries:
        """The questions that may be asked of it."""
        cursors = Cursors(self.pepper)
        spending = SpendingQueries(
            self.accounts, self.catalogue, self.spending, self.statements, wait_seconds
        )
        return Queries(
            self.accounts,
            self.statements,
            self.catalogue,
            cursors,
            self.quote_keys,
            wait_seconds,
            spending=spending,
        )


def create_api(
    behind: Behind,
    *,
    gate: Gate | None = None,
    streams: Streams | None = None,
    wait_seconds: float = MIN_VERSION_WAIT_SECONDS,
    body_seconds_max: float = BODY_SECONDS_MAX,
    closing: Closing | None = None,
) -> ASGIApp:
    """The API behind its edge. Nothing is open but liveness, readiness and the description of the API."""
    app = routed(behind, gate=gate, streams=streams, wait_seconds=wait_seconds, closing=closing)
    return Edge(app, body_seconds_max=body_seconds_max)


def routed(
    behind: Behind,
    *,
    gate: Gate | None = None,
    streams: Streams | None = None,
    wait_seconds: float = MIN_VERSION_WAIT_SECONDS,
    closing: Closing | None = None,
) -> FastAPI:
    """The routes without the edge; ``closing`` is called when the server has answered its last request."""

    live = streams or Streams()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        live.end()
        if closing is not None:
            await closing()

    # Pages that need scripts from elsewhere are not served; the document is, by a route like every other.
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False, lifespan=lifespan)
    app.state.gate = gate or behind.gate()
    queries = behind.queries(wait_seconds)

    @cache
    def document() -> dict[str, Any]:
        return document_of(app)

    app.include_router(command_routes(behind.ledger))
    app.include_router(read_routes(queries))
    app.include_router(spending_routes(queries.spending))
    app.include_router(audit_routes(queries.audits, behind.works))
    app.include_router(invoice_routes(behind.invoices, Cursors(behind.pepper)))
    app.include_router(document_routes(behind.invoices))
    app.include_router(live_routes(queries, live))
    app.include_router(intake_routes(behind.intake))
    app.include_router(issuer_routes(behind.issuers))
    app.include_router(work_read_routes(behind.works, Cursors(behind.pepper)))
    app.include_router(signing_key_routes(behind.signing_key))
    app.include_router(rate_card_routes(queries))
    app.include_router(plan_routes(queries))
    app.include_router(publishing_routes(behind.publishing))
    app.include_router(dead_letter_routes(behind.letters))
    app.include_router(offset_routes(behind.streams))
    app.include_router(operation_routes(behind.readiness, document))
    problems.install(app)
    return app


def published_text() -> str:
    """The OpenAPI document as it is published: indented JSON, keys in order, so that a change reads as one."""
    return json.dumps(published(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def published() -> dict[str, Any]:
    """The OpenAPI document."""
    # The routes are described, not called, so nothing needs to stand behind them.
    nothing = cast("Any", None)
    app = routed(
        Behind(
            nothing,
            nothing,
            nothing,
            nothing,
            nothing,
            nothing,
            b"",
            (),
            nothing,
            nothing,
            nothing,
            nothing,
            nothing,
            nothing,
            nothing,
            nothing,
            nothing,
        )
    )
    return document_of(app)
