"""An explanation as JSON: what the projection tells, with amounts as decimal strings."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import Field

from api.answers import Place
from api.ports import AccountOnFile
from domain.amounts import format_credits
from projections.explain import UsageExplained

_MICROS = "_micros"


class ExplanationAnswer(Place):
    """Why a usage record cost what it did, from its place on the stream to the lots that paid and what came back."""

    team_id: str
    charge_id: str
    outcome: Annotated[str, Field(description="charged or waived")]
    explanation: Annotated[
        dict[str, Any],
        Field(
            description="charged: usage, card, computation and its words, the amount worked out again from the stored "
            "computation alone, contradictions (none for a sound charge), lines, refunds, what was kept. "
            "waived: usage, the waiver and its words."
        ),
    ]

    @classmethod
    def of(cls, found: AccountOnFile, explained: UsageExplained) -> ExplanationAnswer:
        """The answer for an explanation."""
        told = msgspec.json.decode(msgspec.json.encode(explained), type=dict[str, Any])
        outcome = str(told.pop("outcome"))
        return cls(
            version=found.account.version,
            position=found.position,
            as_of=found.now,
            team_id=told.pop("team_id"),
            charge_id=explained.usage.usage_key,
            outcome=outcome,
            explanation=decimal(told),
        )


def decimal(told: dict[str, Any]) -> dict[str, Any]:
    """The same with every ``…_micros`` as a decimal string of credits under the name without its unit."""
    return dict(_member(name, value) for name, value in told.items())


def _member(name: str, value: Any) -> tuple[str, Any]:
    if name.endswith(_MICROS) and isinstance(value, int):
        return name.removesuffix(_MICROS), format_credits(value)
    return name, _decimal_inside(value)


def _decimal_inside(value: Any) -> Any:
    if isinstance(value, dict):
        return decimal(value)
    return [_decimal_inside(each) for each in value] if isinstance(value, list) else value
