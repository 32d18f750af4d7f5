"""Commands about limits: set, remove, show."""

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
    checked_id,
    checked_team,
    execute,
    over,
    told,
)

limits = typer.Typer(help="Cap what a team, member, project or action may spend.", no_args_is_help=True)

LimitId = Annotated[str, typer.Argument(metavar="LIMIT", help="The limit's id.", show_default=False)]
_COLUMNS = (
    *("limit_id", "window", "cap", "hard", "used", "held", "remaining", "resets_at"),
    *("member", "project", "action", "reached"),
)


@limits.command("set")
def set_limit(
    team: Team,
    limit: LimitId,
    window: Annotated[
        str, typer.Option(help="hour, day, week, month, period or lifetime.", show_default=False)
    ],
    cap: Annotated[str, typer.Option(help="Credits that one window may spend.", show_default=False)],
    soft: Annotated[
        bool, typer.Option("--soft/--hard", help="Soft: it only alerts. Hard: it denies requests.")
    ] = False,
    member: Annotated[str | None, typer.Option(help="Counts this member only.", show_default=False)] = None,
    project: Annotated[str | None, typer.Option(help="Counts this project only.", show_default=False)] = None,
    action: Annotated[str | None, typer.Option(help="Counts this action only.", show_default=False)] = None,
    threshold: Annotated[
        list[int] | None,
        typer.Option(
            "--threshold", help="Percent of the cap that alerts once in a window.", show_default=False
        ),
    ] = None,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Set a limit, or change cap, kind or thresholds of one that is there; what was used stays.

    Example: coffer limits set acme mira-day --window day --cap 100 --member mira --threshold 80
    """
    from api.requests.limits import LimitBody

    body = LimitBody.model_validate(
        {
            "limit_id": limit,
            "window": window,
            "cap": cap,
            "hard": not soft,
            "member": member,
            "project": project,
            "action": action,
            "thresholds": sorted(threshold or []),
            "reason": reason,
        }
    )
    execute(body.command(checked_team(team)), key, output, over("limits", body=body))


@limits.command("remove")
def remove_limit(
    team: Team,
    limit: LimitId,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Take a limit away.

    Example: coffer limits remove acme mira-day
    """
    from api.fields import ID_PATTERN
    from api.requests.limits import LimitRemovalBody

    named = checked_id(limit, ID_PATTERN, "limit")
    body = LimitRemovalBody(reason=reason)
    sent = over("limits", named, "removal", body=body)
    execute(body.command(checked_team(team), named), key, output, sent)


@limits.command("show")
def show_limits(
    team: Team, at_version: AtVersion = None, as_of: AsOf = None, output: OutputOption = Output.table
) -> None:
    """Show a team's limits: used, held and remaining of the running window, and when that resets.

    Example: coffer limits show acme
    """
    told(
        lambda queries, then: queries.accounts.limits(team, then),
        at_version,
        as_of,
        output,
        team,
        "limits",
        columns=_COLUMNS,
    )
