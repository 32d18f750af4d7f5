"""Money of invoices: what came for them, what nobody expects any more, and what credit notes give back."""

from __future__ import annotations

from collections.abc import Sequence

from domain.account.decision import Decision
from domain.account.due import pass_time
from domain.account.events import CreditNoteIssued, CreditNoteLine, InvoicePaid, InvoiceUncollectible
from domain.account.funding import require_no_invoice_paid, top_up_on_file
from domain.account.invoicing import require_fresh, require_invoice, require_reason
from domain.account.standing import InvoiceOnFile, Money
from domain.errors import (
    CreditNoteRefused,
    InvoiceIsVoid,
    InvoiceRefused,
    OtherCurrency,
    PaymentReferenceUsed,
)
from domain.issuer.numbering import Drawn

MINOR_UNITS_MAX = 10**15
NOTE_LINES_MAX = 100
NOTE_TEXT_MAX = 200


def pay_invoice(
    decision: Decision,
    invoice: str,
    *,
    payment_reference: str,
    amount_minor: int,
    currency: str,
    record_key: str | None = None,
) -> None:
    """Money came for the invoice; it is paid once nothing is due any more. What is more than that is kept as told.

    An uncollectible invoice can still be paid. Raises: UnknownInvoice; InvoiceIsVoid; OtherCurrency for one that the invoice does
    not ask for; PaymentReferenceUsed when the reference paid or bought something already; InvoiceRefused for no amount.
    """
    pass_time(decision)
    on_file = require_invoice(decision, invoice)
    if on_file.status == "void":
        raise InvoiceIsVoid(f"invoice {invoice} is void: pay the one issued in its place", invoice=invoice)
    if currency not in on_file.money:
        asked = " or ".join(sorted(on_file.money)) or "no money at all"
        raise OtherCurrency(f"currency {currency[:8]!r}: invoice {invoice} asks for {asked}", invoice=invoice)
    if not 1 <= amount_minor <= MINOR_UNITS_MAX:
        raise InvoiceRefused(
            f"amount_minor {amount_minor}: 1 to {MINOR_UNITS_MAX} would be right", invoice=invoice
        )
    _require_new_reference(decision, payment_reference)
    before = on_file.money[currency]
    after = before._replace(paid_minor=before.paid_minor + amount_minor)
    decision.record(
        InvoicePaid(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            invoice=invoice,
            payment_reference=payment_reference,
            amount_minor=amount_minor,
            currency=currency,
            paid_after_minor=after.paid_minor,
            over_minor=max(amount_minor - before.due_minor, 0),
            is_settled=_is_settled(on_file, currency, after),
            record_key=record_key,
        )
    )


def _require_new_reference(decision: Decision, payment_reference: str) -> None:
    require_no_invoice_paid(decision, payment_reference)
    if top_up_on_file(decision, payment_reference) is not None:
        raise PaymentReferenceUsed(
            f"payment reference {payment_reference!r} is on file for a top-up: a payment counts once",
            payment_reference=payment_reference,
        )


def mark_uncollectible(decision: Decision, invoice: str) -> dict[str, int]:
    """Nobody expects the money of the invoice any more; returns what is due, in minor units by currency.

    Raises: UnknownInvoice; InvoiceRefused without a reason, when nothing is due, or it is void or uncollectible already.
    """
    pass_time(decision)
    on_file = require_invoice(decision, invoice)
    require_reason(decision, "an invoice is given up")
    if on_file.status != "issued":
        raise InvoiceRefused(
            f"invoice {invoice} is {on_file.status}: only one that is issued and not paid can be given up",
            invoice=invoice,
        )
    due = on_file.due_minor
    decision.record(
        InvoiceUncollectible(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            invoice=invoice,
            due_minor=due,
        )
    )
    return due


def require_creditable(
    decision: Decision, invoice: str, currency: str, lines: Sequence[CreditNoteLine]
) -> InvoiceOnFile:
    """The invoice, of which these lines may be given back. Raises: as ``issue_credit_note``, but for the number."""
    on_file = require_invoice(decision, invoice)
    require_reason(decision, "money is given back")
    if on_file.status == "void":
        raise InvoiceIsVoid(f"invoice {invoice} is void: nothing of it can be given back", invoice=invoice)
    if currency not in on_file.money:
        asked = " or ".join(sorted(on_file.money)) or "no money at all"
        raise OtherCurrency(
            f"currency {currency[:8]!r}: invoice {invoice} asked for {asked}", invoice=invoice
        )
    _check_lines(invoice, lines)
    money, gross = on_file.money[currency], gross_of(lines)
    # Where a bank took more back than was sold, the invoice is below zero: nothing of it can be given back.
    if gross > (left := max(money.gross_minor - money.credited_minor, 0)):
        raise CreditNoteRefused(
            f"lines of {gross} minor units of {currency}: invoice {invoice} has {left} left to give back",
            invoice=invoice,
            left_minor=left,
        )
    return on_file


def issue_credit_note(
    decision: Decision,
    invoice: str,
    drawn: Drawn,
    *,
    currency: str,
    lines: Sequence[CreditNoteLine],
    shape: str,
    digest: str,
) -> None:
    """Money of the invoice is given back by a credit note under the number drawn; what is due is so much less.

    Raises: UnknownInvoice; InvoiceIsVoid; OtherCurrency; CreditNoteRefused for lines that are none, or more than the invoice less
    earlier notes; InvoiceRefused without a reason, and for another issuer's number, or one that names another document.
    """
    pass_time(decision)
    on_file = require_creditable(decision, invoice, currency, lines)
    require_fresh(decision, drawn)
    before = on_file.money[currency]
    after = before._replace(credited_minor=before.credited_minor + gross_of(lines))
    decision.record(
        CreditNoteIssued(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            invoice=drawn.invoice,
            issuer_id=drawn.details.issuer_id,
            year=drawn.year,
            number=drawn.number,
            corrected_invoice=invoice,
            currency=currency,
            lines=list(lines),
            credited_after_minor=after.credited_minor,
            is_settled=_is_settled(on_file, currency, after),
            shape=shape,
            digest=digest,
        )
    )


def gross_of(lines: Sequence[CreditNoteLine]) -> int:
    """What the lines give back, tax included, in minor units."""
    return sum(line.net_minor + line.tax_minor for line in lines)


def _is_settled(on_file: InvoiceOnFile, currency: str, after: Money) -> bool:
    return not any(money.due_minor for money in (on_file.money | {currency: after}).values())


def _check_lines(invoice: str, lines: Sequence[CreditNoteLine]) -> None:
    if not 1 <= len(lines) <= NOTE_LINES_MAX:
        raise CreditNoteRefused(
            f"lines: {len(lines)} of them, 1 to {NOTE_LINES_MAX} would be right", invoice=invoice
        )
    for place, line in enumerate(lines, 1):
        if not line.text.strip() or len(line.text) > NOTE_TEXT_MAX or not line.text.isprintable():
            raise CreditNoteRefused(
                f"line {place}: its text is blank, too long or not printable: 1 to {NOTE_TEXT_MAX} characters would be right",
                invoice=invoice,
            )
        if min(line.net_minor, line.tax_minor) < 0 or not 1 <= gross_of([line]) <= MINOR_UNITS_MAX:
            raise CreditNoteRefused(
                f"line {place}: {line.net_minor} + {line.tax_minor} minor units: amounts that are not negative, "
                f"1 to {MINOR_UNITS_MAX} together, would be right",
                invoice=invoice,
            )
