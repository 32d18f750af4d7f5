"""The model's side of a story: each step told to one independent model a team, by the names of the story itself."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import msgspec

from domain import commands as c
from domain.account.events import CostBasis, LimitTerms
from domain.usage import UsageRecord
from tests.domain.model import FAR, Model, ModelRefusal, no
from tests.simulation import world
from tests.simulation.stories import Again, Ask, AskQuote, ProviderAnswers, Step, Tick

Heard = dict[str, Any]
"""What came of a step, in a form that both sides share."""

CARDS = world.model_cards()


def plain(at: datetime) -> datetime:
    """UTC without its zone, as the model keeps time."""
    return at.replace(tzinfo=None)


def named(placeholder: str) -> str:
    """What the model calls the thing: "@12" for "@12.hold_id", a record's own id for its charge."""
    return placeholder.removeprefix("usage:").split(".")[0]


class Told(Model):
    """The model, and a door for what it has no rule of its own for: what names nothing that there is."""

    def refuse(self, code: str) -> None:
        """A no of any kind."""
        raise ModelRefusal(code)


class Oracle:
    """Every team's model, and what they made of the steps so far."""

    def __init__(self) -> None:
        self.models: dict[str, Told] = {}
        self.asked: dict[tuple[str, int], Step] = {}
        self.autos: dict[str, str] = {}
        self.answered: dict[tuple[str, str, int], tuple[bytes, Heard]] = {}
        self.heard_autos: set[tuple[str, str]] = set()

    def hear(self, step: Step, request: tuple[int, CostBasis] | None) -> Heard:
        """What becomes of the step; ``request`` is what the latest automatic request asked for."""
        try:
            result = self._ask(step, request)
        except ModelRefusal as refusal:
            if isinstance(step.ask, UsageRecord):
                return {"outcome": "parked", "code": str(refusal), "auto": False}
            return {"outcome": str(refusal)}
        auto = result.get("auto")
        if auto and (step.team, auto) not in self.heard_autos:
            # What is answered once more under an old key requests nothing.
            self.heard_autos.add((step.team, auto))
            self.autos[step.team] = auto
        return shared(result)

    def view(self, team: str, at: datetime) -> dict[str, Any]:
        """The team as it is at an instant."""
        model = self.models[team]
        seen = model.look(plain(at))
        order = {lot["name"]: place for place, lot in enumerate(seen["lots"])}
        return {
            **{key: seen[key] for key in _SAME},
            "auto": seen.auto.flight is not None,
            "plan": _plan_named(seen.plan if seen.plan.plan_id else None),
            "pending": seen["pending"] and _plan_named(seen["pending"][1]),
            "lots": [tuple(lot[key] for key in _LOT) for lot in seen["lots"]],
            "holds": [_hold_told(hold, order) for hold in seen.open_holds.values()],
            "limits": {
                name: _limit_told(limit, model.counted(limit, model.t)) for name, limit in seen.limits.items()
            },
        }

    def _ask(self, step: Step, request: tuple[int, CostBasis] | None) -> Heard:
        ask, t = step.ask, plain(step.at)
        if isinstance(ask, c.OpenAccount) and step.team not in self.models:
            self.models[step.team] = Told(t, ask.zone, ask.anchor_day, CARDS)
            self.asked[step.team, step.number] = step
            key = (step.team, step.principal, step.number)
            self.answered[key] = msgspec.json.encode(ask), {"outcome": "done"}
            return {"outcome": "done"}
        model = self.models[step.team]
        if isinstance(ask, Again):
            first = self.asked[step.team, ask.step]
            return self._once(step.team, t, first.number, changed(first.ask, ask), first.principal)
        self.asked[step.team, step.number] = step
        if isinstance(ask, Tick):
            model.look(t)
            return {"outcome": "done"}
        if isinstance(ask, UsageRecord):
            return _use(model, t, ask)
        if isinstance(ask, AskQuote):
            name = f"@{step.number}"
            lasts = timedelta(seconds=ask.lasts_seconds)
            return model.do(t, "quote", name, ask.action, ask.meters, lasts, ask.project)
        if isinstance(ask, ProviderAnswers):
            assert request is not None, "nothing was requested, so nobody answers"
            command = answered(step.team, self.autos[step.team], ask, request)
            return self._once(step.team, t, step.number, command, step.principal)
        return self._once(step.team, t, step.number, ask, step.principal)

    def _once(self, team: str, t: datetime, number: int, ask: Ask, principal: str) -> Heard:
        assert isinstance(ask, c.Command)
        body = msgspec.json.encode(ask)
        name, given, terms = _COMMANDS[type(ask)](f"@{number}", ask, principal)
        key = (team, principal, number)
        if key not in self.answered:
            self.answered[key] = body, self.models[team].do(t, name, *given, **terms)
        no(idempotency_key_reused=self.answered[key][0] != body)
        return self.answered[key][1]


_SAME = (
    "settled",
    "available",
    "held",
    "withheld",
    "upcoming",
    "lapsed",
    "debt",
    "status",
    "period_end",
)
_LOT = ("left", "held", "withheld", "source", "exp", "eff", "priority", "action", "project")


def _plan_named(plan: dict[str, Any] | None) -> tuple[str, int] | None:
    return None if plan is None else (plan["plan_id"], plan["version"])


def _hold_told(hold: dict[str, Any], order: dict[str, int]) -> tuple[datetime, int, list[int]]:
    pins = sorted((order[lot], n) for lot, n in hold["pins"].items() if n)
    return hold["expires"], sum(n for _, n in pins), [n for _, n in pins]


def _limit_told(limit: Heard, counted: tuple[datetime, datetime, int, int]) -> Heard:
    start, end, used, held = counted
    reached = sorted(percent for percent, since in limit["reached"] if since == start)
    told = {"start": start, "end": None if end == FAR else end, "used": used, "held": held}
    return told | {"cap": limit["cap"], "reached": reached}


def shared(result: Heard) -> Heard:
    """The part of the model's answer that the product gives too, without names."""
    heard = {"outcome": result["outcome"]}
    for key in ("amount", "debt", "rule", "limit_id", "used", "held", "limit", "requested", "repeated"):
        if key in result:
            heard[key] = result[key]
    if "lines" in result:
        heard["lines"] = result["lines"]
    if result.get("passed"):
        heard["passed"] = sorted(result["passed"])
    if result.get("thresholds"):
        heard["thresholds"] = sorted(tuple(each) for each in result["thresholds"])
    heard["auto"] = bool(result.get("auto"))
    return heard


def changed(first: Ask, again: Again) -> Ask:
    """What is sent again: the same, or the same for another reason, which is another body."""
    if not again.is_changed:
        return first
    assert isinstance(first, c.Command)
    return msgspec.structs.replace(first, reason="for another reason")


def answered(
    team: str, reference: str, answer: ProviderAnswers, request: tuple[int, CostBasis]
) -> c.TopUpCredits | c.FailTopUp:
    """The command that the provider's answer becomes."""
    amount, basis = request
    if answer.how == "failed":
        return c.FailTopUp(team_id=team, payment_reference=reference, failure="card_declined")
    return c.TopUpCredits(
        team_id=team,
        amount_micros=amount + answer.amount_off_micros,
        payment_reference=reference,
        cost_basis=basis,
    )


def _use(model: Model, t: datetime, record: UsageRecord) -> Heard:
    return model.do(
        t,
        "use",
        record.id,
        record.action,
        record.meters,
        plain(record.occurred_at),
        status=record.status,
        member=record.member,
        project=record.project,
        work=record.work,
        hold=None if record.hold_id is None else named(record.hold_id),
        corrects=record.corrects,
    )


def _cost(basis: CostBasis | None) -> tuple[int, str, int] | None:
    return None if basis is None else (basis.price_minor, basis.currency, basis.tax_minor)


def _instant(at: datetime | None) -> datetime | None:
    return None if at is None else plain(at)


def _limit(terms: LimitTerms) -> dict[str, Any]:
    return {
        "limit_id": terms.limit_id,
        "window": terms.window,
        "cap": terms.cap_micros,
        "hard": terms.hard,
        "member": terms.member,
        "project": terms.project,
        "action": terms.action,
        "thresholds": terms.thresholds,
    }


Call = tuple[str, list[Any], dict[str, Any]]
"""A command as the model's door takes it: its name, what is given by place, and what by name."""


def _said(**terms: Any) -> dict[str, Any]:
    return {key: value for key, value in terms.items() if value is not None}


def _lot(a: c.GrantCredits | c.TopUpCredits) -> dict[str, Any]:
    return _said(
        effective=_instant(a.effective_at),
        expires=_instant(a.expires_at),
        priority=a.priority,
        action=a.action,
        project=a.project,
    )


def _assign(name: str, a: c.AssignPlan, by: str) -> Call:
    if a.plan_id not in world.PLANS:
        return "refuse", ["unknown_plan"], {}
    return "assign_plan", [world.PLANS[a.plan_id], a.takes_effect], {}


def _zone(name: str, a: c.ScheduleZoneChange, by: str) -> Call:
    return ("refuse", ["malformed"], {}) if a.zone.startswith("Mars") else ("schedule_zone", [a.zone], {})


def _configure(name: str, a: c.ConfigureAutoTopUp, by: str) -> Call:
    if not a.enabled:
        return "configure_auto", [False], {}
    terms = {
        "threshold": a.threshold_micros,
        "amount": a.amount_micros,
        "cost": _cost(a.cost_basis),
        "money_cap": a.money_cap_minor,
        "window": a.window,
        "failures_max": a.failures_max,
    }
    return "configure_auto", [True], terms


def _hold(name: str, a: c.PlaceHold, by: str) -> Call:
    terms = {"lasts": a.lasts_seconds, "member": a.member, "project": a.project, "work": a.work}
    quote = None if a.quote is None else named(a.quote)
    return "place_hold", [name, a.action], {"amount": a.amount_micros, "quote": quote, **terms}


_COMMANDS: dict[type[c.Command], Callable[[str, Any, str], Call]] = {
    c.OpenAccount: lambda name, a, by: ("refuse", ["account_already_open"], {}),
    c.SuspendAccount: lambda name, a, by: ("become", ["suspended"], {}),
    c.ResumeAccount: lambda name, a, by: ("become", ["open"], {}),
    c.CloseAccount: lambda name, a, by: ("become", ["closed"], {}),
    c.AssignPlan: _assign,
    c.ScheduleZoneChange: _zone,
    c.GrantCredits: lambda name, a, by: ("grant", [name, a.amount_micros, a.source], _lot(a)),
    c.VoidGrant: lambda name, a, by: ("void_grant", [named(a.lot_id)], {}),
    c.TopUpCredits: lambda name, a, by: (
        "top_up",
        [a.payment_reference, a.amount_micros, _cost(a.cost_basis)],
        _lot(a),
    ),
    c.RequestTopUp: lambda name, a, by: (
        "request_top_up",
        [a.payment_reference, a.amount_micros, _cost(a.cost_basis)],
        {},
    ),
    c.FailTopUp: lambda name, a, by: ("fail_top_up", [a.payment_reference], {}),
    c.ConfigureAutoTopUp: _configure,
    c.OpenChargeback: lambda name, a, by: ("chargeback", [a.payment_reference, "open"], {}),
    c.WinChargeback: lambda name, a, by: ("chargeback", [a.payment_reference, "won"], {}),
    c.LoseChargeback: lambda name, a, by: ("chargeback", [a.payment_reference, "lost"], {}),
    c.AdjustBalance: lambda name, a, by: ("adjust", [name, a.direction, a.amount_micros, a.reason, by], {}),
    c.ApproveAdjustment: lambda name, a, by: ("approve", [named(a.adjustment_id), by], {}),
    c.RefundCharge: lambda name, a, by: ("refund", [named(a.charge_id), a.amount_micros], {}),
    c.OpenChargeDispute: lambda name, a, by: (
        "open_dispute",
        [name, [named(each) for each in a.charge_ids], a.evidence],
        {},
    ),
    c.UpholdChargeDispute: lambda name, a, by: ("decide_dispute", [named(a.dispute_id), "upheld"], {}),
    c.RejectChargeDispute: lambda name, a, by: ("decide_dispute", [named(a.dispute_id), "rejected"], {}),
    c.PlaceHold: _hold,
    c.ExtendHold: lambda name, a, by: ("extend_hold", [named(a.hold_id), a.lasts_seconds], {}),
    c.CaptureHold: lambda name, a, by: (
        "capture_hold",
        [named(a.hold_id), name, a.amount_micros, _instant(a.occurred_at)],
        {},
    ),
    c.ReleaseHold: lambda name, a, by: ("release_hold", [named(a.hold_id)], {}),
    c.WithdrawQuote: lambda name, a, by: ("withdraw_quote", [named(a.quote_id)], {}),
    c.SetLimit: lambda name, a, by: ("set_limit", [_limit(a.limit)], {}),
    c.RemoveLimit: lambda name, a, by: ("remove_limit", [a.limit_id], {}),
    c.EraseContexts: lambda name, a, by: ("erase", [], {}),
}
