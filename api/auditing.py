"""The routes of auditors and support: explanations, the account step by step, the difference of two moments."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Path, Query, Response

from api.answers_audits import BalanceExplanationAnswer, DenialExplanationAnswer, DiffAnswer, ReplayAnswer
from api.audits import Audits
from api.cursors import CURSOR_LENGTH_MAX, LIMIT_DEFAULT, LIMIT_MAX
from api.explanations import ExplanationAnswer, balance_answer, context_words, denial_answer, diff_answer
from api.fields import VERSION_MAX, ChargeId, HoldId, Id, LotId, Name, Time, instant
from api.guard import GuardedRoute
from api.moments import Moment
from api.narrowing import OnlyMemberHere, narrowed, own_explanation
from api.parameters import ChargePath, MinVersion, TeamPath, moment
from api.ports import WorkReads
from domain.account.events import ACCOUNT_EVENTS
from domain.errors import Malformed
from domain.times import parse_instant
from projections.diff import Moment as DiffMoment
from projections.diff import diff_text
from projections.explain import plain_text
from projections.explain_balance import balance_text
from projections.explain_denial import denial_text
from projections.movements import NEWEST_DEFAULT, NEWEST_MAX
from projections.replay import ReplayFilter

EVENT_NAMES = tuple(event.__name__ for event in ACCOUNT_EVENTS)
MOMENT_LENGTH_MAX = 40

DenialPath = Annotated[int, Path(ge=1, le=VERSION_MAX, description="The version of the denial.")]
Newest = Annotated[
    int, Query(ge=0, le=NEWEST_MAX, description="How many movements or charges are told one by one.")
]
Accept = Annotated[str | None, Header(max_length=1_000)]
_TEXT_OR_JSON: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"text/plain": {"schema": {"type": "string"}}},
        "description": "JSON, or text by Accept.",
    }
}


def audit_routes(audits: Audits, works: WorkReads) -> APIRouter:
    """The routes that answer by replay; ``works`` have the contexts of usage."""
    router = APIRouter(prefix="/v1/accounts/{team_id}", tags=["audits"], route_class=GuardedRoute)
    _explanation_routes(router, audits, works)
    _history_routes(router, audits)
    return router


def _explanation_routes(router: APIRouter, audits: Audits, works: WorkReads) -> None:
    @router.get(
        "/charges/{charge_id}/explanation",
        name="explain_charge",
        operation_id="explain_charge",
        response_model=ExplanationAnswer,
        responses=_TEXT_OR_JSON,
    )
    async def explain_charge(
        team_id: TeamPath,
        charge_id: ChargePath,
        asked: Annotated[Moment, Depends(moment)],
        only: OnlyMemberHere,
        accept: Accept = None,
    ) -> ExplanationAnswer | Response:
        """Why usage or a capture cost what it did: record, rate, computation, hold, limits, lots, refunds by then."""
        found, explained = await audits.charge(team_id, charge_id, asked)
        own_explanation(only, explained, charge_id)
        context = await asyncio.to_thread(works.context, team_id, charge_id)
        if _wants_text(accept):
            return _text(plain_text(explained) + context_words(context))
        return ExplanationAnswer.of(found, explained, context)

    @router.get(
        "/balance/explanation",
        name="explain_balance",
        operation_id="explain_balance",
        response_model=BalanceExplanationAnswer,
        responses=_TEXT_OR_JSON,
    )
    async def explain_balance(
        team_id: TeamPath,
        asked: Annotated[Moment, Depends(moment)],
        newest: Newest = NEWEST_DEFAULT,
        accept: Accept = None,
    ) -> BalanceExplanationAnswer | Response:
        """Why the team has what it has: what is there by lot and where it came from, and all that happened, summing exactly."""
        explained = await audits.balance(team_id, asked, newest)
        return _text(balance_text(explained)) if _wants_text(accept) else balance_answer(explained)

    @router.get(
        "/denials/{version}/explanation",
        name="explain_denial",
        operation_id="explain_denial",
        response_model=DenialExplanationAnswer,
        responses=_TEXT_OR_JSON,
    )
    async def explain_denial(
        team_id: TeamPath,
        version: DenialPath,
        asked: Annotated[Moment, Depends(moment)],
        newest: Newest = NEWEST_DEFAULT,
        accept: Accept = None,
    ) -> DenialExplanationAnswer | Response:
        """Why a hold was denied: rule, window, the charges and holds behind the numbers, and what would make it pass."""
        explained, position = await audits.denial(team_id, version, asked, newest)
        return _text(denial_text(explained)) if _wants_text(accept) else denial_answer(explained, position)


def _history_routes(router: APIRouter, audits: Audits) -> None:
    @router.get("/replay", name="replay_account", operation_id="replay_account")
    async def replay_account(
        team_id: TeamPath,
        asked: Annotated[ReplayFilter, Depends(replay_filter)],
        at: Annotated[Moment, Depends(moment)],
        only: OnlyMemberHere,
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="Steps at most.")] = LIMIT_DEFAULT,
        after: Annotated[
            str | None, Query(max_length=CURSOR_LENGTH_MAX, description="`next` of the page before.")
        ] = None,
    ) -> ReplayAnswer:
        """The account step by step, with the balances of the whole account after each, whatever is filtered."""
        return await audits.replay(team_id, narrowed(only, asked), limit, after, at)

    @router.get(
        "/diff",
        name="diff_account",
        operation_id="diff_account",
        response_model=DiffAnswer,
        responses=_TEXT_OR_JSON,
    )
    async def diff_account(
        team_id: TeamPath,
        before: Annotated[
            str,
            Query(
                alias="from",
                max_length=MOMENT_LENGTH_MAX,
                description="A version, or a time with its offset.",
            ),
        ],
        after: Annotated[
            str,
            Query(
                alias="to", max_length=MOMENT_LENGTH_MAX, description="A version, or a time with its offset."
            ),
        ],
        min_version: MinVersion = None,
        accept: Accept = None,
    ) -> DiffAnswer | Response:
        """What changed between two moments: balances, lots, holds, limits, and what happened, adding up exactly."""
        told = await audits.diff(team_id, diff_moment(before, "from"), diff_moment(after, "to"), min_version)
        return _text(diff_text(told)) if _wants_text(accept) else diff_answer(told)


def replay_filter(
    kind: Annotated[Literal[EVENT_NAMES] | None, Query(description="Only events of this name.")] = None,  # type: ignore[valid-type]
    action: Annotated[Name | None, Query()] = None,
    member: Annotated[Id | None, Query()] = None,
    project: Annotated[Id | None, Query()] = None,
    work: Annotated[Id | None, Query()] = None,
    charge_id: Annotated[ChargeId | None, Query()] = None,
    lot_id: Annotated[LotId | None, Query()] = None,
    hold_id: Annotated[HoldId | None, Query()] = None,
    recorded_from: Annotated[Time | None, Query(description="Included.")] = None,
    recorded_until: Annotated[Time | None, Query(description="Excluded.")] = None,
    occurred_from: Annotated[Time | None, Query(description="Included.")] = None,
    occurred_until: Annotated[Time | None, Query(description="Excluded.")] = None,
) -> ReplayFilter:
    """Which steps are asked for."""
    return ReplayFilter(
        kinds=frozenset({kind}) if kind else None,
        action=action,
        member=member,
        project=project,
        work=work,
        charge_id=charge_id,
        lot_id=lot_id,
        hold_id=hold_id,
        recorded_from=instant(recorded_from, "recorded_from"),
        recorded_until=instant(recorded_until, "recorded_until"),
        occurred_from=instant(occurred_from, "occurred_from"),
        occurred_until=instant(occurred_until, "occurred_until"),
    )


def diff_moment(text: str, field: str) -> DiffMoment:
    """One side of a difference: digits are a version, anything else a time. Raises: Malformed."""
    if text.isascii() and text.isdigit():
        version = int(text)
        if not 1 <= version <= VERSION_MAX:
            raise Malformed(f"{field} {text}: a version is 1 or more", field=field)
        return DiffMoment(version=version)
    return DiffMoment(at=parse_instant(text, field))


def _text(text: str) -> Response:
    return Response(text, media_type="text/plain; charset=utf-8")


def _wants_text(accept: str | None) -> bool:
    """Whether plain text is asked for before JSON."""
    kinds = [part.split(";")[0].strip().lower() for part in (accept or "").split(",")]
    if "text/plain" not in kinds:
        return False
    return "application/json" not in kinds or kinds.index("text/plain") < kinds.index("application/json")
