"""The catalogue: versions by date, what publishing and withdrawing refuse, and registered sources."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from domain.actors import Actor
from domain.catalogue import (
    CATALOGUE_EVENTS,
    Catalogue,
    CatalogueEvent,
    RateCardPublished,
    RateCardWithdrawn,
    SourceRegistered,
    apply,
    fold,
    publish_rate_card,
    register_source,
    withdraw_rate_card,
)
from domain.errors import Malformed, RateCardRefused, Unknown, UnknownEventShape
from domain.rate_cards import sample_prices

OPS = Actor("ops", "operator")
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)


def a_document(effective_at: datetime, price: str = "1", card_id: str = "standard") -> dict[str, object]:
    return {
        "card_id": card_id,
        "effective_at": effective_at.isoformat(),
        "meters": {"images": "image"},
        "rates": [
            {"action": "image.generate", "terms": [{"model": "unit", "meters": ["images"], "price": price}]}
        ],
    }


class Story:
    """A catalogue and the events that made it."""

    def __init__(self) -> None:
        self.catalogue = Catalogue()
        self.events: list[CatalogueEvent] = []

    def record(self, events: list[CatalogueEvent]) -> list[CatalogueEvent]:
        for event in events:
            apply(self.catalogue, event)
        self.events += events
        return events

    def publish(self, effective_at: datetime, price: str = "1", at: datetime = NOW) -> list[CatalogueEvent]:
        return self.record(publish_rate_card(self.catalogue, a_document(effective_at, price), at, OPS))

    def withdraw(self, version: int, at: datetime = NOW) -> list[CatalogueEvent]:
        return self.record(
            withdraw_rate_card(self.catalogue, "standard", version, at, OPS, reason="typing error")
        )

    def version_at(self, at: datetime) -> int | None:
        card = self.catalogue.card_in_force("standard", at)
        return card.version if card else None


def test_the_card_in_force_is_the_latest_that_is_effective() -> None:
    story = Story()
    story.publish(datetime(2020, 1, 1, tzinfo=UTC))
    story.publish(NOW + DAY, "2")
    story.publish(NOW + 2 * DAY, "3")

    assert story.version_at(datetime(2019, 12, 31, tzinfo=UTC)) is None
    assert story.version_at(datetime(2020, 1, 1, tzinfo=UTC)) == 1
    assert story.version_at(NOW + DAY - timedelta(microseconds=1)) == 1
    assert story.version_at(NOW + DAY) == 2
    assert story.version_at(NOW + 400 * DAY) == 3
    assert story.catalogue.card_in_force("other", NOW) is None


def test_each_version_is_valid_until_the_next_is_effective() -> None:
    story = Story()
    story.publish(NOW)
    story.publish(NOW + DAY, "2")

    first, second = story.catalogue.cards()

    assert story.catalogue.validity(first) == (NOW, NOW + DAY)
    assert story.catalogue.validity(second) == (NOW + DAY, None)
    assert story.catalogue.actions(NOW) == {"image.generate": ["standard"]}
    assert story.catalogue.actions(NOW - DAY) == {}


def test_a_published_card_carries_its_document_digest_and_publisher() -> None:
    story = Story()

    (event,) = story.publish(NOW)

    assert isinstance(event, RateCardPublished)
    assert event.digest == hashlib.sha256(bytes(event.document)).hexdigest()
    assert bytes(event.document).startswith(
        b'{"card_id":"standard","effective_at":"2026-06-01T12:00:00.000000Z"'
    )
    (card,) = story.catalogue.cards()
    assert (card.version, card.digest, card.publisher, card.published_at) == (1, event.digest, "ops", NOW)
    assert card.document == bytes(event.document)


def test_the_same_document_again_changes_nothing_however_it_is_written() -> None:
    story = Story()
    story.publish(NOW)
    document = dict(reversed(a_document(NOW).items()))
    document["effective_at"] = NOW.astimezone(datetime.fromisoformat("2026-01-01T00:00:00+05:45").tzinfo)

    assert publish_rate_card(story.catalogue, document, NOW + DAY, OPS) == []


def test_only_the_first_version_may_be_effective_in_the_past() -> None:
    story = Story()
    story.publish(NOW - 30 * DAY)

    with pytest.raises(RateCardRefused, match="in the past"):
        story.publish(NOW - timedelta(microseconds=1), "2")
    story.publish(NOW, "2")

    assert story.version_at(NOW) == 2


@pytest.mark.parametrize("effective_at", [NOW + DAY, NOW + 2 * DAY])
def test_a_version_is_effective_after_every_version_before_it(effective_at: datetime) -> None:
    story = Story()
    story.publish(NOW + 2 * DAY)

    with pytest.raises(RateCardRefused, match="is not after version 1"):
        story.publish(effective_at, "2")


def test_cards_of_other_ids_do_not_stand_in_the_way() -> None:
    story = Story()
    story.publish(NOW + 2 * DAY)

    story.record(publish_rate_card(story.catalogue, a_document(NOW - DAY, card_id="pro"), NOW, OPS))

    assert [(card.card_id, card.version) for card in story.catalogue.cards()] == [("pro", 1), ("standard", 1)]
    assert story.catalogue.actions(NOW + 2 * DAY) == {"image.generate": ["pro", "standard"]}


def test_a_withdrawn_version_never_prices_but_is_still_known() -> None:
    story = Story()
    story.publish(NOW - DAY)
    story.publish(NOW + 5 * DAY, "2")

    (event,) = story.withdraw(2)

    assert isinstance(event, RateCardWithdrawn)
    assert event.reason == "typing error"
    assert story.version_at(NOW + 9 * DAY) == 1
    withdrawn = story.catalogue.card("standard", 2)
    assert withdrawn is not None
    assert withdrawn.version == 2
    assert story.withdraw(2) == []


def test_a_withdrawn_version_frees_its_dates_but_not_its_number() -> None:
    story = Story()
    story.publish(NOW - DAY)
    story.publish(NOW + 5 * DAY, "2")
    story.withdraw(2)

    story.publish(NOW + 3 * DAY, "3")
    story.publish(NOW + 5 * DAY, "2")

    assert [card.version for card in story.catalogue.cards()] == [1, 3, 4]


def test_a_second_version_may_not_reach_back_even_if_the_first_was_withdrawn() -> None:
    story = Story()
    story.publish(NOW + DAY)
    story.withdraw(1)

    with pytest.raises(RateCardRefused, match="in the past"):
        story.publish(NOW - DAY)


def test_an_effective_version_cannot_be_withdrawn() -> None:
    story = Story()
    story.publish(NOW)

    with pytest.raises(RateCardRefused, match="publish a version that replaces it"):
        story.withdraw(1)
    with pytest.raises(Unknown, match="no version 2"):
        story.withdraw(2)


def test_a_card_that_fails_its_check_is_refused_with_every_finding() -> None:
    document = a_document(NOW, price="-1")
    document["meters"] = {}

    with pytest.raises(RateCardRefused) as refused:
        publish_rate_card(Catalogue(), document, NOW, OPS)

    assert refused.value.asked == {"findings": 2}
    assert "'-1' is no price" in refused.value.detail
    assert "meter 'images' is not listed" in refused.value.detail


def test_a_source_is_historic_from_its_registration_until_it_is_registered_otherwise() -> None:
    story = Story()
    assert not story.catalogue.is_historic("urn:trace:gentd26")

    story.record(register_source(story.catalogue, "urn:trace:gentd26", True, NOW, OPS))

    assert story.catalogue.is_historic("urn:trace:gentd26")
    assert register_source(story.catalogue, "urn:trace:gentd26", True, NOW, OPS) == []
    story.record(register_source(story.catalogue, "urn:trace:gentd26", False, NOW, OPS))
    assert not story.catalogue.is_historic("urn:trace:gentd26")
    assert story.catalogue.sources() == {"urn:trace:gentd26": False}


@pytest.mark.parametrize("source", ["", "two words", "urn:ü", "x" * 256, "urn:\n"])
def test_a_source_that_is_no_uri_is_malformed(source: str) -> None:
    with pytest.raises(Malformed, match="no URI"):
        register_source(Catalogue(), source, True, NOW, OPS)


def test_folding_stored_events_gives_the_same_catalogue() -> None:
    story = Story()
    story.publish(NOW - DAY)
    story.publish(NOW + DAY, "2")
    story.withdraw(2)
    story.record(register_source(story.catalogue, "urn:trace:gentd26", True, NOW, OPS))
    by_topic = {shape.TOPIC: shape for shape in CATALOGUE_EVENTS}

    stored = [(event.TOPIC, msgspec.json.encode(event)) for event in story.events]
    folded = fold(msgspec.json.decode(state, type=by_topic[topic]) for topic, state in stored)

    assert folded.version == story.catalogue.version == 4
    assert [(card.version, card.digest, card.document) for card in folded.cards()] == [
        (card.version, card.digest, card.document) for card in story.catalogue.cards()
    ]
    assert folded.sources() == story.catalogue.sources()
    assert folded.card("standard", 2) is not None


def test_topics_are_stable() -> None:
    assert [shape.TOPIC for shape in CATALOGUE_EVENTS] == [
        "RateCardPublished.1",
        "RateCardWithdrawn.1",
        "SourceRegistered.1",
        "PlanPublished.1",
        "PublicationProposed.1",
        "PublicationApproved.1",
    ]
    assert SourceRegistered.TOPIC == "SourceRegistered.1"


def test_a_document_of_a_newer_shape_is_not_guessed() -> None:
    (event,) = publish_rate_card(Catalogue(), a_document(NOW), NOW, OPS)
    assert isinstance(event, RateCardPublished)
    newer = msgspec.structs.replace(
        event, document=msgspec.Raw(bytes(event.document).replace(b'"model":"unit"', b'"model":"staircase"'))
    )

    with pytest.raises(UnknownEventShape, match="newer shape"):
        apply(Catalogue(), newer)


def test_an_event_of_another_aggregate_is_refused() -> None:
    with pytest.raises(UnknownEventShape):
        apply(Catalogue(), CatalogueEvent(recorded_at=NOW, actor=OPS))


def test_a_card_without_samples_shows_a_price_of_its_own() -> None:
    story = Story()
    story.publish(NOW, "0.25")

    (shown,) = sample_prices(story.catalogue.cards()[0])

    assert shown.sample.meters == {"images": "1"}
    assert shown.price is not None
    assert shown.price.amount_micros == 250_000
