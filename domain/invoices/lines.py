"""Usage by line: what each action used for one project, member and rate, and what came back of it, summed to the micro-credit.

Memory grows with the number of lines, and with the number of charges that were refunded; never with that of charges.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from domain.account.events import CardPin, Charge, CreditsCharged
from domain.amounts import format_credits, parse_quantity
from domain.invoices.assigning import BillingPeriod
from domain.invoices.document import Adjustment, Card, Line, LineKind
from domain.invoices.unit_prices import UnitPrice, average_price, exact_decimal, unit_price_of
from domain.pricing import show_decimal
from domain.times import instant_text

QUANTITY_PLACES = 9


class LineKey(NamedTuple):
    """What the charges of a line have in common; ``period_start`` only for usage of an earlier period, closed when it came."""

    kind: LineKind
    action: str
    project: str | None
    member: str | None
    card: str | None
    card_version: int | None
    period_start: datetime | None


def line_key(charge: Charge, kind: LineKind, period_start: datetime | None) -> LineKey:
    """The line that the charge, or a refund of it, is on. A capture by request has no rate."""
    if isinstance(charge, CreditsCharged):
        pin = charge.card
        return LineKey(
            kind, charge.action, charge.project, charge.member, pin.card_id, pin.version, period_start
        )
    return LineKey(kind, charge.action, charge.project, charge.member, None, None, period_start)


class _Sum:
    """What one line comes to so far; ``price`` is the one unit price of all its charges, None once there are several."""

    __slots__ = ("amount_micros", "charges", "has_one_price", "nanos", "price", "refunded")

    def __init__(self) -> None:
        self.charges = self.amount_micros = 0
        self.nanos: dict[str, int] = {}
        self.price: UnitPrice | None = None
        self.has_one_price = True
        # Of refund lines only, of which there are few.
        self.refunded: set[str] | None = None


class LineSums:
    """Sums charges and refunds by line."""

    def __init__(self) -> None:
        self._sums: dict[LineKey, _Sum] = {}
        self._periods: dict[datetime, BillingPeriod] = {}
        self._pins: dict[tuple[str, int], CardPin] = {}

    def charge(self, charge: Charge, earlier: BillingPeriod | None) -> None:
        """The charge is on its line; ``earlier`` is the closed period that it serves, None for the invoice's own."""
        line = self._line(line_key(charge, "usage", earlier.start if earlier else None), earlier)
        line.charges += 1
        line.amount_micros += charge.amount_micros
        if not isinstance(charge, CreditsCharged):
            line.has_one_price = False
            return
        self._pin(charge.card)
        nanos = line.nanos
        for meter, quantity in charge.meters.items():
            nanos[meter] = nanos.get(meter, 0) + parse_quantity(quantity, meter)
        if line.has_one_price and earlier is None:
            _price_with(line, charge)

    def refund(self, charge: Charge, amount_micros: int, earlier: BillingPeriod | None) -> None:
        """So much of the charge came back, on a line of its own below zero; a refund tells no quantities."""
        line = self._line(line_key(charge, "refund", earlier.start if earlier else None), earlier)
        line.refunded = line.refunded or set()
        line.refunded.add(charge.charge_id)
        line.charges = len(line.refunded)
        line.amount_micros -= amount_micros
        if isinstance(charge, CreditsCharged):
            self._pin(charge.card)

    @property
    def total_micros(self) -> int:
        """All lines together: what was used less what was refunded."""
        return sum(line.amount_micros for line in self._sums.values())

    def keys(self) -> list[LineKey]:
        """The lines in the order of the document: those of the period, then adjustments by the period they name."""
        return sorted(self._sums, key=_order)

    def lines(self) -> list[Line]:
        """The lines of the invoice's own period, numbered from 1."""
        return [self._told(number, key) for number, key in self._numbered() if key.period_start is None]

    def adjustments(self) -> list[Adjustment]:
        """The lines of earlier periods; their numbers go on where those of the lines end."""
        return [
            self._told_of(number, key, key.period_start)
            for number, key in self._numbered()
            if key.period_start is not None
        ]

    def cards(self) -> list[Card]:
        """Every version of a card that priced something on a line, by id and version."""
        return [
            Card(card_id=pin.card_id, version=pin.version, digest=pin.digest)
            for _, pin in sorted(self._pins.items())
        ]

    def _line(self, key: LineKey, earlier: BillingPeriod | None) -> _Sum:
        line = self._sums.get(key)
        if line is None:
            line = self._sums[key] = _Sum()
            if earlier is not None:
                self._periods[earlier.start] = earlier
        return line

    def _pin(self, pin: CardPin) -> None:
        key = (pin.card_id, pin.version)
        if key not in self._pins:
            self._pins[key] = pin

    def _numbered(self) -> Iterator[tuple[int, LineKey]]:
        return enumerate(self.keys(), start=1)

    def _told(self, number: int, key: LineKey) -> Line:
        line = self._sums[key]
        meter, price, is_average = _shown_price(line) if key.kind == "usage" else (None, None, False)
        return Line(
            line=number,
            kind=key.kind,
            action=key.action,
            project=key.project,
            member=key.member,
            card=key.card,
            card_version=key.card_version,
            charges=line.charges,
            quantities=_shown_quantities(line),
            unit_meter=meter,
            unit_price=price,
            is_average=is_average,
            amount=format_credits(line.amount_micros),
        )

    def _told_of(self, number: int, key: LineKey, start: datetime) -> Adjustment:
        line, period = self._sums[key], self._periods[start]
        return Adjustment(
            line=number,
            period_label=period.label,
            period_start=instant_text(period.start),
            period_end=instant_text(period.end),
            kind=key.kind,
            action=key.action,
            project=key.project,
            member=key.member,
            card=key.card,
            card_version=key.card_version,
            charges=line.charges,
            quantities=_shown_quantities(line),
            amount=format_credits(line.amount_micros),
        )


def _price_with(line: _Sum, charge: CreditsCharged) -> None:
    """The line keeps its one price if the charge has the same; a quoted total follows from no price per unit."""
    price = None if charge.quote_id is not None else unit_price_of(charge.computation)
    if price is None or (line.price is not None and line.price != price):
        line.has_one_price, line.price = False, None
    else:
        line.price = price


def _shown_price(line: _Sum) -> tuple[str | None, str | None, bool]:
    """The meter and its price, and whether that is an average."""
    if line.price is not None:
        exact = exact_decimal(line.price.price)
        if exact is not None:
            return line.price.meter, exact, False
    if len(line.nanos) == 1:
        ((meter, nanos),) = line.nanos.items()
        if nanos:
            return meter, average_price(line.amount_micros, nanos), True
    return None, None, False


def _shown_quantities(line: _Sum) -> dict[str, str]:
    return {meter: show_decimal(nanos, QUANTITY_PLACES) for meter, nanos in sorted(line.nanos.items())}


def _order(key: LineKey) -> tuple[str, str, str, str, str, int, bool]:
    start = "" if key.period_start is None else instant_text(key.period_start)
    version = key.card_version or 0
    return (
        start,
        key.action,
        key.project or "",
        key.member or "",
        key.card or "",
        version,
        key.kind == "refund",
    )
