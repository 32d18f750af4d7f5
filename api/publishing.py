"""The routes that change what is sold: whoever may not do so alone proposes, and another person approves."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Protocol

from fastapi import APIRouter, Path, Request

from api.answers import RateCardAnswer
from api.answers_plans import PlanTermsAnswer
from api.answers_publishing import (
    PublicationAnswer,
    PublicationDocument,
    PublicationsAnswer,
    PublishedAnswer,
    SourceAnswer,
    SourcesAnswer,
)
from api.fields import Id
from api.guard import GuardedRoute, caller_of
from api.parameters import CardPath, CardVersionPath
from api.requests.publishing import PublicationApprovalBody, PublishBody, SourceBody, WithdrawalBody
from domain.actors import Actor
from domain.catalogue import Catalogue, PublicationKind
from domain.documents import document_digest
from domain.publishing import canonical_of, waiting_as, waiting_at, waiting_of

PATHS = frozenset({"/v1/rate-cards", "/v1/plans"})
"""Where whole documents are sent to, which may be larger than commands."""

PublicationPath = Annotated[
    Id, Path(description="What waits, as it was named when it was proposed.", examples=["publication-7"])
]


class CatalogueStore(Protocol):
    """What is sold, and what changes it; called in a thread. Raises, everywhere: Busy."""

    def current(self) -> Catalogue:
        """The catalogue as published by now; not to be changed."""
        ...

    def now(self) -> datetime:
        """The clock by which the catalogue is dated."""
        ...

    def change(
        self,
        operation: PublicationKind,
        document: Mapping[str, object],
        actor: Actor,
        reason: str | None = None,
    ) -> Catalogue:
        """What is sold is changed at once. Raises: RateCardRefused, PlanRefused, Unknown."""
        ...

    def propose(
        self,
        operation: PublicationKind,
        document: Mapping[str, object],
        actor: Actor,
        reason: str | None = None,
    ) -> Catalogue:
        """The change waits for a second person. Raises: what the change does; ActRefused."""
        ...

    def approve(self, publication_id: str, actor: Actor, reason: str | None = None) -> Catalogue:
        """What another proposed is published. Raises: UnknownAct, SecondPersonNeeded, ActRefused; what the change does."""
        ...

    def register_source(
        self, source: str, historic: bool, actor: Actor, reason: str | None = None
    ) -> Catalogue:
        """The source is registered. Raises: Malformed."""
        ...


def publishing_routes(store: CatalogueStore) -> APIRouter:
    """The routes that change the catalogue, and those of what waits for a second person."""
    router = APIRouter(prefix="/v1", tags=["catalogue"], route_class=GuardedRoute)
    _change_routes(router, store)
    _waiting_routes(router, store)
    _source_routes(router, store)
    return router


def _change_routes(router: APIRouter, store: CatalogueStore) -> None:
    @router.post("/rate-cards", name="publish_rate_card", operation_id="publish_rate_card")
    async def publish_rate_card(request: Request, body: PublishBody) -> PublishedAnswer:
        """The document is the next version of its card, for ever; the one that stands already changes nothing."""
        return await asyncio.to_thread(
            changed, store, request, "publish_rate_card", body.document, body.reason
        )

    @router.post("/plans", name="publish_plan", operation_id="publish_plan")
    async def publish_plan(request: Request, body: PublishBody) -> PublishedAnswer:
        """The document is the newest version of its plan, for ever; the one that is the newest already changes nothing."""
        return await asyncio.to_thread(changed, store, request, "publish_plan", body.document, body.reason)

    @router.post(
        "/rate-cards/{card_id}/{version}/withdrawal",
        name="withdraw_rate_card",
        operation_id="withdraw_rate_card",
    )
    async def withdraw_rate_card(
        request: Request, card_id: CardPath, version: CardVersionPath, body: WithdrawalBody
    ) -> PublishedAnswer:
        """A version that is not yet effective will never be; one that was withdrawn stays so."""
        named = {"card_id": card_id, "version": version}
        return await asyncio.to_thread(changed, store, request, "withdraw_rate_card", named, body.reason)


def _waiting_routes(router: APIRouter, store: CatalogueStore) -> None:
    @router.get("/publications", name="list_publications", operation_id="list_publications")
    async def list_publications() -> PublicationsAnswer:
        """What waits for a second person."""
        waiting = await asyncio.to_thread(lambda: waiting_at(store.current(), store.now()))
        return PublicationsAnswer(data=[PublicationAnswer.of(each) for each in waiting])

    @router.get("/publications/{publication_id}", name="read_publication", operation_id="read_publication")
    async def read_publication(publication_id: PublicationPath) -> PublicationDocument:
        """What waits, with its document: what whoever approves it has read."""
        catalogue = await asyncio.to_thread(store.current)
        return PublicationDocument.whole(waiting_of(catalogue, publication_id))

    @router.post(
        "/publications/{publication_id}/approval",
        name="approve_publication",
        operation_id="approve_publication",
    )
    async def approve_publication(
        request: Request, publication_id: PublicationPath, body: PublicationApprovalBody
    ) -> PublishedAnswer:
        """What another person proposed is published."""
        caller = caller_of(request)
        actor = Actor(caller.principal, caller.role)
        return await asyncio.to_thread(approved, store, publication_id, actor, body.reason)


def _source_routes(router: APIRouter, store: CatalogueStore) -> None:
    @router.get("/sources", name="list_sources", operation_id="list_sources")
    async def list_sources() -> SourcesAnswer:
        """Every registered source of usage."""
        catalogue = await asyncio.to_thread(store.current)
        return sources_answer(catalogue)

    @router.post("/sources", name="register_source", operation_id="register_source")
    async def register_source(request: Request, body: SourceBody) -> SourceAnswer:
        """The source is registered, as historic or not; as it stands already, nothing changes."""
        caller = caller_of(request)
        actor = Actor(caller.principal, caller.role)
        await asyncio.to_thread(store.register_source, body.source, body.historic, actor, body.reason)
        return SourceAnswer(source=body.source, historic=body.historic)


def changed(
    store: CatalogueStore,
    request: Request,
    operation: PublicationKind,
    document: Mapping[str, Any],
    reason: str | None,
) -> PublishedAnswer:
    """The change is made, or waits for a second person where the caller needs one."""
    caller = caller_of(request)
    actor = Actor(caller.principal, caller.role)
    before = store.current().version
    if caller.second_person is None:
        catalogue = store.change(operation, document, actor, reason)
        return published_answer(catalogue, operation, document, before)
    return proposed_answer(store, operation, document, actor, reason)


def proposed_answer(
    store: CatalogueStore,
    operation: PublicationKind,
    document: Mapping[str, Any],
    actor: Actor,
    reason: str | None,
) -> PublishedAnswer:
    """The change waits, or did so already, or stands."""
    catalogue = store.propose(operation, document, actor, reason)
    digest = document_digest(canonical_of(operation, document))
    waits = waiting_as(catalogue, operation, digest, store.now())
    if waits is None:
        return published_answer(catalogue, operation, document, catalogue.version)
    return PublishedAnswer(outcome="proposed", publication_id=waits.publication_id)


def approved(store: CatalogueStore, publication_id: str, actor: Actor, reason: str | None) -> PublishedAnswer:
    """What another person proposed is published, unless it came to stand meanwhile. Raises: what approving does."""
    told = PublicationDocument.whole(waiting_of(store.current(), publication_id))
    catalogue = store.approve(publication_id, actor, reason)
    answer = published_answer(catalogue, told.operation, told.document, before=0)
    return answer.model_copy(update={"publication_id": publication_id})


def published_answer(
    catalogue: Catalogue, operation: PublicationKind, document: Mapping[str, Any], before: int
) -> PublishedAnswer:
    """What stands now of the document; unchanged where the catalogue is at the version that it had ``before``."""
    is_same = catalogue.version == before
    if operation == "withdraw_rate_card":
        return PublishedAnswer(outcome="unchanged" if is_same else "withdrawn")
    outcome = "unchanged" if is_same else "published"
    if operation == "publish_plan":
        plan = catalogue.plan(str(document["plan_id"]))
        assert plan is not None, "it was published"
        return PublishedAnswer(outcome=outcome, plan=PlanTermsAnswer.of(plan))
    digest = document_digest(canonical_of(operation, document))
    card = next(card for card in catalogue.cards() if card.digest == digest)
    return PublishedAnswer(outcome=outcome, rate_card=RateCardAnswer.of(card))


def sources_answer(catalogue: Catalogue) -> SourcesAnswer:
    """Every registered source, by name."""
    known = sorted(catalogue.sources().items())
    return SourcesAnswer(data=[SourceAnswer(source=name, historic=historic) for name, historic in known])
