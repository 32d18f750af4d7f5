"""How amounts, times, lots, limits and events are told in words: short enough for a line of a mail, exact to the micro-credit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from domain.account import events as e
from domain.amounts import MICROS_PER_CREDIT, format_credits
from domain.times import instant_text


def credits_words(micros: int) -> str:
    """An amount in words: "1 credit", "2.5 credits"."""
    return f"{format_credits(micros)} credit{'' if micros == MICROS_PER_CREDIT else 's'}"


def signed(micros: int) -> str:
    """A change with its sign: "+2.5", "-1", "0"."""
    return f"+{format_credits(micros)}" if micros > 0 else format_credits(micros)


def time_words(at: datetime) -> str:
    """An instant, in UTC, without a fraction of a second where there is none."""
    text = instant_text(at)
    return text.replace(".000000Z", "Z")


def money_words(basis: e.CostBasis) -> str:
    """What was paid, tax apart, in the currency's minor units."""
    tax = f", tax {basis.tax_minor}" if basis.tax_minor else ""
    return f"{basis.price_minor} minor units of {basis.currency}{tax}"


def actor_words(event: e.AccountEvent) -> str:
    """Who caused an event, in which role."""
    return f"{event.actor.id} ({event.actor.role})"


def lot_words(terms: e.LotTerms) -> str:
    """The terms of a lot in words, enough to tell it from others."""
    scope = " and ".join(
        part
        for part in (terms.action and f"action {terms.action}", terms.project and f"project {terms.project}")
        if part
    )
    words = [f"{terms.source}, granted {time_words(terms.granted_at)}"]
    if terms.effective_at != terms.granted_at:
        words.append(f"effective {time_words(terms.effective_at)}")
    words.append(f"expires {time_words(terms.expires_at)}" if terms.expires_at else "never expires")
    words.append(f"priority {terms.priority}")
    if scope:
        words.append(f"only for {scope}")
    if terms.cost_basis:
        basis = terms.cost_basis
        words.append(f"bought for {basis.price_minor} minor units of {basis.currency}")
    return ", ".join(words)


def scope_words(member: str | None, project: str | None, action: str | None) -> str:
    """What a limit counts, or a request was for: "member mira, action image.generate"; "the team" for everything."""
    named = (("member", member), ("project", project), ("action", action))
    return ", ".join(f"{name} {value}" for name, value in named if value) or "the team"


def limit_words(terms: e.LimitTerms) -> str:
    """The terms of a limit in words."""
    kind = "hard" if terms.hard else "soft"
    scope = scope_words(terms.member, terms.project, terms.action)
    return f"{kind} limit {terms.limit_id}: {credits_words(terms.cap_micros)} per {terms.window} for {scope}"


_KINDS = {
    "CreditsGranted": ("grant", "grants"),
    "CreditsToppedUp": ("top-up", "top-ups"),
    "AllowanceGranted": ("allowance", "allowances"),
    "CreditsRolledOver": ("rollover", "rollovers"),
    "CreditsCharged": ("charge", "charges"),
    "HoldCaptured": ("capture of a hold", "captures of holds"),
    "ChargeRefunded": ("refund", "refunds"),
    "CreditsExpired": ("expiry", "expiries"),
    "DebtRepaid": ("repayment of debt", "repayments of debt"),
    "GrantVoided": ("voided grant", "voided grants"),
    "BalanceRaised": ("raise by hand", "raises by hand"),
    "BalanceLowered": ("lowering by hand", "lowerings by hand"),
    "CreditsHeld": ("hold made", "holds made"),
    "HoldReleased": ("hold released", "holds released"),
    "HoldExpired": ("hold expired", "holds expired"),
    "ChargebackOpened": ("chargeback opened", "chargebacks opened"),
    "ChargebackWon": ("chargeback won", "chargebacks won"),
    "ChargebackLost": ("chargeback lost", "chargebacks lost"),
}


def kind_words(kind: str, events: int) -> str:
    """So many events of a kind, as people call them: "1 refund", "3 charges"."""
    one, many = _KINDS.get(kind, (kind, kind))
    return f"{events} {one if events == 1 else many}"


def window_words(start: datetime, end: datetime | None) -> str:
    """The bounds of a window."""
    return f"{time_words(start)} to {time_words(end)}" if end else f"since {time_words(start)}, without end"


def event_words(event: e.AccountEvent) -> str:
    """What happened, in one line; amounts are those of the event."""
    return _WORDS[type(event)](event)


def _issued(event: e.CreditsGranted | e.CreditsToppedUp | e.BalanceRaised) -> str:
    how = {"CreditsGranted": "granted", "CreditsToppedUp": "bought", "BalanceRaised": "raised by hand"}
    return f"{credits_words(event.amount_micros)} {how[type(event).__name__]} as {event.lot.lot_id}"


def _topped_up(event: e.CreditsToppedUp) -> str:
    return f"{_issued(event)}, payment {event.payment_reference}"


def _allowed(event: e.AllowanceGranted) -> str:
    lot = f" as {event.lot.lot_id}" if event.lot else ""
    period = window_words(event.period_start, event.period_end)
    return f"allowance of plan {event.plan_id}: {credits_words(event.amount_micros)}{lot}, period {period}"


def _rolled(event: e.CreditsRolledOver) -> str:
    moved = ", ".join(f"{format_credits(r.amount_micros)} {r.lot_id} → {r.to_lot_id}" for r in event.lines)
    return f"{credits_words(event.amount_micros)} rolled over: {moved}"


def _use(event: e.CreditsCharged | e.HoldCaptured | e.CreditsHeld) -> str:
    named = (("by", event.member), ("in project", event.project), ("for work", event.work))
    return " ".join([event.action, *(f"{name} {value}" for name, value in named if value)])


def _charged(event: e.CreditsCharged) -> str:
    debt = f", {credits_words(event.debt_micros)} of it debt" if event.debt_micros else ""
    hold = f", from {event.hold_id}" if event.hold_lines else ""
    return f"charge {event.charge_id}: {credits_words(event.amount_micros)} for {_use(event)}{hold}{debt}"


def _captured(event: e.HoldCaptured) -> str:
    debt = f", {credits_words(event.debt_micros)} of it debt" if event.debt_micros else ""
    return (
        f"charge {event.charge_id}: {credits_words(event.amount_micros)} captured of {event.hold_id}"
        f" for {_use(event)}{debt}"
    )


def _refunded(event: e.ChargeRefunded) -> str:
    voided = sum(line.amount_micros for line in event.lines if line.target == "voided")
    lost = f", {credits_words(voided)} of it to a voided grant" if voided else ""
    return f"refund of charge {event.charge_id}: {credits_words(event.amount_micros)}{lost}"


def _repaid(event: e.DebtRepaid) -> str:
    return f"{credits_words(event.amount_micros)} of debt repaid by {_lots(event.lines)}"


def _lots(lines: list[e.LotLine]) -> str:
    return ", ".join(f"{line.lot_id} ({format_credits(line.amount_micros)})" for line in lines) or "no lot"


def _held(event: e.CreditsHeld) -> str:
    quote = f", quote {event.quote.quote_id}" if event.quote else ""
    until = time_words(event.expires_at)
    return f"{event.hold_id}: {credits_words(event.amount_micros)} set aside for {_use(event)}, until {until}{quote}"


def _released(event: e.HoldReleased) -> str:
    why = f", its work failed (usage {event.released_by})" if event.released_by else ""
    return f"{event.hold_id} released: {credits_words(event.amount_micros)} free again{why}"


def _denied(event: e.HoldDenied) -> str:
    rule = f"limit {event.limit_id}" if event.limit_id else "available credits"
    sums = (("used", event.used_micros), ("held", event.held_micros), ("limit", event.limit_micros))
    told = ", ".join(f"{name} {format_credits(micros)}" for name, micros in sums)
    return f"hold of {credits_words(event.requested_micros)} for {event.action} denied by {rule}: {told}"


def _waived(event: e.UsageWaived) -> str:
    why = {"failed": f"the work was {event.status}", "corrected": "corrected before it arrived"}
    return f"usage {event.charge_id} of {event.action} waived: {why.get(event.waiver, 'nothing to price')}"


def _planned(event: e.PlanAssigned) -> str:
    plan = event.plan
    return f"plan {plan.plan_id} version {plan.version} from {time_words(event.effective_at)}"


def _limited(event: e.LimitSet) -> str:
    return f"{limit_words(event.limit)}, {format_credits(event.used_micros)} used in its window so far"


def _threshold(event: e.LimitThresholdReached) -> str:
    used = f"{format_credits(event.used_micros)} of {format_credits(event.cap_micros)}"
    return f"limit {event.limit_id} reached {event.threshold_percent} %: {used} used"


def _auto(event: e.AutoTopUpConfigured) -> str:
    if not event.enabled:
        return "automatic top-up is off"
    return (
        f"automatic top-up of {credits_words(event.amount_micros)} below {format_credits(event.threshold_micros)} available, "
        f"at most {event.money_cap_minor} minor units per {event.window}"
    )


def _auto_requested(event: e.AutoTopUpRequested | e.TopUpRequested) -> str:
    how = "automatic top-up" if isinstance(event, e.AutoTopUpRequested) else "top-up"
    return f"{how} of {credits_words(event.amount_micros)} requested, payment {event.payment_reference}"


def _failed(event: e.AutoTopUpFailed | e.TopUpFailed) -> str:
    return f"payment {event.payment_reference} failed: {event.failure}"


def _disputed(event: e.ChargeDisputeOpened) -> str:
    return f"{event.dispute_id} opened over {', '.join(event.charge_ids)}"


def _withheld(event: e.ChargebackOpened) -> str:
    return f"chargeback of payment {event.payment_reference}: {credits_words(event.withheld_micros)} withheld"


def _lost(event: e.ChargebackLost) -> str:
    return (
        f"chargeback of payment {event.payment_reference} lost: {credits_words(event.voided_micros)} voided, "
        f"{credits_words(event.drawn_micros)} became debt"
    )


def _paid(event: e.InvoicePaid) -> str:
    paid = f"{_money({event.currency: event.amount_minor})} of invoice {event.invoice} paid, payment {event.payment_reference}"
    if event.over_minor:
        return f"{paid}: {_money({event.currency: event.over_minor})} more than was due"
    return f"{paid}: nothing is due any more" if event.is_settled else paid


def _invoice_voided(event: e.InvoiceVoided) -> str:
    then = ", to be issued anew" if event.reissue else ""
    return f"invoice {event.voided_invoice} voided by {event.invoice}{then}"


def _credited(event: e.CreditNoteIssued) -> str:
    gross = sum(line.net_minor + line.tax_minor for line in event.lines)
    return f"credit note {event.invoice} for invoice {event.corrected_invoice}: {_money({event.currency: gross})}"


def _money(minor: dict[str, int]) -> str:
    """Amounts in minor units of their currencies, as plain words."""
    return " and ".join(f"{amount} minor units of {currency}" for currency, amount in minor.items())


_WORDS: dict[type[e.AccountEvent], Callable[[Any], str]] = {
    e.AccountOpened: lambda event: f"account opened in zone {event.zone}, card {event.card_id}",
    e.AccountSuspended: lambda _: "account suspended",
    e.AccountResumed: lambda _: "account resumed",
    e.AccountClosed: lambda _: "account closed",
    e.ZoneChangeScheduled: lambda event: f"zone {event.zone} from {time_words(event.effective_at)}",
    e.PlanAssigned: _planned,
    e.AllowanceGranted: _allowed,
    e.CreditsRolledOver: _rolled,
    e.CreditsGranted: _issued,
    e.CreditsToppedUp: _topped_up,
    e.BalanceRaised: _issued,
    e.BalanceLowered: lambda event: f"{credits_words(event.amount_micros)} lowered by hand",
    e.GrantVoided: lambda event: f"grant {event.origin_lot_id} voided: {credits_words(event.amount_micros)}",
    e.CreditsExpired: lambda event: f"{credits_words(event.amount_micros)} of {event.lot_id} expired unused",
    e.CreditsCharged: _charged,
    e.HoldCaptured: _captured,
    e.UsageWaived: _waived,
    e.CorrectionAwaited: lambda event: (
        f"usage {event.charge_id} will be waived: {event.corrected_by} corrects it"
    ),
    e.ChargeRefunded: _refunded,
    e.DebtRepaid: _repaid,
    e.CreditsHeld: _held,
    e.HoldExtended: lambda event: f"{event.hold_id} extended until {time_words(event.expires_at)}",
    e.HoldReleased: _released,
    e.HoldExpired: lambda event: f"{event.hold_id} expired: {credits_words(event.amount_micros)} free again",
    e.HoldDenied: _denied,
    e.LimitSet: _limited,
    e.LimitRemoved: lambda event: f"limit {event.limit_id} removed",
    e.LimitThresholdReached: _threshold,
    e.AutoTopUpConfigured: _auto,
    e.AutoTopUpRequested: _auto_requested,
    e.TopUpRequested: _auto_requested,
    e.AutoTopUpFailed: _failed,
    e.TopUpFailed: _failed,
    e.ChargeDisputeOpened: _disputed,
    e.ChargeDisputeUpheld: lambda event: (
        f"{event.dispute_id} upheld: {credits_words(event.amount_micros)} refunded"
    ),
    e.ChargeDisputeRejected: lambda event: f"{event.dispute_id} rejected: the charges stand",
    e.ChargebackOpened: _withheld,
    e.ChargebackWon: lambda event: (
        f"chargeback of payment {event.payment_reference} won: what was withheld is back"
    ),
    e.ChargebackLost: _lost,
    e.ContextErased: lambda event: (
        f"{event.contexts} contexts and {event.work_texts} texts of {event.member} erased"
    ),
    e.QuoteWithdrawn: lambda event: f"quote {event.quote_id} withdrawn",
    e.PeriodClosed: lambda event: (
        f"period {event.label} closed: {time_words(event.period_start)} to {time_words(event.period_end)}"
    ),
    e.InvoiceIssued: lambda event: f"invoice {event.invoice} issued for {event.label}",
    e.InvoiceOmitted: lambda event: f"no invoice for {event.label}: nothing happened",
    e.InvoicePaid: _paid,
    e.InvoiceVoided: _invoice_voided,
    e.InvoiceUncollectible: lambda event: (
        f"invoice {event.invoice} is uncollectible: {_money(event.due_minor)} due"
    ),
    e.CreditNoteIssued: _credited,
}
