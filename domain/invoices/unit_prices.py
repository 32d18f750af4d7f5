"""What one unit of one meter cost a charge, multipliers included, as its stored computation says; some charges have none."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import msgspec

from domain.amounts import MICROS_PER_CREDIT, NANOS_PER_UNIT
from domain.pricing import show_decimal

UNIT_PRICE_PLACES = 18
AVERAGE_PLACES = 9
_REMEMBERED_MAX = 4_096


class UnitPrice(NamedTuple):
    """Credits for one unit of the meter; for one charge where there is no meter."""

    meter: str | None
    price: Fraction


class _Factor(msgspec.Struct, gc=False):
    factor: str


class _Term(msgspec.Struct, gc=False):
    model: str
    meters: dict[str, str | None]
    price: str = "0"
    per: str = "1"


class _Stated(msgspec.Struct, gc=False):
    amount: str
    minimum: str
    multipliers: list[_Factor]
    terms: list[_Term]


_decoder = msgspec.json.Decoder(_Stated)


def unit_price_of(computation: msgspec.Raw) -> UnitPrice | None:
    """The one price per unit that the charge's amount follows from.

    None for several terms, packages, tiers, products of meters, and where the minimum may have decided the amount.
    """
    stated = _decoder.decode(computation)
    if len(stated.terms) != 1 or (stated.minimum != "0" and stated.amount == stated.minimum):
        return None
    term = stated.terms[0]
    if (term.model, len(term.meters)) not in (("unit", 1), ("flat", 0)):
        return None
    meter = next(iter(term.meters), None)
    return UnitPrice(meter, _product(term.price, term.per, tuple(each.factor for each in stated.multipliers)))


@lru_cache(maxsize=_REMEMBERED_MAX)
def _product(price: str, per: str, factors: tuple[str, ...]) -> Fraction:
    product = Fraction(price) / Fraction(per)
    for factor in factors:
        product *= Fraction(factor)
    return product


def exact_decimal(price: Fraction) -> str | None:
    """The price as a plain decimal, None when it has more than ``UNIT_PRICE_PLACES`` places or never ends."""
    scaled = price * 10**UNIT_PRICE_PLACES
    return show_decimal(scaled.numerator, UNIT_PRICE_PLACES) if scaled.denominator == 1 else None


def average_price(amount_micros: int, units_nanos: int) -> str:
    """Credits for one unit on average, rounded half up to ``AVERAGE_PLACES`` places."""
    scaled = Fraction(amount_micros * NANOS_PER_UNIT * 10**AVERAGE_PLACES, MICROS_PER_CREDIT * units_nanos)
    return show_decimal(int(scaled + Fraction(1, 2)), AVERAGE_PLACES)
