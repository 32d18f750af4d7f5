"""Commands about quotes: give one, withdraw one."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.cli.accounts import pairs
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


def quote(
    team: Team,
    action: Annotated[str, typer.Argument(help="The action, such as image.generate.", show_default=False)],
    meter: Annotated[
        list[str] | None,
        typer.Option("-m", "--meter", help="name=quantity, once per meter.", show_default=False),
    ] = None,
    dimension: Annotated[
        list[str] | None,
        typer.Option("-d", "--dimension", help="name=value, once per dimension.", show_default=False),
    ] = None,
    project: Annotated[
        str | None, typer.Option(help="The project that would pay.", show_default=False)
    ] = None,
    lasts: Annotated[int, typer.Option("--lasts", help="Seconds for which the price is honoured.")] = 600,
    output: OutputOption = Output.table,
) -> None:
    """Give a price that is honoured until it expires: its token is for one hold. Nothing is changed.

    Example: coffer quote acme image.generate -m images=4 -d model=base --lasts 600
    """
    from api.queries import Use
    from api.requests.uses import QuoteBody

    body = QuoteBody.model_validate(
        {
            "action": action,
            "meters": pairs(meter, "--meter"),
            "dimensions": pairs(dimension, "--dimension"),
            "project": project,
            "lasts_seconds": lasts,
        }
    )
    use = Use(body.action, body.meters, body.dimensions, body.project)
    answer = asked(
        lambda queries: queries.quote(team, use, body.lasts_seconds), "accounts", team, "quotes", body=body
    )
    show(answer, output)


def quote_withdraw(
    team: Team,
    quote_id: Annotated[
        str, typer.Argument(metavar="QUOTE", help="The quote's id, not its token.", show_default=False)
    ],
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Let no hold name a quote any more.

    Example: coffer quote-withdraw acme quote-4f9s
    """
    from api.fields import ID_PATTERN
    from api.requests.uses import QuoteWithdrawalBody

    named = checked_id(quote_id, ID_PATTERN, "quote")
    withdrawal = QuoteWithdrawalBody(reason=reason)
    sent = over("quotes", named, "withdrawal", body=withdrawal)
    execute(withdrawal.command(checked_team(team), named), key, output, sent)
