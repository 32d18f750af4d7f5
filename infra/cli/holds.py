"""Commands about holds: place, extend, capture, release, show."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.cli.session import (
    AsOf,
    AtVersion,
    Hold,
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

hold = typer.Typer(
    help="Set credits aside for running work, and turn them into charges.", no_args_is_help=True
)

Lasts = Annotated[int, typer.Option("--lasts", help="Seconds from now, at most 86400.")]
_COLUMNS = ("hold_id", "held", "action", "member", "project", "work", "made_at", "expires_at")


@hold.command("place")
def place(
    team: Team,
    action: Annotated[str, typer.Argument(help="The action, such as image.generate.", show_default=False)],
    amount: Annotated[
        str | None, typer.Option(help="Credits; left out with --quote.", show_default=False)
    ] = None,
    quote: Annotated[
        str | None, typer.Option(help="The token of a quote, which says how much.", show_default=False)
    ] = None,
    lasts: Lasts = 3_600,
    member: Annotated[str | None, typer.Option(help="Who works.", show_default=False)] = None,
    project: Annotated[str | None, typer.Option(help="For which project.", show_default=False)] = None,
    work: Annotated[str | None, typer.Option(help="For which work.", show_default=False)] = None,
    step: Annotated[str | None, typer.Option(help="For which step of it.", show_default=False)] = None,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Set credits aside for work that is about to run. A denial is an outcome: it says which rule left least room.

    Example: coffer hold place acme image.generate --amount 12.5 --member mira
    """
    from api.requests.holds import HoldBody

    body = HoldBody.model_validate(
        {
            "action": action,
            "amount": amount,
            "quote": quote,
            "lasts_seconds": lasts,
            "member": member,
            "project": project,
            "work": work,
            "step": step,
            "reason": reason,
        }
    )
    execute(body.command(checked_team(team)), key, output, over("holds", body=body))


@hold.command("extend")
def extend(
    team: Team,
    hold: Hold,
    lasts: Lasts = 3_600,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Let a hold last so long from now, unless it lasts longer already; seven days in all.

    Example: coffer hold extend acme hold-12 --lasts 7200
    """
    from api.requests.holds import ExtensionBody

    body = ExtensionBody.model_validate({"lasts_seconds": lasts, "reason": reason})
    named = _checked(hold)
    sent = over("holds", named, "extensions", body=body)
    execute(body.command(checked_team(team), named), key, output, sent)


@hold.command("capture")
def capture(
    team: Team,
    hold: Hold,
    amount: Annotated[str, typer.Argument(help="Credits, such as 12.5.", show_default=False)],
    occurred_at: Annotated[
        str | None,
        typer.Option(help="When the work was done, with offset; now by default.", show_default=False),
    ] = None,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Turn part or all of a hold into a charge; a hold may be captured several times.

    Example: coffer hold capture acme hold-12 8.25
    """
    from api.requests.holds import CaptureBody

    body = CaptureBody.model_validate({"amount": amount, "occurred_at": occurred_at, "reason": reason})
    named = _checked(hold)
    sent = over("holds", named, "captures", body=body)
    execute(body.command(checked_team(team), named), key, output, sent)


@hold.command("release")
def release(
    team: Team,
    hold: Hold,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """End a hold; what it still sets aside is available again.

    Example: coffer hold release acme hold-12
    """
    from api.requests.holds import ReleaseBody

    body, named = ReleaseBody(reason=reason), _checked(hold)
    sent = over("holds", named, "release", body=body)
    execute(body.command(checked_team(team), named), key, output, sent)


@hold.command("show")
def show_holds(
    team: Team,
    hold: Annotated[
        str | None,
        typer.Argument(help="One hold, open or ended; all open ones by default.", show_default=False),
    ] = None,
    at_version: AtVersion = None,
    as_of: AsOf = None,
    output: OutputOption = Output.table,
) -> None:
    """Show a team's open holds, or one hold and what became of it.

    Example: coffer hold show acme hold-12
    """
    if hold is None:
        told(
            lambda queries, then: queries.accounts.holds(team, then),
            at_version,
            as_of,
            output,
            team,
            "holds",
            columns=_COLUMNS,
        )
    else:
        named = _checked(hold)
        told(
            lambda queries, then: queries.accounts.hold(team, named, then),
            at_version,
            as_of,
            output,
            team,
            "holds",
            named,
        )


def _checked(hold: str) -> str:
    from api.fields import HOLD_PATTERN

    return checked_id(hold, HOLD_PATTERN, "hold")
