"""Answers about charges that a customer contests."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.answers import Instant, Place, Told


class OpenDispute(Told):
    """A dispute that is not decided yet."""

    dispute_id: str
    charge_ids: list[str]
    opened_at: Instant


class DisputesAnswer(Place):
    """The open disputes, in the order in which they were opened."""

    team_id: str
    data: list[OpenDispute]


class DisputeAnswer(Place):
    """One dispute, open or decided."""

    team_id: str
    dispute_id: str
    state: Annotated[str, Field(description="open, upheld or rejected")]
    charge_ids: list[str]
    evidence: str
    opened_at: Instant
    opened_by: str
