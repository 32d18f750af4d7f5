"""How much a team plans to use: volumes per action with low, expected and high, and the plan that was saved."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

Path = Literal["low", "expected", "high"]
PATHS: tuple[Path, ...] = ("low", "expected", "high")


class VolumeLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """So many uses of one kind over the whole horizon, in three variants.

    Each use has these meters and dimensions and is priced by the card in force when it occurs; or, where the volumes were learned
    from the past, each costs ``amount_micros``.
    """

    action: str
    meters: dict[str, str] = {}
    dimensions: dict[str, str] = {}
    member: str | None = None
    project: str | None = None
    low: int
    expected: int
    high: int
    amount_micros: int | None = None

    def times(self, path: Path) -> int:
        """How many uses the path has."""
        return {"low": self.low, "expected": self.expected, "high": self.high}[path]


class PlannedPath(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What one path of a saved plan came to: its cost, when credits run out, and the top-up that would cover it."""

    cost_micros: int
    run_out_at: datetime | None = None
    top_up_micros: int = 0


class SavedPlan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A spending plan as it was saved, from ``starts_at`` to ``ends_at``; ``is_learned``: the past gave its volumes."""

    plan_id: str
    audience: str
    starts_at: datetime
    ends_at: datetime
    account_version: int
    lines: list[VolumeLine]
    low: PlannedPath
    expected: PlannedPath
    high: PlannedPath
    is_learned: bool = False
