"""The document of a rate card: what may be written in it, what is wrong with it, and the card it becomes.

Every number is a quoted decimal string. Its digest is the SHA-256 of its canonical JSON, with ``effective_at`` in UTC.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from fractions import Fraction
from math import lcm

import msgspec

from domain.amounts import NANOS_PER_UNIT, format_credits, parse_credits, parse_quantity
from domain.documents import (
    Finding,
    action_findings,
    canonical_json,
    credits_findings,
    document_digest,
    document_id_findings,
    name_findings,
    reading_findings,
    size_findings,
    unreadable,
)
from domain.errors import LedgerError, Malformed, UnknownEventShape
from domain.pricing import (
    ExactTerm,
    GraduatedTerm,
    LinearMultiplier,
    Multiplier,
    Price,
    Rate,
    RateCard,
    Sample,
    TableMultiplier,
    Term,
    price_usage,
    scaled_decimal,
)
from domain.terms import CardPin
from domain.times import instant_text, parse_instant

PRICE_PLACES_MAX = 12
FACTOR_PLACES_MAX = 9
VOLUME_REFUSED = (
    "volume pricing is refused for prepaid credits: later usage would change an earlier charge; use graduated"
)

_PRICE = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,12})?", re.ASCII)
_FACTOR = re.compile(r"(0|[1-9][0-9]{0,8})(\.[0-9]{1,9})?", re.ASCII)


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the document; a key that is not known is a finding, so a typing error cannot change a price."""


class FlatLine(_Line, frozen=True, kw_only=True, tag="flat", tag_field="model"):
    """A price that needs no meter."""

    price: str


class UnitLine(_Line, frozen=True, kw_only=True, tag="unit", tag_field="model"):
    """A price for every ``per`` units of a meter or product of meters, in proportion."""

    meters: list[str]
    price: str
    per: str = "1"


class PackageLine(_Line, frozen=True, kw_only=True, tag="package", tag_field="model"):
    """A price for every started package of ``size`` units."""

    meters: list[str]
    price: str
    size: str


class TierLine(_Line, frozen=True, kw_only=True):
    """A price per unit up to a position; the last tier has no ``up_to``."""

    price: str
    up_to: str | None = None


class GraduatedLine(_Line, frozen=True, kw_only=True, tag="graduated", tag_field="model"):
    """Tiers over the units used in a period."""

    meters: list[str]
    tiers: list[TierLine]


class TableLine(_Line, frozen=True, kw_only=True, tag="table", tag_field="kind"):
    """A factor by the value of a dimension; ``default`` for values unlisted or missing."""

    dimension: str
    values: dict[str, str]
    default: str | None = None


class LinearLine(_Line, frozen=True, kw_only=True, tag="linear", tag_field="kind"):
    """The factor base + slope x number; ``default_number`` is the number of a record without the dimension."""

    dimension: str
    slope: str
    base: str = "1"
    default_number: str | None = None


class SampleLine(_Line, frozen=True, kw_only=True):
    """A record to show the price of; ``price``, if said, is what it must cost at the start of a period."""

    meters: dict[str, str] = {}
    dimensions: dict[str, str] = {}
    price: str | None = None


class RateLine(_Line, frozen=True, kw_only=True):
    """The rate of one action. Multipliers apply to every term, a flat one too; the minimum is not multiplied."""

    action: str
    terms: list[FlatLine | UnitLine | PackageLine | GraduatedLine]
    description: str = ""
    minimum: str = "0"
    multipliers: list[TableLine | LinearLine] = []
    samples: list[SampleLine] = []


class CardDocument(_Line, frozen=True, kw_only=True):
    """A whole rate card. ``meters`` names the unit of every meter, ``dimensions`` says what each dimension means."""

    card_id: str
    effective_at: datetime
    meters: dict[str, str]
    rates: list[RateLine]
    dimensions: dict[str, str] = {}
    description: str = ""


class SamplePrice(msgspec.Struct, frozen=True):
    """What a sample costs at the start of a period; ``price`` None says that it is waived."""

    sample: Sample
    price: Price | None


def check_rate_card(document: Mapping[str, object]) -> list[Finding]:
    """Everything that is wrong with a document on its own, samples included; none when it may be published.

    Its dates beside those of other versions are checked by ``domain.catalogue``.
    """
    findings = _shape_findings(document)
    if findings:
        return findings
    card = _read(document)
    findings = [*_head_findings(card), *_rates_findings(card)]
    if findings:
        return findings
    encoded = canonical_document(document)
    findings = size_findings(encoded)
    if findings:
        return findings
    return _sample_findings(load_rate_card(encoded, version=1, publisher="", published_at=card.effective_at))


def canonical_document(document: Mapping[str, object]) -> bytes:
    """The document as canonical JSON: keys sorted, no spaces, UTF-8, ``effective_at`` in UTC with microseconds.

    Raises: Malformed, naming ``effective_at``, unless that is a time with its offset.
    """
    return canonical_json({**document, "effective_at": instant_text(effective_at(document))})


def effective_at(document: Mapping[str, object]) -> datetime:
    """When the card becomes effective, UTC; TOML has a time of its own, JSON a string. Raises: Malformed."""
    at = document.get("effective_at")
    return parse_instant(at.isoformat() if isinstance(at, datetime) else str(at), "effective_at")


def load_rate_card(canonical: bytes, *, version: int, publisher: str, published_at: datetime) -> RateCard:
    """The card that a published document became, compiled.

    Raises: UnknownEventShape when the document holds what this code does not know: it was published by a newer one.
    """
    try:
        card = msgspec.json.decode(canonical, type=CardDocument)
    except msgspec.ValidationError as error:
        raise UnknownEventShape(f"rate card version {version} is of a newer shape: {error}") from error
    digest = document_digest(canonical)
    return RateCard(
        card_id=card.card_id,
        version=version,
        digest=digest,
        pin=CardPin(card.card_id, version, digest),
        effective_at=card.effective_at,
        publisher=publisher,
        published_at=published_at,
        document=canonical,
        rates={line.action: _compile_rate(card.card_id, version, line) for line in card.rates},
        samples=tuple(_samples(card)),
    )


def sample_prices(card: RateCard) -> list[SamplePrice]:
    """What every sample of the card costs as the first usage of a period; an action without samples shows one of its own."""
    return [
        SamplePrice(sample, price_usage(card, sample.action, sample.meters, sample.dimensions, lambda key: 0))
        for sample in card.samples
    ]


def _compile_rate(card_id: str, version: int, line: RateLine) -> Rate:
    multipliers = tuple(_compile_multiplier(each) for each in line.multipliers)
    places = sum(multiplier.places for multiplier in multipliers)
    weights = {
        number: _weight(term, places) for number, term in enumerate(line.terms) if not _is_graduated(term)
    }
    denominator = lcm(*(weight.denominator for weight in weights.values()))
    terms: list[Term] = []
    for number, term in enumerate(line.terms):
        if isinstance(term, GraduatedLine):
            terms.append(
                _compile_graduated(
                    f"{card_id}/{version}/{line.action}/{number + 1}", line.action, term, places
                )
            )
        else:
            weight = int(weights[number] * denominator)
            terms.append(_compile_exact(line.action, term, places, weight, denominator))
    return Rate((line.action, card_id, version), tuple(terms), multipliers, denominator, line.minimum)


def _compile_multiplier(line: TableLine | LinearLine) -> Multiplier:
    if isinstance(line, TableLine):
        return TableMultiplier(line.dimension, line.values, line.default)
    return LinearMultiplier(line.dimension, line.base, line.slope, line.default_number)


def _is_graduated(line: object) -> bool:
    return isinstance(line, GraduatedLine)


def _weight(line: FlatLine | UnitLine | PackageLine | GraduatedLine, factor_places: int) -> Fraction:
    """Micro-credits for one unit of the term's scale, or for one package."""
    assert not isinstance(line, GraduatedLine)
    price_micros = Fraction(scaled_decimal(line.price, PRICE_PLACES_MAX), 10 ** (PRICE_PLACES_MAX - 6))
    if isinstance(line, PackageLine):
        return price_micros
    if isinstance(line, FlatLine):
        return price_micros / Fraction(10**factor_places)
    per = Fraction(parse_quantity(line.per, "per"), NANOS_PER_UNIT)
    return price_micros / per / Fraction(10 ** (9 * len(line.meters) + factor_places))


def _compile_exact(
    action: str, line: FlatLine | UnitLine | PackageLine, factor_places: int, weight: int, denominator: int
) -> ExactTerm:
    meters, package_nanos, size_json = (), 0, ""
    model_json, price_json = '"model":"flat",', f'"price":"{line.price}",'
    if isinstance(line, UnitLine):
        model_json = f'"model":"unit","per":"{line.per}",'
    elif isinstance(line, PackageLine):
        model_json, size_json = '"model":"package",', f',"size":"{line.size}"'
        package_nanos = parse_quantity(line.size, "size")
    names = meters if isinstance(line, FlatLine) else tuple(line.meters)
    return ExactTerm(
        action, names, factor_places, weight, denominator, package_nanos, (model_json, price_json, size_json)
    )


def _compile_graduated(
    counter_key: str, action: str, line: GraduatedLine, factor_places: int
) -> GraduatedTerm:
    tiers = tuple(
        (
            None if tier.up_to is None else parse_quantity(tier.up_to, "up_to"),
            scaled_decimal(tier.price, PRICE_PLACES_MAX),
        )
        for tier in line.tiers
    )
    stated = [{"price": tier.price} | ({"up_to": tier.up_to} if tier.up_to else {}) for tier in line.tiers]
    tiers_json = msgspec.json.encode(stated, order="sorted").decode()
    return GraduatedTerm(action, tuple(line.meters), factor_places, counter_key, tiers, tiers_json)


def _samples(card: CardDocument) -> Iterator[Sample]:
    for line in card.rates:
        for sample in line.samples or [_own_sample(line)]:
            expected = None if sample.price is None else parse_credits(sample.price, "price")
            yield Sample(line.action, sample.meters, sample.dimensions, expected)


def _own_sample(line: RateLine) -> SampleLine:
    """One unit of every meter, the first listed value of every table, the number 1."""
    meters = {name: "1" for term in line.terms if not isinstance(term, FlatLine) for name in term.meters}
    dimensions = {
        each.dimension: next(iter(each.values), "") if isinstance(each, TableLine) else "1"
        for each in line.multipliers
    }
    return SampleLine(meters=meters, dimensions=dimensions)


def _read(document: Mapping[str, object]) -> CardDocument:
    return msgspec.json.decode(canonical_document(document), type=CardDocument)


def _shape_findings(document: Mapping[str, object]) -> list[Finding]:
    """What keeps the document from being read at all: the first fault of its head and of every rate."""
    findings: list[Finding] = []
    try:
        effective_at(document)
    except Malformed as error:
        findings.append(Finding("effective_at", error.detail))
    head = {**document, "rates": [], "effective_at": "2000-01-01T00:00:00Z"}
    findings += reading_findings(head, CardDocument, "document")
    rates = document.get("rates")
    if not isinstance(rates, list) or not rates:
        return [*findings, Finding("rates", "a rate card has at least one [[rates]] table")]
    for number, rate in enumerate(rates):
        where = f"rates[{number}]"
        volume = list(_volume_findings(rate, where))
        findings += volume or reading_findings(rate, RateLine, where)
    return findings


def _volume_findings(rate: object, where: str) -> Iterator[Finding]:
    terms = rate.get("terms") if isinstance(rate, Mapping) else None
    for number, term in enumerate(terms if isinstance(terms, list) else []):
        if isinstance(term, Mapping) and term.get("model") == "volume":
            yield Finding(f"{where}.terms[{number}].model", VOLUME_REFUSED)


def _head_findings(card: CardDocument) -> Iterator[Finding]:
    yield from document_id_findings("card_id", card.card_id, "standard")
    for table, names in (("meters", card.meters), ("dimensions", card.dimensions)):
        for name in names:
            yield from name_findings(f"{table}.{name[:80]}", name)
    for meter, unit in card.meters.items():
        yield from name_findings(f"meters.{meter[:80]}", unit)


def _rates_findings(card: CardDocument) -> Iterator[Finding]:
    seen: set[str] = set()
    for number, line in enumerate(card.rates):
        where = f"rates[{number}]"
        yield from action_findings(f"{where}.action", line.action)
        if line.action in seen:
            yield Finding(f"{where}.action", f"{line.action!r} is listed twice: one rate prices an action")
        seen.add(line.action)
        yield from _rate_findings(card, line, f"{where} ({line.action[:80]})")


def _rate_findings(card: CardDocument, line: RateLine, where: str) -> Iterator[Finding]:
    yield from _price_findings(f"{where}.minimum", line.minimum)
    if not line.terms:
        yield Finding(f"{where}.terms", "a rate has at least one term")
    if any(map(_is_graduated, line.terms)) and line.minimum.strip("0.") != "":
        detail = (
            "a minimum cannot stand beside graduated tiers: the total would depend on how usage is grouped"
        )
        yield Finding(f"{where}.minimum", detail)
    for number, term in enumerate(line.terms):
        yield from _term_findings(card, term, f"{where}.terms[{number}]")
    dimensions = [each.dimension for each in line.multipliers]
    for number, multiplier in enumerate(line.multipliers):
        yield from _multiplier_findings(card, multiplier, f"{where}.multipliers[{number}]")
        if multiplier.dimension in dimensions[:number]:
            detail = f"{multiplier.dimension!r} multiplies twice: one multiplier says it all"
            yield Finding(f"{where}.multipliers[{number}].dimension", detail)
    for number, sample in enumerate(line.samples):
        if sample.price is not None:
            yield from credits_findings(f"{where}.samples[{number}].price", sample.price)


def _term_findings(
    card: CardDocument, term: FlatLine | UnitLine | PackageLine | GraduatedLine, where: str
) -> Iterator[Finding]:
    if isinstance(term, FlatLine):
        yield from _price_findings(f"{where}.price", term.price)
        return
    yield from _meter_findings(card, term.meters, f"{where}.meters")
    if isinstance(term, GraduatedLine):
        yield from _tier_findings(term.tiers, f"{where}.tiers")
        return
    yield from _price_findings(f"{where}.price", term.price)
    if isinstance(term, UnitLine):
        yield from _size_findings(f"{where}.per", term.per)
    else:
        yield from _size_findings(f"{where}.size", term.size)


def _meter_findings(card: CardDocument, meters: list[str], where: str) -> Iterator[Finding]:
    if not 1 <= len(meters) <= 4 or len(set(meters)) != len(meters):
        yield Finding(where, f"{meters!r}: name one meter, or a product of two to four different ones")
    for name in meters:
        if name not in card.meters:
            yield Finding(where, f"meter {name[:80]!r} is not listed: give its unit in [meters]")


def _tier_findings(tiers: list[TierLine], where: str) -> Iterator[Finding]:
    if not tiers or tiers[-1].up_to is not None:
        yield Finding(where, "the last tier is open: give it no up_to")
    below = 0
    for number, tier in enumerate(tiers):
        yield from _price_findings(f"{where}[{number}].price", tier.price)
        if tier.up_to is None:
            if number < len(tiers) - 1:
                yield Finding(
                    f"{where}[{number}].up_to", "only the last tier is open: say where this one ends"
                )
            continue
        sizes = list(_size_findings(f"{where}[{number}].up_to", tier.up_to))
        yield from sizes
        if not sizes:
            end = parse_quantity(tier.up_to, "up_to")
            if end <= below:
                yield Finding(
                    f"{where}[{number}].up_to", f"{tier.up_to} is not above the tier before: tiers go up"
                )
            below = end


def _multiplier_findings(
    card: CardDocument, multiplier: TableLine | LinearLine, where: str
) -> Iterator[Finding]:
    if multiplier.dimension not in card.dimensions:
        detail = f"dimension {multiplier.dimension[:80]!r} is not listed: say what it means in [dimensions]"
        yield Finding(f"{where}.dimension", detail)
    if isinstance(multiplier, LinearLine):
        yield from _factor_findings(f"{where}.base", multiplier.base)
        yield from _factor_findings(f"{where}.slope", multiplier.slope)
        if multiplier.default_number is not None:
            yield from unreadable(parse_quantity, f"{where}.default_number", multiplier.default_number)
        return
    if not multiplier.values:
        yield Finding(f"{where}.values", "a table lists at least one value with its factor")
    for value, factor in multiplier.values.items():
        yield from _factor_findings(f"{where}.values.{value[:80]}", factor)
    if multiplier.default is not None:
        yield from _factor_findings(f"{where}.default", multiplier.default)


def _price_findings(where: str, price: str) -> Iterator[Finding]:
    if not _PRICE.fullmatch(price):
        yield Finding(
            where, f"{price[:80]!r} is no price: write credits as a plain decimal with at most twelve places"
        )


def _factor_findings(where: str, factor: str) -> Iterator[Finding]:
    if not _FACTOR.fullmatch(factor):
        yield Finding(
            where, f"{factor[:80]!r} is no factor: write a plain decimal such as '1.5', at most nine places"
        )


def _size_findings(where: str, text: str) -> Iterator[Finding]:
    findings = list(unreadable(parse_quantity, where, text))
    yield from findings
    if not findings and parse_quantity(text, where) == 0:
        yield Finding(where, "a size is above zero")


def _sample_findings(card: RateCard) -> list[Finding]:
    findings: list[Finding] = []
    for sample in card.samples:
        where = f"sample of {sample.action} {dict(sample.meters)} {dict(sample.dimensions)}"
        try:
            price = price_usage(card, sample.action, sample.meters, sample.dimensions, lambda key: 0)
        except LedgerError as error:
            findings.append(Finding(where, error.detail))
            continue
        costs = None if price is None else price.amount_micros
        if sample.price_micros is not None and costs != sample.price_micros:
            found = "nothing to price" if costs is None else format_credits(costs)
            findings.append(
                Finding(where, f"costs {found}, not {format_credits(sample.price_micros)} as the sample says")
            )
    return findings
