"""Why a usage record or a capture cost what it did: from its place on the stream to the price, its hold, the limits that it
counted in, the lots that paid, and what came back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from fractions import Fraction
from typing import Literal

import msgspec

from domain.account.events import (
    CHARGES,
    CardPin,
    Charge,
    ChargeRefunded,
    CreditsCharged,
    HoldCaptured,
    LotTerms,
    RecordedEvent,
    RefundTarget,
    UsageWaived,
    WindowMove,
)
from domain.account.index import AccountIndex, InvoicedPeriod
from domain.account.state import TeamAccount
from domain.amounts import format_credits
from domain.invoices.assigning import Books, stored_period
from domain.invoices.tracing import Invoiced, invoice_of
from domain.periods import period_text
from domain.recomputation import (
    Computation,
    StatedMultiplier,
    StatedTerm,
    differences,
    read_computation,
    recompute,
)
from domain.usage import Origin, UsageStatus
from projections.words import actor_words, credits_words, lot_words, window_words
from projections.words import time_words as _time

TermsOf = Callable[[str], LotTerms | None]
"""The terms of a lot of the team by its id, open or closed; None when it is on no file."""


class UsageTold(msgspec.Struct, frozen=True, kw_only=True):
    """The usage record as the ledger knows it: identity, content, and where on the stream it was read."""

    usage_key: str
    source: str
    id: str
    action: str
    status: UsageStatus
    occurred_at: datetime
    recorded_at: datetime
    origin: Origin | None
    meters: dict[str, str]
    dimensions: dict[str, str]
    member: str | None
    project: str | None
    work: str | None
    step: str | None


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a charge: paid by a lot, whose terms are told, or left as debt (no lot).

    ``is_from_hold``: the charge's own hold had set it aside.
    """

    lot_id: str | None
    amount_micros: int
    terms: LotTerms | None
    words: str
    is_from_hold: bool = False


class WindowTold(msgspec.Struct, frozen=True, kw_only=True):
    """One window of a limit that the charge counts in, and the use in it right after the charge."""

    limit_id: str
    window_start: datetime
    window_end: datetime | None
    used_after_micros: int
    is_passed: bool
    words: str


class RefundedLine(msgspec.Struct, frozen=True, kw_only=True):
    """Part of a refund and where it went."""

    target: RefundTarget
    lot_id: str | None
    amount_micros: int
    words: str


class RefundTold(msgspec.Struct, frozen=True, kw_only=True):
    """One refund event of the charge, with the account's sums after it."""

    refund_id: str
    version: int
    recorded_at: datetime
    amount_micros: int
    by: str
    reason: str | None
    lines: list[RefundedLine]
    settled_after_micros: int
    debt_after_micros: int


class InvoicedTold(msgspec.Struct, frozen=True, kw_only=True):
    """On which invoice a charge is: that of the period ``label``.

    ``state``: the period is "open", "closed" and waits for its invoice, or "issued" under the number ``invoice``.
    ``adjusts`` is the closed period that the usage belongs to, when it came too late for the invoice of that one.
    """

    state: Literal["open", "closed", "issued"]
    label: str
    period_start: datetime
    period_end: datetime
    invoice: str | None
    adjusts: str | None
    words: str


class ChargeExplained(msgspec.Struct, frozen=True, kw_only=True, tag="charged", tag_field="outcome"):
    """A charge from record to lots.

    Sums: ``lines`` make up ``amount_micros``, those from its hold ``held_micros``; ``refunds`` make up ``refunded_micros``;
    ``kept_micros`` is what the team has paid in the end, amount less refunds. ``quote_id``: the charge is that quote's total.
    ``windows`` are those of limits that it counts in, ``limits_passed`` the hard limits beyond their cap after it.
    ``computation_words`` is the price step by step, one sentence each. ``recomputed_micros`` was
    worked out again from the stored computation alone, and ``contradictions`` says where that disagrees; it is empty for a sound
    charge.
    """

    team_id: str
    version: int
    usage: UsageTold
    card: CardPin
    computation: msgspec.Raw
    computation_words: list[str]
    recomputed_micros: int
    contradictions: list[str]
    amount_micros: int
    hold_id: str | None
    held_micros: int
    quote_id: str | None
    lines: list[Line]
    debt_micros: int
    windows: list[WindowTold]
    limits_passed: list[str]
    settled_after_micros: int
    debt_after_micros: int
    refunds: list[RefundTold]
    refunded_micros: int
    kept_micros: int
    invoiced: InvoicedTold | None = None

    @property
    def charge_id(self) -> str:
        """The charge."""
        return self.usage.usage_key


class CaptureExplained(msgspec.Struct, frozen=True, kw_only=True, tag="captured", tag_field="outcome"):
    """A charge that a request took from a hold; its amount is the one asked for. Sums are those of a charge."""

    team_id: str
    version: int
    charge_id: str
    hold_id: str
    action: str
    member: str | None
    project: str | None
    work: str | None
    step: str | None
    occurred_at: datetime
    recorded_at: datetime
    by: str
    reason: str | None
    contradictions: list[str]
    amount_micros: int
    held_micros: int
    lines: list[Line]
    debt_micros: int
    windows: list[WindowTold]
    limits_passed: list[str]
    settled_after_micros: int
    debt_after_micros: int
    refunds: list[RefundTold]
    refunded_micros: int
    kept_micros: int
    invoiced: InvoicedTold | None = None


class WaiverExplained(msgspec.Struct, frozen=True, kw_only=True, tag="waived", tag_field="outcome"):
    """A usage record that costs nothing, and why."""

    team_id: str
    version: int
    usage: UsageTold
    waiver: Literal["failed", "corrected", "nothing_to_price"]
    words: str
    corrects_charge_id: str | None
    refund_id: str | None
    corrected_by: str | None
    hold_id: str | None

    @property
    def charge_id(self) -> str:
        """The claim of the record."""
        return self.usage.usage_key


UsageExplained = ChargeExplained | CaptureExplained | WaiverExplained


def explain_usage(
    team_id: str, recorded: RecordedEvent, refunds: Iterable[RecordedEvent], terms_of: TermsOf
) -> UsageExplained:
    """The explanation of the event that holds a charge id: a charge, a capture, or waived usage."""
    if isinstance(recorded.event, UsageWaived):
        return explain_waiver(team_id, recorded)
    if isinstance(recorded.event, HoldCaptured):
        return explain_capture(team_id, recorded, refunds, terms_of)
    return explain_charge(team_id, recorded, refunds, terms_of)


def with_invoice(
    explained: UsageExplained, recorded: RecordedEvent, account: TeamAccount, index: AccountIndex
) -> UsageExplained:
    """The explanation with the invoice that the charge is on, as the account stands; waived usage is on none."""
    charge = recorded.event
    if isinstance(explained, WaiverExplained) or not isinstance(charge, CHARGES):
        return explained
    closed = [stored_period(start, entry) for start, entry in index.latest("period")]
    books = Books(account, index, reversed(closed))
    found = invoice_of(charge, recorded.originator_version, books)
    return msgspec.structs.replace(explained, invoiced=_invoiced(found, index))


def _invoiced(found: Invoiced, index: AccountIndex) -> InvoicedTold:
    period = found.period
    entry = index.entry("invoiced", period_text(period.start))
    invoice = None if entry is None else msgspec.json.decode(entry, type=InvoicedPeriod).invoice
    adjusts = found.earlier.label if found.earlier else None
    late = f", as an adjustment of {adjusts}: its own invoice had been closed" if adjusts else ""
    state: Literal["open", "closed", "issued"] = "issued"
    if period.closed_version is None:
        state, where = "open", f"on the draft of {period.label}, whose period is open"
    elif invoice is None:
        state, where = "closed", f"on the invoice of {period.label}, which is not issued yet"
    else:
        where = f"on invoice {invoice} of {period.label}"
    return InvoicedTold(
        state=state,
        label=period.label,
        period_start=period.start,
        period_end=period.end,
        invoice=invoice,
        adjusts=adjusts,
        words=where + late,
    )


def explain_charge(
    team_id: str, recorded: RecordedEvent, refunds: Iterable[RecordedEvent], terms_of: TermsOf
) -> ChargeExplained:
    """The explanation of one charge; ``refunds`` are all refund events of it, in version order.

    Nothing is rounded or worked out anew except to confirm: amounts are those of the events.
    Raises: UnknownEventShape for a computation of a newer shape.
    """
    charge = recorded.event
    assert isinstance(charge, CreditsCharged), "only a charge can be explained as one"
    computation = bytes(charge.computation)
    told = [_refund(refund, terms_of) for refund in refunds]
    refunded = sum(refund.amount_micros for refund in told)
    recomputed = recompute(computation)
    return ChargeExplained(
        team_id=team_id,
        version=recorded.originator_version,
        usage=_usage(charge, "succeeded"),
        card=charge.card,
        computation=charge.computation,
        computation_words=list(_computation_words(read_computation(computation))),
        recomputed_micros=recomputed,
        contradictions=list(_contradictions(charge, recomputed)),
        amount_micros=charge.amount_micros,
        hold_id=charge.hold_id,
        held_micros=_from_hold(charge),
        quote_id=charge.quote_id,
        lines=list(_lines(charge, terms_of)),
        debt_micros=charge.debt_micros,
        windows=[_window(move, charge.limits_passed) for move in charge.windows],
        limits_passed=charge.limits_passed,
        settled_after_micros=charge.settled_after_micros,
        debt_after_micros=charge.debt_after_micros,
        refunds=told,
        refunded_micros=refunded,
        kept_micros=charge.amount_micros - refunded,
    )


def explain_capture(
    team_id: str, recorded: RecordedEvent, refunds: Iterable[RecordedEvent], terms_of: TermsOf
) -> CaptureExplained:
    """The explanation of one capture; ``refunds`` are all refund events of it, in version order."""
    capture = recorded.event
    assert isinstance(capture, HoldCaptured), "only a capture can be explained as one"
    told = [_refund(refund, terms_of) for refund in refunds]
    refunded = sum(refund.amount_micros for refund in told)
    return CaptureExplained(
        team_id=team_id,
        version=recorded.originator_version,
        charge_id=capture.charge_id,
        hold_id=capture.hold_id,
        action=capture.action,
        member=capture.member,
        project=capture.project,
        work=capture.work,
        step=capture.step,
        occurred_at=capture.occurred_at,
        recorded_at=capture.recorded_at,
        by=actor_words(capture),
        reason=capture.reason,
        contradictions=list(_line_contradictions(capture)),
        amount_micros=capture.amount_micros,
        held_micros=_from_hold(capture),
        lines=list(_lines(capture, terms_of)),
        debt_micros=capture.debt_micros,
        windows=[_window(move, capture.limits_passed) for move in capture.windows],
        limits_passed=capture.limits_passed,
        settled_after_micros=capture.settled_after_micros,
        debt_after_micros=capture.debt_after_micros,
        refunds=told,
        refunded_micros=refunded,
        kept_micros=capture.amount_micros - refunded,
    )


def explain_waiver(team_id: str, recorded: RecordedEvent) -> WaiverExplained:
    """The explanation of usage that costs nothing."""
    waived = recorded.event
    assert isinstance(waived, UsageWaived), "only waived usage can be explained as such"
    return WaiverExplained(
        team_id=team_id,
        version=recorded.originator_version,
        usage=_usage(waived, waived.status),
        waiver=waived.waiver,
        words=_waiver_words(waived),
        corrects_charge_id=waived.corrects_charge_id,
        refund_id=waived.refund_id,
        corrected_by=waived.corrected_by,
        hold_id=waived.hold_id,
    )


def plain_text(explained: UsageExplained) -> str:
    """The explanation as plain text of short lines, fit for a mail."""
    if isinstance(explained, ChargeExplained):
        told = _charge_text(explained)
    elif isinstance(explained, CaptureExplained):
        told = _capture_text(explained)
    else:
        told = _waiver_text(explained)
    return "\n".join(told) + "\n"


def _usage(event: CreditsCharged | UsageWaived, status: UsageStatus) -> UsageTold:
    return UsageTold(
        usage_key=event.charge_id,
        source=event.source,
        id=event.id,
        action=event.action,
        status=status,
        occurred_at=event.occurred_at,
        recorded_at=event.recorded_at,
        origin=event.origin,
        meters=event.meters,
        dimensions=event.dimensions,
        member=event.member,
        project=event.project,
        work=event.work,
        step=event.step,
    )


def _lines(charge: Charge, terms_of: TermsOf) -> Iterator[Line]:
    for place, line in enumerate(charge.lines):
        terms = terms_of(line.lot_id)
        is_from_hold = place < len(charge.hold_lines)
        words = f"{credits_words(line.amount_micros)} from lot {line.lot_id}"
        if is_from_hold:
            words += f", set aside by {charge.hold_id}"
        yield Line(
            lot_id=line.lot_id,
            amount_micros=line.amount_micros,
            terms=terms,
            words=f"{words} ({lot_words(terms)})" if terms else words,
            is_from_hold=is_from_hold,
        )
    if charge.debt_micros:
        yield Line(
            lot_id=None,
            amount_micros=charge.debt_micros,
            terms=None,
            words=f"{credits_words(charge.debt_micros)} became debt: no lot could cover it",
        )


def _from_hold(charge: Charge) -> int:
    return sum(line.amount_micros for line in charge.hold_lines)


def _window(move: WindowMove, limits_passed: list[str]) -> WindowTold:
    is_passed = move.limit_id in limits_passed
    beyond = ": beyond its cap, which usage that happened may be" if is_passed else ""
    bounds = window_words(move.start, move.end)
    return WindowTold(
        limit_id=move.limit_id,
        window_start=move.start,
        window_end=move.end,
        used_after_micros=move.used_after_micros,
        is_passed=is_passed,
        words=f"limit {move.limit_id}, window {bounds}: {format_credits(move.used_after_micros)} used after it{beyond}",
    )


def _refund(recorded: RecordedEvent, terms_of: TermsOf) -> RefundTold:
    refund = recorded.event
    assert isinstance(refund, ChargeRefunded), "only refunds give a charge back"
    opened = {terms.lot_id: terms for terms in refund.lots}
    lines = []
    for line in refund.lines:
        terms = opened.get(line.lot_id) or terms_of(line.lot_id) if line.lot_id else None
        lines.append(
            RefundedLine(
                target=line.target,
                lot_id=line.lot_id or None,
                amount_micros=line.amount_micros,
                words=_refunded_words(line.target, line.amount_micros, line.lot_id, line.drawn_lot_id, terms),
            )
        )
    return RefundTold(
        refund_id=refund.refund_id,
        version=recorded.originator_version,
        recorded_at=refund.recorded_at,
        amount_micros=refund.amount_micros,
        by=actor_words(refund),
        reason=refund.reason,
        lines=lines,
        settled_after_micros=refund.settled_after_micros,
        debt_after_micros=refund.debt_after_micros,
    )


def _refunded_words(
    target: RefundTarget, amount_micros: int, lot_id: str, drawn_lot_id: str, terms: LotTerms | None
) -> str:
    amount = credits_words(amount_micros)
    if target == "debt":
        return f"{amount} lowered the debt"
    if target == "voided":
        return f"{amount} had come from a grant that was voided since: nothing comes back"
    to = (
        f"to lot {lot_id}"
        if lot_id == drawn_lot_id
        else f"to lot {lot_id}, successor of expired {drawn_lot_id}"
    )
    lately = " (it had repaid debt)" if target == "repayment" else ""
    until = f", which expires {_time(terms.expires_at)}" if terms and terms.expires_at else ""
    return f"{amount} back {to}{until}{lately}"


def _contradictions(charge: CreditsCharged, recomputed_micros: int) -> Iterator[str]:
    stated = read_computation(bytes(charge.computation))
    for difference in differences(bytes(charge.computation)):
        yield f"computation.{difference.where} states {difference.stated}, should be {difference.recomputed}"
    if recomputed_micros != charge.amount_micros:
        yield f"the charge is {credits_words(charge.amount_micros)}, its computation gives {credits_words(recomputed_micros)}"
    if (stated.card, stated.version) != (charge.card.card_id, charge.card.version):
        yield f"the charge pins card {charge.card.card_id} version {charge.card.version}, its computation names another"
    yield from _line_contradictions(charge)


def _line_contradictions(charge: Charge) -> Iterator[str]:
    paid = sum(line.amount_micros for line in charge.lines) + charge.debt_micros
    if paid != charge.amount_micros:
        yield f"the lines and the debt sum to {credits_words(paid)}"
    if charge.lines[: len(charge.hold_lines)] != charge.hold_lines:
        yield "the lines of the hold do not lead the lines of the charge"


def _computation_words(computation: Computation) -> Iterator[str]:
    for multiplier in computation.multipliers:
        yield _multiplier_words(multiplier)
    for term in computation.terms:
        yield _term_words(term, [multiplier.factor for multiplier in computation.multipliers])
    exact_terms = [term for term in computation.terms if term.model != "graduated"]
    if exact_terms:
        exact = Fraction(computation.exact)
        yield f"exact sum: {' + '.join(_credits(term.exact) for term in exact_terms)} = {_credits(computation.exact)} credits"
        minimum = Fraction(computation.minimum)
        if minimum > exact:
            yield f"below the minimum of {computation.minimum}: the minimum counts"
    yield f"rounded up to a micro-credit, once: {computation.amount} credits"


def _multiplier_words(multiplier: StatedMultiplier) -> str:
    name = multiplier.dimension
    if multiplier.kind.startswith("linear"):
        absent = ", not stated by the record" if multiplier.kind == "linear_default" else ""
        return f"multiplier {name}: {multiplier.base} + {multiplier.slope} × {multiplier.number}{absent} = × {multiplier.factor}"
    if multiplier.kind == "table_default":
        value = (
            f"{multiplier.value!r} is not listed"
            if multiplier.value is not None
            else "not stated by the record"
        )
        return f"multiplier {name}: {value}, default × {multiplier.factor}"
    return f"multiplier {name} = {multiplier.value!r}: × {multiplier.factor}"


def _term_words(term: StatedTerm, factors: list[str]) -> str:
    quantity = _quantity_words(term, factors)
    if term.model == "package":
        return f"{quantity}, in packages of {term.size}: {term.packages} × {term.price} = {_credits(term.exact)} credits"
    if term.model == "graduated":
        tiers = ", ".join(
            f"up to {tier.up_to} at {tier.price}" if tier.up_to else f"then {tier.price}"
            for tier in term.tiers
        )
        return (
            f"{quantity}, graduated ({tiers}): position {term.position_before} → {term.position_after}, "
            f"total {term.total_before} → {term.total_after}, so {term.amount} credits"
        )
    per = "" if term.per == "1" else f" per {term.per}"
    return f"{quantity} × {term.price}{per} = {_credits(term.exact)} credits"


def _quantity_words(term: StatedTerm, factors: list[str]) -> str:
    """The quantity as a product of the record's meters and the multipliers; a flat price has neither meter nor product."""
    meters = [f"{value or '0'} {name}" for name, value in term.meters.items()]
    product = " × ".join([*meters, *factors])
    if not meters and not factors:
        return "flat price: 1"
    named = product if meters else f"flat price × {product}"
    return named if len(meters) + len(factors) == 1 and meters else f"{named} = {term.quantity}"


def _credits(fraction: str) -> str:
    """An exact amount as a decimal where it has a short one, else as the fraction it is."""
    exact = Fraction(fraction)
    scaled = exact * 10**18
    if scaled.denominator != 1:
        return fraction
    whole, rest = divmod(scaled.numerator, 10**18)
    return f"{whole}.{rest:018d}".rstrip("0") if rest else str(whole)


def _waiver_words(waived: UsageWaived) -> str:
    if waived.waiver == "corrected":
        return f"usage record {waived.corrected_by} had corrected it before it arrived"
    if waived.waiver == "nothing_to_price":
        return f"nothing to price: the rate of {waived.action} finds no priced quantity above zero in it"
    if waived.refund_id:
        return (
            f"the work was {waived.status}; it corrects charge {waived.corrects_charge_id}, which it refunded"
        )
    if waived.corrects_charge_id:
        return f"the work was {waived.status}; it corrects charge {waived.corrects_charge_id}, where nothing was left to refund"
    return f"the work was {waived.status}: failed and cancelled work is never charged"


def _charge_text(charge: ChargeExplained) -> Iterator[str]:
    yield f"Charge {charge.usage.usage_key} of team {charge.team_id}: {credits_words(charge.amount_micros)}"
    yield from _usage_text(charge.usage, charge.version)
    yield ""
    yield f"Price: rate card {charge.card.card_id}, version {charge.card.version}, digest {charge.card.digest}"
    yield from (f"  {words}" for words in charge.computation_words)
    if charge.contradictions:
        yield from (f"  CONTRADICTION: {words}" for words in charge.contradictions)
    else:
        yield f"  worked out again from the stored computation: {credits_words(charge.recomputed_micros)}, the same"
    if charge.quote_id:
        yield f"  as quoted: {charge.quote_id}"
    yield ""
    yield from _paid_text(charge)


def _capture_text(capture: CaptureExplained) -> Iterator[str]:
    why = f": {capture.reason}" if capture.reason else ""
    yield f"Charge {capture.charge_id} of team {capture.team_id}: {credits_words(capture.amount_micros)}"
    yield f"  captured of {capture.hold_id} by {capture.by}{why}"
    yield f"  occurred {_time(capture.occurred_at)}, recorded {_time(capture.recorded_at)} as version {capture.version}"
    yield f"  action: {capture.action}"
    yield from _named_text(capture)
    yield from (f"  CONTRADICTION: {words}" for words in capture.contradictions)
    yield ""
    yield from _paid_text(capture)


def _paid_text(charge: ChargeExplained | CaptureExplained) -> Iterator[str]:
    yield "Paid by:"
    yield from (f"  {line.words}" for line in charge.lines)
    yield f"  sum: {credits_words(sum(line.amount_micros for line in charge.lines))}"
    yield _after(charge.settled_after_micros, charge.debt_after_micros, charge.version)
    yield ""
    if charge.windows:
        yield "Counts in limits:"
        yield from (f"  {window.words}" for window in charge.windows)
        yield ""
    yield from _refunds_text(charge)
    if charge.invoiced is not None:
        yield ""
        yield f"Invoiced: {charge.invoiced.words}"


def _refunds_text(charge: ChargeExplained | CaptureExplained) -> Iterator[str]:
    if not charge.refunds:
        yield "Refunds: none"
        return
    yield "Refunds:"
    for refund in charge.refunds:
        why = f": {refund.reason}" if refund.reason else ""
        yield f"  {credits_words(refund.amount_micros)} on {_time(refund.recorded_at)} by {refund.by}{why}"
        yield from (f"    {line.words}" for line in refund.lines)
        yield f"  {_after(refund.settled_after_micros, refund.debt_after_micros, refund.version)}"
    yield (
        f"  refunded {format_credits(charge.refunded_micros)} of {format_credits(charge.amount_micros)}, "
        f"so it cost {credits_words(charge.kept_micros)}"
    )


def _waiver_text(waiver: WaiverExplained) -> Iterator[str]:
    yield f"Usage {waiver.usage.usage_key} of team {waiver.team_id}: waived, 0 credits"
    yield from _usage_text(waiver.usage, waiver.version)
    if waiver.hold_id:
        yield f"  hold: {waiver.hold_id}"
    yield ""
    yield f"Why: {waiver.words}"


def _usage_text(usage: UsageTold, version: int) -> Iterator[str]:
    yield f"  record: {usage.id} from {usage.source}"
    if usage.origin:
        yield f"  read from: topic {usage.origin.topic}, partition {usage.origin.partition}, offset {usage.origin.offset}"
    yield f"  occurred {_time(usage.occurred_at)}, recorded {_time(usage.recorded_at)} as version {version}"
    yield f"  action: {usage.action} ({usage.status})"
    if usage.meters:
        yield f"  meters: {_listed(usage.meters)}"
    if usage.dimensions:
        yield f"  dimensions: {_listed(usage.dimensions)}"
    yield from _named_text(usage)


def _named_text(used: UsageTold | CaptureExplained) -> Iterator[str]:
    named = (("member", used.member), ("project", used.project), ("work", used.work), ("step", used.step))
    yield from (f"  {name}: {value}" for name, value in named if value)


def _listed(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(values.items()))


def _after(settled_micros: int, debt_micros: int, version: int) -> str:
    return f"After it (version {version}): settled {format_credits(settled_micros)}, debt {format_credits(debt_micros)}"
