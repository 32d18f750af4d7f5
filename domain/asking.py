"""Which rule decides which command: every command has one decider, and it gives the ids that the answer tells."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol, TypedDict, Union
from uuid import uuid5

import msgspec

from domain import commands as c
from domain.account.adjusting import lower_balance, raise_balance
from domain.account.applying import find_limit, open_hold
from domain.account.auto_top_up import configure_auto_top_up
from domain.account.chargebacks import lose_chargeback, open_chargeback, win_chargeback
from domain.account.collecting import issue_credit_note, mark_uncollectible, require_creditable
from domain.account.decision import Decision, account_id
from domain.account.disputing import open_dispute, reject_dispute, uphold_dispute
from domain.account.erasing import record_erasure
from domain.account.estimating import USES_MAX, estimate_uses
from domain.account.estimating import PlannedUse as EstimatedUse
from domain.account.events import AccountEvent, InvoiceIssued, QuotePin
from domain.account.funding import (
    AskedLot,
    fail_top_up,
    grant_credits,
    request_top_up,
    top_up_credits,
    void_grant,
)
from domain.account.holding import (
    Denied,
    Use,
    capture_hold,
    extend_hold,
    place_hold,
    release_hold,
    withdraw_quote,
)
from domain.account.invoicing import close_ended_period, require_voidable, void_invoice
from domain.account.limit_terms import remove_limit, set_limit
from domain.account.opening import (
    close_account,
    open_account,
    require_active,
    require_open,
    resume_account,
    schedule_zone_change,
    suspend_account,
)
from domain.account.planning import assign_plan
from domain.account.quoting import pin_quote
from domain.account.refunding import refund_charge
from domain.catalogue import Catalogue
from domain.errors import Malformed, NotAllowed, RoleTooLow, UnknownPlan
from domain.handover import Signer, check_handover, document_of
from domain.invoices.corrections import credit_note_document, digest_of, void_document
from domain.issuer.events import DocumentKind
from domain.issuer.numbering import Drawn, Numbers
from domain.quotes import read_quote
from domain.spending.preflight import PlannedTask, preflight
from domain.spending.saving import saved_plan
from domain.team import acts, deciding, keys
from domain.team.deciding import ADJUSTMENT_CAP_MICROS
from domain.team.decision import TeamDecision
from domain.team.state import Team
from domain.terms import LimitTerms
from domain.work import deciding as working
from domain.work.costs import WorkMove
from domain.work.decision import WorkDecision
from domain.work.events import PlannedCost, PlannedUse, PreflightResult, WorkEstimate
from domain.work.state import Work


class _Ids(TypedDict, total=False):
    """The fields of an answer that a command may fill."""

    amount_micros: int
    lot_id: str
    charge_id: str
    refund_id: str
    outcome: Literal["held", "denied", "applied", "proposed", "passed", "failed"]
    hold_id: str
    hold_expires_at: datetime
    limit_id: str
    plan_id: str
    effective_at: datetime
    dispute_id: str
    adjustment_id: str
    act_id: str
    key_id: str
    payment_reference: str
    invoice: str
    period_start: datetime
    period_end: datetime
    step: str
    revision: int


class Reach(msgspec.Struct, frozen=True):
    """Of which holds a caller disposes: those for these actions (None: for any), those of this member (None: anybody's)."""

    actions: frozenset[str] | None = None
    member: str | None = None


EVERY_HOLD = Reach()


class Given(msgspec.Struct, frozen=True):
    """What a command's answer adds to the account's sums."""

    fields: _Ids
    denied: Denied | None = None

    def ids(self) -> _Ids:
        """The fields to fill."""
        return self.fields


class Papers(Protocol):
    """What is at hand besides the account, in one transaction: numbers of its issuer, events of its stream, and fresh salts."""

    @property
    def numbers(self) -> Numbers:
        """Draws numbers of the issuer."""
        ...

    def event_at(self, version: int) -> AccountEvent:
        """The event that made this version of the account, which is not above its head."""
        ...

    def salt(self) -> bytes:
        """Random bytes that nobody else has, for the digest of a text."""
        ...

    def erase_contexts(self, member: str, version: int) -> tuple[int, int]:
        """Contexts of usage and texts of works of the member are gone; how many of each. ``version`` will say so."""
        ...

    def work_moves(self, work_id: str) -> list[WorkMove]:
        """What was charged, refunded, failed or waived for a work up to the head, in the order of the stream."""
        ...


class Asked:
    """One command's decision on the account, with what its decider may need besides; the team is loaded when it is asked for."""

    def __init__(
        self,
        decision: Decision,
        principal: str,
        key: str,
        catalogue: Callable[[], Catalogue],
        quote_keys: Sequence[bytes],
        load_team: Callable[[], Team],
        papers: Papers | None = None,
        load_work: Callable[[str], Work] | None = None,
        signer: Signer | None = None,
    ) -> None:
        self.decision = decision
        self.principal = principal
        self.key = key
        self.catalogue = catalogue
        self.quote_keys = quote_keys
        self.team_decision: TeamDecision | None = None
        self.work_decision: WorkDecision | None = None
        self.approves: frozenset[str] | None = None
        self.reach = EVERY_HOLD
        self.load_team = load_team
        self._papers = papers
        self._load_work = load_work
        self._signer = signer

    def team(self) -> TeamDecision:
        """The decision on the team's paperwork, at the same instant. Raises: AccountClosed."""
        require_open(self.decision.account)
        return self.any_team()

    def any_team(self) -> TeamDecision:
        """The decision on the team's paperwork, also of one whose account is closed."""
        if self.team_decision is None:
            decision = self.decision
            self.team_decision = TeamDecision(
                self.load_team(), decision.at, decision.actor, decision.correlation_id, decision.reason
            )
            # Both say one instant, also when the clock has gone back since the team's last event.
            decision.at = self.team_decision.at
        return self.team_decision

    def work(self, work_id: str) -> WorkDecision:
        """The decision on one of the team's works, at the same instant. Raises: AccountClosed."""
        require_open(self.decision.account)
        if self.work_decision is None:
            assert self._load_work is not None, "works are decided where they are kept"
            assert self._papers is not None, "texts are kept with a salt"
            decision = self.decision
            self.work_decision = WorkDecision(
                self._load_work(work_id),
                decision.at,
                decision.actor,
                self._papers.salt,
                decision.correlation_id,
                decision.reason,
            )
            # All say one instant, also when the clock has gone back since the work's last event.
            decision.at = self.work_decision.at
        return self.work_decision

    def handover(self, work_id: str, next_use: PlannedUse | None) -> bool:
        """The handover of the work is checked, signed and on file; returns whether it passes. Raises: UnknownWork."""
        work, decision = self.work(work_id), self.decision
        working.require_started(work)
        assert self._papers is not None, "what a work cost is among the papers"
        assert self._signer is not None, "handovers are signed"
        use = (
            None if next_use is None else EstimatedUse(next_use.action, next_use.meters, next_use.dimensions)
        )
        checked = check_handover(
            decision.account,
            self.load_team(),
            work.work,
            self._papers.work_moves(work_id),
            self.catalogue(),
            decision.index,
            decision.at,
            use,
        )
        document = document_of(checked)
        signature = self._signer.sign(document.encode()).hex()
        working.record_handover(
            work, checked.account_version, document, checked.passes, self._signer.key_id, signature
        )
        return checked.passes

    def erase(self, member: str) -> None:
        """What the member wrote is gone, and the account's stream says so."""
        assert self._papers is not None, "contexts are among the papers"
        contexts, texts = self._papers.erase_contexts(member, self.decision.account.version + 1)
        record_erasure(self.decision, member, contexts, texts)

    def issued(self, version: int) -> InvoiceIssued:
        """The event that issued an invoice."""
        assert self._papers is not None, "documents are made where there are papers"
        event = self._papers.event_at(version)
        assert isinstance(event, InvoiceIssued), (
            f"version {version} issued no invoice: {type(event).__name__}"
        )
        return event

    def drawn(self, kind: DocumentKind) -> Drawn:
        """The number of the document that this command issues; asked for once nothing can be refused any more."""
        assert self._papers is not None, "documents are made where there are papers"
        account = self.decision.account
        return self._papers.numbers.draw(
            account.issuer_id, kind, account.team_id, self.id_of(kind), self.decision.at
        )

    def id_of(self, kind: str) -> str:
        """The id of what this command makes, 32 hex digits: fixed by the caller's principal and key."""
        return uuid5(account_id(self.decision.account.team_id), f"{kind} {self.principal} {self.key}").hex


# --- the account ---


def _open(asked: Asked, command: c.OpenAccount) -> Given:
    open_account(
        asked.decision,
        command.team_id,
        command.zone,
        command.anchor_day,
        command.card_id,
        issuer_id=command.issuer_id,
        books_from=command.books_from,
    )
    return Given(_Ids())


def _suspend(asked: Asked, command: c.SuspendAccount) -> Given:
    suspend_account(asked.decision)
    return Given(_Ids())


def _resume(asked: Asked, command: c.ResumeAccount) -> Given:
    resume_account(asked.decision)
    return Given(_Ids())


def _close(asked: Asked, command: c.CloseAccount) -> Given:
    close_account(asked.decision)
    return Given(_Ids())


def _assign_plan(asked: Asked, command: c.AssignPlan) -> Given:
    require_open(asked.decision.account)
    plan = asked.catalogue().plan(command.plan_id)
    if plan is None:
        raise UnknownPlan(f"plan {command.plan_id[:80]!r} is not published", plan_id=command.plan_id[:80])
    effective_at = assign_plan(asked.decision, plan, command.takes_effect)
    return Given(_Ids(plan_id=plan.plan_id, effective_at=effective_at))


def _schedule_zone(asked: Asked, command: c.ScheduleZoneChange) -> Given:
    schedule_zone_change(asked.decision, command.zone)
    return Given(_Ids(effective_at=asked.decision.account.zones[-1].since))


# --- credits that come and go ---


def _lot(command: c.GrantCredits | c.TopUpCredits) -> AskedLot:
    return AskedLot(
        effective_at=command.effective_at,
        expires_at=command.expires_at,
        priority=command.priority,
        action=command.action,
        project=command.project,
    )


def _grant(asked: Asked, command: c.GrantCredits) -> Given:
    lot_id = grant_credits(asked.decision, command.amount_micros, command.source, _lot(command))
    return Given(_Ids(amount_micros=command.amount_micros, lot_id=lot_id))


def _void(asked: Asked, command: c.VoidGrant) -> Given:
    return Given(_Ids(amount_micros=void_grant(asked.decision, command.lot_id), lot_id=command.lot_id))


def _top_up(asked: Asked, command: c.TopUpCredits) -> Given:
    lot_id = top_up_credits(
        asked.decision,
        command.amount_micros,
        payment_reference=command.payment_reference,
        cost_basis=command.cost_basis,
        asked=_lot(command),
    )
    return Given(
        _Ids(amount_micros=command.amount_micros, lot_id=lot_id, payment_reference=command.payment_reference)
    )


def _request_top_up(asked: Asked, command: c.RequestTopUp) -> Given:
    request_top_up(
        asked.decision,
        command.amount_micros,
        payment_reference=command.payment_reference,
        cost_basis=command.cost_basis,
    )
    return Given(_Ids(amount_micros=command.amount_micros, payment_reference=command.payment_reference))


def _fail_top_up(asked: Asked, command: c.FailTopUp) -> Given:
    fail_top_up(asked.decision, command.payment_reference, command.failure)
    return Given(_Ids(payment_reference=command.payment_reference))


def _configure_auto_top_up(asked: Asked, command: c.ConfigureAutoTopUp) -> Given:
    configure_auto_top_up(
        asked.decision,
        enabled=command.enabled,
        threshold_micros=command.threshold_micros,
        amount_micros=command.amount_micros,
        cost_basis=command.cost_basis,
        money_cap_minor=command.money_cap_minor,
        window=command.window,
        failures_max=command.failures_max,
    )
    return Given(_Ids())


def _open_chargeback(asked: Asked, command: c.OpenChargeback) -> Given:
    withheld = open_chargeback(asked.decision, command.payment_reference)
    return Given(_Ids(amount_micros=withheld, payment_reference=command.payment_reference))


def _win_chargeback(asked: Asked, command: c.WinChargeback) -> Given:
    win_chargeback(asked.decision, command.payment_reference)
    return Given(_Ids(payment_reference=command.payment_reference))


def _lose_chargeback(asked: Asked, command: c.LoseChargeback) -> Given:
    lose_chargeback(asked.decision, command.payment_reference)
    return Given(_Ids(payment_reference=command.payment_reference))


def _adjust(asked: Asked, command: c.AdjustBalance) -> Given:
    require_open(asked.decision.account)
    if command.amount_micros > ADJUSTMENT_CAP_MICROS:
        adjustment_id = deciding.propose_adjustment(asked.team(), command.direction, command.amount_micros)
        return Given(
            _Ids(outcome="proposed", adjustment_id=adjustment_id, amount_micros=command.amount_micros)
        )
    return _adjusted(asked, command.direction, command.amount_micros, None)


def _approve(asked: Asked, command: c.ApproveAdjustment) -> Given:
    proposed = deciding.approve_adjustment(asked.team(), command.adjustment_id)
    # The reason on the account's event is the one that the adjustment was proposed for.
    asked.decision.reason = proposed.reason
    return _adjusted(asked, proposed.direction, proposed.amount_micros, proposed.adjustment_id)


def _adjusted(asked: Asked, direction: str, amount_micros: int, adjustment_id: str | None) -> Given:
    fields = _Ids(outcome="applied", amount_micros=amount_micros)
    if direction == "raise":
        fields["lot_id"] = raise_balance(asked.decision, amount_micros, adjustment_id)
    else:
        lower_balance(asked.decision, amount_micros, adjustment_id)
    if adjustment_id is not None:
        fields["adjustment_id"] = adjustment_id
    return Given(fields)


# --- periods and invoices ---


def _close_period(asked: Asked, command: c.ClosePeriod) -> Given:
    start, end = close_ended_period(asked.decision, command.period_start)
    return Given(_Ids(period_start=start, period_end=end))


def _void_invoice(asked: Asked, command: c.VoidInvoice) -> Given:
    decision = asked.decision
    issued = asked.issued(require_voidable(decision, command.invoice).version)
    drawn = asked.drawn("void")
    document = void_document(
        command.team_id, drawn, issued, decision.at, decision.reason, reissue=command.reissue
    )
    void_invoice(
        decision,
        command.invoice,
        drawn,
        reissue=command.reissue,
        shape=document.shape,
        digest=digest_of(document),
    )
    return Given(_Ids(invoice=drawn.invoice))


def _issue_credit_note(asked: Asked, command: c.IssueCreditNote) -> Given:
    decision, lines = asked.decision, command.lines
    on_file = require_creditable(decision, command.invoice, command.currency, lines)
    issued = asked.issued(on_file.version)
    drawn = asked.drawn("credit_note")
    document = credit_note_document(
        command.team_id, drawn, issued, decision.at, decision.reason, command.currency, lines
    )
    issue_credit_note(
        decision,
        command.invoice,
        drawn,
        currency=command.currency,
        lines=lines,
        shape=document.shape,
        digest=digest_of(document),
    )
    return Given(_Ids(invoice=drawn.invoice))


def _mark_uncollectible(asked: Asked, command: c.MarkUncollectible) -> Given:
    mark_uncollectible(asked.decision, command.invoice)
    return Given(_Ids(invoice=command.invoice))


# --- charges ---


def _refund(asked: Asked, command: c.RefundCharge) -> Given:
    refund_id = asked.id_of("refund")
    amount = refund_charge(asked.decision, command.charge_id, command.amount_micros, refund_id)
    return Given(_Ids(amount_micros=amount, charge_id=command.charge_id, refund_id=refund_id))


def _open_dispute(asked: Asked, command: c.OpenChargeDispute) -> Given:
    return Given(_Ids(dispute_id=open_dispute(asked.decision, command.charge_ids, command.evidence)))


def _uphold_dispute(asked: Asked, command: c.UpholdChargeDispute) -> Given:
    refund_id = asked.id_of("refund")
    amount = uphold_dispute(asked.decision, command.dispute_id, refund_id)
    return Given(_Ids(dispute_id=command.dispute_id, refund_id=refund_id, amount_micros=amount))


def _reject_dispute(asked: Asked, command: c.RejectChargeDispute) -> Given:
    reject_dispute(asked.decision, command.dispute_id)
    return Given(_Ids(dispute_id=command.dispute_id))


# --- holds and limits ---


def _place_hold(asked: Asked, command: c.PlaceHold) -> Given:
    require_active(asked.decision.account)
    use = Use(command.action, command.member, command.project, command.work, command.step)
    amount, pin = _amount_to_hold(asked, command)
    held = place_hold(asked.decision, amount, use, command.lasts_seconds, pin)
    if isinstance(held, Denied):
        return Given(_Ids(outcome="denied", amount_micros=amount), held)
    expires_at = next(hold.expires_at for hold in asked.decision.account.holds if hold.hold_id == held)
    return Given(_Ids(outcome="held", hold_id=held, hold_expires_at=expires_at, amount_micros=amount))


def _amount_to_hold(asked: Asked, command: c.PlaceHold) -> tuple[int, QuotePin | None]:
    if (command.amount_micros is None) == (command.quote is None):
        raise Malformed("amount or quote: one of the two would be right", field="amount")
    if command.quote is None:
        assert command.amount_micros is not None
        return command.amount_micros, None
    quote = read_quote(command.quote, asked.quote_keys)
    pin = pin_quote(asked.decision, asked.catalogue(), quote, command.action, command.project)
    return pin.total_micros, pin


def _within_reach(asked: Asked, hold_id: str) -> None:
    """The caller disposes of the hold; of one that is not open its own rule speaks. Raises: NotAllowed."""
    hold, reach = open_hold(asked.decision.account, hold_id), asked.reach
    if hold is None:
        return
    if reach.actions is not None and hold.action not in reach.actions:
        raise NotAllowed(
            f"hold {hold_id} is for action {hold.action!r}, which the key does not list: ask for a key that does",
            hold_id=hold_id,
        )
    if reach.member is not None and hold.member != reach.member:
        raise NotAllowed(
            f"hold {hold_id} is not member {reach.member!r}'s own: ask whoever manages the team",
            hold_id=hold_id,
        )


def _extend_hold(asked: Asked, command: c.ExtendHold) -> Given:
    _within_reach(asked, command.hold_id)
    expires_at = extend_hold(asked.decision, command.hold_id, command.lasts_seconds)
    return Given(_Ids(hold_id=command.hold_id, hold_expires_at=expires_at))


def _capture_hold(asked: Asked, command: c.CaptureHold) -> Given:
    _within_reach(asked, command.hold_id)
    charge_id = asked.id_of("capture")
    capture_hold(asked.decision, command.hold_id, command.amount_micros, command.occurred_at, charge_id)
    return Given(_Ids(hold_id=command.hold_id, charge_id=charge_id, amount_micros=command.amount_micros))


def _release_hold(asked: Asked, command: c.ReleaseHold) -> Given:
    _within_reach(asked, command.hold_id)
    return Given(_Ids(hold_id=command.hold_id, amount_micros=release_hold(asked.decision, command.hold_id)))


def _withdraw_quote(asked: Asked, command: c.WithdrawQuote) -> Given:
    withdraw_quote(asked.decision, command.quote_id)
    return Given(_Ids())


def _below_the_ceiling(asked: Asked, limit: LimitTerms | None) -> None:
    """Limits of the whole team are the ceiling under which its admins set those of members, projects and actions."""
    if limit is None or asked.decision.actor.role != "admin":
        return
    if limit.member is None and limit.project is None and limit.action is None:
        raise RoleTooLow(
            "a limit of the whole team is its owners': name a member, project or action, or ask an owner",
            role="admin",
        )


def _set_limit(asked: Asked, command: c.SetLimit) -> Given:
    _below_the_ceiling(asked, command.limit)
    set_limit(asked.decision, command.limit)
    return Given(_Ids(limit_id=command.limit.limit_id))


def _remove_limit(asked: Asked, command: c.RemoveLimit) -> Given:
    found = find_limit(asked.decision.account, command.limit_id)
    _below_the_ceiling(asked, found.terms if found else None)
    remove_limit(asked.decision, command.limit_id)
    return Given(_Ids(limit_id=command.limit_id))


# --- the team ---


def _add_member(asked: Asked, command: c.AddMember) -> Given:
    deciding.add_member(asked.team(), command.member, command.role)
    return Given(_Ids())


def _change_role(asked: Asked, command: c.ChangeMemberRole) -> Given:
    deciding.change_member_role(asked.team(), command.member, command.role)
    return Given(_Ids())


def _remove_member(asked: Asked, command: c.RemoveMember) -> Given:
    deciding.remove_member(asked.team(), command.member)
    return Given(_Ids())


def _create_key(asked: Asked, command: c.CreateKey) -> Given:
    key_id = keys.key_id_of(asked.id_of("key"))
    keys.create_key(asked.team(), key_id, command.member, command.expires_at, command.scopes)
    return Given(_Ids(key_id=key_id))


def _revoke_key(asked: Asked, command: c.RevokeKey) -> Given:
    keys.revoke_key(asked.any_team(), command.key_id)
    return Given(_Ids(key_id=command.key_id))


def _record_access(asked: Asked, command: c.RecordAccess) -> Given:
    acts.record_access(asked.any_team(), command.operation, command.hour)
    return Given(_Ids())


def _approve_act(asked: Asked, command: c.ApproveAct) -> Given:
    proposed = acts.approve_act(asked.any_team(), command.act_id)
    if asked.approves is not None and proposed.operation not in asked.approves:
        raise RoleTooLow(
            f"role {asked.decision.actor.role!r} may not approve {proposed.operation.replace('_', ' ')}: ask somebody who may",
            role=asked.decision.actor.role,
        )
    act = msgspec.json.decode(proposed.command, type=ANY_COMMAND)
    # The reason on what follows is the one that it was proposed for.
    asked.decision.reason = act.reason
    given = DECIDERS[type(act)](asked, act)
    return Given(_Ids(**given.fields, act_id=proposed.act_id), given.denied)


_WITH_AMOUNT = (c.GrantCredits, c.VoidGrant, c.RefundCharge, c.RequestTopUp, c.ConfigureAutoTopUp)
"""What draws no number of a document, so that it can be decided first, and its amount told."""


def propose(asked: Asked, command: c.Command, operation: str, amount_micros: int | None) -> Given:
    """The command waits for a second person, as ``acts.propose_act`` says."""
    text = msgspec.json.encode(command).decode()
    act_id = acts.propose_act(asked.any_team(), operation, text, amount_micros)
    fields = _Ids(outcome="proposed", act_id=act_id)
    if amount_micros is not None:
        fields["amount_micros"] = amount_micros
    return Given(fields)


def needs_another(command: c.Command, without_amount: bool, load_team: Callable[[], Team]) -> bool:
    """Whether a command without an amount waits for a second person; a team's first owner does not: nobody is harmed."""
    if not without_amount or isinstance(command, _WITH_AMOUNT):
        return False
    first_owner = isinstance(command, c.AddMember) and command.role == "owner"
    return not (first_owner and not load_team().members)


def asked_amount(command: c.Command, given: Given) -> int | None:
    """The credits that a command is about: what came of it, or what it asks for."""
    if isinstance(command, c.ConfigureAutoTopUp):
        return command.amount_micros if command.enabled else None
    return given.fields.get("amount_micros")


def _set_billing(asked: Asked, command: c.SetBillingDetails) -> Given:
    deciding.set_billing_details(asked.team(), command.details)
    return Given(_Ids())


def _set_payment_method(asked: Asked, command: c.SetPaymentMethod) -> Given:
    deciding.set_payment_method(asked.team(), command.method)
    return Given(_Ids())


def _remove_payment_method(asked: Asked, command: c.RemovePaymentMethod) -> Given:
    deciding.remove_payment_method(asked.team())
    return Given(_Ids())


# --- works ---


def _whose(asked: Asked, member: str | None) -> str:
    """Whose text it is: the member who is named, else whoever asks. Raises: Malformed."""
    working.check_id("member", member)
    return member or asked.principal


def _start_work(asked: Asked, command: c.StartWork) -> Given:
    decision = asked.work(command.work_id or asked.id_of("work"))
    member = _whose(asked, command.member)
    estimated = _estimated(asked, command.planned, command.project) if command.planned else None
    checks = _preflight(asked, command, member) if command.planned else []
    working.start_work(decision, command.brief, member, command.project, estimated, checks)
    return Given(_Ids() if estimated is None else _Ids(amount_micros=estimated.amount_micros))


def _preflight(asked: Asked, command: c.StartWork, member: str) -> list[PreflightResult]:
    """The checklist before the start, by the member whose work it is."""
    decision = asked.decision
    tasks = [
        PlannedTask(EstimatedUse(use.action, use.meters, use.dimensions, project=command.project), use.times)
        for use in command.planned
    ]
    told = preflight(
        decision.account, asked.load_team(), asked.catalogue(), decision.index, decision.at, tasks, member
    )
    return [
        PreflightResult(check=each.name, passes=each.passes, why=each.why, remedy=each.remedy)
        for each in told.checks
    ]


def _estimated(asked: Asked, planned: Sequence[PlannedUse], project: str | None) -> WorkEstimate:
    """What the uses would be charged now. Raises: as charging does."""
    total = sum(use.times for use in planned)
    if len(planned) > working.PLANNED_USES_MAX or any(
        not 1 <= use.times <= working.TIMES_MAX for use in planned
    ):
        raise Malformed(
            f"planned has {len(planned)} uses: at most {working.PLANNED_USES_MAX} would be right,"
            f" each 1 to {working.TIMES_MAX} times",
            field="planned",
        )
    decision, catalogue = asked.decision, asked.catalogue()
    # As many as are estimated in one call are charged one after the other; of more, each times what one would be now.
    repeated = total <= USES_MAX
    uses = [
        EstimatedUse(use.action, use.meters, use.dimensions, project=project)
        for use in planned
        for _ in range(use.times if repeated else 1)
    ]
    told = estimate_uses(decision.account, catalogue, decision.index, decision.at, uses).uses
    costs: list[PlannedCost] = []
    for use in planned:
        count = use.times if repeated else 1
        own, told = told[:count], told[count:]
        amount = sum(each.amount_micros for each in own) * (1 if repeated else use.times)
        costs.append(PlannedCost(planned=use, amount_micros=amount))
    return WorkEstimate(
        account_version=decision.account.version,
        amount_micros=sum(each.amount_micros for each in costs),
        uses=costs,
    )


def _save_work_step(asked: Asked, command: c.SaveWorkStep) -> Given:
    revision = working.save_step(
        asked.work(command.work_id), command.step, command.text, _whose(asked, command.member)
    )
    return Given(_Ids(step=command.step, revision=revision))


def _check_handover(asked: Asked, command: c.CheckHandover) -> Given:
    passes = asked.handover(command.work_id, command.next_use)
    return Given(_Ids(outcome="passed" if passes else "failed"))


def _save_work(asked: Asked, command: c.SaveWork) -> Given:
    working.save_work(asked.work(command.work_id), command.result, _whose(asked, command.member))
    return Given(_Ids())


def _erase_contexts(asked: Asked, command: c.EraseContexts) -> Given:
    working.check_id("member", command.member)
    asked.erase(command.member)
    return Given(_Ids())


# --- spending plans ---


def _save_spending_plan(asked: Asked, command: c.SaveSpendingPlan) -> Given:
    team, decision = asked.team(), asked.decision
    plan = saved_plan(
        decision.account,
        team.team,
        asked.catalogue(),
        decision.index,
        decision.at,
        plan_id=deciding.next_plan_id(team),
        audience=command.audience,
        lines=command.volumes,
        days=command.days,
    )
    deciding.save_spending_plan(team, plan)
    return Given(_Ids(plan_id=plan.plan_id, amount_micros=plan.expected.cost_micros))


DECIDERS: dict[type[c.Command], Callable[[Asked, Any], Given]] = {
    c.OpenAccount: _open,
    c.SuspendAccount: _suspend,
    c.ResumeAccount: _resume,
    c.CloseAccount: _close,
    c.AssignPlan: _assign_plan,
    c.ScheduleZoneChange: _schedule_zone,
    c.GrantCredits: _grant,
    c.VoidGrant: _void,
    c.TopUpCredits: _top_up,
    c.RequestTopUp: _request_top_up,
    c.FailTopUp: _fail_top_up,
    c.ConfigureAutoTopUp: _configure_auto_top_up,
    c.OpenChargeback: _open_chargeback,
    c.WinChargeback: _win_chargeback,
    c.LoseChargeback: _lose_chargeback,
    c.AdjustBalance: _adjust,
    c.ApproveAdjustment: _approve,
    c.ClosePeriod: _close_period,
    c.VoidInvoice: _void_invoice,
    c.IssueCreditNote: _issue_credit_note,
    c.MarkUncollectible: _mark_uncollectible,
    c.RefundCharge: _refund,
    c.OpenChargeDispute: _open_dispute,
    c.UpholdChargeDispute: _uphold_dispute,
    c.RejectChargeDispute: _reject_dispute,
    c.PlaceHold: _place_hold,
    c.ExtendHold: _extend_hold,
    c.CaptureHold: _capture_hold,
    c.ReleaseHold: _release_hold,
    c.WithdrawQuote: _withdraw_quote,
    c.SetLimit: _set_limit,
    c.RemoveLimit: _remove_limit,
    c.AddMember: _add_member,
    c.ChangeMemberRole: _change_role,
    c.RemoveMember: _remove_member,
    c.CreateKey: _create_key,
    c.RevokeKey: _revoke_key,
    c.RecordAccess: _record_access,
    c.ApproveAct: _approve_act,
    c.SetBillingDetails: _set_billing,
    c.SetPaymentMethod: _set_payment_method,
    c.RemovePaymentMethod: _remove_payment_method,
    c.SaveSpendingPlan: _save_spending_plan,
    c.StartWork: _start_work,
    c.SaveWorkStep: _save_work_step,
    c.CheckHandover: _check_handover,
    c.SaveWork: _save_work,
    c.EraseContexts: _erase_contexts,
}
"""The decider of every command there is."""

ANY_COMMAND: Any = Union[tuple(DECIDERS)]  # noqa: UP007 - made from the table
"""What a command that waits for a second person is read as."""
