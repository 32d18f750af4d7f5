"""An explanation as JSON: what the projection tells, with amounts as decimal strings."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
from pydantic import Field

from api.answers import Place
from api.answers_audits import BalanceExplanationAnswer, DenialExplanationAnswer, DiffAnswer
from api.ports import AccountOnFile
from domain.amounts import format_credits
from projections.diff import AccountDiff
from projections.explain import UsageExplained
from projections.explain_balance import BalanceExplained
from projections.explain_denial import DenialExplained

_MICROS = "_micros"


class ExplanationAnswer(Place):
    """Why usage or a capture cost what it did, from its place on the stream to the lots that paid and what came back."""

    team_id: str
    charge_id: str
    outcome: Annotated[str, Field(description="charged, captured or waived")]
    explanation: Annotated[
        dict[str, Any],
        Field(
            description="charged: usage, card, computation and its words, the amount worked out again from the stored "
            "computation alone, contradictions (none for a sound charge), hold, quote, limit windows, lines, refunds, what was "
            "kept. captured: the same without a price. waived: usage, the waiver and its words."
        ),
    ]
    context: Annotated[
        Any | None,
        Field(
            description="What the usage record said of how it was made, as it was received: parameters, prompts, files, links. "
            "Null when it said nothing, or what it said was erased."
        ),
    ]

    @classmethod
    def of(
        cls, found: AccountOnFile, explained: UsageExplained, context: bytes | None = None
    ) -> ExplanationAnswer:
        """The answer for an explanation."""
        told = _told(explained)
        told.pop("charge_id", None)
        return cls(
            version=found.account.version,
            position=found.position,
            as_of=found.now,
            team_id=told.pop("team_id"),
            charge_id=explained.charge_id,
            outcome=told.pop("outcome"),
            explanation=decimal(told),
            context=None if context is None else msgspec.json.decode(context),
        )


def context_words(context: bytes | None) -> str:
    """A line that tells the context in ASCII, so that nothing in it is taken for something else; nothing without one."""
    return "" if context is None else f"context: {json.dumps(msgspec.json.decode(context))}\n"


def balance_answer(explained: BalanceExplained) -> BalanceExplanationAnswer:
    """The answer for an explained balance."""
    told = _told(explained)
    for name in ("team_id", "version", "position", "at"):
        told.pop(name)
    return BalanceExplanationAnswer(
        version=explained.version,
        position=explained.position,
        as_of=explained.at,
        team_id=explained.team_id,
        explanation=decimal(told),
    )


def denial_answer(explained: DenialExplained, position: int) -> DenialExplanationAnswer:
    """The answer for an explained denial."""
    told = _told(explained)
    told.pop("team_id")
    return DenialExplanationAnswer(
        version=explained.since.version,
        position=position,
        as_of=explained.since.at,
        team_id=explained.team_id,
        explanation=decimal(told),
    )


def diff_answer(diff: AccountDiff) -> DiffAnswer:
    """The answer for a difference."""
    told = _told(diff)
    told.pop("team_id")
    assert diff.after.at is not None, "the later moment has an account"
    return DiffAnswer(
        version=diff.after.version,
        position=diff.position,
        as_of=diff.after.at,
        team_id=diff.team_id,
        diff=decimal(told),
    )


def decimal(told: dict[str, Any]) -> dict[str, Any]:
    """The same with every ``…_micros`` as a decimal string of credits under the name without its unit."""
    return dict(_member(name, value) for name, value in told.items())


def _told(explained: msgspec.Struct) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(explained), type=dict[str, Any])


def _member(name: str, value: Any) -> tuple[str, Any]:
    if name.endswith(_MICROS) and isinstance(value, int):
        return name.removesuffix(_MICROS), format_credits(value)
    return name, _decimal_inside(value)


def _decimal_inside(value: Any) -> Any:
    if isinstance(value, dict):
        return decimal(value)
    return [_decimal_inside(each) for each in value] if isinstance(value, list) else value
