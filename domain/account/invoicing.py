"""Closed periods get their invoices, each once: issued under a number, left out where nothing happened, voided and issued anew.

None of it moves credits. Numbers and digests are the caller's, who has asked for all that may refuse (``require_…``) before a
number is drawn. Paperwork goes on after an account is closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from domain.account.closing import close_period, closes_at
from domain.account.decision import Decision
from domain.account.due import pass_time
from domain.account.events import CardPin, InvoiceIssued, InvoiceOmitted, InvoiceVoided, MoneyDue
from domain.account.standing import InvoiceOnFile, Uninvoiced, invoice_on_file, oldest_uninvoiced
from domain.billing import BillingDetails
from domain.errors import InvoiceRefused, NothingToInvoice, PeriodRefused, UnknownInvoice
from domain.issuer.numbering import Drawn
from domain.times import instant_text


def close_ended_period(decision: Decision, period_start: datetime | None = None) -> tuple[datetime, datetime]:
    """The oldest open period of the books, which has ended, is closed now, before late grace is over; returns its bounds.

    Raises: PeriodRefused while it runs, when it is not the one that ``period_start`` names, and once a closed account has closed
    its last.
    """
    pass_time(decision)
    account = decision.account
    if period_start is not None and period_start != account.books_start:
        raise PeriodRefused(
            f"period_start {instant_text(period_start)} is not that of the oldest open period, "
            f"which began at {instant_text(account.books_start)}",
            period_start=instant_text(account.books_start),
        )
    if closes_at(account) is None:
        raise PeriodRefused(
            "the account is closed, and so are its books: the period in which it was closed was the last"
        )
    if decision.at < account.books_end:
        raise PeriodRefused(
            f"the period that began at {instant_text(account.books_start)} runs until {instant_text(account.books_end)}: "
            "close it then",
            period_start=instant_text(account.books_start),
        )
    bounds = account.books_start, account.books_end
    close_period(decision, decision.at, decision.reason)
    return bounds


def issue_invoice(
    decision: Decision,
    waiting: Uninvoiced,
    drawn: Drawn,
    *,
    closing_micros: int,
    cards: Sequence[CardPin],
    shape: str,
    digest: str,
    due: Sequence[MoneyDue],
    customer: BillingDetails | None,
    team_version: int,
) -> None:
    """The invoice of the period is issued under the number drawn, with the details of issuer and customer as they are now.

    Raises: NothingToInvoice when the period does not wait, or is not the oldest that does; InvoiceRefused for another issuer's
    number, or one that names another document.
    """
    pass_time(decision)
    require_waiting(decision, waiting)
    require_fresh(decision, drawn)
    decision.record(
        InvoiceIssued(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            invoice=drawn.invoice,
            issuer_id=drawn.details.issuer_id,
            year=drawn.year,
            number=drawn.number,
            period_start=waiting.start,
            period_end=waiting.end,
            label=waiting.label,
            closed_version=waiting.closed_version,
            opening_micros=waiting.opening_micros,
            closing_micros=closing_micros,
            attempt=waiting.attempt,
            cards=list(cards),
            shape=shape,
            digest=digest,
            due=list(due),
            issuer=drawn.details,
            customer=customer,
            team_version=team_version,
            issuer_version=drawn.issuer_version,
        )
    )


def omit_invoice(decision: Decision, waiting: Uninvoiced) -> None:
    """Nothing happened in the period, so it has no invoice. Raises: NothingToInvoice as ``issue_invoice``."""
    pass_time(decision)
    require_waiting(decision, waiting)
    decision.record(
        InvoiceOmitted(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            period_start=waiting.start,
            label=waiting.label,
            closed_version=waiting.closed_version,
            closing_micros=waiting.opening_micros,
        )
    )


def require_waiting(decision: Decision, waiting: Uninvoiced) -> None:
    """The period is the oldest that waits for its invoice, as it was read. Raises: NothingToInvoice."""
    oldest = oldest_uninvoiced(decision.index)
    if oldest is None or oldest != waiting:
        then = "none does" if oldest is None else f"{oldest.label} (attempt {oldest.attempt}) does"
        raise NothingToInvoice(
            f"period {waiting.label} (attempt {waiting.attempt}) is not the one that waits for its invoice: {then}",
            period_start=instant_text(waiting.start),
        )


def require_voidable(decision: Decision, invoice: str) -> InvoiceOnFile:
    """The invoice, which may be voided. Raises: UnknownInvoice; InvoiceRefused as ``void_invoice``."""
    on_file = require_invoice(decision, invoice)
    require_reason(decision, "an invoice is voided")
    if on_file.status == "void":
        raise InvoiceRefused(f"invoice {invoice} is void already", invoice=invoice)
    if on_file.has_payments:
        raise InvoiceRefused(
            f"invoice {invoice} has payments: correct its money by a credit note", invoice=invoice
        )
    if any(money.credited_minor for money in on_file.money.values()):
        raise InvoiceRefused(
            f"invoice {invoice} has credit notes: correct it by another one", invoice=invoice
        )
    return on_file


def void_invoice(
    decision: Decision, invoice: str, drawn: Drawn, *, reissue: bool, shape: str, digest: str
) -> None:
    """The invoice counts no more, a document under the number drawn says so; with ``reissue`` its period waits for another.

    Raises: UnknownInvoice; InvoiceRefused without a reason, for one that is void, was paid in part or has a credit note, and for
    another issuer's number, or one that names another document.
    """
    pass_time(decision)
    on_file = require_voidable(decision, invoice)
    require_fresh(decision, drawn)
    decision.record(
        InvoiceVoided(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            invoice=drawn.invoice,
            issuer_id=drawn.details.issuer_id,
            year=drawn.year,
            number=drawn.number,
            voided_invoice=invoice,
            period_start=on_file.period_start,
            attempt=on_file.attempt + 1,
            reissue=reissue,
            shape=shape,
            digest=digest,
        )
    )


def require_invoice(decision: Decision, invoice: str) -> InvoiceOnFile:
    """The invoice as it stands. Raises: UnknownInvoice."""
    on_file = invoice_on_file(decision.index, invoice)
    if on_file is None:
        raise UnknownInvoice(
            f"invoice {invoice[:80]!r} is not one of this team's: give the number of an invoice that was issued to it",
            invoice=invoice[:80],
        )
    return on_file


def require_fresh(decision: Decision, drawn: Drawn) -> None:
    """The number is of the team's issuer and names no document yet. Raises: InvoiceRefused."""
    if drawn.details.issuer_id != decision.account.issuer_id:
        raise InvoiceRefused(
            f"number {drawn.invoice} is of issuer {drawn.details.issuer_id!r}: one of {decision.account.issuer_id!r}, "
            "who sells to this team, would be right",
            invoice=drawn.invoice,
        )
    if decision.index.entry("invoice", drawn.invoice) is not None:
        raise InvoiceRefused(
            f"number {drawn.invoice} names another document: draw a new one", invoice=drawn.invoice
        )


def require_reason(decision: Decision, what: str) -> None:
    """Somebody says why. Raises: InvoiceRefused."""
    if not (decision.reason or "").strip():
        raise InvoiceRefused(f"reason is missing: say why {what}", field="reason")
