"""What the page of an invoice, a void or a credit note says.

Money first: who pays looks for the amount. Then what became of the credits, then the usage, which may go on for pages.
"""

from __future__ import annotations

from collections.abc import Iterable

from domain.invoices.document import (
    Adjustment,
    Customer,
    Invoice,
    Line,
    NoteLine,
    Purchase,
    Seller,
    Tax,
    Total,
)
from domain.times import parse_instant
from infra.forms.fonts import families, lacks
from infra.forms.locales import MINUS, Writing, locale_of
from infra.forms.sheets import Cell, Column, Fact, PartyBlock, Row, Sheet, Table, cell
from infra.forms.usage_tables import DASH, adjustments_table, aligned, usage_table
from infra.forms.words import Words, words_of

_SIGNS = {
    "granted": "+",
    "topped_up": "+",
    "raised": "+",
    "lowered": MINUS,
    "used": MINUS,
    "refunded": "+",
    "expired": MINUS,
    "voided": MINUS,
    "charged_back": MINUS,
}
# Shown even when nothing of the kind happened; the others only when something did.
_ALWAYS = frozenset({"granted", "topped_up", "used", "refunded", "expired"})


def invoice_sheet(invoice: Invoice, locale: str | None = None) -> Sheet:
    """The sheet of a document, written for its customer's locale unless another is asked for."""
    return _Writer(invoice, locale).sheet()


class _Writer:
    """Writes one document in one locale."""

    def __init__(self, invoice: Invoice, locale: str | None) -> None:
        chosen = locale or (invoice.customer.locale if invoice.customer else None)
        self.invoice = invoice
        self.writing = Writing(locale_of(chosen))
        self.words: Words = words_of(self.writing.locale)
        self.zone = invoice.period.zone or "UTC"

    def sheet(self) -> Sheet:
        """Everything the page says."""
        said = _names_in(self.invoice)
        locale = self.writing.locale
        return Sheet(
            language=self.words.language,
            direction=self.words.direction,
            region=locale.territory or "",
            paper=self.writing.paper,
            families=families(locale.language, locale.territory, said),
            title=self.title(),
            number=self.invoice.number or "",
            mark="" if self.invoice.number else self.words("draft_mark"),
            notices=tuple(self.notices()),
            issuer=self.issuer(),
            customer=self.customer(),
            facts=tuple(self.facts()),
            figures=tuple(self.figures()),
            tables=list(self.tables()),
            small=tuple(self.small(said)),
            page=self.words("page"),
            author=self.invoice.issuer.name if self.invoice.issuer else "Coffer",
        )

    def title(self) -> str:
        if self.invoice.kind == "invoice" and self.invoice.number is None:
            return self.words("draft")
        return self.words(self.invoice.kind)

    def notices(self) -> Iterable[str]:
        if self.invoice.number is None:
            yield self.words("draft_notice")
        if self.invoice.corrects is not None:
            yield self.words(f"{self.invoice.kind}_notice", number=self.invoice.corrects)
        if self.invoice.reason:
            yield f"{self.words('reason')}: {self.invoice.reason}"

    def issuer(self) -> PartyBlock:
        seller = self.invoice.issuer
        if seller is None:
            return PartyBlock(label=self.words("from"), name=DASH)
        facts = [
            *self.party_facts(seller),
            *_fact(self.words("iban"), seller.iban),
            *_fact("BIC", seller.bic),
        ]
        return PartyBlock(
            label=self.words("from"), name=seller.name, lines=self.address(seller), facts=tuple(facts)
        )

    def customer(self) -> PartyBlock:
        buyer = self.invoice.customer
        if buyer is None:
            lines = (self.words("no_details"),)
            return PartyBlock(label=self.words("to"), name=self.invoice.team, lines=lines)
        return PartyBlock(
            label=self.words("to"),
            name=buyer.name,
            lines=self.address(buyer),
            facts=tuple(self.party_facts(buyer)),
        )

    def address(self, party: Seller | Customer) -> tuple[str, ...]:
        country = self.writing.locale.territories.get(party.country, party.country)
        if self.words.language != self.writing.locale.language:
            country = locale_of(self.words.language).territories.get(party.country, party.country)
        return (*party.address_lines, country)

    def party_facts(self, party: Seller | Customer) -> list[Fact]:
        return [*_fact(self.words("tax_id"), party.tax_id), *_fact(self.words("email"), party.email)]

    def facts(self) -> Iterable[Fact]:
        invoice, words = self.invoice, self.words
        if invoice.number:
            yield Fact(words("number"), invoice.number)
        if invoice.issued_at:
            yield Fact(
                words("issued"), self.writing.day(parse_instant(invoice.issued_at, "issued_at"), "UTC")
            )
        yield from self.period()
        yield Fact(words("team"), invoice.team)

    def period(self) -> Iterable[Fact]:
        """The days of the period in its zone; a void and a credit note only name it."""
        period = self.invoice.period
        if period.zone is None:
            yield Fact(self.words("period"), period.label)
            return
        start, end = parse_instant(period.start, "period.start"), parse_instant(period.end, "period.end")
        yield Fact(self.words("period"), self.writing.days(start, end, period.zone))
        yield Fact(self.words("zone"), period.zone)

    def figures(self) -> Iterable[Fact]:
        for total in self.invoice.totals:
            label, amount = self.last_amount(total)
            yield Fact(label, self.writing.money(amount, total.currency))
        if self.invoice.credits is not None:
            yield Fact(self.words("used"), self.writing.number(self.invoice.credits.used))
            yield Fact(self.words("left"), self.writing.number(self.invoice.credits.closing))

    def tables(self) -> Iterable[Table]:
        yield from self.money()
        if self.invoice.lines:
            yield usage_table(self.invoice.lines, self.words, self.writing)
        if self.invoice.adjustments:
            yield adjustments_table(self.invoice.adjustments, self.words, self.writing)
        if self.invoice.cards:
            yield self.cards()

    def money(self) -> Iterable[Table]:
        invoice = self.invoice
        if invoice.purchases:
            yield self.purchases()
        if invoice.note_lines:
            yield self.note_lines()
        if invoice.credits is not None:
            yield self.credit_summary()
        for total in invoice.totals:
            yield self.totals(total)

    def purchases(self) -> Table:
        columns = (
            Column(self.words("date")),
            Column(self.words("description"), share=3),
            Column(self.words("reference"), share=2),
            Column(self.words("credits"), is_number=True),
            *self.money_columns(),
        )
        padded = aligned([line.credits for line in self.invoice.purchases], self.writing)
        rows = [self.purchase(line, padded[place]) for place, line in enumerate(self.invoice.purchases)]
        return Table(title=self.words("purchases"), columns=columns, rows=rows)

    def purchase(self, line: Purchase, credited: Cell) -> Row:
        # What the description of a top-up says in English, the kind and the credits say in the customer's language.
        notes = [line.description] if line.kind == "plan" else []
        notes += [self.words("is_paid")] if line.is_paid and line.kind != "charged_back" else []
        return (
            cell(self.writing.short_day(parse_instant(line.at, "at"), self.zone)),
            cell(self.words(line.kind), " · ".join(notes)),
            cell(line.reference or DASH),
            credited,
            *self.amounts(line),
        )

    def note_lines(self) -> Table:
        columns = (Column(self.words("description"), share=1), *self.money_columns())
        rows = [(cell(line.text), *self.amounts(line)) for line in self.invoice.note_lines]
        return Table(title=self.words("correction"), columns=columns, rows=rows)

    def money_columns(self) -> tuple[Column, ...]:
        return tuple(Column(self.words(name), is_number=True) for name in ("net", "tax", "gross"))

    def amounts(self, line: Purchase | NoteLine) -> Row:
        rate = "" if line.tax_percent is None else self.writing.percent(line.tax_percent)
        return (
            cell(self.writing.minor(line.net_minor, line.currency)),
            cell(self.writing.minor(line.tax_minor, line.currency), rate),
            cell(self.writing.money(line.gross_minor, line.currency)),
        )

    def totals(self, total: Total) -> Table:
        """The money of one currency, which the title names where there are several."""
        rows = [self.amount_row(self.words("net"), total.net_minor, total.currency)]
        rows += [self.tax_row(tax) for tax in self.invoice.taxes if tax.currency == total.currency]
        if self.invoice.kind == "invoice":
            rows.append(self.amount_row(self.words("gross"), total.gross_minor, total.currency))
            rows.append(self.amount_row(self.words("paid"), -total.paid_minor, total.currency))
        return Table(
            title=self.words("totals") + (f" {total.currency}" if len(self.invoice.totals) > 1 else ""),
            columns=(Column("", share=1), Column("", is_number=True)),
            rows=rows,
            foot=[self.amount_row(*self.last_amount(total), total.currency)],
            place="end",
        )

    def tax_row(self, tax: Tax) -> Row:
        rate = self.words("other_rate") if tax.percent is None else self.writing.percent(tax.percent)
        label = self.words("tax_on", rate=rate, net=self.writing.money(tax.net_minor, tax.currency))
        return self.amount_row(label, tax.tax_minor, tax.currency)

    def amount_row(self, label: str, amount_minor: int, currency: str) -> Row:
        return (cell(label), cell(self.writing.money(amount_minor, currency)))

    def last_amount(self, total: Total) -> tuple[str, int]:
        """What is left to pay; of a void or a credit note what it takes off the invoice."""
        if self.invoice.kind == "invoice":
            return self.words("due"), total.due_minor
        return self.words("credited"), total.gross_minor

    def credit_summary(self) -> Table:
        summed = self.invoice.credits
        assert summed is not None
        moved = [
            (name, str(getattr(summed, name)))
            for name in _SIGNS
            if name in _ALWAYS or getattr(summed, name) != "0"
        ]
        amounts = aligned([summed.opening, *(text for _, text in moved), summed.closing], self.writing)
        rows: list[Row] = [(cell(self.words("opening")), amounts[0])]
        for place, (name, text) in enumerate(moved, start=1):
            sign = _SIGNS[name] if text != "0" else ""
            shown = amounts[place]
            rows.append(
                (
                    cell(self.words("used" if name == "used" else name)),
                    Cell((f"{sign}{shown.lines[0]}",), padding=shown.padding),
                )
            )
        return Table(
            title=self.words("credit_summary"),
            columns=(Column("", share=1), Column(self.words("credits"), is_number=True)),
            rows=rows,
            foot=[(cell(self.words("closing")), amounts[-1])],
            place="start",
        )

    def cards(self) -> Table:
        columns = (
            Column(self.words("rate_card")),
            Column(self.words("digest"), share=1),
        )
        rows: list[Row] = [
            (
                cell(f"{card.card_id} v{card.version}"),
                Cell(note=card.digest),
            )
            for card in self.invoice.cards
        ]
        return Table(title=self.words("cards"), columns=columns, rows=rows)

    def small(self, said: str) -> Iterable[str]:
        if self.invoice.issuer and self.invoice.issuer.note:
            yield self.invoice.issuer.note
        if lacks(said):
            yield self.words("lacking")


def _names_in(invoice: Invoice) -> str:
    """All texts of the document that somebody else wrote, for the choice of fonts."""
    parties = [party for party in (invoice.issuer, invoice.customer) if party is not None]
    texts: list[str | None] = [invoice.team, invoice.reason]
    for party in parties:
        texts += [party.name, *party.address_lines, party.tax_id, party.email]
    used: list[Line | Adjustment] = [*invoice.lines, *invoice.adjustments]
    for line in used:
        texts += [line.action, line.project, line.member, line.card, *line.quantities]
    for purchase in invoice.purchases:
        texts += [purchase.description, purchase.reference]
    texts += [line.text for line in invoice.note_lines]
    if invoice.issuer:
        texts.append(invoice.issuer.note)
    return " ".join(text for text in texts if text)


def _fact(label: str, value: str | None) -> list[Fact]:
    return [Fact(label, value)] if value else []
