"""The invoice of a period, folded from events alone: a draft at any moment, the same document for ever once it was issued.

Memory grows with the number of lines, of refunds and of sales, never with the number of events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple

import msgspec

from domain.account.events import (
    AccountEvent,
    AllowanceGranted,
    ChargebackLost,
    ChargeRefunded,
    CreditsToppedUp,
    InvoiceIssued,
    MoneyDue,
    PlanAssigned,
    PlanTerms,
    RecordedEvent,
)
from domain.billing import BillingDetails
from domain.invoices.assigning import BillingPeriod
from domain.invoices.credit_sums import CreditSums, add_to
from domain.invoices.document import (
    SHAPE,
    Adjustment,
    Card,
    Invoice,
    Line,
    require_shape,
)
from domain.invoices.lines import LineSums
from domain.invoices.money import (
    Sale,
    charge_upgrade,
    lost_top_up,
    plan_fee,
    purchases_of,
    take_back,
    taxes_of,
    topped_up,
    totals_of,
)
from domain.invoices.parties import customer_of, seller_of, shown_period
from domain.invoices.reading import History, WholeHistory
from domain.invoices.sorting import NotTied, Sorting
from domain.issuer.details import IssuerDetails
from domain.times import instant_text


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """All that the events say of one period, before anybody issues it; none of it changes once the period is closed."""

    team: str
    period: BillingPeriod
    version: int
    opening_micros: int
    credits: CreditSums
    lines: list[Line]
    adjustments: list[Adjustment]
    sales: list[Sale]
    cards: list[Card]

    @property
    def closing_micros(self) -> int:
        """Settled credits less debt as the invoice closes: what the next one opens with."""
        return self.opening_micros + self.credits.net

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all happened: no usage, no sale, no movement of credits."""
        return not (self.lines or self.adjustments or self.sales or self.credits != CreditSums())

    def document(
        self,
        issuer: IssuerDetails | None = None,
        customer: BillingDetails | None = None,
        *,
        number: str | None = None,
        issued_at: datetime | None = None,
    ) -> Invoice:
        """The document with these details: a draft without a number, the invoice with it."""
        tax_percent = "0" if issuer is None else issuer.tax_percent
        purchases = purchases_of(self.sales, tax_percent)
        return Invoice(
            shape=SHAPE,
            kind="invoice",
            number=number,
            issued_at=None if issued_at is None else instant_text(issued_at),
            version=self.version,
            team=self.team,
            issuer=seller_of(issuer),
            customer=customer_of(customer),
            period=shown_period(self.period),
            credits=self.credits.shown(self.opening_micros),
            lines=self.lines,
            adjustments=self.adjustments,
            purchases=purchases,
            taxes=taxes_of(
                [(each.currency, each.tax_percent, each.net_minor, each.tax_minor) for each in purchases]
            ),
            totals=totals_of(purchases),
            cards=self.cards,
            corrects=None,
            reason=None,
            note_lines=[],
        )

    def issued(self, issued: InvoiceIssued) -> Invoice:
        """The document that the event issued; its digest is not looked at. Raises: UnknownEventShape."""
        require_shape(issued.shape)
        return self.document(
            issued.issuer, issued.customer, number=issued.invoice, issued_at=issued.recorded_at
        )


def draft(
    events: Iterable[RecordedEvent],
    period: BillingPeriod,
    history: History,
    *,
    until_version: int | None = None,
    opening_micros: int | None = None,
) -> Draft:
    """What is on the invoice of the period by the version: up to its close, once it is closed.

    ``events`` are those recorded since ``needed_since(period.start)``, in order; earlier ones do no harm. ``opening_micros`` is
    what the invoice before closed with; it is found from the events where not given, and checked against them where given.
    Raises: NotTied when the events do not add up.
    """
    return _drafted(Sorting(period, history, until_version), events, history, opening_micros)


def derive(events: Iterable[RecordedEvent], issued: InvoiceIssued, history: History | None = None) -> Invoice:
    """The document that was issued, from the events up to the close and the event that issued it: the same bytes for ever.

    Without a ``history`` the events are the team's whole stream. Raises: NotTied; UnknownEventShape for a newer shape.
    """
    require_shape(issued.shape)
    if history is None:
        events = list(events)
        history = WholeHistory(events)
    # Its zone is that of the close, which the events tell.
    period = BillingPeriod(issued.period_start, issued.period_end, "", issued.label)
    found = draft(
        events,
        period,
        history,
        until_version=issued.closed_version,
        opening_micros=issued.opening_micros,
    )
    if (found.period.closed_version, found.closing_micros) != (issued.closed_version, issued.closing_micros):
        raise NotTied(
            history.team_id,
            issued.closed_version,
            f"invoice {issued.invoice} closed with {issued.closing_micros} micro-credits, its events with "
            f"{found.closing_micros} at version {found.period.closed_version}",
        )
    document = found.issued(issued)
    if money_due(document) != issued.due:
        raise NotTied(
            history.team_id,
            issued.closed_version,
            f"the money of invoice {issued.invoice} is not that of its events",
        )
    return document


def open_drafts(events: Iterable[RecordedEvent], history: History | None = None) -> list[Draft]:
    """As ``open_periods``, of events in memory; without a ``history`` they are the team's whole stream."""
    events = list(events)
    return open_periods(lambda: events, history or WholeHistory(events))


def open_periods(read: Callable[[], Iterable[RecordedEvent]], history: History) -> list[Draft]:
    """Drafts of the periods that are not closed, oldest first, up to the last that anything recorded so far belongs to.

    ``read`` gives the events needed for the oldest of them, the same each time: it is asked once for each draft.
    Raises: as ``draft``.
    """
    period, opening_micros = history.books.oldest_open, None
    drafts: list[Draft] = []
    while True:
        sorting = Sorting(period, history)
        drafts.append(_drafted(sorting, read(), history, opening_micros))
        if sorting.last_at is None or sorting.last_at < period.end:
            return drafts
        opening_micros = drafts[-1].closing_micros
        period = history.books.period_of(period.end)


def money_due(document: Invoice) -> list[MoneyDue]:
    """The money of a document as the event that issues it says it."""
    return [
        MoneyDue(
            currency=each.currency,
            net_minor=each.net_minor,
            tax_minor=each.tax_minor,
            gross_minor=each.gross_minor,
            paid_minor=each.paid_minor,
        )
        for each in document.totals
    ]


def _drafted(
    sorting: Sorting, events: Iterable[RecordedEvent], history: History, opening_micros: int | None
) -> Draft:
    kept = _Kept(history)
    for placed in sorting.mine(events):
        event = placed.recorded.event
        add_to(kept.credits, event)
        if placed.charge is None:
            kept.sell(event)
        elif isinstance(event, ChargeRefunded):
            kept.lines.refund(placed.charge, event.amount_micros, placed.earlier)
        else:
            kept.lines.charge(placed.charge, placed.earlier)
    opening = sorting.opening_micros(opening_micros)
    if kept.lines.total_micros != kept.credits.used - kept.credits.refunded:
        raise NotTied(
            history.team_id, sorting.version, "the lines do not sum to what was used less what was refunded"
        )
    return Draft(
        team=history.team_id,
        period=sorting.period,
        version=sorting.version,
        opening_micros=opening,
        credits=kept.credits,
        lines=kept.lines.lines(),
        adjustments=kept.lines.adjustments(),
        sales=kept.sales(sorting.period),
        cards=kept.lines.cards(),
    )


class _Upgrade(NamedTuple):
    """A plan that was taken now instead of another."""

    before: PlanTerms
    plan: PlanTerms
    at: datetime


class _Kept:
    """What is summed while the events go by."""

    def __init__(self, history: History) -> None:
        self.credits, self.lines = CreditSums(), LineSums()
        self._history = history
        self._sales: list[Sale] = []
        # By their place among the sales: what they come to is only known at the end.
        self._upgrades: dict[int, _Upgrade] = {}
        self._lost: dict[int, ChargebackLost] = {}
        self._plan: PlanTerms | None = None

    def sell(self, event: AccountEvent) -> None:
        """The event is among the sales, if it is one."""
        if isinstance(event, CreditsToppedUp):
            basis = event.lot.cost_basis
            assert basis is not None, "what is bought has a price"
            self._sales.append(
                topped_up(event.amount_micros, event.payment_reference, event.recorded_at, basis)
            )
        elif isinstance(event, PlanAssigned):
            self._plan_now(event)
        elif isinstance(event, AllowanceGranted):
            self._allowed(event)
        elif isinstance(event, ChargebackLost):
            self._lost[len(self._sales)] = event
            self._sales.append(lost_top_up(event.payment_reference, event.recorded_at))

    def sales(self, period: BillingPeriod) -> list[Sale]:
        """The sales in the order in which they were recorded, without fees of nothing.

        The top-ups that banks took back are read at once.
        """
        for place, (before, plan, at) in self._upgrades.items():
            charge_upgrade(self._sales[place], before, plan, at, period)
        found = self._history.top_ups({event.payment_reference for event in self._lost.values()})
        for place, event in self._lost.items():
            take_back(self._sales[place], found[event.payment_reference])
        return [sale for sale in self._sales if sale.net_minor or sale.kind != "plan"]

    def _plan_now(self, event: PlanAssigned) -> None:
        """A plan taken now: the first one costs its price, another the difference by the days left."""
        if event.effective_at > event.recorded_at:
            return
        if self._plan is not None:
            self._upgrades[len(self._sales)] = _Upgrade(self._plan, event.plan, event.effective_at)
        self._sales.append(plan_fee(event.plan, event.effective_at, 0))
        self._plan = event.plan

    def _allowed(self, event: AllowanceGranted) -> None:
        """The allowance of a turn costs the plan's price; that of a plan taken now is part of what that one costs."""
        if event.due_id is None:
            self._sales[-1].credits_micros = event.amount_micros
            return
        self._plan = self._history.plan(event.plan_id, event.plan_version)
        self._sales.append(plan_fee(self._plan, event.effective_at, event.amount_micros))
