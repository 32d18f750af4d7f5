"""What an invoice is made of, read from one team's stream: only what was recorded since its period began, a portion at a time."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple
from uuid import UUID

import msgspec
from psycopg import Cursor
from psycopg.rows import TupleRow

from domain.account.decision import account_id
from domain.account.events import (
    ACCOUNT_EVENTS,
    CHARGES,
    AccountEvent,
    AccountOpened,
    Charge,
    CreditNoteIssued,
    InvoiceIssued,
    InvoiceVoided,
    MovingEvent,
    PeriodClosed,
    PlanAssigned,
    PlanTerms,
    RecordedEvent,
)
from domain.account.index import AccountIndex, Document, TopUp
from domain.account.standing import Uninvoiced
from domain.account.state import TeamAccount
from domain.errors import UnknownInvoice
from domain.invoices.assigning import BillingPeriod, Books, stored_period
from domain.invoices.corrections import derive_credit_note, derive_void
from domain.invoices.document import Invoice
from domain.invoices.drafting import Draft, derive, draft, open_periods
from domain.invoices.reading import needed_since
from infra.postgres.archived import refuse_archived
from infra.postgres.heads import StoredIndex, last_version_before, load_heads
from infra.postgres.mapper import ACCOUNT_SHAPES, old_topics_of, topic_of

PAGE_EVENTS = 4_000

_TOLD = (MovingEvent, AccountOpened, PlanAssigned, PeriodClosed)
# Holds, limits and the like are on no invoice: they are not even read.
_TOPICS = [
    topic
    for each in ACCOUNT_EVENTS
    if issubclass(each, _TOLD)
    for topic in (topic_of(each), *old_topics_of(each))
]
_PLANS = [topic_of(PlanAssigned), *old_topics_of(PlanAssigned)]


class Issued(NamedTuple):
    """A document as it was issued, and the event that did."""

    version: int
    event: InvoiceIssued | InvoiceVoided | CreditNoteIssued
    document: Invoice


class InvoiceReading:
    """One team's invoices and what they are made of; every question is asked on the cursor that is given.

    ``account`` is as of the newest version. As a ``domain.invoices.reading.History`` it answers for the team's older past.
    """

    def __init__(
        self, cursor: Cursor[TupleRow], shard: int, account: TeamAccount, index: AccountIndex | None = None
    ) -> None:
        self.cursor = self._cursor = cursor
        self._shard = shard
        self._account = account
        self._stream = account_id(account.team_id)
        self._stored = StoredIndex(cursor, shard, account.team_id)
        self._index = index or self._stored
        self._books: Books | None = None

    # --- as the history of the team ---

    @property
    def team_id(self) -> str:
        """Whose it is."""
        return self._account.team_id

    @property
    def issuer_id(self) -> str:
        """Who sells to the team."""
        return self._account.issuer_id

    @property
    def books(self) -> Books:
        """The periods of the team's books."""
        if self._books is None:
            closed = [stored_period(key, entry) for key, entry in self._index.latest("period")]
            self._books = Books(self._account, self._index, reversed(closed))
        return self._books

    def charges(self, charge_ids: Collection[str]) -> Mapping[str, Charge]:
        """The charges of these ids. Raises: EventsArchived."""
        if not charge_ids:
            return {}
        self._cursor.execute(
            "SELECT topic, state FROM ledger_events WHERE shard = %s AND usage_key = ANY(%s) AND originator_id = %s",
            (self._shard, [UUID(each) for each in charge_ids], self._stream),
            binary=True,
        )
        found: dict[str, Charge] = {}
        for topic, state in self._cursor.fetchall():
            event = ACCOUNT_SHAPES.decode(topic, state)
            if isinstance(event, CHARGES):
                found[event.charge_id] = event
        for missing in set(charge_ids) - found.keys():
            # One that is in an archive says so here.
            self._stored.usage(missing)
        return found

    def top_ups(self, payment_references: Collection[str]) -> Mapping[str, TopUp]:
        """The settled top-ups of these references."""
        found: dict[str, TopUp] = {}
        for reference in payment_references:
            entry = self._index.entry("top_up", reference)
            if entry is not None:
                found[reference] = msgspec.json.decode(entry, type=TopUp)
        return found

    def plan(self, plan_id: str, version: int) -> PlanTerms:
        """The terms of a plan that the team once had. Raises: EventsArchived."""
        now = self._account.plan
        if now is not None and (now.plan_id, now.version) == (plan_id, version):
            return now
        self._cursor.execute(
            "SELECT topic, state FROM ledger_events WHERE shard = %s AND originator_id = %s AND topic = ANY(%s)"
            " ORDER BY originator_version DESC",
            (self._shard, self._stream, _PLANS),
            binary=True,
        )
        for topic, state in self._cursor.fetchall():
            event = ACCOUNT_SHAPES.decode(topic, state)
            assert isinstance(event, PlanAssigned), f"{topic} assigns no plan"
            if (event.plan.plan_id, event.plan.version) == (plan_id, version):
                return event.plan
        refuse_archived(self._cursor.connection, self._shard, self._stream, 0, self._account.version)
        raise AssertionError(f"team {self.team_id!r} never had plan {plan_id!r} version {version}")

    # --- what invoices are made of ---

    def events(self, after: int, until: int) -> Iterator[RecordedEvent]:
        """The events that may be on an invoice, of these versions, in order, read page by page. Raises: EventsArchived."""
        read = after
        while read < until:
            self._cursor.execute(
                "SELECT originator_version, topic, state FROM ledger_events WHERE shard = %s AND originator_id = %s"
                " AND originator_version > %s AND originator_version <= %s AND topic = ANY(%s)"
                " ORDER BY originator_version LIMIT %s",
                (self._shard, self._stream, read, until, _TOPICS, PAGE_EVENTS),
                binary=True,
            )
            page = self._cursor.fetchall()
            for version, topic, state in page:
                yield RecordedEvent(self._stream, version, ACCOUNT_SHAPES.decode(topic, state))
            if len(page) < PAGE_EVENTS:
                break
            read = page[-1][0]
        # Asked last: what leaves while the pages are read is missed before it is looked for.
        refuse_archived(self._cursor.connection, self._shard, self._stream, after, until)

    def events_for(self, period: BillingPeriod, until: int | None = None) -> Iterator[RecordedEvent]:
        """The events that may be on the invoice of the period, up to its close or a version."""
        since = needed_since(period.start)
        after = 0
        if since > self._account.opened_at:
            after = last_version_before(self._cursor, self._shard, self._stream, since)
        end = until or period.closed_version or self._account.version
        return self.events(after, end)

    def draft_of(self, waiting: Uninvoiced) -> Draft:
        """What is on the invoice of a closed period that waits for it. Raises: NotTied; EventsArchived."""
        period = BillingPeriod(
            waiting.start, waiting.end, waiting.zone, waiting.label, waiting.closed_version
        )
        return draft(
            self.events_for(period),
            period,
            self,
            until_version=waiting.closed_version,
            opening_micros=waiting.opening_micros,
        )

    def drafts(self) -> list[Draft]:
        """Drafts of the periods that are not closed, oldest first. Raises: NotTied; EventsArchived."""
        return open_periods(lambda: self.events_for(self.books.oldest_open), self)

    def draft_of_period(self, period: BillingPeriod) -> Draft:
        """What is on the invoice of the period, closed or not. Raises: NotTied; EventsArchived."""
        return draft(self.events_for(period), period, self, until_version=period.closed_version)

    # --- what was issued ---

    def issued(self, invoice: str) -> Issued:
        """The document of that number, derived from the events. Raises: UnknownInvoice; NotTied; EventsArchived."""
        version, event = self._event_of(invoice)
        if isinstance(event, InvoiceIssued):
            period = self.period_of(event)
            document = derive(self.events_for(period, event.closed_version), event, self)
            return Issued(version, event, document)
        if isinstance(event, InvoiceVoided):
            issued = self.issuing_event(event.voided_invoice)
            return Issued(version, event, derive_void(self.team_id, issued, event))
        issued = self.issuing_event(event.corrected_invoice)
        return Issued(version, event, derive_credit_note(self.team_id, issued, event))

    def issuing_event(self, invoice: str) -> InvoiceIssued:
        """The event that issued the invoice. Raises: UnknownInvoice, also for the number of another document."""
        _, event = self._event_of(invoice)
        if not isinstance(event, InvoiceIssued):
            raise _unknown(invoice)
        return event

    def period_of(self, issued: InvoiceIssued) -> BillingPeriod:
        """The period of an invoice, as it was closed."""
        return next(period for period in self.books.closed if period.start == issued.period_start)

    def event_at(self, version: int) -> AccountEvent:
        """The event of the account's stream at a version, which exists. Raises: EventsArchived."""
        return event_at(self._cursor, self._shard, self.team_id, version)

    def _event_of(self, invoice: str) -> tuple[int, InvoiceIssued | InvoiceVoided | CreditNoteIssued]:
        entry = self._index.entry("invoice", invoice) if " " not in invoice else None
        if entry is None:
            raise _unknown(invoice)
        version = msgspec.json.decode(entry, type=Document).version
        event = self.event_at(version)
        assert isinstance(event, InvoiceIssued | InvoiceVoided | CreditNoteIssued), (
            f"version {version} of team {self.team_id!r} issued no document"
        )
        return version, event


def read_invoices(cursor: Cursor[TupleRow], shard: int, team_id: str) -> InvoiceReading | None:
    """The team's invoices, None for a team without an account."""
    head = load_heads(cursor, shard, [team_id], lock=False).get(team_id)
    return None if head is None else InvoiceReading(cursor, shard, head.account)


def event_at(cursor: Cursor[TupleRow], shard: int, team_id: str, version: int) -> AccountEvent:
    """The event of the account's stream at a version, which exists. Raises: EventsArchived."""
    stream = account_id(team_id)
    cursor.execute(
        "SELECT topic, state FROM ledger_events WHERE shard = %s AND originator_id = %s AND originator_version = %s",
        (shard, stream, version),
        binary=True,
    )
    row = cursor.fetchone()
    if row is None:
        refuse_archived(cursor.connection, shard, stream, version - 1, version)
    assert row is not None, f"team {team_id!r} has no version {version}"
    return ACCOUNT_SHAPES.decode(*row)


def _unknown(invoice: str) -> UnknownInvoice:
    return UnknownInvoice(
        f"invoice {invoice[:80]!r} is not one of this team's: give the number of an invoice that was issued to it",
        invoice=invoice[:80],
    )
