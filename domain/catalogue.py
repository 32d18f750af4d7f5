"""What is sold, and from which sources usage may come: rate cards by version and date, plans, registered sources."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import ClassVar, Literal
from uuid import NAMESPACE_URL, uuid5

import msgspec

from domain.actors import Actor
from domain.documents import Finding, canonical_json, document_digest
from domain.errors import Malformed, PlanRefused, RateCardRefused, Unknown, UnknownEventShape
from domain.plans import PlanDocument, actions_named, check_plan, load_plan, read_plan
from domain.pricing import RateCard
from domain.rate_cards import (
    canonical_document,
    check_rate_card,
    effective_at,
    load_rate_card,
)
from domain.terms import PlanTerms
from domain.times import instant_text

CATALOGUE_ID = uuid5(NAMESPACE_URL, "urn:coffer:catalogue")
"""The one aggregate of this kind."""

_SOURCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9:/?#\[\]@!$&'()*+,;=._~%-]{0,254}", re.ASCII)


PublicationKind = Literal["publish_rate_card", "publish_plan", "withdraw_rate_card"]
"""What may be proposed to somebody else."""


class CatalogueEvent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every event of the catalogue carries: when the ledger wrote it, who caused it, and why."""

    TOPIC: ClassVar[str] = ""

    recorded_at: datetime
    actor: Actor
    correlation_id: str | None = None
    reason: str | None = None


class RateCardPublished(CatalogueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A version of a rate card is published, for ever: the whole document as canonical JSON, and its SHA-256 in hex."""

    TOPIC: ClassVar[str] = "RateCardPublished.1"

    card_id: str
    version: int
    effective_at: datetime
    digest: str
    document: msgspec.Raw


class RateCardWithdrawn(CatalogueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A version that was not yet effective will never be."""

    TOPIC: ClassVar[str] = "RateCardWithdrawn.1"

    card_id: str
    version: int


class SourceRegistered(CatalogueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A source of usage is known. ``historic``: its records may be of any age (backfills, traces); the latest event counts."""

    TOPIC: ClassVar[str] = "SourceRegistered.1"

    source: str
    historic: bool


class PlanPublished(CatalogueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """A version of a plan is published, for ever: the whole document as canonical JSON, and its SHA-256 in hex.

    It counts for who takes the plan from now on; who has an earlier version keeps that until they change.
    """

    TOPIC: ClassVar[str] = "PlanPublished.1"

    plan_id: str
    version: int
    digest: str
    document: msgspec.Raw


class PublicationProposed(CatalogueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Somebody wants to change what is sold, which takes a second person; nothing of it counts before that one approves.

    ``document``: what would be published as canonical JSON, or which version of which card would be withdrawn; with its SHA-256.
    """

    TOPIC: ClassVar[str] = "PublicationProposed.1"

    publication_id: str
    operation: PublicationKind
    digest: str
    document: msgspec.Raw


class PublicationApproved(CatalogueEvent, frozen=True, kw_only=True, omit_defaults=True):
    """Another person approved what was proposed; the events that follow it in the same decision are what it came to."""

    TOPIC: ClassVar[str] = "PublicationApproved.1"

    publication_id: str
    operation: PublicationKind
    proposed_by: Actor


CATALOGUE_EVENTS: tuple[type[CatalogueEvent], ...] = (
    RateCardPublished,
    RateCardWithdrawn,
    SourceRegistered,
    PlanPublished,
    PublicationProposed,
    PublicationApproved,
)
"""Every shape the catalogue's stream may hold, current version; the allow-list of stored topics."""


class _Line:
    """The versions of one card: all ever published, and those that stand, by the time they become effective."""

    def __init__(self) -> None:
        self.published: list[RateCard] = []
        self.standing: list[RateCard] = []
        self.effective: list[datetime] = []

    def stand(self, cards: list[RateCard]) -> None:
        self.standing = cards
        self.effective = [card.effective_at for card in cards]


class Catalogue:
    """Rate cards, plans and sources as of ``version``. A card is valid from its own ``effective_at`` to the next version's."""

    def __init__(self) -> None:
        self.version = 0
        self._lines: dict[str, _Line] = {}
        self._plans: dict[str, list[PlanTerms]] = {}
        self._sources: dict[str, bool] = {}
        self._waiting: dict[str, PublicationProposed] = {}

    def card_in_force(self, card_id: str, at: datetime) -> RateCard | None:
        """The version of a card that prices what occurred at ``at``: the latest effective at or before it, None if none."""
        line = self._lines.get(card_id)
        if line is None:
            return None
        index = bisect_right(line.effective, at)
        return line.standing[index - 1] if index else None

    def card(self, card_id: str, version: int) -> RateCard | None:
        """A version as it was published, withdrawn or not; what a charge pins is found here."""
        line = self._lines.get(card_id)
        return line.published[version - 1] if line and 1 <= version <= len(line.published) else None

    def cards(self) -> list[RateCard]:
        """Every standing version, by card and by the time it becomes effective."""
        return [card for card_id in sorted(self._lines) for card in self._lines[card_id].standing]

    def validity(self, card: RateCard) -> tuple[datetime, datetime | None]:
        """From when (included) until when (excluded) a standing version is in force; None: until it is replaced."""
        effective = self._lines[card.card_id].effective
        following = bisect_right(effective, card.effective_at)
        return card.effective_at, effective[following] if following < len(effective) else None

    def versions_published(self, card_id: str) -> int:
        """How many versions of a card were ever published, withdrawn ones included."""
        line = self._lines.get(card_id)
        return len(line.published) if line else 0

    def latest(self, card_id: str) -> RateCard | None:
        """The standing version of a card that becomes effective last."""
        line = self._lines.get(card_id)
        return line.standing[-1] if line and line.standing else None

    def actions(self, at: datetime) -> dict[str, list[str]]:
        """Every action with a price at an instant, and the cards that list it."""
        listed: dict[str, list[str]] = {}
        for card_id in sorted(self._lines):
            card = self.card_in_force(card_id, at)
            for action in card.actions() if card else ():
                listed.setdefault(action, []).append(card_id)
        return listed

    def plan(self, plan_id: str, version: int | None = None) -> PlanTerms | None:
        """The newest version of a plan, or the one asked for; None when it was never published."""
        versions = self._plans.get(plan_id, [])
        number = len(versions) if version is None else version
        return versions[number - 1] if 1 <= number <= len(versions) else None

    def plans(self) -> list[PlanTerms]:
        """The newest version of every plan, by plan id."""
        return [self._plans[plan_id][-1] for plan_id in sorted(self._plans)]

    def is_historic(self, source: str) -> bool:
        """Whether usage of this source may be of any age."""
        return self._sources.get(source, False)

    def sources(self) -> dict[str, bool]:
        """Every registered source, and whether it is historic."""
        return dict(self._sources)

    def waiting(self) -> list[PublicationProposed]:
        """What was proposed and not approved, in the order of proposal; how long it may wait is for who decides."""
        return list(self._waiting.values())

    def take(self, event: CatalogueEvent) -> None:
        """The event is part of the catalogue; ``apply`` is the door to this."""
        if isinstance(event, RateCardPublished):
            self._take_published(event)
        elif isinstance(event, RateCardWithdrawn):
            line = self._lines[event.card_id]
            line.stand([card for card in line.standing if card.version != event.version])
        elif isinstance(event, SourceRegistered):
            self._sources[event.source] = event.historic
        elif isinstance(event, PlanPublished):
            self._take_plan(event)
        elif isinstance(event, PublicationProposed):
            self._waiting[event.publication_id] = event
        elif isinstance(event, PublicationApproved):
            del self._waiting[event.publication_id]
        else:
            raise UnknownEventShape(f"{type(event).__name__} is no event of the catalogue")
        self.version += 1

    def _take_published(self, event: RateCardPublished) -> None:
        canonical = bytes(event.document)
        card = load_rate_card(
            canonical, version=event.version, publisher=event.actor.id, published_at=event.recorded_at
        )
        line = self._lines.setdefault(event.card_id, _Line())
        assert event.version == len(line.published) + 1, "versions of a card count up from 1"
        assert card.digest == event.digest, "the digest is of the document's own bytes"
        line.published.append(card)
        line.stand([*line.standing, card])

    def _take_plan(self, event: PlanPublished) -> None:
        plan = load_plan(bytes(event.document), version=event.version)
        versions = self._plans.setdefault(event.plan_id, [])
        assert event.version == len(versions) + 1, "versions of a plan count up from 1"
        assert plan.digest == event.digest, "the digest is of the document's own bytes"
        versions.append(plan)


def apply(catalogue: Catalogue, event: CatalogueEvent) -> None:
    """The event is part of the catalogue; it never refuses. Raises: UnknownEventShape for one of a newer shape."""
    catalogue.take(event)


def fold(events: Iterable[CatalogueEvent]) -> Catalogue:
    """The catalogue as its events made it."""
    catalogue = Catalogue()
    for event in events:
        apply(catalogue, event)
    return catalogue


def publish_rate_card(
    catalogue: Catalogue,
    document: Mapping[str, object],
    at: datetime,
    actor: Actor,
    reason: str | None = None,
) -> list[CatalogueEvent]:
    """The document is published as the next version of its card. The very document that stands already changes nothing.

    Raises: RateCardRefused, with every finding on a line of its own.
    """
    findings = check_rate_card(document)
    if findings:
        raise _card_refused(document, findings)
    canonical = canonical_document(document)
    digest, card_id = document_digest(canonical), str(document["card_id"])
    if any(card.digest == digest for card in catalogue.cards()):
        return []
    findings = list(_date_findings(catalogue, card_id, effective_at(document), at))
    if findings:
        raise _card_refused(document, findings)
    published = RateCardPublished(
        recorded_at=at,
        actor=actor,
        reason=reason,
        card_id=card_id,
        version=catalogue.versions_published(card_id) + 1,
        effective_at=effective_at(document),
        digest=digest,
        document=msgspec.Raw(canonical),
    )
    return [published]


def withdraw_rate_card(
    catalogue: Catalogue, card_id: str, version: int, at: datetime, actor: Actor, reason: str | None = None
) -> list[CatalogueEvent]:
    """A version that is not yet effective will never be. Withdrawing it again changes nothing.

    Raises: Unknown for a version never published; RateCardRefused for one that is already effective.
    """
    card = catalogue.card(card_id, version)
    if card is None:
        raise Unknown(
            f"rate card {card_id[:80]} has no version {version}", card_id=card_id[:80], version=version
        )
    if card not in catalogue.cards():
        return []
    if card.effective_at <= at:
        raise RateCardRefused(
            f"rate card {card_id} version {version} is effective since {instant_text(card.effective_at)}: "
            "publish a version that replaces it",
            card_id=card_id,
            version=version,
        )
    return [RateCardWithdrawn(recorded_at=at, actor=actor, reason=reason, card_id=card_id, version=version)]


def publish_plan(
    catalogue: Catalogue,
    document: Mapping[str, object],
    at: datetime,
    actor: Actor,
    reason: str | None = None,
) -> list[CatalogueEvent]:
    """The document is published as the next version of its plan. The very document that is the newest changes nothing.

    Raises: PlanRefused, with every finding on a line of its own.
    """
    findings = check_plan(document)
    if findings:
        raise _plan_refused(document, findings)
    plan = read_plan(document)
    findings = list(_card_findings(catalogue, plan))
    if findings:
        raise _plan_refused(document, findings)
    canonical = canonical_json(document)
    digest, newest = document_digest(canonical), catalogue.plan(plan.plan_id)
    if newest is not None and newest.digest == digest:
        return []
    published = PlanPublished(
        recorded_at=at,
        actor=actor,
        reason=reason,
        plan_id=plan.plan_id,
        version=newest.version + 1 if newest else 1,
        digest=digest,
        document=msgspec.Raw(canonical),
    )
    return [published]


def register_source(
    catalogue: Catalogue, source: str, historic: bool, at: datetime, actor: Actor, reason: str | None = None
) -> list[CatalogueEvent]:
    """The source is registered, as historic or not; as it stands already, nothing changes. Raises: Malformed."""
    if not _SOURCE.fullmatch(source):
        raise Malformed(
            f"source {source[:80]!r} is no URI: write one such as 'urn:trace:gentd26', at most 255 characters",
            field="source",
        )
    if catalogue.sources().get(source) == historic:
        return []
    return [SourceRegistered(recorded_at=at, actor=actor, reason=reason, source=source, historic=historic)]


def _date_findings(
    catalogue: Catalogue, card_id: str, effective: datetime, at: datetime
) -> Iterator[Finding]:
    if effective < at and catalogue.versions_published(card_id):
        yield Finding(
            "effective_at",
            f"{instant_text(effective)} is in the past (now {instant_text(at)}): "
            "only the first version of a card may be, later ones would change the price of charged usage",
        )
    latest = catalogue.latest(card_id)
    if latest is not None and effective <= latest.effective_at:
        yield Finding(
            "effective_at",
            f"{instant_text(effective)} is not after version {latest.version}, "
            f"which is effective at {instant_text(latest.effective_at)}: choose a later time, or withdraw that version",
        )


def _card_findings(catalogue: Catalogue, plan: PlanDocument) -> Iterator[Finding]:
    """Whether usage on the plan can be priced: its card stands, and lists every action that the plan names."""
    standing = [card for card in catalogue.cards() if card.card_id == plan.card_id]
    if not standing:
        known = sorted({card.card_id for card in catalogue.cards()})
        yield Finding(
            "card_id",
            f"{plan.card_id!r} is no published rate card: publish it first, or name one of {known[:20]}",
        )
        return
    for where, action in actions_named(plan):
        if not any(card.prices(action) for card in standing):
            yield Finding(
                where,
                f"rate card {plan.card_id} has no rate for {action!r}: name one of {standing[-1].actions()[:20]}",
            )


def _card_refused(document: Mapping[str, object], findings: list[Finding]) -> RateCardRefused:
    return RateCardRefused(_told("rate card", document.get("card_id"), findings), findings=len(findings))


def _plan_refused(document: Mapping[str, object], findings: list[Finding]) -> PlanRefused:
    return PlanRefused(_told("plan", document.get("plan_id"), findings), findings=len(findings))


def _told(kind: str, named: object, findings: list[Finding]) -> str:
    lines = "\n".join(finding.text() for finding in findings)
    return f"{kind} {'without an id' if named is None else str(named)[:80]} is not published:\n{lines}"
