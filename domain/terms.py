"""Terms that are published or set once and then pinned: plans, limits, and the rate card that priced a charge.

The catalogue makes them, an account keeps them, its events store them: they stand below all three.
"""

from __future__ import annotations

from typing import Literal

import msgspec

LimitWindow = Literal["hour", "day", "week", "month", "period", "lifetime"]
CapturePolicy = Literal["reject", "if_available", "overdraft"]


class CardPin(msgspec.Struct, frozen=True, gc=False):
    """The rate card that priced a charge: id, version, and the digest of its published bytes."""

    card_id: str
    version: int
    digest: str


class LimitTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A cap on spending: what it counts (None: any), over which window, and whether it refuses requests (hard).

    ``thresholds`` are percentages of the cap that alert once in a window.
    """

    limit_id: str
    window: LimitWindow
    cap_micros: int
    hard: bool = True
    member: str | None = None
    project: str | None = None
    action: str | None = None
    thresholds: list[int] = []


class PlanTerms(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """A published plan as an account keeps it: what a period brings, what may roll over, and what comes with it.

    ``captures`` say, by action, how a capture by request above its hold is met; "if_available" for actions not named.
    ``overdraft_cap_micros`` is the debt that captures may leave at most. ``price_minor`` is for one period.
    """

    plan_id: str
    version: int
    digest: str
    card_id: str
    allowance_micros: int
    rollover_cap_micros: int = 0
    overdraft_cap_micros: int = 0
    captures: dict[str, CapturePolicy] = {}
    limits: list[LimitTerms] = []
    price_minor: int = 0
    currency: str = "EUR"
