"""Prices: worked cases E7, E7b, E7c, every model and multiplier, and what is refused."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from domain.errors import Malformed, PriceOutOfRange, UnknownAction, UnknownPrice
from domain.pricing import Price, RateCard, price_usage
from domain.rate_cards import canonical_document, check_rate_card, load_rate_card
from domain.recomputation import canonical, differences, recompute
from tests.builders import a_catalogue, micros, when

DEMO = Path(__file__).parents[2] / "infra" / "local" / "catalogue" / "demo.toml"
JANUARY = datetime(2026, 1, 1, tzinfo=UTC)


def a_card(*rates: Mapping[str, object], version: int = 1) -> RateCard:
    document = {
        "card_id": "standard",
        "effective_at": "2026-01-01T00:00:00Z",
        "meters": dict.fromkeys(
            ("units", "images", "steps", "seconds", "input_tokens", "output_tokens"), "unit"
        ),
        "dimensions": {"kind": "a test", "loras": "a number", "resolution": "a size"},
        "rates": list(rates),
    }
    assert [finding.text() for finding in check_rate_card(document)] == []
    return load_rate_card(
        canonical_document(document), version=version, publisher="ops", published_at=JANUARY
    )


def a_rate(*terms: Mapping[str, object], **more: object) -> dict[str, object]:
    return {"action": "work.do", "terms": list(terms), **more}


def flat(price: str) -> dict[str, object]:
    return {"model": "flat", "price": price}


def unit(price: str, *meters: str, per: str = "1") -> dict[str, object]:
    return {"model": "unit", "price": price, "per": per, "meters": list(meters or ("units",))}


def package(price: str, size: str, *meters: str) -> dict[str, object]:
    return {"model": "package", "price": price, "size": size, "meters": list(meters or ("units",))}


def graduated(*tiers: tuple[str | None, str], meters: tuple[str, ...] = ("units",)) -> dict[str, object]:
    stated = [
        {"price": price} if up_to is None else {"price": price, "up_to": up_to} for up_to, price in tiers
    ]
    return {"model": "graduated", "meters": list(meters), "tiers": stated}


def by(dimension: str, default: str | None = None, **values: str) -> dict[str, object]:
    line: dict[str, object] = {"kind": "table", "dimension": dimension, "values": values}
    return line | ({"default": default} if default else {})


def linear(dimension: str, slope: str, **more: str) -> dict[str, object]:
    return {"kind": "linear", "dimension": dimension, "slope": slope, **more}


class Counters:
    """Tier counters of one team and period, as the account keeps them."""

    def __init__(self) -> None:
        self.positions: dict[str, int] = {}

    def charge(self, card: RateCard, meters: dict[str, str], **dimensions: str) -> int:
        price = price_of(card, meters, dimensions, self)
        assert price is not None
        self.positions.update(price.counters)
        return price.amount_micros


def price_of(
    card: RateCard,
    meters: dict[str, str],
    dimensions: dict[str, str] | None = None,
    counters: Counters | None = None,
) -> Price | None:
    positions = counters.positions if counters else {}
    price = price_usage(card, "work.do", meters, dimensions or {}, lambda key: positions.get(key, 0))
    if price is not None:
        assert recompute(price.computation) == price.amount_micros
        assert differences(price.computation) == []
        assert canonical(price.computation) == price.computation
    return price


def credits_of(card: RateCard, meters: dict[str, str], dimensions: dict[str, str]) -> str:
    price = price_of(card, meters, dimensions)
    assert price is not None
    return str(json.loads(price.computation)["amount"])


TWO_TIERS = graduated(("100", "1"), (None, "0.5"))


@pytest.mark.parametrize(("order", "charged"), [("PQ", [80, 70]), ("QP", [110, 40])])
def test_e7_graduated_charges_sum_to_150_in_either_order(order: str, charged: list[int]) -> None:
    card = a_card(a_rate(TWO_TIERS, multipliers=[by("kind", P="1", Q="1.5")]))
    counters = Counters()

    amounts = [counters.charge(card, {"units": "80"}, kind=kind) for kind in order]

    assert amounts == [amount * 1_000_000 for amount in charged]
    assert sum(amounts) == 150_000_000


def test_e7b_slices_below_a_micro_credit_are_rounded_once_for_the_total() -> None:
    card = a_card(a_rate(graduated((None, "0.0000004"))))
    counters = Counters()

    one_by_one = [counters.charge(card, {"units": "1"}) for _ in range(3)]

    assert one_by_one == [1, 0, 1]
    for grouping in (["3"], ["1", "2"], ["2", "1"], ["0.5", "0.5", "2"]):
        counters = Counters()
        assert sum(counters.charge(card, {"units": units}) for units in grouping) == 2


@pytest.mark.parametrize("late_one", ["last", "first"])
def test_e7c_a_card_replaced_within_a_period_counts_for_itself(late_one: str) -> None:
    before = a_card(a_rate(TWO_TIERS), version=1)
    after = a_card(a_rate(graduated(("100", "2"), (None, "1"))), version=2)
    cards = [before, after] if late_one == "first" else [after, before]
    counters = Counters()

    amounts = {card.version: counters.charge(card, {"units": "80"}) for card in cards}

    assert amounts == {1: 80_000_000, 2: 160_000_000}
    assert set(counters.positions) == {"standard/1/work.do/1", "standard/2/work.do/1"}


def test_a_charge_of_nothing_in_a_tier_is_still_a_charge() -> None:
    card = a_card(a_rate(graduated((None, "0"))))

    price = price_of(card, {"units": "5"})

    assert price is not None
    assert price.amount_micros == 0
    assert price.counters == (("standard/1/work.do/1", 5_000_000_000),)


PRICES = [
    # terms and more, meters, dimensions, credits
    ("flat needs no meter", [flat("0.25")], {}, {}, {}, "0.25"),
    ("flat and unit", [flat("1"), unit("0.5")], {}, {"units": "3"}, {}, "2.5"),
    ("flat without its meter", [flat("1"), unit("0.5")], {}, {}, {}, "1"),
    ("a third of a credit is rounded up", [unit("1", per="3")], {}, {"units": "1"}, {}, "0.333334"),
    (
        "thirds sum before they are rounded",
        [unit("1", per="3"), unit("2", per="3")],
        {},
        {"units": "1"},
        {},
        "1",
    ),
    (
        "product of meters",
        [unit("1", "images", "steps", per="30")],
        {},
        {"images": "4", "steps": "45"},
        {},
        "6",
    ),
    ("nine places", [unit("1000")], {}, {"units": "0.000000001"}, {}, "0.000001"),
    ("twelve places of price", [unit("0.000000000001")], {}, {"units": "1000000"}, {}, "0.000001"),
    ("package, started", [package("2", "1000")], {}, {"units": "1001"}, {}, "4"),
    ("package, exactly full", [package("2", "1000")], {}, {"units": "2000"}, {}, "4"),
    ("package of a fraction", [package("2", "0.5")], {}, {"units": "1.1"}, {}, "6"),
    (
        "a missing meter of one term counts zero",
        [package("0.002", "1000", "input_tokens"), unit("0.008", "output_tokens", per="1000")],
        {},
        {"output_tokens": "450"},
        {},
        "0.0036",
    ),
    ("minimum", [unit("1", per="30")], {"minimum": "0.1"}, {"units": "1"}, {}, "0.1"),
    (
        "minimum of a fraction of a micro-credit",
        [unit("0")],
        {"minimum": "0.0000001"},
        {"units": "1"},
        {},
        "0.000001",
    ),
    (
        "minimum is not multiplied",
        [unit("0.01")],
        {"minimum": "0.1", "multipliers": [by("kind", a="2")]},
        {"units": "1"},
        {"kind": "a"},
        "0.1",
    ),
    (
        "a multiplier of zero is a charge of the minimum",
        [unit("1")],
        {"minimum": "0.1", "multipliers": [by("kind", a="0")]},
        {"units": "1"},
        {"kind": "a"},
        "0.1",
    ),
    ("table", [unit("1.2")], {"multipliers": [by("kind", a="1.8")]}, {"units": "5"}, {"kind": "a"}, "10.8"),
    (
        "table default, unlisted",
        [unit("1")],
        {"multipliers": [by("kind", "3", a="2")]},
        {"units": "1"},
        {"kind": "b"},
        "3",
    ),
    (
        "table default, missing",
        [unit("1")],
        {"multipliers": [by("kind", "3", a="2")]},
        {"units": "1"},
        {},
        "3",
    ),
    ("flat is multiplied", [flat("2")], {"multipliers": [by("kind", a="1.5")]}, {}, {"kind": "a"}, "3"),
    (
        "package of multiplied units",
        [package("1", "10")],
        {"multipliers": [by("kind", a="1.5")]},
        {"units": "10"},
        {"kind": "a"},
        "2",
    ),
    ("linear", [unit("1")], {"multipliers": [linear("loras", "0.1")]}, {"units": "1"}, {"loras": "3"}, "1.3"),
    (
        "linear without base",
        [unit("1")],
        {"multipliers": [linear("loras", "0.5", base="0")]},
        {"units": "4"},
        {"loras": "1.5"},
        "3",
    ),
    (
        "linear default",
        [unit("1")],
        {"multipliers": [linear("loras", "0.1", default_number="2")]},
        {"units": "1"},
        {},
        "1.2",
    ),
    (
        "two multipliers",
        [unit("1")],
        {"multipliers": [by("kind", a="1.5"), linear("loras", "0.1")]},
        {"units": "2"},
        {"kind": "a", "loras": "2"},
        "3.6",
    ),
]


@pytest.mark.parametrize(
    ("terms", "more", "meters", "dimensions", "expected"),
    [row[1:] for row in PRICES],
    ids=[row[0] for row in PRICES],
)
def test_price(
    terms: list[Mapping[str, object]],
    more: dict[str, object],
    meters: dict[str, str],
    dimensions: dict[str, str],
    expected: str,
) -> None:
    card = a_card(a_rate(*terms, **more))

    assert credits_of(card, meters, dimensions) == expected


def test_several_terms_round_once_and_graduated_ones_are_whole_already() -> None:
    card = a_card(a_rate(unit("1", per="3"), unit("1", per="3"), graduated(("1", "0.0000004"), (None, "1"))))
    counters = Counters()

    first = counters.charge(card, {"units": "1"})
    second = counters.charge(card, {"units": "1"})

    assert first == 666_667 + 1
    assert second == 666_667 + 1_000_000  # R(2) - R(1) = ceil(1000000.4) - ceil(0.4)


NOTHING = [
    ("no priced meter", [unit("1")], {"seconds": "4"}),
    ("zero", [unit("1")], {"units": "0"}),
    ("zero with places", [package("1", "10")], {"units": "0.000"}),
    ("a product with a missing meter", [unit("1", "images", "steps")], {"images": "4"}),
    ("a graduated zero", [TWO_TIERS], {"units": "0"}),
    ("every term zero", [unit("1", "images"), unit("1", "steps")], {"images": "0", "seconds": "1"}),
]


@pytest.mark.parametrize(("terms", "meters"), [row[1:] for row in NOTHING], ids=[row[0] for row in NOTHING])
def test_nothing_to_price(terms: list[Mapping[str, object]], meters: dict[str, str]) -> None:
    card = a_card(a_rate(*terms, multipliers=[by("kind", a="2")]))

    assert price_of(card, meters) is None


def test_a_minimum_does_not_price_nothing() -> None:
    card = a_card(a_rate(unit("1"), minimum="0.1"))

    assert price_of(card, {"units": "0"}) is None


@pytest.mark.parametrize(
    ("multiplier", "dimensions", "named"),
    [
        (by("kind", a="1"), {"kind": "b"}, {"dimension": "kind", "value": "b"}),
        (by("kind", a="1"), {}, {"dimension": "kind"}),
        (linear("loras", "0.1"), {}, {"dimension": "loras"}),
        (linear("loras", "0.1"), {"loras": "-1"}, {"dimension": "loras", "value": "-1"}),
        (linear("loras", "0.1"), {"loras": "1e3"}, {"dimension": "loras", "value": "1e3"}),
        (linear("loras", "0.1"), {"loras": "0.0000000001"}, {"dimension": "loras", "value": "0.0000000001"}),
        (linear("loras", "0.1", default_number="0"), {"loras": ""}, {"dimension": "loras", "value": ""}),
    ],
)
def test_a_value_without_a_factor_is_an_unknown_price_that_names_it(
    multiplier: Mapping[str, object], dimensions: dict[str, str], named: dict[str, str]
) -> None:
    card = a_card(
        a_rate(
            unit("1"),
            multipliers=[multiplier],
            samples=[{"meters": {"units": "1"}, "dimensions": {"kind": "a", "loras": "1"}}],
        )
    )

    with pytest.raises(UnknownPrice) as refused:
        price_of(card, {"units": "1"}, dimensions)

    assert refused.value.asked == named


def test_an_action_that_is_not_listed_is_unknown() -> None:
    card = a_card(a_rate(flat("1")))

    with pytest.raises(UnknownAction, match=r"version 1 has no rate for action 'work\.undo'"):
        price_usage(card, "work.undo", {}, {}, lambda key: 0)

    assert card.prices("work.do")
    assert not card.prices("work.undo")


@pytest.mark.parametrize("quantity", ["-1", "1e3", "NaN", "", "1.0000000001", "٣"])
def test_a_quantity_that_is_none_is_malformed_and_names_its_meter(quantity: str) -> None:
    card = a_card(a_rate(unit("1")))

    with pytest.raises(Malformed, match=r"meters\.units"):
        price_of(card, {"units": quantity})


@pytest.mark.parametrize(
    ("term", "meters"),
    [
        (unit("1"), {"units": str(2**62)}),
        (unit("0", "images", "steps"), {"images": str(2**61), "steps": "3"}),
        (graduated((None, "1")), {"units": str(2**60)}),
        (package("1000000000", "1"), {"units": "1000000"}),
    ],
)
def test_beyond_two_to_the_62_no_price_is_made(term: Mapping[str, object], meters: dict[str, str]) -> None:
    card = a_card(a_rate(term))

    with pytest.raises(PriceOutOfRange):
        price_of(card, meters)


def test_a_counter_never_passes_two_to_the_62_units() -> None:
    card = a_card(a_rate(graduated((None, "0"))))
    counters = Counters()
    counters.charge(card, {"units": str(2**62 - 1)})

    counters.charge(card, {"units": "1"})

    with pytest.raises(PriceOutOfRange):
        counters.charge(card, {"units": "0.000000001"})


@pytest.mark.parametrize("value", ['quote " and \\', "läuft", "line\nbreak", "", "\u2028", "🎨", "</script>"])
def test_any_dimension_value_leaves_the_computation_canonical_json(value: str) -> None:
    card = a_card(
        a_rate(
            unit("1"),
            multipliers=[{"kind": "table", "dimension": "kind", "values": {value: "2"}, "default": "1"}],
        )
    )

    for asked in (value, value + "?"):
        price = price_of(card, {"units": "1"}, {"kind": asked})
        assert price is not None
        assert json.loads(price.computation)["multipliers"][0]["value"] == asked


def test_the_computation_can_be_followed_by_hand() -> None:
    card = a_card(
        a_rate(unit("1.5", "images", "steps", per="30"), minimum="0.1", multipliers=[linear("loras", "0.1")])
    )

    price = price_of(card, {"images": "2", "steps": "25"}, {"loras": "3"})

    assert price is not None
    assert json.loads(price.computation) == {
        "action": "work.do",
        "amount": "3.25",
        "card": "standard",
        "version": 1,
        "exact": "13/4",
        "minimum": "0.1",
        "multipliers": [
            {
                "kind": "linear",
                "dimension": "loras",
                "base": "1",
                "slope": "0.1",
                "number": "3",
                "factor": "1.3",
            }
        ],
        "terms": [
            {
                "model": "unit",
                "price": "1.5",
                "per": "30",
                "meters": {"images": "2", "steps": "25"},
                "quantity": "65",
                "exact": "13/4",
            }
        ],
    }


def test_a_changed_computation_is_found_and_named() -> None:
    card = a_card(a_rate(TWO_TIERS))
    price = price_of(card, {"units": "120"})
    assert price is not None

    changed = price.computation.replace(b'"total_after":"110"', b'"total_after":"111"')

    assert [(found.where, found.stated, found.recomputed) for found in differences(changed)] == [
        ("terms[0].total_after", "111", "110")
    ]


def test_the_demo_card_prices_the_formula_of_the_trace() -> None:
    document = tomllib.loads(DEMO.read_text())
    assert check_rate_card(document) == []
    card = load_rate_card(canonical_document(document), version=1, publisher="ops", published_at=JANUARY)

    for action, twice_k in (("image.generate", 2), ("image.edit", 3), ("image.inpaint", 4)):
        for images in range(1, 9):
            for steps in (1, 2, 20, 28, 30, 33, 50):
                for loras in range(7):
                    # images x steps / 30 x (1 + loras / 10) x k, in micro-credits over 600
                    numerator = images * steps * (10 + loras) * twice_k * 1_000_000
                    expected = max(100_000, -(-numerator // 600))
                    meters = {"images": str(images), "steps": str(steps), "seconds": "32"}
                    price = price_usage(
                        card, action, meters, {"model": "M0000", "loras": str(loras)}, lambda key: 0
                    )
                    assert price is not None
                    assert price.amount_micros == expected


def test_where_a_tier_counter_stands_is_remembered_within_a_bound_and_changes_no_price(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("domain.pricing._POSITIONS_REMEMBERED_MAX", 3)
    card, mine, theirs = a_card(a_rate(TWO_TIERS)), Counters(), Counters()

    for _ in range(12):
        for counters, units in ((mine, "12.5"), (theirs, "7.25")):
            price = price_of(card, {"units": units}, counters=counters)
            fresh = price_of(a_card(a_rate(TWO_TIERS)), {"units": units}, counters=counters)
            assert price == fresh
            counters.charge(card, {"units": units})


def test_a_price_that_is_remembered_is_of_these_meters_and_these_dimensions_only() -> None:
    document = {
        "card_id": "standard",
        "effective_at": "2020-01-01T00:00:00Z",
        "meters": {"units": "unit", "extra": "unit"},
        "dimensions": {"extra": "how much more"},
        "rates": [
            {
                "action": "image.generate",
                "terms": [
                    {"model": "unit", "meters": ["units"], "price": "1"},
                    {"model": "unit", "meters": ["extra"], "price": "5"},
                ],
                "multipliers": [
                    {"kind": "linear", "dimension": "extra", "base": "1", "slope": "1", "default_number": "0"}
                ],
            }
        ],
    }
    card = a_catalogue(document).card_in_force("standard", when("2026-11-01 00:00"))
    assert card is not None
    asked: list[tuple[dict[str, str], dict[str, str]]] = [
        ({"units": "1"}, {"extra": "2"}),
        ({"units": "1", "extra": "2"}, {}),
        ({"units": "1"}, {}),
        ({"units": "1"}, {"extra": "2"}),
    ]

    prices = [
        price_usage(card, "image.generate", meters, dimensions, lambda _: 0) for meters, dimensions in asked
    ]

    assert [price and price.amount_micros for price in prices] == [
        micros(3),
        micros(11),
        micros(1),
        micros(3),
    ]
