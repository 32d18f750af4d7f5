"""The terms of limits: set, changed, removed; scope and window stay for a limit's life."""

from __future__ import annotations

from domain.account.applying import find_limit
from domain.account.decision import Decision
from domain.account.due import pass_time
from domain.account.events import LimitTerms
from domain.account.limiting import put_limit, scope_of, take_limit
from domain.account.opening import require_open
from domain.account.state import LIMITS_MAX
from domain.amounts import AMOUNT_MAX
from domain.errors import LimitTermsRefused, Malformed, TooManyLimits, UnknownLimit

THRESHOLD_MAX_PERCENT = 1_000


def set_limit(decision: Decision, terms: LimitTerms) -> None:
    """The limit holds from now on with what its window has used so far; one that is there has new terms and keeps its use.

    Raises: LimitTermsRefused; Malformed; TooManyLimits; AccountClosed.
    """
    require_open(decision.account)
    _check(terms)
    pass_time(decision)
    before = find_limit(decision.account, terms.limit_id)
    if before is not None and scope_of(before.terms) != scope_of(terms):
        raise LimitTermsRefused(
            f"limit {terms.limit_id!r} keeps its member, project, action and window: remove it, or choose another limit_id",
            limit_id=terms.limit_id,
        )
    if before is None and len(decision.account.limits) >= LIMITS_MAX:
        raise TooManyLimits(f"the account has {LIMITS_MAX} limits: remove one first")
    put_limit(decision, terms, decision.at, None)


def remove_limit(decision: Decision, limit_id: str) -> None:
    """The limit holds no more. Raises: UnknownLimit; AccountClosed."""
    require_open(decision.account)
    pass_time(decision)
    if find_limit(decision.account, limit_id) is None:
        raise UnknownLimit(f"limit {limit_id[:80]!r} is not set", limit_id=limit_id[:80])
    take_limit(decision, limit_id, decision.at)


def _check(terms: LimitTerms) -> None:
    if not 0 <= terms.cap_micros <= AMOUNT_MAX:
        raise Malformed(f"cap {terms.cap_micros}: 0 to 2^62 micro-credits would be right", field="cap")
    rising = sorted(set(terms.thresholds))
    if terms.thresholds != rising or any(not 1 <= each <= THRESHOLD_MAX_PERCENT for each in rising):
        raise LimitTermsRefused(
            f"thresholds {terms.thresholds}: percentages of the cap from 1 to {THRESHOLD_MAX_PERCENT} in rising order, "
            "such as [50, 80, 100], would be right",
            field="thresholds",
        )
