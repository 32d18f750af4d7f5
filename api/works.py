"""The routes that read works and contexts, and the key that verifies what was signed."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request

from api.answers_works import (
    ContextAnswer,
    ContextsAnswer,
    CostAnswer,
    HandoverAnswer,
    SigningKeyAnswer,
    WorkAnswer,
    WorksAnswer,
)
from api.cursors import CURSOR_LENGTH_MAX, LIMIT_DEFAULT, LIMIT_MAX, LONG_CURSOR_LENGTH_MAX, Cursors
from api.fields import Id
from api.guard import GuardedRoute
from api.narrowing import own_texts
from api.parameters import TeamPath, WorkPath, WorkVersionPath
from api.ports import ContextQuery, PublicKey, WorkReads
from projections.contexts import ContextField

Limit = Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Rows at most.")]
After = Annotated[str | None, Query(max_length=CURSOR_LENGTH_MAX, description="`next` of the page before.")]
AfterContext = Annotated[
    str | None,
    Query(
        max_length=LONG_CURSOR_LENGTH_MAX,
        description="`next` of the page before: one request looks at so many contexts only, so a page may have fewer"
        " rows than asked for, or none, and go on.",
    ),
]
LOOKED_MAX = 5_000
"""So many contexts are looked at for one page: a search in a long history is cut into requests of bounded work."""


def work_read_routes(works: WorkReads, cursors: Cursors) -> APIRouter:
    """The routes that read a team's works."""
    router = APIRouter(prefix="/v1/accounts/{team_id}", tags=["works"], route_class=GuardedRoute)

    @router.get("/works", name="list_works", operation_id="list_works")
    async def list_works(team_id: TeamPath, limit: Limit = LIMIT_DEFAULT, after: After = None) -> WorksAnswer:
        """The team's works, by id."""
        place = cursors.read_text(after, team_id, "works by id", {}) if after else ""
        told = await asyncio.to_thread(works.works, team_id, after=place, limit=limit)
        last = told.works[-1].work_id if told.more else None
        following = None if last is None else cursors.write(last, team_id, "works by id", {})
        return WorksAnswer.of(team_id, told, following)

    @router.get("/works/{work_id}", name="read_work", operation_id="read_work")
    async def read_work(request: Request, team_id: TeamPath, work_id: WorkPath) -> WorkAnswer:
        """The page of a work: brief, what was saved, cost by step, failures, refunds, open holds, estimate against actual."""
        return own_texts(request, WorkAnswer.of(await asyncio.to_thread(works.work, team_id, work_id)))

    @router.get("/works/{work_id}/cost", name="read_work_cost", operation_id="read_work_cost")
    async def read_work_cost(team_id: TeamPath, work_id: WorkPath) -> CostAnswer:
        """What did this deliverable cost? Also of a work that was never started here, when usage names it."""
        return CostAnswer.of(await asyncio.to_thread(works.cost, team_id, work_id))

    @router.get("/works/{work_id}/handover", name="read_handover", operation_id="read_handover")
    async def read_handover(team_id: TeamPath, work_id: WorkPath) -> HandoverAnswer:
        """The newest check of the handover, as it was signed."""
        return HandoverAnswer.of(await asyncio.to_thread(works.handover, team_id, work_id))

    @router.get(
        "/works/{work_id}/handovers/{version}",
        name="read_handover_at",
        operation_id="read_handover_at",
    )
    async def read_handover_at(
        team_id: TeamPath, work_id: WorkPath, version: WorkVersionPath
    ) -> HandoverAnswer:
        """The check of the handover that made this version of the work, as it was signed."""
        return HandoverAnswer.of(await asyncio.to_thread(works.handover, team_id, work_id, version))

    _context_routes(router, works, cursors)
    return router


def _context_routes(router: APIRouter, works: WorkReads, cursors: Cursors) -> None:
    @router.get("/contexts", name="search_contexts", operation_id="search_contexts")
    async def search_contexts(
        team_id: TeamPath,
        # No text that is kept holds NUL, and the database refuses to be asked for one.
        q: Annotated[
            str, Query(min_length=1, max_length=200, pattern=r"^[^\x00]+$", description="Words, in any case.")
        ],
        field: Annotated[ContextField | None, Query(alias="in", description="Look here only.")] = None,
        member: Annotated[Id | None, Query(description="Of this member only.")] = None,
        limit: Limit = LIMIT_DEFAULT,
        after: AfterContext = None,
    ) -> ContextsAnswer:
        """Contexts of usage and texts of works of this team in which the words stand: prompt, file, link, version, audience."""
        filters = {"q": q, "in": field, "member": member}
        place = cursors.read_text(after, team_id, "contexts by id", filters) if after else None
        asked = ContextQuery(q, field, member)
        told = await asyncio.to_thread(
            works.search, team_id, asked, after=place, limit=limit, looked_max=LOOKED_MAX
        )
        following = told.place
        return ContextsAnswer(
            team_id=team_id,
            version=told.account_version,
            position=told.position,
            data=[ContextAnswer.of(each) for each in told.found],
            next=None if following is None else cursors.write(following, team_id, "contexts by id", filters),
        )


def signing_key_routes(key: PublicKey) -> APIRouter:
    """The route of what verifies signatures."""
    router = APIRouter(prefix="/v1", tags=["works"], route_class=GuardedRoute)

    @router.get("/signing-key", name="read_signing_key", operation_id="read_signing_key")
    async def read_signing_key() -> SigningKeyAnswer:
        """The public key of what this ledger signs now."""
        return SigningKeyAnswer(key_id=key.key_id, public_key=key.public_key)

    return router
