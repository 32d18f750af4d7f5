"""Who invoices the teams of a story: closed periods get their documents, and money, voids and notes come as they may.

The other side of a story knows nothing of it: paperwork moves no credits. What it comes to is asked of the documents themselves.
"""

from __future__ import annotations

from random import Random

from domain import commands as c
from domain.account.collecting import pay_invoice
from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.events import CreditNoteLine, InvoiceIssued, RecordedEvent
from domain.account.index import IndexOverlay
from domain.account.invoicing import issue_invoice, omit_invoice
from domain.account.standing import InvoiceOnFile, invoice_on_file, oldest_uninvoiced
from domain.actors import Actor
from domain.invoices.assigning import BillingPeriod
from domain.invoices.document import invoice_digest
from domain.invoices.drafting import derive, draft, money_due, open_drafts
from domain.invoices.reading import WholeHistory
from domain.issuer.details import IssuerDetails
from domain.ledger import Caller
from domain.times import instant_text
from tests.simulation.books import require
from tests.simulation.product import Product

CLOSER = Actor("closer", "operator")
PERSON = Caller("paula", "operator")
SELLER = IssuerDetails(
    name="Coffer SE", address_lines=["Kai 7"], country="DE", prefix="CO-", tax_percent="19"
)


class Closer:
    """Invoices teams of one product, at its clock; ``rng`` decides what becomes of the documents."""

    def __init__(self, product: Product, rng: Random) -> None:
        self.product, self.rng, self.asked = product, rng, 0
        product.store.issuers["main"] = SELLER

    def invoice(self, team_id: str) -> None:
        """Every closed period of the team has its document."""
        store = self.product.store
        team = store.teams[team_id]
        with store.session(team_id) as session:
            decision = Decision(copy_of(team.account), store.now, CLOSER, IndexOverlay(team.index))
            pass_time(decision)
            if oldest_uninvoiced(decision.index) is None:
                return
            first = len(team.events) + 1
            events = [*self.recorded(team_id), *_placed(decision, first)]
            history = WholeHistory(events)
            while (waiting := oldest_uninvoiced(decision.index)) is not None:
                period = BillingPeriod(*waiting[:4], waiting.closed_version)
                found = draft(events, period, history, opening_micros=waiting.opening_micros)
                if found.is_empty:
                    omit_invoice(decision, waiting)
                    continue
                subject = f"{instant_text(waiting.start)} {waiting.attempt}"
                drawn = session.numbers.draw("main", "invoice", team_id, subject, decision.at)
                document = found.document(
                    drawn.details, number=drawn.invoice, issued_at=decision.at, customer=None
                )
                issue_invoice(
                    decision,
                    waiting,
                    drawn,
                    closing_micros=found.closing_micros,
                    cards=[],
                    shape=document.shape,
                    digest=invoice_digest(document),
                    due=money_due(document),
                    customer=None,
                    team_version=team.paperwork.version,
                )
            if decision.events:
                session.save_due(decision.account, decision, team.account.version)
                self.count(decision)

    def settle(self, team_id: str) -> None:
        """Something becomes of one invoice of the team that may still change."""
        issued = [each.event for each in self.product.store.teams[team_id].events]
        numbers = [event.invoice for event in issued if isinstance(event, InvoiceIssued)]
        if not numbers:
            return
        number = self.rng.choice(numbers)
        on_file = invoice_on_file(self.product.store.teams[team_id].index, number)
        assert on_file is not None
        if on_file.status == "void":
            return
        what = self.rng.random()
        is_untouched = not on_file.has_payments and not any(m.credited_minor for m in on_file.money.values())
        if what < 0.3 and is_untouched:
            self.ask(c.VoidInvoice(team_id=team_id, invoice=number, reissue=what < 0.2, reason="wrong name"))
        elif what < 0.4 and on_file.status == "issued":
            self.ask(c.MarkUncollectible(team_id=team_id, invoice=number, reason="insolvent"))
        elif what < 0.6:
            self.give_back(team_id, on_file)
        elif on_file.money:
            self.pay(team_id, on_file)

    def give_back(self, team_id: str, on_file: InvoiceOnFile) -> None:
        """A credit note over some of what the invoice came to."""
        left = {name: m.gross_minor - m.credited_minor for name, m in on_file.money.items()}
        for currency in sorted(name for name, minor in left.items() if minor > 0):
            line = CreditNoteLine(
                text="An outage", net_minor=self.rng.randint(1, left[currency]), tax_minor=0
            )
            command = c.IssueCreditNote(
                team_id=team_id, invoice=on_file.invoice, currency=currency, lines=[line], reason="an outage"
            )
            self.ask(command)
            return

    def pay(self, team_id: str, on_file: InvoiceOnFile) -> None:
        """Money comes for the invoice: less than is due, all of it, or more."""
        team, store = self.product.store.teams[team_id], self.product.store
        decision = Decision(copy_of(team.account), store.now, CLOSER, IndexOverlay(team.index))
        currency = self.rng.choice(sorted(on_file.money))
        amount = self.rng.choice([1, max(on_file.money[currency].due_minor, 1), 20_000])
        self.asked += 1
        pay_invoice(
            decision,
            on_file.invoice,
            payment_reference=f"sepa-{self.asked}",
            amount_minor=amount,
            currency=currency,
            record_key=f"{self.asked:032x}",
        )
        store.write(team_id, decision)
        self.count(decision)

    def ask(self, command: c.Command) -> None:
        """A person asks for it, and it happens."""
        self.asked += 1
        team = self.product.store.teams[command.team_id]
        before = len(team.events)
        self.product.ledger.execute(command, PERSON, f"paper-{self.asked}")
        for stored in team.events[before:]:
            self.product.counts[type(stored.event).__name__] += 1

    def look(self, team_id: str) -> None:
        """I8: every document is derived again, and the last draft closes with what the team has now. Raises: Wrong; NotTied."""
        team, events = self.product.store.teams[team_id], self.recorded(team_id)
        history = WholeHistory(events)
        issued = [each.event for each in events if isinstance(each.event, InvoiceIssued)]
        for event in issued[-1:] + (self.rng.sample(issued, 1) if issued else []):
            require(
                invoice_digest(derive(events, event, history)) == event.digest,
                "I8",
                "another document",
                event,
            )
        last = open_drafts(events, history)[-1].closing_micros
        has = team.account.settled_micros - team.account.debt_micros
        require(last == has, "I8", "the invoices do not sum to what the team has", last, has)

    def recorded(self, team_id: str) -> list[RecordedEvent]:
        """The team's events with their versions."""
        stored = self.product.store.teams[team_id].events
        return [RecordedEvent(None, each.version, each.event) for each in stored]

    def count(self, decision: Decision) -> None:
        """What happened is counted."""
        for event in decision.events:
            self.product.counts[type(event).__name__] += 1


def _placed(decision: Decision, first: int) -> list[RecordedEvent]:
    return [RecordedEvent(None, version, event) for version, event in enumerate(decision.events, first)]
