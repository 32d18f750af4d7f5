"""Payment facts are settled: each is applied to its team's account once, or it is known why not.

No digest of the content is kept: the event that a record became holds everything the record said that counts (what was
paid, for which credits, under which reference), so a copy is told from a contradiction by comparing with the event itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import msgspec
from typing_extensions import override

from consumers.batches import BatchStore, BatchTransaction, Claim, UsageBatch
from consumers.payment_wire import PaymentKind, PaymentRecord, read_payment
from consumers.rejections import Rejection
from consumers.settling import Parsed, PartitionRead, Place, Progress, Refused, Settling, settle
from consumers.stream_record import StreamRecord
from domain.account.chargebacks import lose_chargeback, open_chargeback, win_chargeback
from domain.account.claims import claim_of
from domain.account.collecting import pay_invoice
from domain.account.decision import Decision, copy_of
from domain.account.events import (
    AccountEvent,
    AutoTopUpFailed,
    ChargebackLost,
    ChargebackOpened,
    ChargebackWon,
    CostBasis,
    CreditsToppedUp,
    InvoicePaid,
    TopUpFailed,
    TopUpRequested,
)
from domain.account.funding import fail_top_up, request_top_up, top_up_credits, top_up_on_file
from domain.account.index import IndexOverlay
from domain.account.standing import invoice_payment
from domain.actors import Actor
from domain.errors import LedgerError

PAYMENTS_ACTOR = Actor("payments-stream", "ingest")
"""Who applies what arrives on the payments stream."""


def settle_payments(
    store: BatchStore,
    reads: Sequence[PartitionRead],
    actor: Actor = PAYMENTS_ACTOR,
    progress: Progress | None = None,
) -> UsageBatch:
    """All payment records of the reads are decided and written in one transaction; returns what was written.

    Raises: Fenced; Busy when other writers kept moving the same accounts.
    """
    return settle(store, reads, partial(decide_payments, actor), progress)


def decide_payments(
    actor: Actor,
    reads: Sequence[PartitionRead],
    transaction: BatchTransaction,
    progress: Progress,
    refused: Refused,
) -> UsageBatch:
    """What to write so that each payment record ends in its one outcome, decided in the order of arrival.

    Nothing is written here. Raises: whatever is no LedgerError, because it is a bug or the store's.
    """
    settling = _PaymentSettling(transaction, actor, progress, refused)
    settling.decide(reads)
    return settling.batch(reads)


class _PaymentSettling(Settling[PaymentRecord]):
    """One batch of payments while it is decided. Each record is decided on a copy, so a no leaves nothing behind."""

    @override
    def _read(self, record: StreamRecord) -> Parsed[PaymentRecord] | Rejection:
        payment = read_payment(record)
        if isinstance(payment, Rejection):
            return payment
        return Parsed(payment.team_id, payment.record_key(), payment)

    @override
    def _settle(self, place: Place, record: StreamRecord, parsed: Parsed[PaymentRecord]) -> None:
        decision = self._decision_for(place, record, parsed)
        if decision is None:
            return
        claim = self._claims.get(parsed.key)
        if claim is not None:
            self._seen_before(place, parsed, claim)
        elif _is_so_already(decision, parsed.fact):
            detail = f"{parsed.fact.kind} of payment {parsed.fact.payment_reference} was told before, under another id"
            self._note(place, parsed, "duplicate", "", detail)
        else:
            self._apply(place, record, parsed, decision)

    def _seen_before(self, place: Place, parsed: Parsed[PaymentRecord], claim: Claim) -> None:
        there, here = terms_of_event(claim.event), terms_of_record(parsed.fact)
        detail = f"the id is held by version {claim.version} of team {parsed.team_id}"
        if there == here:
            self._note(place, parsed, "duplicate", "", detail, claim.version)
            return
        detail += f": {_shown(there, claim.event)} there, {_shown(here)} here; nothing is applied again"
        self._note(place, parsed, "conflict", "", detail, claim.version)

    def _apply(
        self, place: Place, record: StreamRecord, parsed: Parsed[PaymentRecord], decision: Decision
    ) -> None:
        trial = Decision(copy_of(decision.account), self._now, self._actor, IndexOverlay(decision.index))
        try:
            _RULES[parsed.fact.kind](trial, parsed.fact, parsed.key)
        except LedgerError as error:
            self._park(place, record, parsed, error)
            return
        self._take_over(parsed.team_id, decision, trial)
        first = decision.account.version + 1
        version, event = next(
            (version, event)
            for version, event in enumerate(trial.events, first)
            if claim_of(event) == parsed.key
        )
        self._claims[parsed.key] = Claim("", version, event)
        self._note(place, parsed, "applied", parsed.fact.kind, "", version)

    def _take_over(self, team_id: str, before: Decision, trial: Decision) -> None:
        """What was decided on the copy is decided."""
        for change in trial.index_changes:
            before.index.put(change)
        before.index.usages.update(trial.index.usages)
        made = Decision(trial.account, self._now, self._actor, before.index)
        made.events = before.events + trial.events
        made.index_changes = before.index_changes + trial.index_changes
        self._decisions[team_id] = made


def _request(decision: Decision, payment: PaymentRecord, record_key: str) -> None:
    request_top_up(
        decision,
        payment.amount_micros,
        payment_reference=payment.payment_reference,
        cost_basis=_cost_basis(payment),
        record_key=record_key,
    )


def _settled(decision: Decision, payment: PaymentRecord, record_key: str) -> None:
    top_up_credits(
        decision,
        payment.amount_micros,
        payment_reference=payment.payment_reference,
        cost_basis=_cost_basis(payment),
        record_key=record_key,
    )


def _failed(decision: Decision, payment: PaymentRecord, record_key: str) -> None:
    fail_top_up(decision, payment.payment_reference, payment.failure, record_key=record_key)


def _opened(decision: Decision, payment: PaymentRecord, record_key: str) -> None:
    open_chargeback(decision, payment.payment_reference, record_key=record_key)


def _won(decision: Decision, payment: PaymentRecord, record_key: str) -> None:
    win_chargeback(decision, payment.payment_reference, record_key=record_key)


def _lost(decision: Decision, payment: PaymentRecord, record_key: str) -> None:
    lose_chargeback(decision, payment.payment_reference, record_key=record_key)


def _paid(decision: Decision, payment: PaymentRecord, record_key: str) -> None:
    pay_invoice(
        decision,
        payment.invoice,
        payment_reference=payment.payment_reference,
        amount_minor=payment.amount_minor,
        currency=payment.currency,
        record_key=record_key,
    )


_RULES: dict[PaymentKind, Callable[[Decision, PaymentRecord, str], None]] = {
    "topup.requested": _request,
    "topup.settled": _settled,
    "topup.failed": _failed,
    "chargeback.opened": _opened,
    "chargeback.won": _won,
    "chargeback.lost": _lost,
    "invoice.paid": _paid,
}

_CHARGEBACKS: dict[PaymentKind, str] = {
    "chargeback.opened": "open",
    "chargeback.won": "won",
    "chargeback.lost": "lost",
}
"""The state of a chargeback that each kind tells, as the index has it."""


class Terms(NamedTuple):
    """What a payment record says that counts."""

    kind: PaymentKind
    payment_reference: str
    amount_micros: int = 0
    cost_basis: CostBasis | None = None
    failure: str = ""
    invoice: str = ""
    amount_minor: int = 0
    currency: str = ""


def terms_of_record(payment: PaymentRecord) -> Terms:
    """What the record says."""
    return Terms(
        payment.kind,
        payment.payment_reference,
        payment.amount_micros,
        payment.cost_basis,
        payment.failure,
        payment.invoice,
        payment.amount_minor,
        payment.currency,
    )


def terms_of_event(event: AccountEvent | None) -> Terms | None:
    """What the record said that became this event; None for an event that no payment record becomes, or that is archived."""
    match event:
        case TopUpRequested():
            return Terms("topup.requested", event.payment_reference, event.amount_micros, event.cost_basis)
        case CreditsToppedUp():
            return Terms("topup.settled", event.payment_reference, event.amount_micros, event.lot.cost_basis)
        case TopUpFailed() | AutoTopUpFailed():
            return Terms("topup.failed", event.payment_reference, failure=event.failure)
        case ChargebackOpened():
            return Terms("chargeback.opened", event.payment_reference)
        case ChargebackWon():
            return Terms("chargeback.won", event.payment_reference)
        case ChargebackLost():
            return Terms("chargeback.lost", event.payment_reference)
        case InvoicePaid():
            return Terms(
                "invoice.paid",
                event.payment_reference,
                invoice=event.invoice,
                amount_minor=event.amount_minor,
                currency=event.currency,
            )
    return None


def _is_so_already(decision: Decision, payment: PaymentRecord) -> bool:
    """Whether the payment is as the record says, told before under another identity."""
    reference = payment.payment_reference
    if payment.kind in _CHARGEBACKS:
        entry = decision.index.entry("chargeback", reference)
        return entry is not None and msgspec.json.decode(entry, type=str) == _CHARGEBACKS[payment.kind]
    if payment.kind == "invoice.paid":
        paid = invoice_payment(decision.index, reference)
        told = (payment.invoice, payment.amount_minor, payment.currency)
        return paid is not None and (paid.invoice, paid.amount_minor, paid.currency) == told
    top_up = top_up_on_file(decision, reference)
    if top_up is None:
        return False
    if payment.kind == "topup.failed":
        return top_up.status == "failed"
    # A request that comes after its answer asks for nothing more.
    is_reached = top_up.status == "settled" or payment.kind == "topup.requested"
    return is_reached and (top_up.amount_micros, top_up.cost_basis) == (
        payment.amount_micros,
        payment.cost_basis,
    )


def _cost_basis(payment: PaymentRecord) -> CostBasis:
    assert payment.cost_basis is not None, "read with its price"
    return payment.cost_basis


def _shown(terms: Terms | None, event: AccountEvent | None = None) -> str:
    if terms is None:
        return type(event).__name__ if event is not None else "archived usage"
    paid, said = terms.cost_basis, [terms.payment_reference]
    if terms.amount_micros:
        said.append(f"{terms.amount_micros} micro-credits")
    if terms.failure:
        said.append(terms.failure)
    if paid is not None:
        said.append(f"{paid.price_minor} + {paid.tax_minor} {paid.currency}")
    if terms.invoice:
        said.append(f"{terms.amount_minor} {terms.currency} of invoice {terms.invoice}")
    return f"{terms.kind} ({', '.join(said)})"
