"""A stored price computation, worked out again from what it states: nothing of the compiled card is used.

This is what an auditor does with pencil and paper, in fractions: it shares no arithmetic with ``domain.pricing``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from fractions import Fraction
from math import ceil
from typing import Literal

import msgspec

from domain.amounts import MICROS_PER_CREDIT
from domain.errors import UnknownEventShape


class StatedMultiplier(msgspec.Struct, frozen=True):
    """A multiplier as a computation states it; ``slope``, ``base`` and ``number`` only for a linear one."""

    kind: Literal["table", "table_default", "linear", "linear_default"]
    dimension: str
    factor: str
    value: str | None = None
    base: str = "0"
    slope: str = "0"
    number: str = "0"


class StatedTier(msgspec.Struct, frozen=True):
    """A tier of a graduated term: a price per unit up to a position."""

    price: str
    up_to: str | None = None


class StatedTerm(msgspec.Struct, frozen=True):
    """A term as a computation states it; each model states its own part of the fields."""

    model: Literal["flat", "unit", "package", "graduated"]
    meters: dict[str, str | None]
    quantity: str
    price: str = "0"
    per: str = "1"
    size: str = "1"
    packages: str = "0"
    exact: str = "0"
    amount: str = "0"
    tiers: list[StatedTier] = []
    position_before: str = "0"
    position_after: str = "0"
    total_before: str = "0"
    total_after: str = "0"


class Computation(msgspec.Struct, frozen=True):
    """A stored computation, read: amounts in credits, ``exact`` and the terms' ``exact`` as fractions of credits."""

    action: str
    amount: str
    card: str
    version: int
    exact: str
    minimum: str
    multipliers: list[StatedMultiplier]
    terms: list[StatedTerm]


class Difference(msgspec.Struct, frozen=True):
    """A stated value that does not follow from the others: where, what is stated, what it should be."""

    where: str
    stated: str
    recomputed: str


def read_computation(computation: bytes) -> Computation:
    """The stored bytes as a computation. Raises: UnknownEventShape when they are of a newer shape, or none at all."""
    try:
        return msgspec.json.decode(computation, type=Computation)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UnknownEventShape(f"a price computation cannot be read: {error}") from error


def recompute(computation: bytes) -> int:
    """The amount in micro-credits that a stored computation leads to, from its meters, multipliers and prices alone.

    Intermediate results that it states are not trusted; ``differences`` compares them.
    Rounding: up to a micro-credit, once for the sum of the exact terms, once for each of the two totals of a graduated one.
    """
    stated = read_computation(computation)
    factor = _factor(stated)
    exact = sum((_exact(term, factor) for term in stated.terms), Fraction(0))
    graduated = sum(_graduated_micros(term, factor) for term in stated.terms if term.model == "graduated")
    return max(_micros_up(Fraction(stated.minimum)), _micros_up(exact)) + graduated


def differences(computation: bytes) -> list[Difference]:
    """Every stated value that does not follow from what is stated beside it; none when the computation holds."""
    return list(_differences(computation))


def canonical(computation: bytes) -> bytes:
    """The same computation with sorted keys and no spaces: what the stored bytes must be."""
    return json.dumps(
        json.loads(computation), sort_keys=True, separators=(",", ":"), ensure_ascii=False
    ).encode()


def _differences(computation: bytes) -> Iterator[Difference]:
    stated = read_computation(computation)
    for number, multiplier in enumerate(stated.multipliers):
        yield from _compare(f"multipliers[{number}].factor", multiplier.factor, _one_factor(multiplier))
    factor = _factor(stated)
    for number, term in enumerate(stated.terms):
        yield from _term_differences(f"terms[{number}]", term, factor)
    yield from _compare(
        "exact", stated.exact, sum((_exact(term, factor) for term in stated.terms), Fraction(0))
    )
    yield from _compare("amount", stated.amount, Fraction(recompute(computation), MICROS_PER_CREDIT))


def _term_differences(where: str, term: StatedTerm, factor: Fraction) -> Iterator[Difference]:
    quantity = _quantity(term, factor)
    yield from _compare(f"{where}.quantity", term.quantity, quantity)
    if term.model != "graduated":
        yield from _compare(f"{where}.exact", term.exact, _exact(term, factor))
        if term.model == "package":
            yield from _compare(
                f"{where}.packages", term.packages, Fraction(ceil(quantity / Fraction(term.size)))
            )
        return
    before = Fraction(term.position_before)
    yield from _compare(f"{where}.position_after", term.position_after, before + quantity)
    for field, said, position in (
        ("total_before", term.total_before, before),
        ("total_after", term.total_after, before + quantity),
    ):
        yield from _compare(
            f"{where}.{field}", said, Fraction(_total_micros(term, position), MICROS_PER_CREDIT)
        )
    yield from _compare(
        f"{where}.amount", term.amount, Fraction(_graduated_micros(term, factor), MICROS_PER_CREDIT)
    )


def _compare(where: str, stated: str, recomputed: Fraction) -> Iterator[Difference]:
    if Fraction(stated) != recomputed:
        yield Difference(where, stated, str(recomputed))


def _factor(stated: Computation) -> Fraction:
    product = Fraction(1)
    for multiplier in stated.multipliers:
        product *= _one_factor(multiplier)
    return product


def _one_factor(multiplier: StatedMultiplier) -> Fraction:
    if multiplier.kind.startswith("linear"):
        return Fraction(multiplier.base) + Fraction(multiplier.slope) * Fraction(multiplier.number)
    return Fraction(multiplier.factor)


def _quantity(term: StatedTerm, factor: Fraction) -> Fraction:
    """The product of the meters and multipliers; a meter that the record did not have counts as zero."""
    product = factor
    for quantity in term.meters.values():
        product *= Fraction(quantity or "0")
    return product


def _exact(term: StatedTerm, factor: Fraction) -> Fraction:
    """What an exact term costs in credits; a graduated term has no part in the exact sum."""
    quantity = _quantity(term, factor)
    if term.model == "graduated":
        return Fraction(0)
    if term.model == "package":
        return ceil(quantity / Fraction(term.size)) * Fraction(term.price)
    return quantity / Fraction(term.per) * Fraction(term.price)


def _graduated_micros(term: StatedTerm, factor: Fraction) -> int:
    before = Fraction(term.position_before)
    return _total_micros(term, before + _quantity(term, factor)) - _total_micros(term, before)


def _total_micros(term: StatedTerm, position: Fraction) -> int:
    """What everything up to a position costs: each slice at its tier's price, the sum rounded up once."""
    total, below = Fraction(0), Fraction(0)
    for tier in term.tiers:
        end = position if tier.up_to is None else min(position, Fraction(tier.up_to))
        total += max(end - below, Fraction(0)) * Fraction(tier.price)
        below = max(below, end)
    return _micros_up(total)


def _micros_up(exact_credits: Fraction) -> int:
    return ceil(exact_credits * MICROS_PER_CREDIT)
