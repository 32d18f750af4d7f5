"""Commands that move credits by hand: void a grant, adjust a balance, approve an adjustment."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.cli.session import (
    KeyOption,
    MaybeReason,
    Output,
    OutputOption,
    ReasonOption,
    Team,
    asked,
    checked_id,
    checked_team,
    execute,
    over,
    show,
)


def void(
    team: Team,
    lot: Annotated[str, typer.Argument(help="A lot of the grant, such as lot-2.", show_default=False)],
    reason: ReasonOption,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Take back what is left of a grant and of its successors; nothing becomes debt.

    Example: coffer void acme lot-2 --reason "granted to the wrong team"
    """
    from api.fields import LOT_PATTERN
    from api.requests.credits import VoidBody

    named = checked_id(lot, LOT_PATTERN, "lot")
    body = VoidBody(reason=reason)
    execute(body.command(checked_team(team), named), key, output, over("grants", named, "void", body=body))


def adjust(
    team: Team,
    direction: Annotated[str, typer.Argument(help="raise or lower", show_default=False)],
    amount: Annotated[str, typer.Argument(help="Credits, such as 12.5.", show_default=False)],
    reason: ReasonOption,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Raise or lower a balance by hand; above the cap it is proposed, and another person approves it.

    Example: coffer adjust acme raise 12.5 --reason "credits lost in the migration"
    """
    from api.requests.credits import AdjustmentBody

    body = AdjustmentBody.model_validate({"direction": direction, "amount": amount, "reason": reason})
    execute(body.command(checked_team(team)), key, output, over("adjustments", body=body))


def approve(
    team: Team,
    adjustment: Annotated[
        str, typer.Argument(help="The adjustment that somebody else proposed.", show_default=False)
    ],
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Approve an adjustment that somebody else proposed; it happens at once.

    Example: coffer approve acme adjustment-3
    """
    from api.fields import ID_PATTERN
    from api.requests.credits import ApprovalBody

    named = checked_id(adjustment, ID_PATTERN, "adjustment")
    body = ApprovalBody(reason=reason)
    sent = over("adjustments", named, "approval", body=body)
    execute(body.command(checked_team(team), named), key, output, sent)


def adjustments(team: Team, output: OutputOption = Output.table) -> None:
    """Show the adjustments of a team that wait for a second person.

    Example: coffer adjustments acme
    """
    answer = asked(lambda queries: queries.teams.adjustments(team), "accounts", team, "adjustments")
    columns = ("adjustment_id", "direction", "amount", "proposed_by", "proposed_at", "reason")
    show(answer, output, rows="data", columns=columns)
