"""The routes that machines ask: alive, ready, figures, and the description of this API."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from api.answers import Health
from api.errors import NotReady
from api.guard import GuardedRoute
from api.ports import Readiness


def operation_routes(readiness: Readiness, document: Callable[[], dict[str, Any]]) -> APIRouter:
    """Liveness, readiness, metrics and OpenAPI; only metrics need a key."""
    router = APIRouter(tags=["operations"], route_class=GuardedRoute)

    @router.get("/livez", name="livez", operation_id="livez")
    async def livez() -> Health:
        """The process answers."""
        return Health()

    @router.get("/readyz", name="readyz", operation_id="readyz")
    async def readyz() -> Health:
        """Requests can be answered: the database is there and its tables are those that this code needs."""
        missing = await readiness.missing()
        if missing:
            raise NotReady("; ".join(missing))
        return Health()

    @router.get(
        "/metrics",
        name="metrics",
        operation_id="metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics() -> Response:
        """Figures of this process in the Prometheus text format."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    @router.get("/openapi.json", name="openapi", operation_id="openapi", include_in_schema=False)
    async def openapi() -> JSONResponse:
        """This description."""
        return JSONResponse(document())

    return router
