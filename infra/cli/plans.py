"""Commands about a team's plan: assign, show."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.cli.session import (
    AsOf,
    AtVersion,
    KeyOption,
    MaybeReason,
    Output,
    OutputOption,
    Team,
    checked_team,
    execute,
    over,
    told,
)

plan = typer.Typer(help="Assign a plan to a team; show what it brings and when.", no_args_is_help=True)


@plan.command("assign")
def assign(
    team: Team,
    plan_id: Annotated[str, typer.Argument(metavar="PLAN", help="A published plan.", show_default=False)],
    at_turn: Annotated[
        bool,
        typer.Option("--at-turn", help="From the turn of the period on; a plan that brings less only so."),
    ] = False,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Give a team the newest version of a plan, now or at the turn of its period.

    Example: coffer plan assign acme studio --at-turn
    """
    from api.requests.accounts import PlanBody

    body = PlanBody.model_validate(
        {"plan_id": plan_id, "takes_effect": "turn" if at_turn else "now", "reason": reason}
    )
    execute(body.command(checked_team(team)), key, output, over("plan", body=body))


@plan.command("show")
def show_plan(
    team: Team, at_version: AtVersion = None, as_of: AsOf = None, output: OutputOption = Output.table
) -> None:
    """Show a team's plan, the period that runs, its next turn, and what follows then.

    Example: coffer plan show acme
    """
    told(lambda queries, then: queries.accounts.plan(team, then), at_version, as_of, output, team, "plan")
