"""What a usage record costs: a rate card compiled to integers, priced exactly, rounded up once.

    amount = round up to a micro-credit, once ( max( minimum, sum over terms model(quantity x product of multipliers) ) )

Everything here is an integer. A quantity of one meter counts billionths (``10**9`` to the unit), a product of k meters
``10**(9k)`` to the unit, and multipliers with p decimal places together make it ``10**(9k + p)``: the *scale* of a term. The
position of a tier counter counts in that unit, fixed for the term as long as its card version lives. Prices of exact terms
are numerators over one denominator of the rate, so that a sum of terms is a sum of integers.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache
from math import gcd
from typing import NamedTuple, Protocol

import msgspec

from domain.amounts import AMOUNT_MAX, MICROS_PER_CREDIT, REMEMBERED_MAX, format_credits, parse_quantity
from domain.errors import Malformed, PriceOutOfRange, UnknownAction, UnknownPrice
from domain.terms import CardPin

_FACTORS_REMEMBERED_MAX = 1_024
_PRICES_REMEMBERED_MAX = 2_048
_POSITIONS_REMEMBERED_MAX = 4_096
_LINEAR_NUMBER_PLACES = 9
_encode = msgspec.json.encode


class Price(msgspec.Struct, frozen=True):
    """The result of a rate for one usage record.

    ``computation`` is a canonical JSON object (sorted keys, no spaces, UTF-8) from which the amount can be recomputed by hand
    or by ``domain.recomputation``. ``counters`` are (counter key, position after) of each graduated term that moved, in the
    term's own unit.
    """

    amount_micros: int
    computation: bytes
    counters: tuple[tuple[str, int], ...] = ()


class Sample(msgspec.Struct, frozen=True):
    """A record that the publisher wants priced as an example; ``price_micros`` is what it must cost, None if not said."""

    action: str
    meters: dict[str, str]
    dimensions: dict[str, str]
    price_micros: int | None = None


class RateCard(msgspec.Struct, frozen=True, kw_only=True):
    """One published version of a rate card, ready to price; nothing in it changes.

    ``document`` is the canonical JSON that was published and ``digest`` its SHA-256 in hex; ``pin`` is what
    its charges name.
    """

    card_id: str
    version: int
    digest: str
    effective_at: datetime
    publisher: str
    published_at: datetime
    document: bytes
    rates: Mapping[str, Rate]
    pin: CardPin
    samples: tuple[Sample, ...] = ()

    def prices(self, action: str) -> bool:
        """Whether the card lists the action."""
        return action in self.rates

    def is_graduated(self, action: str) -> bool:
        """Whether the price of the action depends on tier counters."""
        rate = self.rates.get(action)
        return rate is not None and rate.is_graduated

    def actions(self) -> list[str]:
        """Every action that the card lists, in the order of the document."""
        return list(self.rates)


def price_usage(
    card: RateCard,
    action: str,
    meters: Mapping[str, str],
    dimensions: Mapping[str, str],
    position_of: Callable[[str], int],
) -> Price | None:
    """The price of one usage record on this card; None when there is nothing to price. Charge and estimate both call it.

    ``position_of`` gives the position of a tier counter by its key, 0 for one that never moved. Nothing to price: the rate has no
    flat price, and every priced quantity is missing or zero.
    Rounding: once, up to the next micro-credit; a graduated term is already whole.
    Raises: UnknownAction; UnknownPrice, naming dimension and value; PriceOutOfRange; Malformed for a quantity that is none.
    """
    rate = card.rates.get(action)
    if rate is None:
        raise UnknownAction(
            f"rate card {card.card_id} version {card.version} has no rate for action {action[:80]!r}",
            action=action[:200],
        )
    if rate.is_graduated:
        return _price_by(rate, meters, dimensions, position_of)
    asked = (str(len(meters)), *meters, *meters.values(), *dimensions, *dimensions.values())
    price = rate.remembered.get(asked)
    if price is None:
        price = _price_by(rate, meters, dimensions, position_of)
        if price is not None:
            rate.remember(asked, price)
    return price


def _price_by(
    rate: Rate, meters: Mapping[str, str], dimensions: Mapping[str, str], position_of: Callable[[str], int]
) -> Price | None:
    terms = rate.terms
    measured = [term.measure(meters) for term in terms]
    for quantity, _ in measured:
        if quantity:
            break
    else:
        return None
    factor, multipliers_json = rate.factor_of(dimensions)

    numerator = whole_micros = 0
    terms_json = exact = ""
    counters: tuple[tuple[str, int], ...] = ()
    for term, (quantity, meters_json) in zip(terms, measured, strict=False):
        part, whole, exact, json, counter = term.price(quantity * factor, meters_json, position_of)
        numerator += part
        whole_micros += whole
        terms_json = f"{terms_json},{json}" if terms_json else json
        if counter:
            counters += (counter,)
    if not numerator:
        exact = "0"
    elif len(measured) > 1:
        exact = _exact_credits(numerator, rate.denominator)

    rounded_micros = -(-numerator // rate.denominator)
    amount_micros = max(rate.minimum_micros, rounded_micros) + whole_micros
    if amount_micros > AMOUNT_MAX:
        raise _out_of_range(rate.action)
    json = (
        f'{rate.head_json}"amount":"{format_credits(amount_micros)}",{rate.card_json}"exact":"{exact}",{rate.minimum_json}'
        f'"multipliers":[{multipliers_json}],"terms":[{terms_json}],{rate.tail_json}'
    )
    return Price(amount_micros, json.encode(), counters)


class Meter(NamedTuple):
    """A meter of a term: its name, how errors call it, and the start of its JSON."""

    name: str
    field: str
    json: str


Asked = tuple[str, ...]
"""Meters and dimensions of one use, as they were given: how many meters, then names and values of each."""

Part = tuple[int, int, str, str, tuple[str, int] | None]
"""What one term adds: a numerator over the rate's denominator, micro-credits already whole, the exact credits as a fraction
("" for a graduated term), its JSON, and the counter it moved. A plain tuple: one is made for every term of every charge."""

Standing = tuple[int, str, str]
"""A position of a tier counter: what everything up to it costs, in micro-credits and as text, and the position as text."""


class Term(Protocol):
    """One priced quantity of a rate."""

    def measure(self, meters: Mapping[str, str]) -> tuple[int, str]:
        """The product of the term's meters, not yet multiplied, and the meters as JSON."""

    def price(self, scaled: int, meters_json: str, position_of: Callable[[str], int]) -> Part:
        """The price of a quantity in the term's scale."""


class _Measuring:
    """Reads the quantity of a term off a record. A meter that is missing makes the quantity zero."""

    def __init__(self, action: str, meters: tuple[str, ...], factor_places: int) -> None:
        self.action = action
        self.meters = tuple(Meter(name, f"meters.{name}", f'"{name}":') for name in sorted(meters))
        self.places = 9 * len(meters) + factor_places
        self.scale: int = 10**self.places
        self.scaled_max = AMOUNT_MAX * self.scale

    def measure(self, meters: Mapping[str, str]) -> tuple[int, str]:
        """The product of the meters in ``10**(9k)`` to the unit; a flat price has no meter and the quantity 1."""
        product = 1
        shown = ""
        for name, field, json in self.meters:
            text = meters.get(name)
            if text is None:
                product = 0
                shown = f"{shown},{json}null"
            else:
                product *= parse_quantity(text, field)
                shown = f'{shown},{json}"{text}"'
        return product, shown[1:]

    def shown(self, scaled: int) -> str:
        """A quantity in the term's scale as a plain decimal of units. Raises: PriceOutOfRange beyond 2^62 units."""
        if scaled > self.scaled_max:
            raise _out_of_range(self.action)
        return show_decimal(scaled, self.places)


class ExactTerm(_Measuring):
    """A flat price, a price per unit, or a price per package: exact, a numerator over the rate's denominator.

    ``weight`` is the price of one unit of scale, or of one package. ``package_nanos`` is a package's size in billionths, 0 for
    the other two models. ``json`` is what the document says, in three pieces: model, price and size.
    """

    def __init__(
        self,
        action: str,
        meters: tuple[str, ...],
        factor_places: int,
        weight: int,
        denominator: int,
        package_nanos: int,
        json: tuple[str, str, str],
    ) -> None:
        super().__init__(action, meters, factor_places)
        self.weight = weight
        self.denominator = denominator
        self.package_scaled = package_nanos * self.scale
        self.model_json, self.price_json, self.size_json = json

    def price(self, scaled: int, meters_json: str, position_of: Callable[[str], int]) -> Part:
        """Packages are counted up to the next whole one; nothing else is rounded here."""
        quantity = self.shown(scaled)
        packages_json = ""
        if self.package_scaled:
            scaled = -(-scaled * 1_000_000_000 // self.package_scaled)
            packages_json = f'"packages":"{scaled}",'
        numerator = scaled * self.weight
        exact = _exact_credits(numerator, self.denominator)
        json = (
            f'{{"exact":"{exact}","meters":{{{meters_json}}},{self.model_json}{packages_json}'
            f'{self.price_json}"quantity":"{quantity}"{self.size_json}}}'
        )
        return numerator, 0, exact, json, None


class GraduatedTerm(_Measuring):
    """Tiers over a position that counts within a team and period; a charge is R(Q + q) - R(Q).

    R is the price of everything up to a position, rounded up once to a whole micro-credit, so charges in any order and any
    grouping sum to the same total. ``starts`` are the tiers' starts in the term's scale, ``bases`` the price of all before a
    start and ``prices`` the price of one unit of scale, both numerators over ``denominator``.
    """

    def __init__(
        self,
        action: str,
        meters: tuple[str, ...],
        factor_places: int,
        counter_key: str,
        tiers: tuple[tuple[int | None, int], ...],
        tiers_json: str,
    ) -> None:
        super().__init__(action, meters, factor_places)
        self.counter_key = counter_key
        self.tiers_json = tiers_json
        self._remembered: dict[int, Standing] = {}
        # Tier ends come in billionths; a graduated term has at least one meter, so they are whole in its scale.
        to_scale: int = 10 ** (self.places - 9)
        self.starts = [0, *(end * to_scale for end, _ in tiers if end is not None)]
        self.prices = [price for _, price in tiers]
        self.denominator = 1_000_000 * self.scale
        self.bases = [0]
        for index, start in enumerate(self.starts[1:]):
            self.bases.append(self.bases[index] + (start - self.starts[index]) * self.prices[index])

    def total_micros(self, position: int) -> int:
        """R: what everything up to the position costs, rounded up to a whole micro-credit."""
        tier = bisect_right(self.starts, position) - 1
        return -(-(self.bases[tier] + (position - self.starts[tier]) * self.prices[tier]) // self.denominator)

    def price(self, scaled: int, meters_json: str, position_of: Callable[[str], int]) -> Part:
        """The counter moves by the scaled quantity, unless that is zero."""
        key = self.counter_key
        quantity = self.shown(scaled)
        before = position_of(key)
        after = before + scaled
        total_before, total_before_json, before_json = self._standing(before)
        total_after, total_after_json, after_json = self._standing(after)
        amount = total_after - total_before
        json = (
            f'{{"amount":"{format_credits(amount)}","counter":"{key}","meters":{{{meters_json}}},'
            f'"model":"graduated","position_after":"{after_json}","position_before":"{before_json}",'
            f'"quantity":"{quantity}","tiers":{self.tiers_json},"total_after":"{total_after_json}",'
            f'"total_before":"{total_before_json}"}}'
        )
        return 0, amount, "", json, (key, after) if scaled else None

    def _standing(self, position: int) -> Standing:
        """Where one charge ends the next of its team begins, so each position is worked out once. Bounded by number."""
        known = self._remembered.get(position)
        if known is None:
            total = self.total_micros(position)
            known = total, format_credits(total), self.shown(position)
            if len(self._remembered) >= _POSITIONS_REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[position] = known
        return known


class Multiplier(Protocol):
    """A factor on every quantity of a rate; an integer of ``10**places``."""

    places: int

    def factor_of(self, dimensions: Mapping[str, str]) -> tuple[int, str]:
        """The factor for a record and its JSON. Raises: UnknownPrice, naming dimension and value."""


class TableMultiplier:
    """A factor by the value of a dimension, with an optional default for values unlisted or missing."""

    def __init__(self, dimension: str, values: Mapping[str, str], default: str | None) -> None:
        self.dimension = dimension
        self.places = max(map(decimal_places, [*values.values(), default or "0"]))
        self._listed = {value: self._entry(value, factor, "table") for value, factor in values.items()}
        self._default = default

    def factor_of(self, dimensions: Mapping[str, str]) -> tuple[int, str]:
        """The listed factor, else the default."""
        value = dimensions.get(self.dimension)
        known = self._listed.get(value) if value is not None else None
        if known is not None:
            return known
        if self._default is None:
            raise _no_factor(
                self.dimension, value, "list it on the rate card, or give the multiplier a default"
            )
        return self._entry(value, self._default, "table_default")

    def _entry(self, value: str | None, factor: str, kind: str) -> tuple[int, str]:
        shown = _encode(value).decode()
        json = f'{{"dimension":"{self.dimension}","factor":"{factor}","kind":"{kind}","value":{shown}}}'
        return scaled_decimal(factor, self.places), json


class LinearMultiplier:
    """``base + slope x number``, where the number is a dimension's value: a non-negative decimal of at most nine places."""

    def __init__(self, dimension: str, base: str, slope: str, default_number: str | None) -> None:
        self.dimension = dimension
        self.places = max(decimal_places(base), decimal_places(slope) + _LINEAR_NUMBER_PLACES)
        self._base = scaled_decimal(base, self.places)
        self._slope = scaled_decimal(slope, self.places - _LINEAR_NUMBER_PLACES)
        self._json = f'{{"base":"{base}","dimension":"{dimension}","factor":"', f'","slope":"{slope}"}}'
        self._default = None if default_number is None else self._entry(default_number, "linear_default")
        # The numbers of real records repeat (0 to 6 loras), so their factors are remembered, within a bound.
        self._remembered: dict[str, tuple[int, str]] = {}

    def factor_of(self, dimensions: Mapping[str, str]) -> tuple[int, str]:
        """The factor for the record's number, else for the default number."""
        value = dimensions.get(self.dimension)
        if value is None:
            if self._default is None:
                raise _no_factor(
                    self.dimension, None, "send it with the record, or give the multiplier a default_number"
                )
            return self._default
        known = self._remembered.get(value)
        if known is None:
            known = self._entry(value, "linear")
            if len(self._remembered) < _FACTORS_REMEMBERED_MAX:
                self._remembered[value] = known
        return known

    def _entry(self, number: str, kind: str) -> tuple[int, str]:
        try:
            nanos = parse_quantity(number, f"dimensions.{self.dimension}")
        except Malformed:
            wanted = "send a plain decimal with at most nine places, such as '3'"
            raise _no_factor(self.dimension, number, wanted) from None
        factor = self._base + self._slope * nanos
        head, tail = self._json
        shown = show_decimal(factor, self.places)
        return factor, f'{head}{shown}","kind":"{kind}","number":"{number}{tail}'


class Rate:
    """One line of a rate card: all that prices an action, compiled. ``minimum_micros`` is rounded up, 0 when there is none."""

    def __init__(
        self,
        head: tuple[str, str, int],
        terms: tuple[Term, ...],
        multipliers: tuple[Multiplier, ...],
        denominator: int,
        minimum: str,
    ) -> None:
        action, card_id, version = head
        self.action = action
        self.terms = terms
        self.multipliers = multipliers
        self.denominator = denominator
        self.minimum_micros = -(-scaled_decimal(minimum, 12) // 1_000_000)
        self.head_json = f'{{"action":"{action}",'
        self.card_json = f'"card":"{card_id}",'
        self.minimum_json = f'"minimum":"{minimum}",'
        self.tail_json = f'"version":{version}}}'
        self.is_graduated = any(isinstance(term, GraduatedTerm) for term in terms)
        self.remembered: dict[Asked, Price] = {}

    def remember(self, asked: Asked, price: Price) -> None:
        """What was asked once costs the same again: real use repeats itself (one image of 30 steps). Bounded by number."""
        if len(self.remembered) >= _PRICES_REMEMBERED_MAX:
            self.remembered.clear()
        self.remembered[asked] = price

    def factor_of(self, dimensions: Mapping[str, str]) -> tuple[int, str]:
        """The product of all multipliers, and each of them as JSON."""
        product = 1
        shown = ""
        for multiplier in self.multipliers:
            factor, json = multiplier.factor_of(dimensions)
            product *= factor
            shown = f"{shown},{json}" if shown else json
        return product, shown

    def counter_keys(self) -> Iterator[str]:
        """The tier counters that this rate moves."""
        return (term.counter_key for term in self.terms if isinstance(term, GraduatedTerm))


def decimal_places(text: str) -> int:
    """How many decimal places a plain decimal string has."""
    return len(text.partition(".")[2])


def scaled_decimal(text: str, places: int) -> int:
    """A plain decimal string as an integer of ``10**places``; it must have no more places than that."""
    whole, _, rest = text.partition(".")
    assert len(rest) <= places, f"{text} has more than {places} places"
    return int(whole + rest.ljust(places, "0"))


@lru_cache(maxsize=REMEMBERED_MAX)
def show_decimal(scaled: int, places: int) -> str:
    """An integer of ``10**places`` as the shortest plain decimal string."""
    whole, rest = divmod(scaled, 10**places)
    return f"{whole}.{rest:0{places}d}".rstrip("0") if rest else str(whole)


@lru_cache(maxsize=REMEMBERED_MAX)
def _exact_credits(numerator: int, denominator: int) -> str:
    """Micro-credits over a denominator as credits, a fraction in lowest terms: "11/5", or "2" when whole."""
    denominator *= MICROS_PER_CREDIT
    common = gcd(numerator, denominator)
    if common == denominator:
        return str(numerator // common)
    return f"{numerator // common}/{denominator // common}"


def _no_factor(dimension: str, value: str | None, wanted: str) -> UnknownPrice:
    asked = "is missing" if value is None else f"{value[:80]!r} has no price"
    return UnknownPrice(
        f"dimension {dimension} {asked}: {wanted}", dimension=dimension, value=value and value[:200]
    )


def _out_of_range(action: str) -> PriceOutOfRange:
    return PriceOutOfRange(
        f"the price or a priced quantity of {action} is beyond 2^62: check the meters", action=action
    )
