"""What a piece of work cost, by step: charges less refunds, failures, holds still open, against what was estimated."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from domain.account.state import Hold
from domain.work.state import Work

MoveKind = Literal["charged", "refunded", "failed", "waived"]


class WorkMove(NamedTuple):
    """One line of a team's statement that concerns a work: a charge or waived usage that names it, a refund of such a charge."""

    kind: MoveKind
    version: int
    recorded_at: datetime
    charge_id: str
    step: str
    action: str
    amount_micros: int


class StepCost(msgspec.Struct, kw_only=True):
    """What one step cost; "" is what names no step. ``estimate_micros`` is None where nothing was estimated."""

    step: str
    estimate_micros: int | None = None
    charges: int = 0
    charged_micros: int = 0
    refunded_micros: int = 0
    failures: int = 0
    waived: int = 0
    holds: int = 0
    held_micros: int = 0

    @property
    def net_micros(self) -> int:
        """What was charged and not given back."""
        return self.charged_micros - self.refunded_micros


class WorkCost(msgspec.Struct, frozen=True):
    """What a work cost by step, in the order in which the steps were saved, then by name; ``total`` is the sum of all."""

    total: StepCost
    steps: list[StepCost]

    @property
    def over_estimate_micros(self) -> int | None:
        """What it cost beyond its estimate, below zero when it cost less; None where nothing was estimated."""
        estimated = self.total.estimate_micros
        return None if estimated is None else self.total.net_micros - estimated


def cost_of(work: Work, moves: Iterable[WorkMove], holds: Iterable[Hold] = ()) -> WorkCost:
    """The cost of the work from its moves and the account's open holds, of which those that name it count.

    Sum of steps = total, always. A work that was never started has a cost, too, when usage names it.
    """
    steps: dict[str, StepCost] = {name: StepCost(step=name) for name in work.steps}

    def of(name: str) -> StepCost:
        return steps.setdefault(name, StepCost(step=name))

    for name, estimated in work.estimates_micros.items():
        of(name).estimate_micros = estimated
    for move in moves:
        _count(of(move.step), move)
    for hold in holds:
        if hold.work == work.work_id:
            each = of(hold.step or "")
            each.holds += 1
            each.held_micros += hold.held_micros
    named = [steps.pop(name) for name in work.steps]
    listed = named + sorted(steps.values(), key=lambda each: each.step)
    return WorkCost(_total(work, listed), listed)


def _count(cost: StepCost, move: WorkMove) -> None:
    if move.kind == "charged":
        cost.charges += 1
        cost.charged_micros += move.amount_micros
    elif move.kind == "refunded":
        cost.refunded_micros += move.amount_micros
    elif move.kind == "failed":
        cost.failures += 1
    else:
        cost.waived += 1


def _total(work: Work, steps: list[StepCost]) -> StepCost:
    return StepCost(
        step="",
        estimate_micros=work.estimate_micros,
        charges=sum(each.charges for each in steps),
        charged_micros=sum(each.charged_micros for each in steps),
        refunded_micros=sum(each.refunded_micros for each in steps),
        failures=sum(each.failures for each in steps),
        waived=sum(each.waived for each in steps),
        holds=sum(each.holds for each in steps),
        held_micros=sum(each.held_micros for each in steps),
    )
