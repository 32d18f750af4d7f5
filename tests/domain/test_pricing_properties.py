"""Prices are exact (I22), free of order and grouping (I10), and can be recomputed from what is stored (I26)."""

from __future__ import annotations

from datetime import UTC, datetime
from fractions import Fraction
from itertools import pairwise
from math import ceil
from random import Random

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from domain.errors import PriceOutOfRange
from domain.pricing import RateCard, price_usage
from domain.rate_cards import canonical_document, check_rate_card, load_rate_card
from domain.recomputation import canonical, differences, recompute

METERS = ("images", "steps", "seconds")
DIMENSIONS = ("model", "loras", "resolution")
Line = dict[str, object]


def decimals(places_max: int, whole_max: int, above: int = 0) -> st.SearchStrategy[str]:
    """Plain decimal strings with up to so many places, as a publisher or a producer would write them."""

    def text(drawn: tuple[int, int]) -> str:
        value, places = drawn
        whole, rest = divmod(value % (whole_max * 10**places) + above, 10**places)
        return f"{whole}.{rest:0{places}d}" if places else str(whole)

    return st.tuples(st.integers(0, 10**24), st.integers(0, places_max)).map(text)


prices, sizes, factors = decimals(12, 1000), decimals(9, 1000, above=1), decimals(9, 5)
quantities = st.one_of(st.integers(0, 2000).map(str), decimals(9, 2000))
names = st.lists(st.sampled_from(METERS), min_size=1, max_size=3, unique=True)
numbers = st.one_of(st.integers(0, 6).map(str), decimals(9, 10))


def tiers_of(drawn: tuple[set[int], list[str]]) -> list[Line]:
    ends = sorted(drawn[0])
    closed: list[Line] = [
        {"price": price, "up_to": str(end)} for end, price in zip(ends, drawn[1], strict=False)
    ]
    return [*closed, {"price": drawn[1][-1]}]


exact_terms: st.SearchStrategy[Line] = st.one_of(
    st.fixed_dictionaries({"model": st.just("flat"), "price": prices}),
    st.fixed_dictionaries({"model": st.just("unit"), "price": prices, "per": sizes, "meters": names}),
    st.fixed_dictionaries({"model": st.just("package"), "price": prices, "size": sizes, "meters": names}),
)
graduated_terms: st.SearchStrategy[Line] = st.fixed_dictionaries(
    {
        "model": st.just("graduated"),
        "meters": names,
        "tiers": st.tuples(
            st.sets(st.integers(1, 5000), max_size=4), st.lists(prices, min_size=5, max_size=5)
        ).map(tiers_of),
    }
)
tables: st.SearchStrategy[Line] = st.fixed_dictionaries(
    {
        "kind": st.just("table"),
        "dimension": st.sampled_from(("model", "resolution")),
        "values": st.dictionaries(st.text(max_size=4), factors, min_size=1, max_size=3),
        "default": factors,
    }
)
linears: st.SearchStrategy[Line] = st.fixed_dictionaries(
    {
        "kind": st.just("linear"),
        "dimension": st.just("loras"),
        "base": factors,
        "slope": factors,
        "default_number": numbers,
    }
)
multiplier_lists = st.lists(
    st.one_of(tables, linears), max_size=3, unique_by=lambda line: str(line["dimension"])
)
records = st.tuples(
    st.dictionaries(st.sampled_from(METERS), quantities, max_size=3),
    st.fixed_dictionaries(
        {}, optional={"model": st.text(max_size=4), "resolution": st.text(max_size=4), "loras": numbers}
    ),
)


def a_card(terms: list[Line], multipliers: list[Line], minimum: str = "0") -> RateCard:
    document = {
        "card_id": "standard",
        "effective_at": "2026-01-01T00:00:00Z",
        "meters": dict.fromkeys(METERS, "unit"),
        "dimensions": dict.fromkeys(DIMENSIONS, "said"),
        "rates": [{"action": "work.do", "terms": terms, "multipliers": multipliers, "minimum": minimum}],
    }
    findings = [finding.text() for finding in check_rate_card(document)]
    assume(not any("beyond 2^62" in finding for finding in findings))
    assert findings == []
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return load_rate_card(canonical_document(document), version=1, publisher="ops", published_at=at)


def naive_factor(multipliers: list[Line], dimensions: dict[str, str]) -> Fraction:
    product = Fraction(1)
    for line in multipliers:
        value = dimensions.get(str(line["dimension"]))
        if line["kind"] == "linear":
            number = value if value is not None else str(line["default_number"])
            product *= Fraction(str(line["base"])) + Fraction(str(line["slope"])) * Fraction(number)
        else:
            values = line["values"]
            assert isinstance(values, dict)
            product *= Fraction(str(values.get(value, line["default"])))
    return product


def naive_quantity(term: Line, meters: dict[str, str]) -> Fraction:
    product = Fraction(1)
    listed = term.get("meters", [])
    assert isinstance(listed, list)
    for name in listed:
        product *= Fraction(meters.get(name, "0"))
    return product


def naive_total(term: Line, position: Fraction) -> int:
    """R by the unit slice: every tier pays for its part of the position, rounded up once."""
    tiers = term["tiers"]
    assert isinstance(tiers, list)
    owed, start = Fraction(0), Fraction(0)
    for tier in tiers:
        end = Fraction(tier["up_to"]) if "up_to" in tier else position
        if position > start:
            owed += (min(position, end) - start) * Fraction(tier["price"])
        start = end
    return ceil(owed * 1_000_000)


def naive_price(
    terms: list[Line], multipliers: list[Line], minimum: str, record: tuple[dict[str, str], dict[str, str]]
) -> int | None:
    meters, dimensions = record
    quantities = [naive_quantity(term, meters) for term in terms]
    if not any(quantities):
        return None
    factor = naive_factor(multipliers, dimensions)
    owed, graduated = Fraction(0), 0
    for term, quantity in zip(terms, quantities, strict=True):
        scaled = quantity * factor
        if term["model"] == "graduated":
            graduated += naive_total(term, scaled)
        elif term["model"] == "package":
            owed += ceil(scaled / Fraction(str(term["size"]))) * Fraction(str(term["price"]))
        else:
            owed += scaled / Fraction(str(term.get("per", "1"))) * Fraction(str(term["price"]))
    return ceil(max(owed, Fraction(minimum)) * 1_000_000) + graduated


@settings(max_examples=150, deadline=None)
@given(
    terms=st.lists(st.one_of(exact_terms, graduated_terms), min_size=1, max_size=3),
    multipliers=multiplier_lists,
    minimum=decimals(12, 20),
    record=records,
)
def test_the_compiled_card_equals_the_formula_in_fractions(
    terms: list[Line], multipliers: list[Line], minimum: str, record: tuple[dict[str, str], dict[str, str]]
) -> None:
    if any(term["model"] == "graduated" for term in terms):
        minimum = "0"
    card = a_card(terms, multipliers, minimum)

    try:
        price = price_usage(card, "work.do", *record, lambda key: 0)
    except PriceOutOfRange:
        expected = naive_price(terms, multipliers, minimum, record)
        assert expected is not None
        factor = naive_factor(multipliers, record[1])
        widest = max(naive_quantity(term, record[0]) * factor for term in terms)
        assert expected > 2**62 or widest > 2**62
        return

    assert (None if price is None else price.amount_micros) == naive_price(
        terms, multipliers, minimum, record
    )
    if price is not None:
        assert recompute(price.computation) == price.amount_micros
        assert differences(price.computation) == []
        assert canonical(price.computation) == price.computation


@settings(max_examples=100, deadline=None)
@given(
    term=graduated_terms,
    multipliers=multiplier_lists,
    usage=st.lists(records, min_size=1, max_size=8),
    order=st.randoms(use_true_random=False),
)
def test_graduated_charges_sum_to_the_same_total_in_any_order_of_arrival(
    term: Line, multipliers: list[Line], usage: list[tuple[dict[str, str], dict[str, str]]], order: Random
) -> None:
    card = a_card([term], multipliers)
    shuffled = list(usage)
    order.shuffle(shuffled)

    position = sum(
        (
            naive_quantity(term, meters) * naive_factor(multipliers, dimensions)
            for meters, dimensions in usage
        ),
        Fraction(0),
    )

    expected = naive_total(term, position)
    assume(expected < 2**62)
    assert total_of(card, usage) == total_of(card, shuffled) == expected


@settings(max_examples=100, deadline=None)
@given(
    term=graduated_terms,
    parts=st.lists(st.integers(0, 10**12), min_size=1, max_size=8),
    cuts=st.sets(st.integers(1, 7)),
)
def test_graduated_charges_sum_to_the_same_total_in_any_grouping(
    term: Line, parts: list[int], cuts: set[int]
) -> None:
    card = a_card([{**term, "meters": ["seconds"]}], [])
    edges = [0, *sorted(cut for cut in cuts if cut < len(parts)), len(parts)]
    groups = [sum(parts[start:end]) for start, end in pairwise(edges)]

    def usage(nanos: list[int]) -> list[tuple[dict[str, str], dict[str, str]]]:
        return [({"seconds": f"{each // 10**9}.{each % 10**9:09d}"}, {}) for each in nanos]

    assert total_of(card, usage(parts)) == total_of(card, usage(groups))


def total_of(card: RateCard, usage: list[tuple[dict[str, str], dict[str, str]]]) -> int:
    """What a team pays for all of it, its tier counters kept between the charges; every charge recomputes."""
    positions: dict[str, int] = {}
    total = 0
    for meters, dimensions in usage:
        price = price_usage(card, "work.do", meters, dimensions, lambda key: positions.get(key, 0))
        if price is not None:
            positions.update(price.counters)
            total += price.amount_micros
            assert price.amount_micros >= 0
            assert recompute(price.computation) == price.amount_micros
            assert differences(price.computation) == []
    return total


@given(price=prices, per=sizes, quantity=quantities)
def test_a_price_is_never_below_the_exact_one_and_less_than_a_micro_credit_above(
    price: str, per: str, quantity: str
) -> None:
    card = a_card([{"model": "unit", "price": price, "per": per, "meters": ["seconds"]}], [])
    exact = Fraction(quantity) / Fraction(per) * Fraction(price) * 1_000_000
    assume(0 < exact <= 2**62)

    result = price_usage(card, "work.do", {"seconds": quantity}, {}, lambda key: 0)

    assert result is not None
    assert exact <= result.amount_micros < exact + 1
