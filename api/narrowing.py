"""What somebody who sees only their own usage is answered: others' charges are answered as if they did not exist."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from fastapi import Depends

from api.answers import ChargeAnswer, ChargesAnswer
from api.guard import OnlyMember, only_member
from domain.errors import UnknownCharge
from projections.explain import CaptureExplained, UsageExplained
from projections.replay import ReplayFilter
from projections.statement import StatementFilter

OnlyMemberHere = Annotated[OnlyMember, Depends(only_member)]
Filter = TypeVar("Filter", StatementFilter, ReplayFilter)

NOBODY = "."
"""No usage record may carry it as a member, so nothing is found."""


def narrowed(only: OnlyMember, asked: Filter) -> Filter:
    """The filter, of one member's rows if only that member's may be told; of nobody's when another's were asked for."""
    if only.member is None:
        return asked
    mine = asked.member in {None, only.member}
    return msgspec.structs.replace(asked, member=only.member if mine else NOBODY)


def own_charge(only: OnlyMember, answer: ChargeAnswer) -> ChargeAnswer:
    """The charge, if it may be told. Raises: UnknownCharge, as for one that does not exist."""
    _require(only, answer.member, answer.charge_id)
    return answer


def own_charges(only: OnlyMember, answer: ChargesAnswer) -> ChargesAnswer:
    """Those of the charges that may be told."""
    if only.member is None:
        return answer
    return answer.model_copy(update={"data": [each for each in answer.data if each.member == only.member]})


def own_explanation(only: OnlyMember, explained: UsageExplained, charge_id: str) -> UsageExplained:
    """The explanation, if it may be told. Raises: UnknownCharge, as for a charge that does not exist."""
    member = explained.member if isinstance(explained, CaptureExplained) else explained.usage.member
    _require(only, member, charge_id)
    return explained


def _require(only: OnlyMember, member: str | None, charge_id: str) -> None:
    if only.member is not None and member != only.member:
        raise UnknownCharge(f"charge {charge_id!r} is not one of this team's", charge_id=charge_id)
