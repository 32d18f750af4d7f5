"""Answers about works: the page with its cost by step, checks of handovers, contexts that were found."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from pydantic import Field

from api.answers import Instant, Micros, Told
from api.ports import ContextFound, CostOnFile, TextOnFile, WorkOnFile, WorksOnFile
from domain.work.costs import StepCost, WorkCost
from domain.work.events import HandoverChecked, PlannedCost, PreflightResult
from domain.work.state import Work


class StepCostAnswer(Told):
    """What a step cost; "" is what names no step. ``net`` is what was charged and not given back."""

    step: str
    estimate: Micros | None
    charged: Micros
    refunded: Micros
    net: Micros
    held: Annotated[Micros, Field(description="What open holds of it set aside.")]
    charges: int
    failures: Annotated[int, Field(description="Failed and cancelled uses, which cost nothing.")]
    waived: Annotated[int, Field(description="Uses that cost nothing for another reason.")]
    holds: int

    @classmethod
    def of(cls, cost: StepCost) -> StepCostAnswer:
        """The answer for a step."""
        return cls(
            step=cost.step,
            estimate=cost.estimate_micros,
            charged=cost.charged_micros,
            refunded=cost.refunded_micros,
            net=cost.net_micros,
            held=cost.held_micros,
            charges=cost.charges,
            failures=cost.failures,
            waived=cost.waived,
            holds=cost.holds,
        )


class WorkCostAnswer(Told):
    """What a work cost, in all and by step; the steps sum to the total."""

    total: StepCostAnswer
    steps: list[StepCostAnswer]
    over_estimate: Annotated[
        Micros | None,
        Field(description="Beyond the estimate; below zero when it cost less; null without one."),
    ]

    @classmethod
    def of(cls, cost: WorkCost) -> WorkCostAnswer:
        """The answer for a cost."""
        return cls(
            total=StepCostAnswer.of(cost.total),
            steps=[StepCostAnswer.of(each) for each in cost.steps],
            over_estimate=cost.over_estimate_micros,
        )


class CostAnswer(Told):
    """What did this deliverable cost, against its estimate? As of one version of the account."""

    team_id: str
    work_id: str
    version: int
    position: int
    status: Annotated[str, Field(description="new where only usage names it; open; saved")]
    cost: WorkCostAnswer

    @classmethod
    def of(cls, told: CostOnFile) -> CostAnswer:
        """The answer for a cost on file."""
        return cls(
            team_id=told.work.team_id,
            work_id=told.work.work_id,
            version=told.account_version,
            position=told.position,
            status=told.work.status,
            cost=WorkCostAnswer.of(told.cost),
        )


class WorkTold(Told):
    """A work and how far it has come."""

    work_id: str
    work_version: int
    status: str
    started_at: Instant
    started_by: str
    project: str | None
    estimate: Micros | None
    steps: Annotated[dict[str, int], Field(description="How often each step was saved.")]
    handover_version: Annotated[int | None, Field(description="The work's version of the newest check.")]
    handover_passes: bool
    saved_at: Instant | None

    @classmethod
    def of(cls, work: Work) -> WorkTold:
        """The answer for a work that was started."""
        assert work.started_at is not None, "a work on file was started"
        return cls(
            work_id=work.work_id,
            work_version=work.version,
            status=work.status,
            started_at=work.started_at,
            started_by=work.started_by,
            project=work.project,
            estimate=work.estimate_micros,
            steps={name: step.revision for name, step in work.steps.items()},
            handover_version=work.handover_version,
            handover_passes=work.handover_passes,
            saved_at=work.saved_at,
        )


class WorksAnswer(Told):
    """A team's works by id."""

    team_id: str
    version: int
    position: int
    data: list[WorkTold]
    next: str | None

    @classmethod
    def of(cls, team_id: str, told: WorksOnFile, following: str | None) -> WorksAnswer:
        """The answer for a page."""
        return cls(
            team_id=team_id,
            version=told.account_version,
            position=told.position,
            data=[WorkTold.of(each) for each in told.works],
            next=following,
        )


class TextAnswer(Told):
    """What was saved in one version of the work; without a step it is the brief or the result."""

    work_version: int
    step: str | None
    member: str
    text: dict[str, Any]

    @classmethod
    def of(cls, told: TextOnFile) -> TextAnswer:
        """The answer for a text."""
        return cls(
            work_version=told.version,
            step=told.step,
            member=told.member,
            text=msgspec.to_builtins(told.text),
        )


class PlannedAnswer(Told):
    """A use that the brief planned and what it was estimated to cost."""

    step: str | None
    action: str
    meters: dict[str, str]
    dimensions: dict[str, str]
    times: int
    amount: Micros

    @classmethod
    def of(cls, told: PlannedCost) -> PlannedAnswer:
        """The answer for a planned use."""
        use = told.planned
        return cls(
            step=use.step,
            action=use.action,
            meters=use.meters,
            dimensions=use.dimensions,
            times=use.times,
            amount=told.amount_micros,
        )


class PreflightLine(Told):
    """A line of the checklist before the start."""

    check: str
    passes: bool
    why: str
    remedy: str | None

    @classmethod
    def of(cls, told: PreflightResult) -> PreflightLine:
        """The answer for a line."""
        return cls(check=told.check, passes=told.passes, why=told.why, remedy=told.remedy)


class WorkAnswer(Told):
    """The page of a work: brief, steps, what it cost by step, estimate against actual; as of one version of the account."""

    team_id: str
    version: int
    position: int
    work: WorkTold
    planned: list[PlannedAnswer]
    preflight: list[PreflightLine]
    cost: WorkCostAnswer
    texts: Annotated[
        list[TextAnswer],
        Field(description="What is kept of what was saved, oldest first; none of it once erased."),
    ]
    texts_not_told: Annotated[
        int, Field(description="How many more are kept, which the role may not read.")
    ] = 0

    @classmethod
    def of(cls, told: WorkOnFile) -> WorkAnswer:
        """The answer for a work on file."""
        estimate = told.started.estimate
        return cls(
            team_id=told.work.team_id,
            version=told.account_version,
            position=told.position,
            work=WorkTold.of(told.work),
            planned=[PlannedAnswer.of(each) for each in estimate.uses] if estimate else [],
            preflight=[PreflightLine.of(each) for each in told.started.preflight],
            cost=WorkCostAnswer.of(told.cost),
            texts=[TextAnswer.of(each) for each in told.texts],
        )


class HandoverAnswer(Told):
    """A check of a handover as it was signed: verify ``signature`` over the bytes of ``document`` with the public key.

    ``key_id`` is the first 16 hex digits of the SHA-256 of the public key.
    """

    document: Annotated[str, Field(description="Canonical JSON, exactly as it was signed.")]
    signature: Annotated[str, Field(description="Ed25519, 64 bytes in hex.")]
    key_id: str

    @classmethod
    def of(cls, told: HandoverChecked) -> HandoverAnswer:
        """The answer for a check."""
        return cls(document=told.document, signature=told.signature, key_id=told.key_id)


class SigningKeyAnswer(Told):
    """What verifies the signatures of this ledger: an Ed25519 public key, 32 bytes in hex."""

    key_id: str
    public_key: str


class ContextAnswer(Told):
    """A context in which the words were found: of a step, brief or result of a work, or of a charge."""

    work_id: str | None
    work_version: int | None
    step: str | None
    charge_id: str | None
    member: str | None
    context: Any

    @classmethod
    def of(cls, told: ContextFound) -> ContextAnswer:
        """The answer for a context."""
        return cls(
            work_id=told.work_id,
            work_version=told.work_version,
            step=told.step,
            charge_id=told.charge_id,
            member=told.member,
            context=msgspec.json.decode(told.context),
        )


class ContextsAnswer(Told):
    """Contexts in which the words were found."""

    team_id: str
    version: int
    position: int
    data: list[ContextAnswer]
    next: str | None
