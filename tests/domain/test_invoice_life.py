"""What becomes of an invoice: issued once, paid in parts or beyond, void with or without another, given up, credited."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from domain import commands as c
from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.events import (
    CreditNoteIssued,
    InvoiceIssued,
    InvoiceOmitted,
    InvoicePaid,
    InvoiceUncollectible,
    InvoiceVoided,
)
from domain.account.invoicing import issue_invoice
from domain.account.standing import oldest_uninvoiced
from domain.errors import (
    CreditNoteRefused,
    InvoiceIsVoid,
    InvoiceRefused,
    NothingToInvoice,
    OtherCurrency,
    PaymentReferenceUsed,
    UnknownInvoice,
)
from domain.invoices.corrections import derive_credit_note, derive_void, digest_of
from domain.issuer.details import IssuerDetails
from domain.ledger import Caller, Ledger
from tests.builders import TESTER, when
from tests.domain.paperwork import (
    SELLER,
    Bookkeeping,
    credited,
    drawn,
    due,
    given_up,
    issued,
    note_line,
    omitted,
    paid,
    standing,
    voided,
    waiting,
)
from tests.memory_store import MemoryLedger

NOVEMBER = "CO-2026-000001"


def november(*money: Any, closing: int = 0) -> Bookkeeping:
    """An account whose November was closed and invoiced on 2 December."""
    books = Bookkeeping("2026-11-05 10:00")
    books.at("2026-12-02 00:00:01", pass_time)
    books.at("2026-12-02 00:01", lambda decision: issued(decision, 1, *money, closing=closing))
    return books


def status(books: Bookkeeping, invoice: str = NOVEMBER) -> str:
    return books.at("2026-12-20 10:00", lambda decision: standing(decision, invoice)).status  # type: ignore[no-any-return]


def due_of(books: Bookkeeping) -> dict[str, int]:
    return books.at("2026-12-20 10:00", lambda decision: standing(decision, NOVEMBER)).due_minor  # type: ignore[no-any-return]


def last(books: Bookkeeping) -> Any:
    return books.events[-1]


def test_a_closed_period_gets_one_invoice_and_waits_no_more() -> None:
    books = november(due(400), closing=70)

    assert isinstance(last(books), InvoiceIssued)
    assert (last(books).label, last(books).closed_version, last(books).opening_micros) == ("2026-11", 2, 0)
    assert books.index.entry("uninvoiced", "2026-11-01T00:00:00.000000Z") is None
    assert oldest_uninvoiced(books.index) is None


def test_r5_of_two_closers_with_one_period_the_second_is_refused_whatever_its_number() -> None:
    books = Bookkeeping("2026-11-05 10:00")
    books.at("2026-12-02 00:00:01", pass_time)
    read_before = books.at("2026-12-02 00:00:02", waiting)
    books.at("2026-12-02 00:01", lambda decision: issued(decision, 1))

    def second(decision: Decision) -> None:
        issue_invoice(
            decision, read_before, drawn(2), closing_micros=0, cards=[], shape="s", digest="", due=[],
            customer=None, team_version=0,
        )  # fmt: skip

    with pytest.raises(NothingToInvoice, match=r"2026-11 .* none does"):
        books.at("2026-12-02 00:02", second)
    assert sum(isinstance(event, InvoiceIssued) for event in books.events) == 1


def test_the_oldest_period_is_invoiced_first_and_its_closing_opens_the_next() -> None:
    books = Bookkeeping("2026-11-05 10:00")
    books.at("2027-01-05 10:00", pass_time)

    first = books.at("2027-01-05 10:00", waiting)
    books.at("2027-01-05 10:00", lambda decision: issued(decision, 1, closing=1_500_000, year=2027))
    second = books.at("2027-01-05 10:00", waiting)

    assert (first.label, first.opening_micros, second.label, second.opening_micros) == (
        "2026-11", 0, "2026-12", 1_500_000,
    )  # fmt: skip


def test_a_period_in_which_nothing_happened_hands_its_opening_on() -> None:
    books = Bookkeeping("2026-11-05 10:00")
    books.at("2027-02-05 10:00", pass_time)
    books.at("2027-02-05 10:00", lambda decision: issued(decision, 1, closing=9, year=2027))

    books.at("2027-02-05 10:00", omitted)

    assert isinstance(last(books), InvoiceOmitted)
    assert books.at("2027-02-05 10:00", waiting)[3:6:2] == ("2027-01", 9)


def test_an_invoice_that_asks_for_nothing_or_was_paid_before_is_paid_when_issued() -> None:
    assert status(november()) == "paid"
    assert status(november(due(400, paid=400))) == "paid"
    assert status(november(due(400, paid=399))) == "issued"


def test_parts_pay_an_invoice_once_nothing_is_due_any_more() -> None:
    books = november(due(400))

    books.at("2026-12-05 10:00", lambda decision: paid(decision, NOVEMBER, 150, "p1"))
    first = (status(books), due_of(books))
    books.at("2026-12-06 10:00", lambda decision: paid(decision, NOVEMBER, 250, "p2"))

    assert first == ("issued", {"EUR": 250})
    assert (status(books), due_of(books)) == ("paid", {})
    assert (last(books).paid_after_minor, last(books).over_minor, last(books).is_settled) == (400, 0, True)


def test_what_comes_beyond_what_was_due_is_told() -> None:
    books = november(due(400))

    books.at("2026-12-05 10:00", lambda decision: paid(decision, NOVEMBER, 500, "p1"))
    first = last(books)
    books.at("2026-12-05 11:00", lambda decision: paid(decision, NOVEMBER, 30, "p2"))

    assert (first.over_minor, first.is_settled) == (100, True)
    assert (last(books).over_minor, last(books).paid_after_minor, status(books)) == (30, 530, "paid")


def test_every_currency_must_be_paid() -> None:
    books = november(due(400), due(90, "USD"))

    books.at("2026-12-05 10:00", lambda decision: paid(decision, NOVEMBER, 400, "p1"))
    assert (status(books), due_of(books)) == ("issued", {"USD": 90})
    books.at("2026-12-05 10:00", lambda decision: paid(decision, NOVEMBER, 90, "p2", "USD"))
    assert status(books) == "paid"


def test_a_payment_counts_once_and_never_for_a_top_up_too() -> None:
    books = november(due(400))
    books.at("2026-12-05 10:00", lambda decision: paid(decision, NOVEMBER, 100, "p1"))

    with pytest.raises(PaymentReferenceUsed, match="'p1' is on file for 100 minor units of EUR"):
        books.at("2026-12-05 11:00", lambda decision: paid(decision, NOVEMBER, 100, "p1"))
    assert due_of(books) == {"EUR": 300}


def test_only_what_an_invoice_asks_for_pays_it() -> None:
    books = november(due(400))

    with pytest.raises(OtherCurrency, match="'USD': invoice CO-2026-000001 asks for EUR"):
        books.at("2026-12-05 10:00", lambda decision: paid(decision, NOVEMBER, 100, currency="USD"))
    with pytest.raises(UnknownInvoice, match="CO-2026-000009"):
        books.at("2026-12-05 10:00", lambda decision: paid(decision, "CO-2026-000009", 100))
    with pytest.raises(InvoiceRefused, match="amount_minor 0"):
        books.at("2026-12-05 10:00", lambda decision: paid(decision, NOVEMBER, 0))
    assert not any(isinstance(event, InvoicePaid) for event in books.events)


def test_an_invoice_that_was_given_up_is_paid_when_the_money_comes_after_all() -> None:
    books = november(due(400))

    given = books.at("2026-12-05 10:00", lambda decision: given_up(decision, NOVEMBER), "insolvent")
    assert (given, status(books)) == ({"EUR": 400}, "uncollectible")
    assert isinstance(last(books), InvoiceUncollectible)
    books.at("2026-12-06 10:00", lambda decision: paid(decision, NOVEMBER, 100, "p1"))
    assert (status(books), due_of(books)) == ("uncollectible", {"EUR": 300})
    books.at("2026-12-07 10:00", lambda decision: paid(decision, NOVEMBER, 300, "p2"))
    assert status(books) == "paid"


def test_only_money_that_is_due_is_given_up_and_somebody_says_why() -> None:
    books = november(due(400))

    with pytest.raises(InvoiceRefused, match="reason is missing"):
        books.at("2026-12-05 10:00", lambda decision: given_up(decision, NOVEMBER))
    books.at("2026-12-05 10:00", lambda decision: given_up(decision, NOVEMBER), "insolvent")
    with pytest.raises(InvoiceRefused, match="is uncollectible: only one that is issued"):
        books.at("2026-12-05 10:00", lambda decision: given_up(decision, NOVEMBER), "insolvent")


def test_a_void_invoice_counts_no_more_and_is_never_paid() -> None:
    books = november(due(400))

    books.at("2026-12-05 10:00", lambda decision: voided(decision, NOVEMBER, 2), "wrong company")

    assert isinstance(last(books), InvoiceVoided)
    assert (last(books).invoice, last(books).voided_invoice) == ("CO-2026-000002", NOVEMBER)
    assert status(books) == "void"
    assert oldest_uninvoiced(books.index) is None
    with pytest.raises(InvoiceIsVoid):
        books.at("2026-12-05 11:00", lambda decision: paid(decision, NOVEMBER, 100))
    with pytest.raises(InvoiceRefused, match="void already"):
        books.at("2026-12-05 11:00", lambda decision: voided(decision, NOVEMBER, 3), "again")


def test_reissue_puts_the_period_back_and_its_next_invoice_begins_with_the_same_credits() -> None:
    books = november(due(400), closing=5)
    books.at("2027-01-02 00:01", pass_time)
    books.at("2027-01-02 00:01", lambda decision: issued(decision, 2, closing=8))

    books.at(
        "2027-01-05 10:00", lambda decision: voided(decision, NOVEMBER, 3, reissue=True), "wrong company"
    )
    again = books.at("2027-01-05 11:00", waiting)
    books.at("2027-01-05 12:00", lambda decision: issued(decision, 4, due(400), closing=5))

    assert (again.label, again.closed_version, again.opening_micros, again.attempt) == ("2026-11", 2, 0, 1)
    assert (last(books).attempt, last(books).invoice) == (1, "CO-2026-000004")
    assert status(books, "CO-2026-000004") == "issued"
    assert oldest_uninvoiced(books.index) is None


@pytest.mark.parametrize("spoil", [
    lambda decision: paid(decision, NOVEMBER, 1), lambda decision: credited(decision, NOVEMBER, 7, note_line(1)),
])  # fmt: skip
def test_an_invoice_of_which_money_moved_is_corrected_by_credit_notes_only(
    spoil: Callable[[Decision], Any],
) -> None:
    books = november(due(400))
    books.at("2026-12-05 10:00", spoil, "an outage")

    with pytest.raises(InvoiceRefused, match=r"payments|credit notes"):
        books.at("2026-12-05 11:00", lambda decision: voided(decision, NOVEMBER, 2), "wrong company")


def test_credit_notes_lower_what_is_due_and_never_exceed_the_invoice() -> None:
    books = november(due(400))

    books.at("2026-12-05 10:00", lambda d: credited(d, NOVEMBER, 2, note_line(200, 38)), "an outage")
    assert (status(books), due_of(books)) == ("issued", {"EUR": 162})
    with pytest.raises(CreditNoteRefused, match=r"163 minor units of EUR: .* has 162 left"):
        books.at("2026-12-05 11:00", lambda d: credited(d, NOVEMBER, 3, note_line(163)), "more")
    books.at("2026-12-05 12:00", lambda d: credited(d, NOVEMBER, 3, note_line(162)), "the rest")

    assert isinstance(last(books), CreditNoteIssued)
    assert (last(books).credited_after_minor, last(books).is_settled, status(books)) == (400, True, "paid")


@pytest.mark.parametrize("lines", [
    [], [note_line(0)], [note_line(-1, 2)], [note_line(1, text=" ")], [note_line(1, text="a\nb")], [note_line(1)] * 101,
])  # fmt: skip
def test_a_credit_note_has_lines_that_say_what_for_and_how_much(lines: list[Any]) -> None:
    books = november(due(400))

    with pytest.raises(CreditNoteRefused, match="line"):
        books.at("2026-12-05 10:00", lambda decision: credited(decision, NOVEMBER, 2, *lines), "an outage")


def test_a_number_names_one_document_of_the_teams_own_issuer() -> None:
    books = november(due(400))

    with pytest.raises(InvoiceRefused, match="CO-2026-000001 names another document"):
        books.at("2026-12-05 10:00", lambda decision: voided(decision, NOVEMBER, 1), "wrong company")
    books.at("2027-01-02 00:01", pass_time)
    other = IssuerDetails(issuer_id="other", name="Other", address_lines=["X"], country="US")

    def by_another(decision: Decision) -> None:
        issue_invoice(
            decision, waiting(decision), drawn(5, seller=other), closing_micros=0, cards=[], shape="s", digest="", due=[],
            customer=None, team_version=0,
        )  # fmt: skip

    with pytest.raises(InvoiceRefused, match="of issuer 'other'"):
        books.at("2027-01-02 00:02", by_another)


class Office:
    """The ledger in memory, with an invoice of November over EUR 4.00, and a person who asks."""

    def __init__(self) -> None:
        self.memory = MemoryLedger(when("2026-11-05 10:00"))
        self.memory.issuers["main"] = SELLER
        self.ledger = Ledger(self.memory, self.memory.current)
        self.ask(c.OpenAccount(team_id="acme"), "open")
        self.memory.now = when("2026-12-03 10:00")
        with self.memory.session("acme") as session:
            assert session.account is not None
            decision = Decision(copy_of(session.account), session.now, TESTER, session.index)
            pass_time(decision)
            number = session.numbers.draw("main", "invoice", "acme", "2026-11 0", decision.at)
            issue_invoice(
                decision, waiting(decision), number, closing_micros=0, cards=[], shape="coffer-invoice.1",
                digest="00" * 32, due=[due(400)], customer=None, team_version=0,
            )  # fmt: skip
            session.save_due(decision.account, decision, 1)

    def ask(self, command: c.Command, key: str) -> Any:
        return self.ledger.execute(command, ANN, key)

    @property
    def events(self) -> list[Any]:
        return [stored.event for stored in self.memory.teams["acme"].events]


ANN = Caller("ann", "operator")


def test_a_void_by_command_draws_a_number_once_and_its_digest_is_that_of_the_derived_document() -> None:
    office = Office()
    command = c.VoidInvoice(team_id="acme", invoice=NOVEMBER, reissue=True, reason="wrong company")

    answer = office.ask(command, "k")
    again = office.ask(command, "k")

    issued_event = next(event for event in office.events if isinstance(event, InvoiceIssued))
    void = office.events[-1]
    assert (answer.invoice, again.invoice, again.is_replayed) == ("CO-2026-000002", "CO-2026-000002", True)
    assert void.digest == digest_of(derive_void("acme", issued_event, void))
    assert len(office.memory.numbers) == 2


def test_a_credit_note_by_command_has_the_digest_of_the_derived_document_and_one_refused_draws_nothing() -> (
    None
):
    office = Office()
    lines = [note_line(100, 19)]

    with pytest.raises(InvoiceRefused, match="reason"):
        office.ask(c.IssueCreditNote(team_id="acme", invoice=NOVEMBER, currency="EUR", lines=lines), "k1")
    drawn_before = len(office.memory.numbers)
    office.ask(
        c.IssueCreditNote(team_id="acme", invoice=NOVEMBER, currency="EUR", lines=lines, reason="outage"),
        "k2",
    )

    issued_event = next(event for event in office.events if isinstance(event, InvoiceIssued))
    note = office.events[-1]
    assert (drawn_before, note.invoice, note.credited_after_minor) == (1, "CO-2026-000002", 119)
    assert note.digest == digest_of(derive_credit_note("acme", issued_event, note))


def test_paperwork_goes_on_after_the_account_is_closed() -> None:
    office = Office()
    office.ask(c.CloseAccount(team_id="acme"), "close")

    office.ask(c.MarkUncollectible(team_id="acme", invoice=NOVEMBER, reason="gone"), "k")

    assert isinstance(office.events[-1], InvoiceUncollectible)
