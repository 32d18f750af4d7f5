"""Automatic top-up: one request in flight, a money cap per window, a pause after a failure, an end after several."""

from __future__ import annotations

from datetime import datetime, timedelta

from domain.account import lots
from domain.account.calendar import window_at
from domain.account.decision import Decision, due_id
from domain.account.due import pass_time
from domain.account.events import (
    AutoTopUpConfigured,
    AutoTopUpFailed,
    AutoTopUpRequested,
    CostBasis,
    LimitWindow,
)
from domain.account.opening import require_open
from domain.account.state import AutoTopUp, TeamAccount
from domain.amounts import AMOUNT_MAX, format_credits
from domain.errors import AutoTopUpRefused

BACK_OFF = timedelta(minutes=10)
"""The pause after the first failure; it doubles with each failure in a row."""

FAILURES_MAX = 20


def configure_auto_top_up(
    decision: Decision,
    *,
    enabled: bool,
    threshold_micros: int = 0,
    amount_micros: int = 0,
    cost_basis: CostBasis | None = None,
    money_cap_minor: int = 0,
    window: LimitWindow = "month",
    failures_max: int = 3,
) -> None:
    """Automatic top-up is off, or buys the amount when less than the threshold is available. A stopped one starts again.

    Raises: AutoTopUpRefused, naming what is missing; AccountClosed.
    """
    require_open(decision.account)
    pass_time(decision)
    if enabled:
        _check(threshold_micros, amount_micros, cost_basis, money_cap_minor, failures_max)
    decision.record(
        AutoTopUpConfigured(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            reason=decision.reason,
            enabled=enabled,
            threshold_micros=threshold_micros,
            amount_micros=amount_micros,
            cost_basis=cost_basis,
            money_cap_minor=money_cap_minor,
            window=window,
            failures_max=failures_max,
        )
    )


def look_at_top_up(decision: Decision) -> None:
    """A top-up is requested when less than the threshold is available and nothing speaks against it.

    Asked after spending or holding, never when time alone passes, so extra looks change nothing.
    """
    account = decision.account
    auto = account.auto_top_up
    if auto is None or not _may_request(account, auto, decision.at):
        return
    available = lots.unscoped_micros(account, decision.at)
    terms, basis = auto.terms, auto.terms.cost_basis
    if available - account.debt_micros >= terms.threshold_micros or basis is None:
        return
    start, end = window_at(account, decision.index, terms.window, decision.at)
    spent = (auto.spent_minor if auto.window_start == start else 0) + _money(basis)
    if spent > terms.money_cap_minor:
        return
    decision.record(
        AutoTopUpRequested(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            payment_reference="auto-"
            + due_id("auto top-up", f"{account.team_id} {account.version}", decision.at),
            amount_micros=terms.amount_micros,
            cost_basis=basis,
            available_micros=available,
            window_start=start,
            window_end=end,
            spent_minor=spent,
        )
    )


def fail_auto_top_up(
    decision: Decision, payment_reference: str, failure: str, record_key: str | None
) -> None:
    """The request in flight failed: what it claimed of the money cap stays claimed, and the next one waits or never comes."""
    auto = decision.account.auto_top_up
    assert auto is not None, "automatic top-up is not configured"
    failures = auto.failures + 1
    stopped = failures >= auto.terms.failures_max
    decision.record(
        AutoTopUpFailed(
            recorded_at=decision.at,
            actor=decision.actor,
            correlation_id=decision.correlation_id,
            payment_reference=payment_reference,
            failure=failure,
            failures=failures,
            retry_at=None if stopped else decision.at + BACK_OFF * 2 ** (failures - 1),
            record_key=record_key,
        )
    )


def _may_request(account: TeamAccount, auto: AutoTopUp, at: datetime) -> bool:
    return (
        auto.terms.enabled
        and not auto.stopped
        and auto.in_flight is None
        and account.status == "open"
        and (auto.retry_at is None or auto.retry_at <= at)
    )


def _money(basis: CostBasis) -> int:
    return basis.price_minor + basis.tax_minor


def _check(
    threshold_micros: int,
    amount_micros: int,
    cost_basis: CostBasis | None,
    money_cap_minor: int,
    failures_max: int,
) -> None:
    if not 0 < threshold_micros <= AMOUNT_MAX or not 0 < amount_micros <= AMOUNT_MAX:
        raise AutoTopUpRefused(
            f"threshold {format_credits(threshold_micros)} and amount {format_credits(amount_micros)}: "
            "both must be more than 0, at most 2^62 micro-credits",
            field="amount",
        )
    if cost_basis is None or _money(cost_basis) <= 0 or money_cap_minor < _money(cost_basis):
        raise AutoTopUpRefused(
            f"money cap {money_cap_minor}: a price is needed, and a cap that holds it at least once",
            field="money_cap_minor",
        )
    if not 1 <= failures_max <= FAILURES_MAX:
        raise AutoTopUpRefused(
            f"failures_max {failures_max}: 1 to {FAILURES_MAX} would be right", field="failures_max"
        )
