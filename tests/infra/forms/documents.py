"""Documents to be shown: one with everything in it, and as many made-up ones as are asked for, the same for the same seed."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import msgspec

from domain.amounts import format_credits
from domain.invoices.document import (
    SHAPE,
    Adjustment,
    Card,
    Credits,
    Customer,
    Invoice,
    Line,
    NoteLine,
    Period,
    Purchase,
    Seller,
)
from domain.invoices.money import percent_of, tax_on, taxes_of, total, totals_of
from domain.times import instant_text

SELLER = Seller(
    issuer_id="main",
    name="Luma Platform GmbH",
    address_lines=["Torstraße 140", "10119 Berlin"],
    country="DE",
    tax_id="DE287654321",
    email="billing@luma.example",
    tax_percent="19",
    iban="DE89 3704 0044 0532 0130 00",
    bic="COBADEFFXXX",
    note="Amtsgericht Charlottenburg, HRB 123456 B",
)
CUSTOMER = Customer(
    name="Northlight Pictures Ltd",
    address_lines=["4 Harbour Row", "Bristol BS1 4QA"],
    country="GB",
    tax_id="GB123456789",
    email="accounts@northlight.example",
    locale="en-GB",
)
JAPANESE = Customer(
    name="株式会社ノースライト映像",
    address_lines=["東京都渋谷区神宮前 1-2-3"],
    country="JP",
    tax_id="T1234567890123",
    email=None,
    locale="ja-JP",
)
ARABIC = Customer(
    name="شركة الضوء الشمالي",
    address_lines=["شارع الشيخ زايد 12", "دبي"],
    country="AE",
    tax_id=None,
    email=None,
    locale="ar-AE",
)
HEBREW = Customer(
    name="אור צפוני הפקות",
    address_lines=["רחוב הרצל 12, קומה 3"],
    country="IL",
    tax_id=None,
    email=None,
    locale="he-IL",
)
PERIOD = Period(
    label="2026-11",
    start="2026-11-01T00:00:00.000000Z",
    end="2026-12-01T00:00:00.000000Z",
    zone="Europe/London",
)
OCTOBER = ("2026-10", "2026-09-30T23:00:00.000000Z", "2026-11-01T00:00:00.000000Z")


def a_line(number: int = 1, **changes: object) -> Line:
    """One usage line: 412 images for 309 credits."""
    line = Line(
        line=number,
        kind="usage",
        action="image.generate",
        project="spring-campaign",
        member="mara.k",
        card="standard",
        card_version=3,
        charges=37,
        quantities={"images": "412"},
        unit_meter="images",
        unit_price="0.75",
        is_average=False,
        amount="309",
    )
    return msgspec.structs.replace(line, **changes)


def an_adjustment(number: int, **changes: object) -> Adjustment:
    """One adjusting line: two charges of October."""
    label, start, end = OCTOBER
    line = Adjustment(
        line=number,
        period_label=label,
        period_start=start,
        period_end=end,
        kind="usage",
        action="video.generate",
        project="titles",
        member="mara.k",
        card="standard",
        card_version=2,
        charges=2,
        quantities={"seconds": "14"},
        amount="175",
    )
    return msgspec.structs.replace(line, **changes)


def a_purchase(net_minor: int = 9_900, currency: str = "EUR", **changes: object) -> Purchase:
    """The fee of a plan, taxed at the seller's rate."""
    tax = tax_on(net_minor, "19")
    purchase = Purchase(
        kind="plan",
        description="Plan studio, version 2",
        credits="1000",
        reference="studio v2",
        at="2026-11-01T00:00:00.000000Z",
        currency=currency,
        tax_percent="19",
        net_minor=net_minor,
        tax_minor=tax,
        gross_minor=net_minor + tax,
        is_paid=False,
    )
    return msgspec.structs.replace(purchase, **changes)


def a_top_up() -> Purchase:
    """A top-up that was paid with a tax that is not the seller's rate."""
    return a_purchase(
        20_000,
        kind="top_up",
        description="Top-up of 2500.5 credits",
        credits="2500.5",
        reference="pay_1NvX8d2eZvKYlo2C",
        at="2026-11-12T10:30:00.000000Z",
        tax_percent=None,
        tax_minor=1_600,
        gross_minor=21_600,
        is_paid=True,
    )


def an_invoice(**changes: object) -> Invoice:
    """An invoice with usage, adjustments, a fee and a top-up; taxes and totals follow from the purchases."""
    purchases = changes.pop("purchases", [a_purchase(), a_top_up()])
    assert isinstance(purchases, list)
    invoice = Invoice(
        shape=SHAPE,
        kind="invoice",
        number="2026-000123",
        issued_at="2026-12-02T00:00:03.120000Z",
        version=48_210,
        team="northlight",
        issuer=SELLER,
        customer=CUSTOMER,
        period=PERIOD,
        credits=Credits(
            opening="812.25",
            granted="1000",
            topped_up="2500.5",
            raised="0",
            lowered="0",
            used="1780.662337",
            refunded="3",
            expired="40",
            voided="0",
            charged_back="0",
            closing="2495.087663",
        ),
        lines=[
            a_line(1),
            a_line(
                2,
                action="video.generate",
                project="titles",
                member="jon@northlight",
                charges=48,
                quantities={"seconds": "96.5"},
                unit_meter="seconds",
                unit_price="12.5",
                amount="1206.25",
            ),
            a_line(
                3,
                action="text.generate",
                project=None,
                member="svc-render-01",
                charges=59,
                quantities={"input_tokens": "1204882", "output_tokens": "220117"},
                unit_meter=None,
                unit_price=None,
                amount="90.412337",
            ),
        ],
        adjustments=[an_adjustment(4), an_adjustment(5, kind="refund", charges=1, amount="-3", project=None)],
        purchases=purchases,
        taxes=taxes_of(
            [(each.currency, each.tax_percent, each.net_minor, each.tax_minor) for each in purchases]
        ),
        totals=totals_of(purchases),
        cards=[
            Card(card_id="standard", version=2, digest="4be1" * 16),
            Card(card_id="standard", version=3, digest="9f2c" * 16),
        ],
        corrects=None,
        reason=None,
        note_lines=[],
    )
    return msgspec.structs.replace(invoice, **changes)


def a_draft(**changes: object) -> Invoice:
    """The draft of a period that is still open."""
    return an_invoice(number=None, issued_at=None, **changes)


def a_credit_note(**changes: object) -> Invoice:
    """A credit note of two lines on the invoice above."""
    return _correction("credit_note", [("Downtime on 14 November", 2_500), ("Goodwill", 1_000)], **changes)


def a_void(**changes: object) -> Invoice:
    """The document that voids the invoice above."""
    return _correction("void", [("Invoice 2026-000123 is void", 9_900)], **changes)


def generated(seed: int) -> Invoice:
    """A made-up document that the standard can say: invoices, voids, credit notes, with money and without, of many places."""
    chance = random.Random(seed)
    seller, customer = _parties(chance)
    start = datetime(2026, 1 + chance.randrange(12), 1, tzinfo=UTC)
    end = start + timedelta(days=chance.choice((28, 30, 31)))
    period = Period(label=f"{start:%Y-%m}", start=instant_text(start), end=instant_text(end), zone="UTC")
    currency = chance.choice(("EUR", "EUR", "USD", "GBP", "JPY", "PLN", "CHF"))
    kind = chance.choice(("invoice",) * 8 + ("credit_note", "void"))
    shared: dict[str, object] = {
        "number": f"2026-{seed:06d}",
        "issued_at": instant_text(end + timedelta(hours=24, seconds=chance.randrange(9_999))),
        "team": f"team-{seed}",
        "issuer": seller,
        "customer": customer,
    }
    if kind != "invoice":
        notes = [(_name(chance), _minor(chance)) for _ in range(chance.randrange(0, 4))]
        return _correction(kind, notes, currency=currency, tax_percent=seller.tax_percent, **shared)
    purchases = [
        _purchase(chance, currency, seller.tax_percent, period.start) for _ in range(chance.randrange(0, 6))
    ]
    lines = [a_line(number + 1, project=_name(chance)) for number in range(chance.randrange(0, 5))]
    return an_invoice(period=period, purchases=purchases, lines=lines, **shared)


def _correction(kind: str, lines: list[tuple[str, int]], **changes: object) -> Invoice:
    currency, tax_percent = str(changes.pop("currency", "EUR")), str(changes.pop("tax_percent", "19"))
    notes = []
    for text, net_minor in lines:
        tax = tax_on(net_minor, tax_percent)
        notes.append(
            NoteLine(
                text=text,
                currency=currency,
                tax_percent=tax_percent,
                net_minor=net_minor,
                tax_minor=tax,
                gross_minor=net_minor + tax,
            )
        )
    net, tax = sum(note.net_minor for note in notes), sum(note.tax_minor for note in notes)
    stated: dict[str, object] = {
        "kind": kind,
        "number": "2026-000124",
        "period": msgspec.structs.replace(PERIOD, zone=None),
        "credits": None,
        "lines": [],
        "adjustments": [],
        "purchases": [],
        "cards": [],
        "corrects": "2026-000123",
        "reason": "agreed with the customer",
        "note_lines": notes,
        "taxes": taxes_of(
            [(note.currency, note.tax_percent, note.net_minor, note.tax_minor) for note in notes]
        ),
        "totals": [total(currency, net, tax, 0)] if notes else [],
    }
    return an_invoice(**(stated | changes))


def _parties(chance: random.Random) -> tuple[Seller, Customer]:
    percent = chance.choice(("0", "7", "19", "20", "8.1", "5.5"))
    tax_id = chance.choice(("DE287654321", "FR40303265045", "12/345/67890"))
    seller = msgspec.structs.replace(
        SELLER,
        name=_name(chance),
        tax_percent=percent,
        tax_id=tax_id if percent != "0" else chance.choice((tax_id, None)),
        iban=chance.choice((SELLER.iban, None)),
        bic=None,
        email=chance.choice((SELLER.email, None)),
    )
    customer = msgspec.structs.replace(
        chance.choice((CUSTOMER, JAPANESE, ARABIC, HEBREW)),
        name=_name(chance),
        address_lines=[_name(chance) for _ in range(chance.randrange(0, 6))],
    )
    return seller, customer


def _purchase(chance: random.Random, currency: str, percent: str, at: str) -> Purchase:
    kind = chance.choice(("plan", "top_up", "top_up", "charged_back"))
    net = _minor(chance)
    tax = tax_on(net, percent)
    # A top-up may have been paid with a tax that somebody else worked out.
    if kind != "plan" and percent != "0" and chance.random() < 0.5:
        tax = net * chance.randrange(100, 2_500) // 10_000
    rate = percent if kind == "plan" else percent_of(net, tax, percent)
    sign = -1 if kind == "charged_back" else 1
    return a_purchase(
        kind=kind,
        currency=currency,
        description=_name(chance),
        reference=f"pay_{chance.randrange(10**12)}",
        credits=format_credits(chance.randrange(10**12)),
        at=at,
        tax_percent=rate,
        net_minor=sign * net,
        tax_minor=sign * tax,
        gross_minor=sign * (net + tax),
        is_paid=kind != "plan",
    )


def _minor(chance: random.Random) -> int:
    return chance.choice((1, 99, 10_000, 10**7)) + chance.randrange(10**4)


def _name(chance: random.Random) -> str:
    """A name that somebody may have typed: any script, markup, quotes, a control character."""
    words = (
        "Nord & Süd",
        "<b>bold</b>",
        "#set page()",
        '"quoted"',
        "株式会社",
        "شركة",
        "חברה",
        "a\x07b",
        "Zażółć",
        "½ €",
    )
    return " ".join(chance.choice(words) for _ in range(1 + chance.randrange(3)))
