"""Commands about what takes two persons: what waits on a team's account, and approving what somebody else proposed."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.cli.session import (
    KeyOption,
    MaybeReason,
    Output,
    OutputOption,
    Team,
    asked,
    checked_id,
    checked_team,
    execute,
    over,
    show,
)

acts = typer.Typer(
    help="What takes two persons: grants and refunds above a cap, closes of periods, roles.",
    no_args_is_help=True,
)


@acts.command("show")
def show_acts(team: Team, output: OutputOption = Output.table) -> None:
    """Show what waits on a team's account for a second person.

    Example: coffer acts show acme
    """
    answer = asked(lambda queries: queries.teams.acts(team), "accounts", team, "acts")
    columns = ("act_id", "operation", "amount", "proposed_by", "proposed_at", "reason")
    show(answer, output, rows="data", columns=columns)


@acts.command("approve")
def approve_act(
    team: Team,
    act: Annotated[str, typer.Argument(metavar="ACT", help="What waits, such as act-3.", show_default=False)],
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Approve what somebody else proposed; it happens at once. Nobody approves what they proposed themselves.

    Example: coffer acts approve acme act-3
    """
    from api.fields import ID_PATTERN
    from api.requests.keys import ActApprovalBody

    body, named = ActApprovalBody(reason=reason), checked_id(act, ID_PATTERN, "act")
    sent = over("acts", named, "approval", body=body)
    execute(body.command(checked_team(team), named), key, output, sent)
