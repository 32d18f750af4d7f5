"""How each event changes the account: applying never refuses, it asserts what deciding promised."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec

from domain.account import events as e
from domain.account import lots
from domain.account.events import (
    AccountEvent,
    CounterMove,
    DueEvent,
    LotLine,
    LotTerms,
    MovingEvent,
    WindowMove,
)
from domain.account.index import (
    ClosedPeriod,
    DecidedDispute,
    Document,
    EndedHold,
    IndexChange,
    IndexKind,
    InvoicedPeriod,
    InvoicePayment,
    RefundsOfCharge,
    Repayment,
    TopUp,
    UsedQuote,
    Window,
)
from domain.account.state import (
    DATED_MAX,
    AutoTopUp,
    Chargeback,
    Dated,
    Denial,
    Dispute,
    Hold,
    Limit,
    Lot,
    PendingPlan,
    TeamAccount,
    WindowUse,
    published_terms,
)
from domain.periods import period_bounds, period_text
from domain.times import instant_text

_encode = msgspec.json.encode
_NOTHING: list[IndexChange] = []
_ALWAYS = datetime(1970, 1, 1, tzinfo=UTC)
DENIAL_SECONDS = 60
"""An equal denial within so long after one that was appended is counted, not appended."""


def opened(event: e.AccountOpened) -> TeamAccount:
    """The account that the first event opens, at version 1."""
    books_start, books_end = event.books_start, event.books_end
    if books_start is None or books_end is None:
        # Recorded before accounts had books: they begin with the period in which it was opened.
        books_start, books_end = period_bounds(event.recorded_at, event.zone, event.anchor_day)
    return TeamAccount(
        team_id=event.team_id,
        anchor_day=event.anchor_day,
        zones=[Dated(_ALWAYS, event.zone)],
        cards=[Dated(_ALWAYS, event.card_id)],
        issuer_id=event.issuer_id,
        opened_at=event.recorded_at,
        books_start=books_start,
        books_end=books_end,
        recorded_at=event.recorded_at,
        passed_at=event.recorded_at,
        version=1,
    )


def apply(account: TeamAccount, event: AccountEvent) -> list[IndexChange]:
    """The account is as the event says, one version on; returns the index entries that changed."""
    account.version += 1
    recorded_at = event.recorded_at
    assert recorded_at >= account.recorded_at, "recorded_at never decreases within a team"
    account.recorded_at = account.passed_at = recorded_at
    changes = _APPLY[type(event)](account, event)
    if isinstance(event, MovingEvent):
        assert account.settled_micros == event.settled_after_micros, (
            "settled credits are not what the event says"
        )
        assert account.debt_micros == event.debt_after_micros, "debt is not what the event says"
        if isinstance(event, DueEvent):
            account.passed_at = event.effective_at
    return changes


def fold(
    account: TeamAccount | None, events: Iterable[AccountEvent]
) -> tuple[TeamAccount | None, list[IndexChange]]:
    """The account after the events, and every index change they made, in order."""
    changes: list[IndexChange] = []
    for event in events:
        if account is None:
            assert isinstance(event, e.AccountOpened), "the first event opens the account"
            account = opened(event)
        else:
            changes += apply(account, event)
    return account, changes


# --- the account itself ---


def _suspended(account: TeamAccount, event: e.AccountSuspended) -> list[IndexChange]:
    account.status = "suspended"
    return _NOTHING


def _resumed(account: TeamAccount, event: e.AccountResumed) -> list[IndexChange]:
    account.status = "open"
    return _NOTHING


def _closed(account: TeamAccount, event: e.AccountClosed) -> list[IndexChange]:
    account.status, account.closed_at = "closed", event.recorded_at
    return _NOTHING


def _zone_scheduled(account: TeamAccount, event: e.ZoneChangeScheduled) -> list[IndexChange]:
    return _dated("zone", account.zones, Dated(event.effective_at, event.zone))


def _dated(kind: IndexKind, dated: list[Dated], latest: Dated) -> list[IndexChange]:
    """The value counts from its instant on; what the state has no room for becomes index entries."""
    dated.append(latest)
    if len(dated) <= DATED_MAX:
        return _NOTHING
    oldest = dated.pop(0)
    return [IndexChange(kind, instant_text(oldest.since), oldest.value.encode())]


def _planned(account: TeamAccount, event: e.PlanAssigned) -> list[IndexChange]:
    if event.effective_at > event.recorded_at:
        account.pending_plan = PendingPlan(event.plan, event.effective_at)
        return _NOTHING
    account.pending_plan = None
    return _plan_counts(account, event.plan, event.effective_at)


def _plan_counts(account: TeamAccount, plan: e.PlanTerms, since: datetime) -> list[IndexChange]:
    account.plan = plan
    if account.cards[-1].value == plan.card_id:
        return _NOTHING
    return _dated("card", account.cards, Dated(since, plan.card_id))


def _allowed(account: TeamAccount, event: e.AllowanceGranted) -> list[IndexChange]:
    changes = _NOTHING
    pending = account.pending_plan
    if pending is not None and pending.effective_at <= event.effective_at:
        account.pending_plan = None
        changes = _plan_counts(account, pending.plan, pending.effective_at)
    account.period_start, account.period_end = event.period_start, event.period_end
    if event.lot is not None:
        lots.issue(account, event.lot, event.amount_micros)
    return changes


def _rolled(account: TeamAccount, event: e.CreditsRolledOver) -> list[IndexChange]:
    changes: list[IndexChange] = []
    for terms in event.lots:
        lots.issue(account, terms, 0)
    for line in event.lines:
        given, got = lots.find(account, line.lot_id), lots.find(account, line.to_lot_id)
        assert given is not None, f"{line.lot_id} is not open"
        assert got is not None, f"{line.to_lot_id} is not open"
        given.remaining_micros -= line.amount_micros
        got.remaining_micros += line.amount_micros
        if line.hold_id:
            _move_held(account, line, given, got, event.effective_at)
        assert given.remaining_micros >= given.held_micros >= 0, f"{line.lot_id} would be below zero"
        if not given.remaining_micros:
            account.lots.remove(given)
            changes.append(_lot_entry(given.terms))
    return changes


def _move_held(account: TeamAccount, line: e.RolledLine, given: Lot, got: Lot, at: datetime) -> None:
    given.held_micros -= line.amount_micros
    given.held_until = at
    got.held_micros += line.amount_micros
    hold = open_hold(account, line.hold_id)
    assert hold is not None, f"{line.hold_id} is not open"
    moved = LotLine(line.lot_id, line.amount_micros)
    hold.lines = [*lots.less(hold.lines, [moved]), LotLine(line.to_lot_id, line.amount_micros)]


# --- lots that come and go ---


def _issued(account: TeamAccount, event: e.CreditsGranted | e.BalanceRaised) -> list[IndexChange]:
    lots.issue(account, event.lot, event.amount_micros)
    return _NOTHING


def _topped_up(account: TeamAccount, event: e.CreditsToppedUp) -> list[IndexChange]:
    lots.issue(account, event.lot, event.amount_micros)
    auto = account.auto_top_up
    if auto is not None and auto.in_flight == event.payment_reference:
        auto.in_flight, auto.failures, auto.retry_at = None, 0, None
    settled = TopUp("settled", account.version, event.amount_micros, event.lot.cost_basis, event.lot.lot_id)
    return [_top_up_entry(event.payment_reference, settled)]


def _top_up_requested(account: TeamAccount, event: e.TopUpRequested) -> list[IndexChange]:
    asked = TopUp("requested", account.version, event.amount_micros, event.cost_basis)
    return [_top_up_entry(event.payment_reference, asked)]


def _top_up_failed(account: TeamAccount, event: e.TopUpFailed) -> list[IndexChange]:
    return [_top_up_entry(event.payment_reference, TopUp("failed", account.version, 0))]


def _top_up_entry(reference: str, top_up: TopUp) -> IndexChange:
    return IndexChange("top_up", reference, _encode(top_up))


def _auto_configured(account: TeamAccount, event: e.AutoTopUpConfigured) -> list[IndexChange]:
    before = account.auto_top_up
    account.auto_top_up = AutoTopUp(event)
    if before is not None:
        # A request in flight and what its window has spent outlive new terms.
        account.auto_top_up.in_flight = before.in_flight
        if before.terms.window == event.window:
            account.auto_top_up.window_start = before.window_start
            account.auto_top_up.spent_minor = before.spent_minor
    return _NOTHING


def _auto_requested(account: TeamAccount, event: e.AutoTopUpRequested) -> list[IndexChange]:
    auto = account.auto_top_up
    assert auto is not None, "automatic top-up is not configured"
    auto.in_flight = event.payment_reference
    auto.window_start, auto.spent_minor = event.window_start, event.spent_minor
    asked = TopUp("requested", account.version, event.amount_micros, event.cost_basis)
    return [_top_up_entry(event.payment_reference, asked)]


def _auto_failed(account: TeamAccount, event: e.AutoTopUpFailed) -> list[IndexChange]:
    auto = account.auto_top_up
    assert auto is not None, "automatic top-up is not configured"
    auto.in_flight = None
    auto.failures, auto.retry_at, auto.stopped = event.failures, event.retry_at, event.retry_at is None
    return [_top_up_entry(event.payment_reference, TopUp("failed", account.version, 0))]


def _lowered(account: TeamAccount, event: e.BalanceLowered) -> list[IndexChange]:
    return _taken(account, event.lines)


def _voided(account: TeamAccount, event: e.GrantVoided) -> list[IndexChange]:
    _cut(account, event.holds, event.recorded_at)
    return [*_taken(account, event.lines), IndexChange("line", event.origin_lot_id, b'"voided"')]


def _cut(account: TeamAccount, held: Iterable[e.HoldLine], at: datetime) -> None:
    """Holds no longer set these lines aside."""
    for line in held:
        hold = open_hold(account, line.hold_id)
        assert hold is not None, f"{line.hold_id} is not open"
        cut = [LotLine(line.lot_id, line.amount_micros)]
        hold.lines = lots.less(hold.lines, cut)
        lots.set_free(account, cut, at)


def _charged_back(account: TeamAccount, event: e.ChargebackOpened) -> list[IndexChange]:
    account.chargebacks[event.payment_reference] = Chargeback(event.origin_lot_id, event.recorded_at)
    for lot in account.lots:
        if lot.terms.origin_lot_id == event.origin_lot_id:
            lot.withheld_since = event.recorded_at
    return [IndexChange("chargeback", event.payment_reference, b'"open"')]


def _won(account: TeamAccount, event: e.ChargebackWon) -> list[IndexChange]:
    del account.chargebacks[event.payment_reference]
    at = event.recorded_at
    for lot in [lot for lot in account.lots if lot.terms.origin_lot_id == event.origin_lot_id]:
        assert lot.withheld_since is not None, f"{lot.terms.lot_id} is not withheld"
        if lot.held_until is not None:
            lot.held_until = min(lot.held_until + (at - lot.withheld_since), at)
        lot.withheld_since = None
        expires_at = event.expiries.get(lot.terms.lot_id)
        if expires_at is not None:
            lot.terms = msgspec.structs.replace(lot.terms, expires_at=expires_at)
    account.lots.sort(key=lots.burn_order)
    closed = [_lot_entry(terms) for terms in event.closed_lots]
    return [*closed, IndexChange("chargeback", event.payment_reference, b'"won"')]


def _lost(account: TeamAccount, event: e.ChargebackLost) -> list[IndexChange]:
    del account.chargebacks[event.payment_reference]
    _cut(account, event.holds, event.recorded_at)
    account.debt_micros += event.drawn_micros
    return [
        *_taken(account, event.lines),
        IndexChange("line", event.origin_lot_id, b'"lost"'),
        IndexChange("chargeback", event.payment_reference, b'"lost"'),
    ]


def _expired(account: TeamAccount, event: e.CreditsExpired) -> list[IndexChange]:
    lot = lots.find(account, event.lot_id)
    assert lot is not None, f"{event.lot_id} is not open"
    key = f"{lot.terms.origin_lot_id} {event.lot_id}"
    breakage = IndexChange("breakage", key, str(event.amount_micros).encode())
    return [*_taken(account, [LotLine(event.lot_id, event.amount_micros)]), breakage]


def _taken(account: TeamAccount, lines: list[LotLine]) -> list[IndexChange]:
    closed = lots.take(account, lines)
    return [_lot_entry(terms) for terms in closed] if closed else _NOTHING


def _lot_entry(terms: LotTerms) -> IndexChange:
    return IndexChange("lot", terms.lot_id, _encode(published_terms(terms)))


# --- charges ---


def _charged(account: TeamAccount, event: e.CreditsCharged) -> list[IndexChange]:
    account.debt_micros += event.debt_micros
    changes = _NOTHING if event.hold_id is None else _from_hold(account, event)
    closed = lots.take(account, event.lines)
    if closed:
        changes = changes + [_lot_entry(terms) for terms in closed]
    if event.counters and (gone := _counted(account, event.counters)):
        changes = changes + gone
    if event.windows and (gone := _windows_moved(account, event.windows)):
        changes = changes + gone
    return changes


def _from_hold(account: TeamAccount, event: e.CreditsCharged) -> list[IndexChange]:
    """The record's own hold has given its lines; an ended one can give so much less to the next."""
    assert event.hold_id is not None
    if event.hold_left is not None:
        return [IndexChange("hold_left", event.hold_id, _encode(event.hold_left))]
    hold = open_hold(account, event.hold_id)
    if hold is None:
        return _NOTHING
    if event.quote_id is not None:
        hold.is_quote_charged = True
    return _captured(account, hold, event.hold_lines, event.recorded_at)


def _captured(account: TeamAccount, hold: Hold, lines: list[LotLine], at: datetime) -> list[IndexChange]:
    """The hold sets these lines aside no more; one with nothing left has ended."""
    lots.set_free(account, lines, at)
    hold.lines = lots.less(hold.lines, lines)
    return _NOTHING if hold.lines else _ended(account, hold, "captured", at)


def _ended(account: TeamAccount, hold: Hold, how: Any, at: datetime) -> list[IndexChange]:
    account.holds.remove(hold)
    ended = EndedHold(
        how=how,
        made_at=hold.made_at,
        ended_at=at,
        lines=hold.lines,
        quote=hold.quote,
        is_quote_charged=hold.is_quote_charged,
        action=hold.action,
        member=hold.member,
        project=hold.project,
    )
    return [IndexChange("hold", hold.hold_id, _encode(ended))]


def _counted(account: TeamAccount, moves: list[CounterMove]) -> list[IndexChange]:
    """Counters of the two latest periods used stay in the state; older ones go to the index."""
    changes: list[IndexChange] = []
    for move in moves:
        period = period_text(move.period_start)
        kept = account.counters
        if period not in kept and len(kept) == 2 and period < min(kept):
            changes.append(counter_entry(period, move.key, move.position_after))
            continue
        kept.setdefault(period, {})[move.key] = move.position_after
        if len(kept) > 2:
            oldest = min(kept)
            changes += [counter_entry(oldest, key, position) for key, position in kept.pop(oldest).items()]
    return changes


def counter_key(period: str, key: str) -> str:
    """The index key of an old counter: its period's start, then its own key."""
    return f"{period} {key}"


def counter_entry(period: str, key: str, position: int) -> IndexChange:
    """The index entry of an old counter: its position as decimal digits."""
    return IndexChange("counter", counter_key(period, key), str(position).encode())


def _windows_moved(account: TeamAccount, moves: Iterable[WindowMove]) -> list[IndexChange]:
    """Each window has the use that the move says; the two latest used of a limit stay in the state."""
    changes = _NOTHING
    for move in moves:
        limit = find_limit(account, move.limit_id)
        assert limit is not None, f"limit {move.limit_id} is not set"
        use = WindowUse(move.end, move.used_after_micros, move.reached)
        start = period_text(move.start)
        if start in limit.windows:
            limit.windows[start] = use
        else:
            changes = changes + _put_window(limit, start, use)
    return changes


def _put_window(limit: Limit, start: str, use: WindowUse) -> list[IndexChange]:
    kept = limit.windows
    if start not in kept and len(kept) == 2 and start < min(kept):
        return [_window_entry(limit.terms.limit_id, start, use)]
    kept[start] = use
    if len(kept) <= 2:
        return _NOTHING
    oldest = min(kept)
    return [_window_entry(limit.terms.limit_id, oldest, kept.pop(oldest))]


def _window_entry(limit_id: str, start: str, use: WindowUse) -> IndexChange:
    window = Window(use.end, use.used_micros, use.reached)
    return IndexChange("window", window_key(limit_id, start), _encode(window))


def window_key(limit_id: str, start: str) -> str:
    """The index key of a past window: the limit's id, then the window's start."""
    return f"{limit_id} {start}"


def _waived(account: TeamAccount, event: e.UsageWaived) -> list[IndexChange]:
    account.corrections_awaited.pop(event.charge_id, None)
    return _NOTHING


def _awaited(account: TeamAccount, event: e.CorrectionAwaited) -> list[IndexChange]:
    account.corrections_awaited[event.charge_id] = event.corrected_by
    return _NOTHING


def _refunded(account: TeamAccount, event: e.ChargeRefunded) -> list[IndexChange]:
    changes = [IndexChange("refund", event.charge_id, _encode(RefundsOfCharge(event.refunded_after_micros)))]
    for terms in event.lots:
        lot = lots.issue(account, terms, 0)
        for chargeback in account.chargebacks.values():
            if chargeback.origin_lot_id == terms.origin_lot_id:
                # One that had closed has stood still since the chargeback opened; a new one has no earlier past.
                lot.withheld_since = max(chargeback.opened_at, terms.granted_at)
    for line in event.lines:
        if line.target == "debt":
            account.debt_micros -= line.amount_micros
            assert account.debt_micros >= 0, "debt would be below zero"
            continue
        if line.target != "voided":
            receiver = lots.find(account, line.lot_id)
            assert receiver is not None, f"{line.lot_id} is not open"
            receiver.remaining_micros += line.amount_micros
            account.settled_micros += line.amount_micros
        if line.repayment_key:
            left = line.repayment_left_micros
            entry = _encode(Repayment(line.drawn_lot_id, left)) if left else None
            changes.append(IndexChange("repayment", line.repayment_key, entry))
    return changes + _windows_moved(account, event.windows)


def _repaid(account: TeamAccount, event: e.DebtRepaid) -> list[IndexChange]:
    account.passed_at = event.effective_at
    account.debt_micros -= event.amount_micros
    assert account.debt_micros >= 0, "debt would be below zero"
    changes = [
        IndexChange(
            "repayment",
            f"{account.version:012d}.{place:04d}",
            _encode(Repayment(line.lot_id, line.amount_micros)),
        )
        for place, line in enumerate(event.lines)
    ]
    return changes + _taken(account, event.lines)


# --- holds and limits ---


def open_hold(account: TeamAccount, hold_id: str) -> Hold | None:
    """The open hold of that id."""
    for hold in account.holds:
        if hold.hold_id == hold_id:
            return hold
    return None


def find_limit(account: TeamAccount, limit_id: str) -> Limit | None:
    """The limit of that id."""
    for limit in account.limits:
        if limit.terms.limit_id == limit_id:
            return limit
    return None


def _held(account: TeamAccount, event: e.CreditsHeld) -> list[IndexChange]:
    lots.set_aside(account, event.lines)
    account.holds.append(
        Hold(
            hold_id=event.hold_id,
            made_at=event.recorded_at,
            expires_at=event.expires_at,
            lines=event.lines,
            action=event.action,
            member=event.member,
            project=event.project,
            work=event.work,
            step=event.step,
            quote=event.quote,
        )
    )
    if event.quote is None:
        return _NOTHING
    return [IndexChange("quote", event.quote.quote_id, _encode(UsedQuote(event.hold_id)))]


def _extended(account: TeamAccount, event: e.HoldExtended) -> list[IndexChange]:
    hold = open_hold(account, event.hold_id)
    assert hold is not None, f"{event.hold_id} is not open"
    hold.expires_at = event.expires_at
    return _NOTHING


def _hold_captured(account: TeamAccount, event: e.HoldCaptured) -> list[IndexChange]:
    account.debt_micros += event.debt_micros
    hold = open_hold(account, event.hold_id)
    assert hold is not None, f"{event.hold_id} is not open"
    changes = _captured(account, hold, event.hold_lines, event.recorded_at)
    return changes + _taken(account, event.lines) + _windows_moved(account, event.windows)


def _released(account: TeamAccount, event: e.HoldReleased) -> list[IndexChange]:
    return _let_go(account, event.hold_id, "released", event.recorded_at)


def _hold_expired(account: TeamAccount, event: e.HoldExpired) -> list[IndexChange]:
    return _let_go(account, event.hold_id, "expired", event.effective_at)


def _let_go(account: TeamAccount, hold_id: str, how: str, at: datetime) -> list[IndexChange]:
    hold = open_hold(account, hold_id)
    assert hold is not None, f"{hold_id} is not open"
    lots.set_free(account, hold.lines, at)
    return _ended(account, hold, how, at)


def _denied(account: TeamAccount, event: e.HoldDenied) -> list[IndexChange]:
    at = event.recorded_at
    account.denials = {
        key: each
        for key, each in account.denials.items()
        if (at - each.denied_at).total_seconds() < DENIAL_SECONDS
    }
    account.denials[denial_key(event)] = Denial(at, account.version)
    return _NOTHING


def denial_key(event: e.HoldDenied) -> str:
    """What equal denials have in common: the request, and the rule that denied it."""
    asked = (
        event.rule,
        event.limit_id,
        event.requested_micros,
        event.action,
        event.member,
        event.project,
        event.work,
    )
    return _encode(asked).decode()


def _context_erased(account: TeamAccount, event: e.ContextErased) -> list[IndexChange]:
    return []


def _quote_withdrawn(account: TeamAccount, event: e.QuoteWithdrawn) -> list[IndexChange]:
    return [IndexChange("quote", event.quote_id, _encode(UsedQuote()))]


def _limit_set(account: TeamAccount, event: e.LimitSet) -> list[IndexChange]:
    account.passed_at = event.effective_at
    limit = find_limit(account, event.limit.limit_id)
    if limit is not None:
        limit.terms, limit.plan_id = event.limit, event.plan_id
        return _NOTHING
    limit = Limit(event.limit, event.window_start, event.plan_id, {})
    account.limits.append(limit)
    if not event.used_micros:
        return _NOTHING
    use = WindowUse(event.window_end, event.used_micros, [])
    return _put_window(limit, period_text(event.window_start), use)


def _limit_removed(account: TeamAccount, event: e.LimitRemoved) -> list[IndexChange]:
    account.passed_at = event.effective_at
    limit = find_limit(account, event.limit_id)
    assert limit is not None, f"limit {event.limit_id} is not set"
    account.limits.remove(limit)
    return _NOTHING


def _threshold_reached(account: TeamAccount, event: e.LimitThresholdReached) -> list[IndexChange]:
    move = WindowMove(event.limit_id, event.window_start, event.window_end, event.used_micros, event.reached)
    return _windows_moved(account, [move])


# --- disputes ---


def _disputed(account: TeamAccount, event: e.ChargeDisputeOpened) -> list[IndexChange]:
    account.disputes[event.dispute_id] = Dispute(event.charge_ids, event.recorded_at)
    return _NOTHING


def _upheld(account: TeamAccount, event: e.ChargeDisputeUpheld) -> list[IndexChange]:
    return _decided(account, event.dispute_id, "upheld")


def _rejected(account: TeamAccount, event: e.ChargeDisputeRejected) -> list[IndexChange]:
    return _decided(account, event.dispute_id, "rejected")


def _decided(account: TeamAccount, dispute_id: str, how: Any) -> list[IndexChange]:
    dispute = account.disputes.pop(dispute_id)
    return [IndexChange("dispute", dispute_id, _encode(DecidedDispute(how, dispute.charge_ids)))]


# --- periods and invoices ---


def _period_closed(account: TeamAccount, event: e.PeriodClosed) -> list[IndexChange]:
    assert (event.period_start, event.period_end) == (account.books_start, account.books_end), (
        f"the oldest open period begins at {account.books_start}, not {event.period_start}"
    )
    account.books_start, account.books_end = event.period_end, event.following_end
    start = period_text(event.period_start)
    closed = ClosedPeriod(event.period_end, event.zone, event.label, account.version)
    return [IndexChange("period", start, _encode(closed)), IndexChange("uninvoiced", start, b"0")]


def _invoiced(account: TeamAccount, event: e.InvoiceIssued) -> list[IndexChange]:
    document = Document("invoice", account.version, event.period_start, attempt=event.attempt, due=event.due)
    changes = [
        *_settled_period(event.period_start, InvoicedPeriod(event.closing_micros, event.invoice)),
        IndexChange("invoice", event.invoice, _encode(document)),
    ]
    if all(money.gross_minor <= money.paid_minor for money in event.due):
        changes.append(_invoice_is(event.invoice, "paid"))
    return changes


def _omitted(account: TeamAccount, event: e.InvoiceOmitted) -> list[IndexChange]:
    return _settled_period(event.period_start, InvoicedPeriod(event.closing_micros))


def _settled_period(period_start: datetime, invoiced: InvoicedPeriod) -> list[IndexChange]:
    start = period_text(period_start)
    return [IndexChange("uninvoiced", start, None), IndexChange("invoiced", start, _encode(invoiced))]


def _invoice_paid(account: TeamAccount, event: e.InvoicePaid) -> list[IndexChange]:
    payment = InvoicePayment(event.invoice, event.amount_minor, event.currency, account.version)
    changes = [
        IndexChange("invoice_payment", event.payment_reference, _encode(payment)),
        _money_of(event.invoice, "paid", event.currency, event.paid_after_minor),
    ]
    return [*changes, _invoice_is(event.invoice, "paid")] if event.is_settled else changes


def _invoice_voided(account: TeamAccount, event: e.InvoiceVoided) -> list[IndexChange]:
    document = Document("void", account.version, event.period_start, event.voided_invoice)
    changes = [
        IndexChange("invoice", event.invoice, _encode(document)),
        _invoice_is(event.voided_invoice, "void"),
    ]
    if event.reissue:
        attempt = str(event.attempt).encode()
        changes.append(IndexChange("uninvoiced", period_text(event.period_start), attempt))
    return changes


def _uncollectible(account: TeamAccount, event: e.InvoiceUncollectible) -> list[IndexChange]:
    return [_invoice_is(event.invoice, "uncollectible")]


def _credited(account: TeamAccount, event: e.CreditNoteIssued) -> list[IndexChange]:
    document = Document("credit_note", account.version, corrects=event.corrected_invoice)
    changes = [
        IndexChange("invoice", event.invoice, _encode(document)),
        _money_of(event.corrected_invoice, "credited", event.currency, event.credited_after_minor),
    ]
    return [*changes, _invoice_is(event.corrected_invoice, "paid")] if event.is_settled else changes


def _invoice_is(invoice: str, status: str) -> IndexChange:
    return IndexChange("invoice", f"{invoice} status", _encode(status))


def _money_of(invoice: str, what: str, currency: str, minor: int) -> IndexChange:
    return IndexChange("invoice", f"{invoice} {what} {currency}", str(minor).encode())


_APPLY: dict[type[AccountEvent], Callable[[TeamAccount, Any], list[IndexChange]]] = {
    e.AccountSuspended: _suspended,
    e.AccountResumed: _resumed,
    e.AccountClosed: _closed,
    e.ZoneChangeScheduled: _zone_scheduled,
    e.PlanAssigned: _planned,
    e.AllowanceGranted: _allowed,
    e.CreditsRolledOver: _rolled,
    e.CreditsGranted: _issued,
    e.BalanceRaised: _issued,
    e.BalanceLowered: _lowered,
    e.CreditsToppedUp: _topped_up,
    e.TopUpRequested: _top_up_requested,
    e.TopUpFailed: _top_up_failed,
    e.AutoTopUpConfigured: _auto_configured,
    e.AutoTopUpRequested: _auto_requested,
    e.AutoTopUpFailed: _auto_failed,
    e.GrantVoided: _voided,
    e.ChargebackOpened: _charged_back,
    e.ChargebackWon: _won,
    e.ChargebackLost: _lost,
    e.CreditsExpired: _expired,
    e.CreditsCharged: _charged,
    e.UsageWaived: _waived,
    e.CorrectionAwaited: _awaited,
    e.ChargeRefunded: _refunded,
    e.DebtRepaid: _repaid,
    e.CreditsHeld: _held,
    e.HoldExtended: _extended,
    e.HoldCaptured: _hold_captured,
    e.HoldReleased: _released,
    e.HoldExpired: _hold_expired,
    e.HoldDenied: _denied,
    e.QuoteWithdrawn: _quote_withdrawn,
    e.ContextErased: _context_erased,
    e.LimitSet: _limit_set,
    e.LimitRemoved: _limit_removed,
    e.LimitThresholdReached: _threshold_reached,
    e.ChargeDisputeOpened: _disputed,
    e.ChargeDisputeUpheld: _upheld,
    e.ChargeDisputeRejected: _rejected,
    e.PeriodClosed: _period_closed,
    e.InvoiceIssued: _invoiced,
    e.InvoiceOmitted: _omitted,
    e.InvoicePaid: _invoice_paid,
    e.InvoiceVoided: _invoice_voided,
    e.InvoiceUncollectible: _uncollectible,
    e.CreditNoteIssued: _credited,
}
