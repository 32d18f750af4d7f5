"""Answers about credits that are bought: top-ups by their payment, chargebacks, automatic top-up."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from api.answers import CostBasisAnswer, Instant, Micros, Place, Told


class TopUpAnswer(Place):
    """What became of a payment reference."""

    team_id: str
    payment_reference: str
    status: Annotated[str, Field(description="requested, settled or failed")]
    amount: Micros
    cost_basis: CostBasisAnswer | None
    lot_id: Annotated[str | None, Field(description="The lot that it bought.")]
    chargeback: Annotated[str | None, Field(description="open, won or lost; null when there was none.")]
    since_version: Annotated[int, Field(description="The version at which the payment came to this status.")]


class ChargebackAnswer(Told):
    """An open chargeback."""

    payment_reference: str
    origin_lot_id: str
    opened_at: Instant
    withheld: Annotated[Micros, Field(description="What it withholds now; credit on hold is not in it.")]


class ChargebacksAnswer(Place):
    """The open chargebacks."""

    team_id: str
    data: list[ChargebackAnswer]


class AutoTopUpAnswer(Place):
    """Automatic top-up: its terms, and how it stands."""

    team_id: str
    configured: Annotated[bool, Field(description="False: never set, so off.")]
    enabled: bool
    threshold: Micros
    amount: Micros
    cost_basis: CostBasisAnswer | None
    money_cap_minor: int
    window: str
    failures_max: int
    in_flight: Annotated[
        str | None, Field(description="The payment reference of the request not yet answered.")
    ]
    failures: Annotated[int, Field(description="Failures in a row.")]
    retry_at: Annotated[Instant | None, Field(description="No request before this.")]
    stopped: Annotated[bool, Field(description="Too many failures: off until it is configured again.")]
    window_start: Instant | None
    spent_minor: Annotated[int, Field(description="What the window of the latest request has spent.")]
