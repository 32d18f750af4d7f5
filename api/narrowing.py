"""What somebody who sees only their own usage is answered: others' charges are answered as if they did not exist."""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec
from fastapi import Depends, Request

from api import roles
from api.answers import ChargeAnswer, ChargesAnswer
from api.answers_works import WorkAnswer
from api.guard import OnlyMember, only_member, principal_of
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


def own_texts(request: Request, answer: WorkAnswer) -> WorkAnswer:
    """The work with those of its texts that may be told, and how many more there are.

    Whoever saves steps goes on with what others wrote, and whoever reads everybody's usage reads how it was asked for. A viewer
    sees the brief, the result, and steps of their own; others see no text.
    """
    principal = principal_of(request)
    usage = roles.cell(principal.role, "read_statement")
    if roles.may(principal.role, "save_work_step") or (usage is not None and usage.scope == "any"):
        return answer
    told = [
        text
        for text in answer.texts
        if usage is not None and (text.step is None or text.member == principal.member)
    ]
    return answer.model_copy(update={"texts": told, "texts_not_told": len(answer.texts) - len(told)})


def _require(only: OnlyMember, member: str | None, charge_id: str) -> None:
    if only.member is not None and member != only.member:
        raise UnknownCharge(f"charge {charge_id!r} is not one of this team's", charge_id=charge_id)
