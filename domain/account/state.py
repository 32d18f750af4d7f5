"""What is open on an account: the small state that every decision reads and every event changes.

Bound: lots with a remainder (at most ``OPEN_LOTS_MAX``), debt, corrections awaited (at most ``CORRECTIONS_AWAITED_MAX``) and
the tier counters of the two latest periods used. What closes leaves the state as an index entry, see ``domain.account.index``.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from domain.account.events import LotTerms

STATE_SCHEMA = 2
"""Counts up with every change of shape; a head of another schema is discarded and folded again."""

OPEN_LOTS_MAX = 1_000
CORRECTIONS_AWAITED_MAX = 1_000


class OpenTerms(LotTerms, frozen=True, kw_only=True, array_like=True, gc=False):
    """The terms of an open lot, kept in the state as a list of values in the order of their fields.

    A head is written with every batch: names repeated for every lot would push it past the size at which PostgreSQL
    compresses a row and moves it aside.
    """


class Lot(msgspec.Struct, array_like=True, gc=False):
    """An open lot: its terms and what is left of it."""

    terms: OpenTerms
    remaining_micros: int


def open_terms(terms: LotTerms) -> OpenTerms:
    """The terms as the state keeps them."""
    return OpenTerms(**msgspec.structs.asdict(terms))


def published_terms(terms: LotTerms) -> LotTerms:
    """The terms as events and the index keep them, each value under its name."""
    return LotTerms(**msgspec.structs.asdict(terms))


class TeamAccount(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """One team's credits as of ``version``.

    ``lots`` is kept in burn order. ``passed_at`` is the instant up to which due facts are booked: that of the last due fact
    within a decision, ``recorded_at`` after it. ``counters`` map a period's start to positions by counter key.
    ``corrections_awaited`` map the claim of a record not seen yet to the id of the correction that named it.
    """

    team_id: str
    zone: str
    anchor_day: int
    card_id: str
    status: Literal["open", "closed"] = "open"
    opened_at: datetime
    recorded_at: datetime
    passed_at: datetime
    version: int = 0
    settled_micros: int = 0
    debt_micros: int = 0
    lots: list[Lot] = []
    corrections_awaited: dict[str, str] = {}
    counters: dict[str, dict[str, int]] = {}
