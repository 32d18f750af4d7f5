"""The document of a plan: what may be written in it, what is wrong with it, and the terms it becomes.

Credits are quoted decimal strings; money (minor units) and percentages are whole numbers. Its digest is the SHA-256 of its
canonical JSON.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from domain.amounts import AMOUNT_MAX, parse_credits
from domain.documents import (
    DECIMAL_HINT,
    Finding,
    action_findings,
    canonical_json,
    credits_findings,
    document_digest,
    document_id_findings,
    id_findings,
    reading_findings,
    size_findings,
)
from domain.errors import UnknownEventShape
from domain.terms import CapturePolicy, LimitTerms, LimitWindow, PlanTerms

LIMITS_MAX = 50
CAPTURES_MAX = 100
THRESHOLD_PERCENT_MAX = 1_000
THRESHOLDS_MAX = 10

_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_HINT = f"credits: {DECIMAL_HINT}; money and percentages are whole numbers"


class _Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the document; a key that is not known is a finding, so a typing error cannot change a term."""


class PriceLine(_Line, frozen=True, kw_only=True):
    """What one period costs, in minor units of an ISO 4217 currency."""

    price_minor: int
    currency: str


class LimitLine(_Line, frozen=True, kw_only=True):
    """A limit that comes with the plan: what it counts (not said: any), over which window, and whether it refuses."""

    limit_id: str
    window: LimitWindow
    cap: str
    hard: bool
    member: str | None = None
    project: str | None = None
    action: str | None = None
    thresholds: list[int] = []


class PlanDocument(_Line, frozen=True, kw_only=True):
    """A whole plan. ``captures`` say, by action, how a capture by request above its hold is met."""

    plan_id: str
    card_id: str
    allowance: str
    price: PriceLine
    rollover_cap: str = "0"
    overdraft_cap: str = "0"
    captures: dict[str, CapturePolicy] = {}
    limits: list[LimitLine] = []
    description: str = ""


def check_plan(document: Mapping[str, object]) -> list[Finding]:
    """Everything that is wrong with a document on its own; none when it may be published.

    Whether its rate card and actions are known is checked by ``domain.catalogue``.
    """
    findings = _shape_findings(document)
    if findings:
        return findings
    plan = read_plan(document)
    return [*_head_findings(plan), *_capture_findings(plan), *_limits_findings(plan)] or size_findings(
        canonical_json(document)
    )


def read_plan(document: Mapping[str, object]) -> PlanDocument:
    """The document as what it holds. It was checked before."""
    return msgspec.convert(document, type=PlanDocument)


def load_plan(canonical: bytes, *, version: int) -> PlanTerms:
    """The terms that a published document became.

    Raises: UnknownEventShape when the document holds what this code does not know: it was published by a newer one.
    """
    try:
        plan = msgspec.json.decode(canonical, type=PlanDocument)
    except msgspec.ValidationError as error:
        raise UnknownEventShape(f"plan version {version} is of a newer shape: {error}") from error
    return PlanTerms(
        plan_id=plan.plan_id,
        version=version,
        digest=document_digest(canonical),
        card_id=plan.card_id,
        allowance_micros=parse_credits(plan.allowance, "allowance"),
        rollover_cap_micros=parse_credits(plan.rollover_cap, "rollover_cap"),
        overdraft_cap_micros=parse_credits(plan.overdraft_cap, "overdraft_cap"),
        captures=dict(sorted(plan.captures.items())),
        limits=[_limit(line) for line in plan.limits],
        price_minor=plan.price.price_minor,
        currency=plan.price.currency,
    )


def actions_named(plan: PlanDocument) -> Iterator[tuple[str, str]]:
    """Every place of the document that names an action, and the action."""
    for action in plan.captures:
        yield f"captures.{action}", action
    for number, line in enumerate(plan.limits):
        if line.action is not None:
            yield f"limits[{number}].action", line.action


def _limit(line: LimitLine) -> LimitTerms:
    return LimitTerms(
        limit_id=line.limit_id,
        window=line.window,
        cap_micros=parse_credits(line.cap, "cap"),
        hard=line.hard,
        member=line.member,
        project=line.project,
        action=line.action,
        thresholds=list(line.thresholds),
    )


def _shape_findings(document: Mapping[str, object]) -> list[Finding]:
    """What keeps the document from being read at all: the first fault of its head and of every limit."""
    findings = reading_findings({**document, "limits": []}, PlanDocument, "document", _HINT)
    limits = document.get("limits", [])
    if not isinstance(limits, list):
        return [*findings, Finding("limits", "limits are tables: write each under [[limits]]")]
    for number, limit in enumerate(limits):
        findings += reading_findings(limit, LimitLine, f"limits[{number}]", _HINT)
    return findings


def _head_findings(plan: PlanDocument) -> Iterator[Finding]:
    yield from document_id_findings("plan_id", plan.plan_id, "studio")
    yield from document_id_findings("card_id", plan.card_id, "standard")
    yield from credits_findings("allowance", plan.allowance)
    yield from credits_findings("rollover_cap", plan.rollover_cap)
    yield from credits_findings("overdraft_cap", plan.overdraft_cap)
    if not 0 <= plan.price.price_minor <= AMOUNT_MAX:
        yield Finding(
            "price.price_minor",
            f"{plan.price.price_minor} is no price: write minor units (cents) from 0 to 2^62",
        )
    if not _CURRENCY.fullmatch(plan.price.currency):
        yield Finding(
            "price.currency",
            f"{plan.price.currency[:80]!r} is no currency: write an ISO 4217 code such as 'EUR'",
        )


def _capture_findings(plan: PlanDocument) -> Iterator[Finding]:
    if len(plan.captures) > CAPTURES_MAX:
        yield Finding("captures", f"names {len(plan.captures)} actions: at most {CAPTURES_MAX}")
    for action, policy in plan.captures.items():
        where = f"captures.{action[:80]}"
        yield from action_findings(where, action)
        if policy == "overdraft" and not plan.overdraft_cap.strip("0."):
            yield Finding(
                where, "may make debt, but overdraft_cap allows none: give the plan an overdraft_cap"
            )


def _limits_findings(plan: PlanDocument) -> Iterator[Finding]:
    if len(plan.limits) > LIMITS_MAX:
        yield Finding("limits", f"are {len(plan.limits)}: a plan has at most {LIMITS_MAX}")
    seen: set[str] = set()
    for number, line in enumerate(plan.limits):
        yield from _limit_findings(line, f"limits[{number}]")
        if line.limit_id in seen:
            yield Finding(
                f"limits[{number}].limit_id", f"{line.limit_id[:80]!r} is listed twice: one id, one limit"
            )
        seen.add(line.limit_id)


def _limit_findings(line: LimitLine, where: str) -> Iterator[Finding]:
    yield from id_findings(f"{where}.limit_id", line.limit_id)
    yield from credits_findings(f"{where}.cap", line.cap)
    for name, scope in (("member", line.member), ("project", line.project)):
        if scope is not None:
            yield from id_findings(f"{where}.{name}", scope)
    if line.action is not None:
        yield from action_findings(f"{where}.action", line.action)
    rising = sorted(set(line.thresholds))
    if rising != line.thresholds or not all(1 <= each <= THRESHOLD_PERCENT_MAX for each in rising):
        yield Finding(
            f"{where}.thresholds",
            f"{line.thresholds[:20]} do not rise from 1 to {THRESHOLD_PERCENT_MAX} percent: write such as [50, 80, 100]",
        )
    if len(line.thresholds) > THRESHOLDS_MAX:
        yield Finding(
            f"{where}.thresholds", f"are {len(line.thresholds)}: a limit has at most {THRESHOLDS_MAX}"
        )
