"""The product's side of a story: each step through the ledger's own doors, over a store in memory that keeps the bytes."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from functools import cache
from typing import Any

import msgspec
from typing_extensions import override

from api.ports import StoredEvent
from domain import commands as c
from domain.account import events as e
from domain.account.calendar import window_at
from domain.account.decision import Decision, account_id, copy_of
from domain.account.due import pass_time
from domain.account.index import IndexOverlay
from domain.account.limiting import counts
from domain.account.quoting import quote_usage
from domain.account.state import Hold, TeamAccount
from domain.actors import Actor
from domain.catalogue import Catalogue, apply, publish_plan, publish_rate_card
from domain.chain import GENESIS, event_hash
from domain.errors import LedgerError
from domain.ledger import Answer, Caller, DenialAnswer, Ledger
from domain.periods import period_text
from domain.quotes import sign_quote
from domain.usage import UsageRecord, usage_key
from tests.memory_store import Kept, MemoryLedger
from tests.simulation import world
from tests.simulation.books import require
from tests.simulation.oracle import Heard, answered, changed, plain
from tests.simulation.stories import SOURCE, Again, Ask, AskQuote, ProviderAnswers, Step, Tick

PUBLISHER = Actor("publisher", "operator")
CLOCK = Actor("clock", "operator")
KEY = b"a key of the simulation, 32 bytes and more"
_IDS = ("hold_id", "lot_id", "charge_id", "dispute_id", "adjustment_id")


@cache
def catalogue() -> Catalogue:
    """All that is sold, published once for every seed: nothing in it changes."""
    sold = Catalogue()
    at = world.PUBLISHED_AT.replace(tzinfo=UTC)
    for document in world.card_documents():
        for event in publish_rate_card(sold, document, at, PUBLISHER):
            apply(sold, event)
    for document in world.plan_documents():
        for event in publish_plan(sold, document, at, PUBLISHER):
            apply(sold, event)
    return sold


@cache
def _account(team_id: str) -> bytes:
    return account_id(team_id).bytes


class SimulatedLedger(MemoryLedger):
    """The store in memory, with the chain and without read models, which nobody reads here."""

    @override
    def _append(self, team: Kept, team_id: str, shard: int, event: e.AccountEvent) -> None:
        version = len(team.events) + 1
        previous = team.events[-1].hash if team.events else GENESIS
        state = msgspec.json.encode(event)
        digest = event_hash(previous, _account(team_id), version, event.TOPIC, state)
        position = self.positions[shard] = self.positions.get(shard, 0) + 1
        team.events.append(StoredEvent(version, position, event.TOPIC, state, previous, digest, event))

    def tick(self, team_id: str) -> None:
        """What is due on the team is booked."""
        team = self.teams[team_id]
        decision = Decision(copy_of(team.account), self.now, CLOCK, IndexOverlay(team.index))
        pass_time(decision)
        self.write(team_id, decision)


class Product:
    """The ledger, the ids it gave, and what happened how often."""

    def __init__(self, now: datetime) -> None:
        self.store = SimulatedLedger(now)
        self.store.catalogue = catalogue()
        self.ledger = Ledger(self.store, catalogue, [KEY])
        self.names: dict[tuple[str, str], str] = {}
        self.asked: dict[tuple[str, int], Step] = {}
        self.answers: dict[tuple[str, int], Answer] = {}
        self.record_holds: dict[tuple[str, str, str], str] = {}
        self.requests: dict[str, e.AutoTopUpRequested] = {}
        self.counts: Counter[str] = Counter()

    def team(self, team_id: str) -> Kept | None:
        """All that is kept of the team."""
        return self.store.teams.get(team_id)

    def may_hear(self, step: Step) -> bool:
        """Whether the step means anything: somebody answers only what was asked, and withdraws only what was given."""
        ask = step.ask
        if isinstance(ask, ProviderAnswers):
            return step.team in self.requests
        if isinstance(ask, Again):
            first = self.asked.get((step.team, ask.step))
            return first is not None and self.may_hear(first)
        if isinstance(ask, c.WithdrawQuote):
            return (step.team, ask.quote_id) in self.names
        return not isinstance(ask, c.PlaceHold) or ask.quote is None or (step.team, ask.quote) in self.names

    def hear(self, step: Step) -> Heard:
        """What becomes of the step. A refusal has changed nothing. Raises: Wrong."""
        self.store.now = step.at
        team = self.team(step.team)
        before = len(team.events) if team else 0
        try:
            heard = self._ask(step)
        except LedgerError as no:
            self.counts[f"refused {no.code}"] += 1
            after = self.team(step.team)
            # I15: the head of a refused command is the very object of before, which nothing shares with the copy decided on.
            require((len(after.events) if after else 0) == before, "I15", "a refusal left an event")
            return {"outcome": no.code}
        team = self.store.teams[step.team]
        self._note(step.team, heard, team.events[before:])
        return heard

    # --- each kind of step ---

    def _ask(self, step: Step) -> Heard:
        ask = step.ask
        if isinstance(ask, Again):
            first = self.asked[step.team, ask.step]
            return self._execute(first, self._resolved(step.team, changed(first.ask, ask)), again=True)
        self.asked[step.team, step.number] = step
        if isinstance(ask, Tick):
            self.store.tick(step.team)
            return {"outcome": "done"}
        if isinstance(ask, UsageRecord):
            return self._use(step.team, ask)
        if isinstance(ask, AskQuote):
            return self._quote(step, ask)
        if isinstance(ask, ProviderAnswers):
            request = self.requests[step.team]
            ask = answered(
                step.team, request.payment_reference, ask, (request.amount_micros, request.cost_basis)
            )
        return self._execute(step, self._resolved(step.team, ask))

    def _execute(self, step: Step, command: c.Command, *, again: bool = False) -> Heard:
        answer = self.ledger.execute(command, Caller(step.principal, "owner"), f"key-{step.number}")
        place = step.team, step.number
        if answer.is_replayed:
            require(again, "I14", "a new key was answered as an old one", step)
            first = msgspec.structs.replace(answer, is_replayed=False)
            require(first == self.answers[place], "I14", "a key was answered in two ways", first)
            self.counts["replayed"] += 1
        else:
            self.answers[place] = answer
        for name in _IDS:
            given = getattr(answer, name)
            if given is not None:
                self.names[step.team, f"@{step.number}.{name}"] = given
        heard: Heard = {"outcome": _OUTCOMES.get(answer.outcome, answer.outcome)}
        if answer.denial is not None:
            heard |= _denied(answer.denial)
        if answer.is_replayed:
            heard["outcome"] += " again"
        return heard

    def _use(self, team_id: str, record: UsageRecord) -> Heard:
        if record.hold_id is not None:
            # A record says the same whenever it comes, also where its hold came to be only between.
            resolved = self.names.get((team_id, record.hold_id), record.hold_id)
            resolved = self.record_holds.setdefault((team_id, record.id, record.hold_id), resolved)
            record = msgspec.structs.replace(record, hold_id=resolved)
        on_file = self.store.teams[team_id].index.usage(record.usage_key())
        if on_file is not None:
            assert not isinstance(on_file.event, e.HoldCaptured)
            is_equal = on_file.event.content_digest == record.content_digest()
            self.counts["usage duplicate" if is_equal else "usage conflict"] += 1
            return {"outcome": "duplicate" if is_equal else "conflict", "auto": False}
        try:
            self.store.use(record)
        except LedgerError as no:
            self.counts[f"parked {no.code}"] += 1
            return {"outcome": "parked", "code": no.code, "auto": False}
        return {"outcome": "used"}

    def _quote(self, step: Step, ask: AskQuote) -> Heard:
        team = self.store.teams[step.team]
        account = passed(team, step.at)
        quote = quote_usage(
            account,
            catalogue(),
            team.index,
            step.at,
            f"quote-{step.team}-{step.number}",
            action=ask.action,
            meters=ask.meters,
            dimensions={},
            project=ask.project,
            lasts_seconds=ask.lasts_seconds,
        )
        self.names[step.team, f"@{step.number}.quote"] = sign_quote(quote, KEY)
        self.names[step.team, f"@{step.number}.quote_id"] = quote.quote_id
        return {"outcome": "done", "amount": quote.total_micros}

    def _resolved(self, team: str, ask: Ask) -> c.Command:
        """The command with the ids that were given; a placeholder stays where nothing was."""
        assert isinstance(ask, c.Command)
        given: dict[str, Any] = {}
        for field in ("hold_id", "lot_id", "charge_id", "dispute_id", "adjustment_id", "quote", "quote_id"):
            placeholder = getattr(ask, field, None)
            if placeholder is not None:
                given[field] = self._id(team, placeholder)
        if isinstance(ask, c.OpenChargeDispute):
            given["charge_ids"] = [self._id(team, each) for each in ask.charge_ids]
        return msgspec.structs.replace(ask, **given) if given else ask

    def _id(self, team: str, placeholder: str) -> str:
        if placeholder.startswith("usage:"):
            return usage_key(team, SOURCE, placeholder.removeprefix("usage:"))
        return self.names.get((team, placeholder), placeholder)

    # --- what is told of it ---

    def _note(self, team: str, heard: Heard, stored: list[StoredEvent]) -> None:
        """What happened, from the events that were written."""
        thresholds: list[tuple[str, int, datetime]] = []
        heard["auto"] = False
        for each in stored:
            event = each.event
            self.counts[type(event).__name__] += 1
            if isinstance(event, e.AutoTopUpRequested):
                heard["auto"] = True
                self.requests[team] = event
            elif isinstance(event, e.LimitThresholdReached):
                thresholds.append((event.limit_id, event.threshold_percent, plain(event.window_start)))
            elif isinstance(event, e.CreditsCharged | e.HoldCaptured):
                _charged(heard, event)
                heard["outcome"] = "charged"
            elif isinstance(event, e.UsageWaived):
                heard["outcome"] = event.waiver
        if thresholds:
            heard["thresholds"] = sorted(thresholds)


_OUTCOMES = {None: "done", "applied": "done"}


def _denied(denial: DenialAnswer) -> Heard:
    return {
        "rule": denial.rule,
        "limit_id": denial.limit_id or "",
        "used": denial.used_micros,
        "held": denial.held_micros,
        "limit": denial.limit_micros,
        "requested": denial.requested_micros,
    }


def _charged(heard: Heard, event: e.Charge) -> None:
    heard["amount"], heard["debt"] = event.amount_micros, event.debt_micros
    heard["lines"] = [line.amount_micros for line in event.lines]
    if event.limits_passed:
        heard["passed"] = sorted(event.limits_passed)


# --- a team as it is ---


def passed(team: Kept, at: datetime) -> TeamAccount:
    """The account with all booked that is due up to ``at``; the one on file stays as it is."""
    decision = Decision(copy_of(team.account), at, CLOCK, IndexOverlay(team.index))
    pass_time(decision)
    return decision.account


def view(team: Kept, account: TeamAccount, at: datetime) -> dict[str, Any]:
    """The account, told as the model tells its own; time has passed in it up to ``at``."""
    sums = dict.fromkeys(("held", "withheld", "upcoming", "lapsed", "available"), 0)
    lots = []
    for lot in account.lots:
        terms, left, held = lot.terms, lot.remaining_micros, lot.held_micros
        expires = None if terms.expires_at is None else plain(terms.expires_at)
        is_withheld = lot.withheld_since is not None
        lots.append(
            (
                left,
                held,
                is_withheld,
                terms.source,
                expires,
                plain(terms.effective_at),
                terms.priority,
                terms.action,
                terms.project,
            )
        )
        sums["held"] += held
        sums[_part(lot, at)] += left - held
    plan, pending = account.plan, account.pending_plan
    order = {lot.terms.lot_id: place for place, lot in enumerate(account.lots)}
    return sums | {
        "settled": account.settled_micros,
        "debt": account.debt_micros,
        "status": account.status,
        "lots": lots,
        "holds": [
            (plain(hold.expires_at), hold.held_micros, _in_burn_order(hold, order)) for hold in account.holds
        ],
        "limits": _limits(team, account, at),
        "plan": None if plan is None else (plan.plan_id, plan.version),
        "period_end": None if account.period_end is None else plain(account.period_end),
        "pending": None if pending is None else (pending.plan.plan_id, pending.plan.version),
        "auto": account.auto_top_up is not None and account.auto_top_up.in_flight is not None,
    }


def _in_burn_order(hold: Hold, order: dict[str, int]) -> list[int]:
    pins = sorted((order[line.lot_id], line.amount_micros) for line in hold.lines)
    return [amount for _, amount in pins]


def _part(lot: Any, at: datetime) -> str:
    if lot.withheld_since is not None:
        return "withheld"
    if at < lot.terms.effective_at:
        return "upcoming"
    if lot.terms.expires_at is not None and lot.terms.expires_at <= at:
        return "lapsed"
    return "available"


def _limits(team: Kept, account: TeamAccount, at: datetime) -> dict[str, Any]:
    told: dict[str, Any] = {}
    for limit in account.limits:
        terms = limit.terms
        start, end = window_at(account, team.index, terms.window, at)
        use = limit.windows.get(period_text(start))
        held = sum(
            hold.held_micros
            for hold in account.holds
            if counts(terms, hold.member, hold.project, hold.action)
        )
        told[terms.limit_id] = {
            "cap": terms.cap_micros,
            "start": plain(start),
            "end": None if end is None else plain(end),
            "used": use.used_micros if use else 0,
            "held": held,
            "reached": sorted(use.reached) if use else [],
        }
    return told
