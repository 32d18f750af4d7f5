"""Plans: what may be published, what a document becomes, and which version a team gets."""

from __future__ import annotations

import copy
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from domain.actors import Actor
from domain.amounts import MICROS_PER_CREDIT
from domain.catalogue import Catalogue, PlanPublished, apply, fold, publish_plan, publish_rate_card
from domain.documents import canonical_json, document_digest
from domain.errors import PlanRefused, UnknownEventShape
from domain.plans import check_plan, load_plan
from domain.terms import LimitTerms, PlanTerms

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
OPS = Actor("ops", "operator")
LOCAL = Path(__file__).parents[2] / "infra" / "local" / "catalogue"

Document = dict[str, object]


def a_card(card_id: str = "standard") -> Document:
    return {
        "card_id": card_id,
        "effective_at": NOW,
        "meters": {"images": "image"},
        "rates": [
            {"action": "image.generate", "terms": [{"model": "unit", "meters": ["images"], "price": "1"}]},
            {"action": "image.edit", "terms": [{"model": "flat", "price": "0.5"}]},
        ],
    }


def a_plan() -> Document:
    return {
        "plan_id": "studio",
        "description": "For a studio",
        "card_id": "standard",
        "allowance": "1000",
        "rollover_cap": "200.5",
        "overdraft_cap": "50",
        "price": {"price_minor": 4900, "currency": "EUR"},
        "captures": {"image.generate": "overdraft", "image.edit": "reject"},
        "limits": [
            {"limit_id": "day", "window": "day", "cap": "300", "hard": False, "thresholds": [50, 80, 100]},
            {"limit_id": "edits", "window": "hour", "cap": "0", "hard": True, "action": "image.edit"},
        ],
    }


def a_catalogue() -> Catalogue:
    catalogue = Catalogue()
    for event in publish_rate_card(catalogue, a_card(), NOW, OPS):
        apply(catalogue, event)
    return catalogue


def published(catalogue: Catalogue, document: Document) -> list[PlanPublished]:
    events = publish_plan(catalogue, document, NOW, OPS, "because")
    for event in events:
        apply(catalogue, event)
    return [event for event in events if isinstance(event, PlanPublished)]


def changed(path: str, value: object) -> Document:
    """The document with the value at a path such as "limits/0/cap" replaced."""
    document = copy.deepcopy(a_plan())
    at: object = document
    *steps, last = path.split("/")
    for step in steps:
        at = at[int(step)] if isinstance(at, list) else at[step]  # type: ignore[index]
    at[int(last) if isinstance(at, list) else last] = value  # type: ignore[index]
    return document


def without(name: str) -> Document:
    return {key: value for key, value in a_plan().items() if key != name}


def findings_of(document: Document) -> list[str]:
    return [finding.text() for finding in check_plan(document)]


def test_a_right_document_becomes_the_terms_it_says() -> None:
    canonical = canonical_json(a_plan())

    assert findings_of(a_plan()) == []
    assert load_plan(canonical, version=3) == PlanTerms(
        plan_id="studio",
        version=3,
        digest=document_digest(canonical),
        card_id="standard",
        allowance_micros=1_000 * MICROS_PER_CREDIT,
        rollover_cap_micros=200_500_000,
        overdraft_cap_micros=50 * MICROS_PER_CREDIT,
        captures={"image.edit": "reject", "image.generate": "overdraft"},
        limits=[
            LimitTerms(
                limit_id="day", window="day", cap_micros=300_000_000, hard=False, thresholds=[50, 80, 100]
            ),
            LimitTerms(limit_id="edits", window="hour", cap_micros=0, hard=True, action="image.edit"),
        ],
        price_minor=4_900,
        currency="EUR",
    )


def test_a_plan_may_say_no_more_than_it_must() -> None:
    document: Document = {
        "plan_id": "free",
        "card_id": "standard",
        "allowance": "0",
        "price": {"price_minor": 0, "currency": "EUR"},
    }

    terms = load_plan(canonical_json(document), version=1)

    assert findings_of(document) == []
    assert (terms.allowance_micros, terms.rollover_cap_micros, terms.overdraft_cap_micros) == (0, 0, 0)
    assert (terms.captures, terms.limits, terms.price_minor) == ({}, [], 0)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (changed("plan_id", "Studio +"), "plan_id: 'Studio +' is no id"),
        (changed("card_id", "A card"), "card_id: 'A card' is no id"),
        (changed("plan_id", 7), "Expected `str`, got `int`"),
        (without("plan_id"), "missing required field `plan_id`"),
        (without("price"), "missing required field `price`"),
        (changed("colour", "blue"), "unknown field `colour`"),
        (changed("allowance", 1000), "Expected `str`, got `int` - at `allowance`"),
        (changed("allowance", 0.5), "credits: every number is a quoted decimal string"),
        (changed("allowance", "-1"), "allowance '-1' is not an amount of credits"),
        (changed("allowance", "NaN"), "is not an amount of credits"),
        (changed("allowance", "0.0000001"), "at most six places"),
        (changed("rollover_cap", "all"), "rollover_cap 'all' is not an amount"),
        (changed("overdraft_cap", "1e3"), "overdraft_cap '1e3' is not an amount"),
        (
            changed("overdraft_cap", "0.00"),
            "captures.image.generate: may make debt, but overdraft_cap allows none",
        ),
        (changed("price/price_minor", -1), "price.price_minor: -1 is no price"),
        (changed("price/price_minor", 2**62 + 1), "is no price"),
        (changed("price/price_minor", 49.0), "Expected `int`, got `float` - at `price.price_minor`"),
        (changed("price/price_minor", True), "Expected `int`, got `bool`"),
        (changed("price/currency", "euro"), "price.currency: 'euro' is no currency"),
        (changed("captures/image.edit", "maybe"), "Invalid enum value 'maybe'"),
        (changed("captures/Edit It", "reject"), "captures.Edit It: 'Edit It' is no action"),
        (changed("captures", {f"a{n}": "reject" for n in range(101)}), "captures: names 101 actions"),
        (changed("limits", "none"), "limits: limits are tables"),
        (changed("limits/0", "none"), "limits[0]: Expected `object`"),
        (changed("limits/0/window", "year"), "limits[0]: Invalid enum value 'year'"),
        (changed("limits/1/hard", "yes"), "limits[1]: Expected `bool`"),
        (changed("limits/0/limit_id", ""), "limits[0].limit_id: '' is no id"),
        (changed("limits/0/limit_id", "edits"), "limits[1].limit_id: 'edits' is listed twice"),
        (changed("limits/0/cap", "-1"), "limits[0].cap '-1' is not an amount"),
        (changed("limits/0/member", "two words"), "limits[0].member: 'two words' is no id"),
        (changed("limits/0/project", ""), "limits[0].project: '' is no id"),
        (changed("limits/0/action", "Edit"), "limits[0].action: 'Edit' is no action"),
        (changed("limits/0/thresholds", [80, 50]), "limits[0].thresholds: [80, 50] do not rise"),
        (changed("limits/0/thresholds", [50, 50]), "do not rise"),
        (changed("limits/0/thresholds", [0]), "do not rise from 1"),
        (changed("limits/0/thresholds", [1001]), "to 1000 percent"),
        (changed("limits/0/thresholds", list(range(1, 12))), "a limit has at most 10"),
        (
            changed(
                "limits",
                [{"limit_id": f"l{n}", "window": "day", "cap": "1", "hard": True} for n in range(51)],
            ),
            "limits: are 51",
        ),
        (changed("description", "x" * 1_100_000), "at most 1048576 can be published"),
        (changed("description", "\ud800"), "surrogates not allowed"),
    ],
)
def test_a_fault_is_found_and_placed(document: Document, told: str) -> None:
    findings = findings_of(document)

    assert any(told in finding for finding in findings), findings


def test_faults_of_several_places_are_told_together() -> None:
    document = changed("limits/0/cap", "x")
    document["price"] = {"price_minor": -1, "currency": "eur"}

    assert [finding.where for finding in check_plan(document)] == [
        "price.price_minor",
        "price.currency",
        "limits[0].cap",
    ]


def test_a_published_plan_is_known_by_its_newest_version_and_by_each() -> None:
    catalogue = a_catalogue()
    (first,) = published(catalogue, a_plan())
    (second,) = published(catalogue, changed("allowance", "1200"))

    assert (first.version, second.version) == (1, 2)
    assert (first.recorded_at, first.actor, first.reason) == (NOW, OPS, "because")
    newest = catalogue.plan("studio")
    assert newest is not None
    assert (newest.version, newest.allowance_micros, newest.digest) == (2, 1_200_000_000, second.digest)
    kept = catalogue.plan("studio", 1)
    assert kept is not None
    assert (kept.version, kept.allowance_micros, kept.digest) == (1, 1_000_000_000, first.digest)
    assert catalogue.plans() == [newest]
    for version in (0, -1, 3):
        assert catalogue.plan("studio", version) is None
    assert catalogue.plan("nobody") is None


def test_the_document_that_is_the_newest_changes_nothing_however_it_is_written() -> None:
    catalogue = a_catalogue()
    published(catalogue, a_plan())

    assert published(catalogue, dict(reversed(a_plan().items()))) == []


def test_an_older_document_may_come_back_as_a_new_version() -> None:
    catalogue = a_catalogue()
    published(catalogue, a_plan())
    published(catalogue, changed("allowance", "1200"))

    (third,) = published(catalogue, a_plan())

    assert third.version == 3
    assert catalogue.plans()[0].allowance_micros == 1_000_000_000


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (
            changed("card_id", "pro"),
            "card_id: 'pro' is no published rate card: publish it first, or name one of ['standard']",
        ),
        (
            changed("captures", {"video.generate": "reject"}),
            "captures.video.generate: rate card standard has no rate for 'video.generate': name one of ['image.generate'",
        ),
        (changed("limits/0/action", "video.generate"), "limits[0].action: rate card standard has no rate"),
        (changed("allowance", "-1"), "allowance '-1' is not an amount"),
    ],
)
def test_a_plan_whose_usage_could_not_be_priced_is_refused(document: Document, told: str) -> None:
    catalogue = a_catalogue()

    with pytest.raises(PlanRefused) as refused:
        publish_plan(catalogue, document, NOW, OPS)

    assert refused.value.detail.startswith("plan studio is not published:\n")
    assert told in refused.value.detail
    assert refused.value.asked == {"findings": 1}
    assert catalogue.plans() == []


def test_an_action_of_a_version_yet_to_come_may_be_named() -> None:
    catalogue = a_catalogue()
    later = a_card() | {"effective_at": NOW + timedelta(days=30)}
    later["rates"] = [{"action": "video.generate", "terms": [{"model": "flat", "price": "3"}]}]
    for event in publish_rate_card(catalogue, later, NOW, OPS):
        apply(catalogue, event)

    (event,) = published(catalogue, changed("captures", {"video.generate": "reject", "image.edit": "reject"}))

    assert event.version == 1


@pytest.mark.parametrize("plan_id", ["free", "studio", "studio-plus"])
def test_the_plans_of_the_local_stack_stand_with_its_card(plan_id: str) -> None:
    catalogue = Catalogue()
    for event in publish_rate_card(catalogue, tomllib.loads((LOCAL / "demo.toml").read_text()), NOW, OPS):
        apply(catalogue, event)

    (event,) = published(catalogue, tomllib.loads((LOCAL / f"{plan_id}.toml").read_text()))

    plan = catalogue.plan(plan_id)
    assert plan is not None
    assert (event.plan_id, plan.card_id) == (plan_id, "standard")
    assert plan.allowance_micros > 0
    assert plan.rollover_cap_micros < plan.allowance_micros
    assert plan.limits


def test_folding_stored_events_gives_the_same_plans() -> None:
    catalogue = Catalogue()
    cards = publish_rate_card(catalogue, a_card(), NOW, OPS)
    for event in cards:
        apply(catalogue, event)
    plans = [*published(catalogue, a_plan()), *published(catalogue, changed("allowance", "5"))]

    stored = [msgspec.json.encode(event) for event in plans]
    folded = fold([*cards, *(msgspec.json.decode(each, type=PlanPublished) for each in stored)])

    assert folded.plans() == catalogue.plans()
    assert folded.plan("studio", 1) == catalogue.plan("studio", 1)


def test_a_document_of_a_newer_shape_is_not_guessed() -> None:
    (event,) = published(a_catalogue(), a_plan())
    newer = msgspec.structs.replace(
        event, document=msgspec.Raw(bytes(event.document).replace(b'"window":"day"', b'"window":"year"'))
    )
    assert bytes(newer.document) != bytes(event.document)

    with pytest.raises(UnknownEventShape, match="newer shape"):
        apply(Catalogue(), newer)
