"""Invoices of an account in a test: closed periods are issued, paid, voided and corrected as the closer and people do it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from domain.account.collecting import issue_credit_note, mark_uncollectible, pay_invoice
from domain.account.decision import Decision
from domain.account.events import CreditNoteLine, MoneyDue
from domain.account.index import IndexOverlay
from domain.account.invoicing import close_ended_period, issue_invoice, omit_invoice, void_invoice
from domain.account.opening import open_account
from domain.account.standing import InvoiceOnFile, Uninvoiced, invoice_on_file, oldest_uninvoiced
from domain.issuer.details import IssuerDetails, number_text
from domain.issuer.numbering import Drawn
from tests.builders import TESTER, when

SELLER = IssuerDetails(name="Coffer SE", address_lines=["Kai 7"], country="DE", prefix="CO-")
SHAPE, DIGEST = "coffer-invoice.1", "00" * 32


def drawn(number: int, year: int = 2026, seller: IssuerDetails = SELLER) -> Drawn:
    """A number of the seller's."""
    return Drawn(seller, 1, year, number, number_text(seller.prefix, year, number))


def due(gross: int, currency: str = "EUR", paid: int = 0) -> MoneyDue:
    """Money of an invoice, without tax."""
    return MoneyDue(currency=currency, net_minor=gross, tax_minor=0, gross_minor=gross, paid_minor=paid)


def note_line(net: int, tax: int = 0, text: str = "Outage") -> CreditNoteLine:
    """A line of a credit note."""
    return CreditNoteLine(text=text, net_minor=net, tax_minor=tax)


def waiting(decision: Decision) -> Uninvoiced:
    """The period that waits for its invoice."""
    found = oldest_uninvoiced(decision.index)
    assert found is not None, "no period waits for its invoice"
    return found


def issued(decision: Decision, number: int, *money: MoneyDue, closing: int = 0, year: int = 2026) -> str:
    """The invoice of the period that waits; its number as it reads."""
    number_drawn = drawn(number, year)
    issue_invoice(
        decision,
        waiting(decision),
        number_drawn,
        closing_micros=closing,
        cards=[],
        shape=SHAPE,
        digest=DIGEST,
        due=money,
        customer=None,
        team_version=0,
    )
    return number_drawn.invoice


def omitted(decision: Decision) -> None:
    """Nothing happened in the period that waits."""
    omit_invoice(decision, waiting(decision))


def voided(decision: Decision, invoice: str, number: int, *, reissue: bool = False) -> None:
    """The invoice is void."""
    void_invoice(decision, invoice, drawn(number), reissue=reissue, shape=SHAPE, digest=DIGEST)


def credited(
    decision: Decision, invoice: str, number: int, *lines: CreditNoteLine, currency: str = "EUR"
) -> None:
    """Lines of the invoice are given back."""
    issue_credit_note(
        decision, invoice, drawn(number), currency=currency, lines=lines, shape=SHAPE, digest=DIGEST
    )


def paid(decision: Decision, invoice: str, amount: int, reference: str = "p1", currency: str = "EUR") -> None:
    """Money came for the invoice."""
    pay_invoice(decision, invoice, payment_reference=reference, amount_minor=amount, currency=currency)


def given_up(decision: Decision, invoice: str) -> dict[str, int]:
    """Nobody expects the money of the invoice."""
    return mark_uncollectible(decision, invoice)


def closed_early(decision: Decision, start: datetime | None = None) -> None:
    """The oldest period that has ended is closed now."""
    close_ended_period(decision, start)


def standing(decision: Decision, invoice: str) -> InvoiceOnFile:
    """The invoice as it stands."""
    found = invoice_on_file(decision.index, invoice)
    assert found is not None, f"no invoice {invoice}"
    return found


class Bookkeeping:
    """One account, decided in place at any instant: each step is a decision of its own."""

    def __init__(self, opened: str, **terms: Any) -> None:
        self.index = IndexOverlay()
        decision = Decision(None, when(opened), TESTER, self.index)
        open_account(decision, "acme", **terms)
        self.account, self.events = decision.account, list(decision.events)

    def at(self, at: str | datetime, decide: Callable[[Decision], Any], reason: str | None = None) -> Any:
        """What the decision gives; its events are kept, also those of one that is refused in the middle."""
        instant = when(at) if isinstance(at, str) else at
        decision = Decision(self.account, instant, TESTER, self.index, reason=reason)
        try:
            return decide(decision)
        finally:
            self.events += decision.events
