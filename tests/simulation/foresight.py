"""What is foretold is what comes: estimates and plans of a simulated team, beside the holds and charges that follow (I10)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from random import Random
from typing import Any

import msgspec

from domain import commands as c
from domain.account.decision import copy_of
from domain.account.estimating import Estimate, Estimates, PlannedUse, estimate_uses
from domain.account.events import CreditsCharged, LimitTerms
from domain.account.index import IndexOverlay
from domain.account.state import TeamAccount
from domain.errors import LedgerError
from domain.ledger import Caller, Ledger
from domain.spending.laying import Step
from domain.spending.planning import run_course
from domain.usage import UsageRecord
from tests.memory_store import Kept
from tests.simulation import world
from tests.simulation.books import require
from tests.simulation.product import SimulatedLedger, catalogue
from tests.simulation.stories import SOURCE

ASKER = Caller("foresight", "owner")
QUOTE_KEYS = [b"a key of the simulation, 32 bytes and more"]
PRIOR_USES_MAX = 4
STEPS_MAX = 6


class Branch:
    """A ledger of its own for one team, reached by the ledger's own doors: with a copy of the team, or with none yet."""

    def __init__(self, team_id: str, at: datetime, team: Kept | None = None) -> None:
        self.team_id = team_id
        self.store = SimulatedLedger(at)
        self.store.catalogue = catalogue()
        if team is not None:
            self.store.teams[team_id] = replace(
                team,
                account=copy_of(team.account),
                index=IndexOverlay(team.index),
                events=list(team.events),
                answers={},
                denial_repeats={},
            )
        self._ledger = Ledger(self.store, catalogue, QUOTE_KEYS)
        self._asked = 0

    @property
    def team(self) -> Kept:
        """The team as it is here."""
        return self.store.teams[self.team_id]

    def answered(self, command: c.Command) -> Any:
        """The ledger's answer, or the code of its refusal."""
        self._asked += 1
        try:
            return self._ledger.execute(command, ASKER, f"foresight-{self._asked}")
        except LedgerError as refusal:
            return refusal.code

    def used(self, number: str, use: PlannedUse, at: datetime) -> CreditsCharged | None:
        """The use comes as a record; its charge, None where there was nothing to price."""
        self.store.now = max(at, self.team.account.recorded_at)
        record = UsageRecord(
            team_id=self.team_id,
            source=SOURCE,
            id=f"foretold {number}",
            occurred_at=use.occurred_at or self.store.now,
            arrived_at=self.store.now,
            action=use.action,
            status="succeeded",
            meters=use.meters,
            dimensions=use.dimensions,
            member=use.member,
            project=use.project,
        )
        before = len(self.team.events)
        self.store.use(record)
        made = [stored.event for stored in self.team.events[before:]]
        return next((event for event in made if isinstance(event, CreditsCharged)), None)


def some_uses(rng: Random, at: datetime, count: int) -> list[PlannedUse]:
    """Uses as a planner draws them; some of them have occurred before."""
    return [
        PlannedUse(
            rng.choice(world.ACTIONS),
            {"units": rng.choice(["0", "1", "3.7", "40", "900"])},
            member=rng.choice(["mira", "noor", None]),
            project=rng.choice([None, "atlas"]),
            occurred_at=at - timedelta(hours=rng.choice([0, 0, 0, 5, 30])),
        )
        for _ in range(count)
    ]


def estimates_are_what_comes(team_id: str, team: Kept, at: datetime, rng: Random) -> None:
    """Mode add: each use is denied as its hold then is, by the same code and numbers, and charged as told. Raises: Wrong."""
    if team.account.status == "closed":
        return
    at = max(at, team.account.recorded_at)
    uses = some_uses(rng, at, rng.randint(1, PRIOR_USES_MAX))
    told = estimate_uses(team.account, catalogue(), team.index, at, uses)
    _compared(told, Branch(team_id, at, team), at)


def a_period_anew_is_what_comes(team_id: str, team: Kept, at: datetime, rng: Random) -> None:
    """Mode replace: the charges are those of a team that has just begun, on the same plan with the same limits. Raises: Wrong."""
    account = team.account
    if account.status == "closed" or account.pending_plan is not None or len(account.zones) > 1:
        return
    at = max(at, account.recorded_at)
    uses = [
        msgspec.structs.replace(use, occurred_at=None)
        for use in some_uses(rng, at, rng.randint(1, PRIOR_USES_MAX))
    ]
    told = estimate_uses(account, catalogue(), team.index, at, uses, "replace")
    fresh = _begun_anew(team_id, account, at)
    if fresh is not None:
        _compared(told, fresh, at)


def _begun_anew(team_id: str, account: TeamAccount, at: datetime) -> Branch | None:
    """A team of the same terms that opens at the instant, by commands alone; None where no commands make one."""
    branch = Branch(team_id, at)
    opening = c.OpenAccount(
        team_id=team_id,
        zone=account.zones[0].value,
        anchor_day=account.anchor_day,
        card_id=account.cards[-1].value,
    )
    done: list[c.Command] = [opening]
    if account.plan is not None:
        done.append(c.AssignPlan(team_id=team_id, plan_id=account.plan.plan_id))
        theirs = {terms.limit_id for terms in account.plan.limits}
        now = {limit.terms.limit_id for limit in account.limits}
        done += [c.RemoveLimit(team_id=team_id, limit_id=limit_id) for limit_id in sorted(theirs - now)]
    done += [c.SetLimit(team_id=team_id, limit=_plain(limit.terms)) for limit in account.limits]
    if account.status == "suspended":
        done.append(c.SuspendAccount(team_id=team_id, reason="as the other"))
    for command in done:
        if isinstance(branch.answered(command), str):
            return None
    return branch


def _plain(terms: LimitTerms) -> LimitTerms:
    """The limit as somebody would set it: its alerts change no estimate."""
    return msgspec.structs.replace(terms, thresholds=[])


def a_course_is_what_comes(team_id: str, team: Kept, at: datetime, rng: Random) -> None:
    """A plan of what then really happens: the charges to the micro-credit, what is left and what is owed. Raises: Wrong."""
    if team.account.status == "closed":
        return
    at = max(at, team.account.recorded_at)
    steps: list[Step] = []
    when = at
    for use in some_uses(rng, at, rng.randint(1, STEPS_MAX)):
        when += timedelta(seconds=rng.choice([0, 60, 40_000, 900_000]))
        steps.append(Step(when, msgspec.structs.replace(use, occurred_at=None), rng.choice([1, 1, 3])))
    course = run_course(team.account, catalogue(), team.index, at, steps, when)
    branch = Branch(team_id, at, team)
    charges = [
        branch.used(f"{number} {again}", step.use, step.at)
        for number, step in enumerate(steps)
        for again in range(step.times)
    ]
    account = branch.team.account
    told = (course.cost_micros, course.uncovered_micros, course.settled_micros, course.debt_micros)
    came = (
        sum(charge.amount_micros for charge in charges if charge),
        sum(charge.debt_micros for charge in charges if charge),
        account.settled_micros,
        account.debt_micros,
    )
    require(told == came, "I10", "a plan of what happened is not what it cost", told, came)


def _compared(told: Estimates, branch: Branch, at: datetime) -> None:
    for number, (use, estimate) in enumerate(zip([each.use for each in told.uses], told.uses, strict=True)):
        if estimate.amount_micros:
            # Asked on a branch of its own: a hold that is given would change what follows.
            aside = Branch(branch.team_id, branch.store.now, branch.team)
            came = aside.answered(
                c.PlaceHold(
                    team_id=branch.team_id,
                    action=use.action,
                    member=use.member,
                    project=use.project,
                    amount_micros=estimate.amount_micros,
                )
            )
            require(_denial(estimate) == _denied(came), "I10", "another no", _denial(estimate), _denied(came))
        charge = branch.used(str(number), use, at)
        ours, theirs = _told(estimate), _charged(charge)
        if charge is not None:
            require(ours == theirs, "I10", "an estimate is not the charge", ours, theirs)
        else:
            require(estimate.priced is None, "I10", "nothing was charged, and a price told", ours)


_NUMBERS = ("rule", "limit_id", "window_start", "window_end", "used_micros", "held_micros", "limit_micros")


def _denial(estimate: Estimate) -> tuple[Any, ...]:
    if estimate.refusal is not None:
        return (estimate.refusal.code,)
    denial = estimate.denial
    return () if denial is None else (*_numbers(denial), denial.requested_micros)


def _denied(answer: Any) -> tuple[Any, ...]:
    if isinstance(answer, str):
        return (answer,)
    return () if answer.denial is None else (*_numbers(answer.denial), answer.denial.requested_micros)


def _numbers(denial: Any) -> Sequence[Any]:
    return [getattr(denial, name) for name in _NUMBERS]


def _told(estimate: Estimate) -> tuple[Any, ...]:
    priced = estimate.priced
    return (
        estimate.amount_micros,
        estimate.debt_micros,
        estimate.settled_after_micros,
        estimate.debt_after_micros,
        [line.amount_micros for line in estimate.lines],
        sorted((limit.limit_id, limit.used_after_micros) for limit in estimate.limits),
        priced.card if priced is not None else None,
    )


def _charged(charge: CreditsCharged | None) -> tuple[Any, ...]:
    if charge is None:
        return ()
    return (
        charge.amount_micros,
        charge.debt_micros,
        charge.settled_after_micros,
        charge.debt_after_micros,
        [line.amount_micros for line in charge.lines],
        sorted((move.limit_id, move.used_after_micros) for move in charge.windows),
        charge.card,
    )
