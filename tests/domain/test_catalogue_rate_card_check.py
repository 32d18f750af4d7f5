"""What a rate card may not say: every fault is found, placed, and told with what would be right."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from domain.documents import document_digest
from domain.rate_cards import canonical_document, check_rate_card

Document = dict[str, object]


def a_document() -> Document:
    return {
        "card_id": "standard",
        "effective_at": datetime(2026, 1, 1, tzinfo=UTC),
        "meters": {"units": "unit", "seconds": "second"},
        "dimensions": {"resolution": "height", "loras": "adapters"},
        "rates": [
            {
                "action": "video.generate",
                "minimum": "1",
                "terms": [{"model": "unit", "meters": ["seconds"], "price": "1.2"}],
                "multipliers": [{"kind": "table", "dimension": "resolution", "values": {"720p": "1"}}],
                "samples": [{"meters": {"seconds": "5"}, "dimensions": {"resolution": "720p"}, "price": "6"}],
            },
            {
                "action": "audio.generate",
                "terms": [
                    {
                        "model": "graduated",
                        "meters": ["seconds"],
                        "tiers": [
                            {"up_to": "60", "price": "2"},
                            {"up_to": "120", "price": "1"},
                            {"price": "0.5"},
                        ],
                    },
                    {"model": "package", "meters": ["units"], "size": "10", "price": "1"},
                ],
                "multipliers": [{"kind": "linear", "dimension": "loras", "slope": "0.1"}],
            },
        ],
    }


def changed(path: str, value: object) -> Document:
    """The document with the value at a path such as "rates.0.minimum" replaced."""
    document = copy.deepcopy(a_document())
    at: object = document
    *steps, last = path.split(".")
    for step in steps:
        at = at[int(step)] if isinstance(at, list) else at[step]  # type: ignore[index]
    at[int(last) if isinstance(at, list) else last] = value  # type: ignore[index]
    return document


def findings_of(document: Document) -> list[str]:
    return [finding.text() for finding in check_rate_card(document)]


def test_a_right_document_has_no_findings() -> None:
    assert findings_of(a_document()) == []


FAULTS = [
    ("card_id", "Standard Card", "card_id: 'Standard Card' is no id"),
    ("card_id", 7, "Expected `str`, got `int`"),
    ("effective_at", datetime(2026, 1, 1), "is not a time with its offset"),  # noqa: DTZ001 - the point
    ("effective_at", "soon", "is not a time with its offset"),
    ("effective_at", None, "is not a time with its offset"),
    ("meters.Units", "unit", "meters.Units: 'Units' is no name"),
    ("meters.units", "Unit!", "meters.units: 'Unit!' is no name"),
    ("dimensions.Größe", "height", "'Größe' is no name"),
    ("rates", [], "at least one [[rates]]"),
    ("rates", "none", "at least one [[rates]]"),
    ("colour", "blue", "unknown field `colour`"),
    ("rates.0", "none", "rates[0]: Expected `object`"),
    ("rates.0.action", "Generate Video", "rates[0].action: 'Generate Video' is no action"),
    ("rates.0.action", "video/generate", "is no action"),
    ("rates.0.action", "audio.generate", "rates[1].action: 'audio.generate' is listed twice"),
    ("rates.0.minimum", "-1", "rates[0] (video.generate).minimum: '-1' is no price"),
    ("rates.0.minimum", "0.0000000000001", "is no price"),
    ("rates.0.terms", [], "at least one term"),
    ("rates.0.terms.0.price", 0.5, "Expected `str`, got `float`"),
    ("rates.0.terms.0.price", "1e3", "'1e3' is no price"),
    ("rates.0.terms.0.price", "NaN", "'NaN' is no price"),
    ("rates.0.terms.0.price", "01", "'01' is no price"),
    ("rates.0.terms.0.price", "1\n", "is no price"),
    ("rates.0.terms.0.price", "٣", "is no price"),
    ("rates.0.terms.0.per", "0", "rates[0] (video.generate).terms[0].per: a size is above zero"),
    ("rates.0.terms.0.per", "x", "is not a quantity"),
    ("rates.0.terms.0.meters", [], "name one meter"),
    ("rates.0.terms.0.meters", ["seconds", "seconds"], "name one meter"),
    ("rates.0.terms.0.meters", ["minutes"], "meter 'minutes' is not listed"),
    ("rates.0.terms.0.model", "staircase", "Invalid value 'staircase'"),
    ("rates.0.terms.0.model", "volume", "later usage would change an earlier charge"),
    ("rates.0.terms.0.prise", "1", "unknown field `prise`"),
    ("rates.0.multipliers.0.dimension", "size", "dimension 'size' is not listed"),
    ("rates.0.multipliers.0.values", {}, "at least one value"),
    ("rates.0.multipliers.0.values.720p", "-1", "values.720p: '-1' is no factor"),
    ("rates.0.multipliers.0.default", "1.0000000001", "is no factor"),
    ("rates.0.multipliers.0.values.\ud800", "1", "surrogates not allowed"),
    ("rates.0.samples.0.price", "7", "costs 6, not 7 as the sample says"),
    ("rates.0.samples.0.price", "x", "is not an amount of credits"),
    ("rates.0.samples.0.meters", {}, "costs nothing to price, not 6"),
    ("rates.0.samples.0.dimensions", {}, "dimension resolution is missing"),
    ("rates.1.minimum", "0.1", "a minimum cannot stand beside graduated tiers"),
    ("rates.1.terms.0.tiers", [], "the last tier is open"),
    ("rates.1.terms.0.tiers.2.up_to", "500", "the last tier is open"),
    ("rates.1.terms.0.tiers.1", {"price": "1"}, "only the last tier is open"),
    ("rates.1.terms.0.tiers.1.up_to", "60", "60 is not above the tier before"),
    ("rates.1.terms.0.tiers.0.up_to", "0", "a size is above zero"),
    ("rates.1.terms.0.tiers.0.price", "x", "tiers[0].price: 'x' is no price"),
    ("rates.1.terms.1.size", "0", "terms[1].size: a size is above zero"),
    ("rates.1.multipliers.0.slope", "a tenth", "is no factor"),
    ("rates.1.multipliers.0.base", "-1", "is no factor"),
    ("rates.1.multipliers.0.default_number", "-1", "is not a quantity"),
    (
        "rates.1.multipliers",
        [{"kind": "linear", "dimension": "loras", "slope": "1"}] * 2,
        "'loras' multiplies twice",
    ),
]


@pytest.mark.parametrize(("path", "value", "told"), FAULTS)
def test_a_fault_is_found_and_placed(path: str, value: object, told: str) -> None:
    findings = findings_of(changed(path, value))

    assert any(told in finding for finding in findings), findings


def test_a_minimum_of_zero_may_stand_beside_tiers() -> None:
    assert findings_of(changed("rates.1.minimum", "0.00")) == []


def test_faults_of_several_rates_are_told_together() -> None:
    document = changed("rates.0.terms.0.price", "x")
    rates = document["rates"]
    assert isinstance(rates, list)
    rates.append({"action": "a", "terms": [{"model": "flat", "price": "y"}]})

    assert len(findings_of(document)) == 2


def test_a_document_too_large_is_refused() -> None:
    assert "at most 1048576" in findings_of(changed("description", "x" * 1_100_000))[0]


@pytest.mark.parametrize(
    "spelled", ["2026-01-01T00:00:00Z", "2026-01-01T01:00:00+01:00", "2026-01-01 00:00:00.000+00:00"]
)
def test_one_instant_has_one_digest_however_it_is_spelled(spelled: str) -> None:
    expected = document_digest(canonical_document(a_document()))

    assert document_digest(canonical_document(changed("effective_at", spelled))) == expected


def test_any_change_changes_the_digest() -> None:
    digests: set[str] = set()
    edits: list[Callable[[], Document]] = [
        a_document,
        lambda: changed("rates.0.minimum", "1.0"),
        lambda: changed("rates.0.terms.0.price", "1.3"),
        lambda: changed("description", "new"),
    ]

    for edit in edits:
        digests.add(document_digest(canonical_document(edit())))

    assert len(digests) == len(edits)


@pytest.mark.parametrize("at", ["9999-12-31T23:59:59-10:00", "0001-01-01T00:00:00+05:00"])
def test_a_time_that_no_year_holds_once_its_offset_is_off_is_a_finding_not_a_crash(at: str) -> None:
    document = a_document() | {"effective_at": at}

    findings = check_rate_card(document)

    assert [finding.where for finding in findings] == ["effective_at"]
