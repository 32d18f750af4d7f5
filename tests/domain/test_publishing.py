"""What is sold changes by two persons: proposed by one, approved by another, and published as if it were done at once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from domain.actors import Actor
from domain.catalogue import (
    CATALOGUE_EVENTS,
    Catalogue,
    CatalogueEvent,
    PublicationApproved,
    PublicationKind,
    PublicationProposed,
    RateCardPublished,
    RateCardWithdrawn,
    apply,
    fold,
)
from domain.errors import ActRefused, Malformed, RateCardRefused, SecondPersonNeeded, Unknown, UnknownAct
from domain.publishing import PUBLICATION_LASTS, PUBLICATIONS_MAX, approve, change, propose, waiting_at
from tests.domain.test_catalogue import DAY, NOW, a_document

ANN, BOB = Actor("ann", "operator"), Actor("bob", "operator")


class Desk:
    """A catalogue that ann and bob change."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.events: list[CatalogueEvent] = []
        self.take(change(self.catalogue, "publish_rate_card", a_document(NOW - DAY), NOW, ANN))

    def take(self, events: list[CatalogueEvent]) -> list[CatalogueEvent]:
        for event in events:
            apply(self.catalogue, event)
        self.events += events
        return events

    def propose(
        self, document: Any, operation: PublicationKind = "publish_rate_card", by: Actor = ANN
    ) -> list[CatalogueEvent]:
        return self.take(propose(self.catalogue, operation, document, NOW, by, "costs rose"))


@pytest.fixture
def desk() -> Desk:
    """A card is effective since yesterday."""
    return Desk()


def test_what_was_proposed_counts_when_another_person_approves_it(desk: Desk) -> None:
    dearer = a_document(NOW + DAY, "2")
    [proposed] = desk.propose(dearer)
    before = desk.catalogue.versions_published("standard")
    approved, published = desk.take(approve(desk.catalogue, "publication-2", NOW, BOB))

    assert isinstance(proposed, PublicationProposed)
    assert (proposed.publication_id, before) == ("publication-2", 1)
    assert isinstance(approved, PublicationApproved)
    assert isinstance(published, RateCardPublished)
    assert (approved.actor, approved.proposed_by) == (BOB, ANN)
    assert (published.actor, published.reason, published.version) == (BOB, "costs rose", 2)
    assert (published.digest, bytes(published.document)) == (proposed.digest, bytes(proposed.document))
    assert desk.catalogue.waiting() == []


def test_nobody_approves_what_they_proposed_and_nothing_is_approved_twice(desk: Desk) -> None:
    desk.propose(a_document(NOW + DAY, "2"))

    with pytest.raises(SecondPersonNeeded, match="ask another person"):
        approve(desk.catalogue, "publication-2", NOW, Actor("ann", "break-glass"))
    desk.take(approve(desk.catalogue, "publication-2", NOW, BOB))
    with pytest.raises(UnknownAct, match="publication-2"):
        approve(desk.catalogue, "publication-2", NOW, BOB)


def test_what_could_not_be_published_is_not_proposed(desk: Desk) -> None:
    with pytest.raises(RateCardRefused, match="in the past"):
        desk.propose(a_document(NOW - DAY, "2"))
    with pytest.raises(Unknown):
        desk.propose({"card_id": "gold", "version": 1}, "withdraw_rate_card")
    with pytest.raises(Malformed, match="card_id and version"):
        desk.propose({"card_id": "gold"}, "withdraw_rate_card")
    with pytest.raises(ActRefused, match="reason is missing"):
        propose(desk.catalogue, "publish_rate_card", a_document(NOW + DAY, "2"), NOW, ANN, " ")


def test_what_stands_or_waits_already_changes_nothing(desk: Desk) -> None:
    desk.propose(a_document(NOW + DAY, "2"))

    assert desk.propose(a_document(NOW + DAY, "2"), by=BOB) == []
    assert desk.propose(a_document(NOW - DAY)) == []
    assert [each.actor for each in desk.catalogue.waiting()] == [ANN]


def test_what_waited_too_long_is_proposed_again(desk: Desk) -> None:
    late = NOW + PUBLICATION_LASTS + timedelta(microseconds=1)
    desk.propose(a_document(NOW + 30 * DAY, "2"))

    with pytest.raises(ActRefused, match="propose it again"):
        approve(desk.catalogue, "publication-2", late, BOB)
    [again] = propose(
        desk.catalogue, "publish_rate_card", a_document(NOW + 30 * DAY, "2"), late, ANN, "still"
    )
    assert isinstance(again, PublicationProposed)
    assert (again.publication_id, waiting_at(desk.catalogue, late)) == ("publication-3", [])


def test_a_catalogue_that_moved_on_refuses_at_approval(desk: Desk) -> None:
    desk.propose(a_document(NOW + DAY, "2"))
    desk.take(change(desk.catalogue, "publish_rate_card", a_document(NOW + 2 * DAY, "3"), NOW, BOB))

    with pytest.raises(RateCardRefused, match="is not after version 2"):
        approve(desk.catalogue, "publication-2", NOW, BOB)
    assert len(desk.catalogue.waiting()) == 1


def test_a_withdrawal_takes_two_persons_too(desk: Desk) -> None:
    desk.take(change(desk.catalogue, "publish_rate_card", a_document(NOW + DAY, "2"), NOW, ANN))
    desk.propose({"card_id": "standard", "version": 2}, "withdraw_rate_card")
    _, withdrawn = desk.take(approve(desk.catalogue, "publication-3", NOW, BOB))

    assert isinstance(withdrawn, RateCardWithdrawn)
    assert [card.version for card in desk.catalogue.cards()] == [1]


def test_so_many_wait_at_most(desk: Desk) -> None:
    for number in range(PUBLICATIONS_MAX):
        desk.propose(a_document(NOW + (number + 1) * DAY, "2"))

    with pytest.raises(ActRefused, match="which is the most"):
        desk.propose(a_document(NOW + 1_000 * DAY, "2"))


def test_folding_what_is_stored_gives_the_same_that_waits(desk: Desk) -> None:
    """I9."""
    desk.propose(a_document(NOW + DAY, "2"))
    desk.propose(a_document(NOW + 2 * DAY, "3"))
    desk.take(approve(desk.catalogue, "publication-2", NOW, BOB))
    by_topic = {shape.TOPIC: shape for shape in CATALOGUE_EVENTS}

    stored = [(event.TOPIC, msgspec.json.encode(event)) for event in desk.events]
    folded = fold(msgspec.json.decode(state, type=by_topic[topic]) for topic, state in stored)

    assert [each.publication_id for each in folded.waiting()] == ["publication-3"]
    assert folded.version == desk.catalogue.version == 5
