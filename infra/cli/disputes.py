"""Commands about charges that a customer contests: open, uphold, reject, show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.session import (
    AsOf,
    AtVersion,
    KeyOption,
    MaybeReason,
    Output,
    OutputOption,
    ReasonOption,
    Team,
    checked_charge,
    checked_id,
    checked_team,
    execute,
    over,
    told,
)

if TYPE_CHECKING:
    from api.requests.disputes import DecisionBody

dispute = typer.Typer(help="Contest charges, and decide about them.", no_args_is_help=True)

DisputeId = Annotated[
    str, typer.Argument(metavar="DISPUTE", help="The dispute, such as dispute-20.", show_default=False)
]


@dispute.command("open")
def open_dispute(
    team: Team,
    charges: Annotated[
        list[str],
        typer.Argument(
            metavar="CHARGE...",
            help="The charges, or ids of usage records with --source.",
            show_default=False,
        ),
    ],
    evidence: Annotated[
        str,
        typer.Option(
            help="What speaks for the customer; - reads it from standard input.", show_default=False
        ),
    ],
    source: Annotated[
        str | None, typer.Option(help="The source of the usage records.", show_default=False)
    ] = None,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Contest charges, with evidence: for instance an explanation, piped in.

    Example: coffer explain acme rec-7 --source urn:eu | coffer dispute open acme rec-7 --source urn:eu --evidence -
    """
    from api.requests.disputes import DisputeBody
    from domain.usage import usage_key

    charge_ids = [usage_key(team, source, each) if source else checked_charge(each) for each in charges]
    said = typer.get_text_stream("stdin").read() if evidence == "-" else evidence
    body = DisputeBody.model_validate({"charge_ids": charge_ids, "evidence": said, "reason": reason})
    execute(body.command(checked_team(team)), key, output, over("disputes", body=body))


@dispute.command("uphold")
def uphold(
    team: Team,
    named: DisputeId,
    reason: ReasonOption,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Decide for the customer: what is left of each charge is refunded.

    Example: coffer dispute uphold acme dispute-20 --reason "the picture never arrived"
    """
    body, one = _body(reason), _checked(named)
    sent = over("disputes", one, "uphold", body=body)
    execute(body.upholds(checked_team(team), one), key, output, sent)


@dispute.command("reject")
def reject(
    team: Team,
    named: DisputeId,
    reason: ReasonOption,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Decide that the charges stand.

    Example: coffer dispute reject acme dispute-20 --reason "the picture was downloaded twice"
    """
    body, one = _body(reason), _checked(named)
    sent = over("disputes", one, "reject", body=body)
    execute(body.rejects(checked_team(team), one), key, output, sent)


@dispute.command("show")
def show_disputes(
    team: Team,
    named: Annotated[
        str | None,
        typer.Argument(
            metavar="[DISPUTE]",
            help="One dispute, open or decided; all open ones by default.",
            show_default=False,
        ),
    ] = None,
    at_version: AtVersion = None,
    as_of: AsOf = None,
    output: OutputOption = Output.table,
) -> None:
    """Show a team's open disputes, or one dispute with its evidence.

    Example: coffer dispute show acme dispute-20
    """
    if named is None:
        told(
            lambda queries, then: queries.accounts.disputes(team, then),
            at_version,
            as_of,
            output,
            team,
            "disputes",
            columns=("dispute_id", "charge_ids", "opened_at"),
        )
    else:
        one = _checked(named)
        told(
            lambda queries, then: queries.accounts.dispute(team, one, then),
            at_version,
            as_of,
            output,
            team,
            "disputes",
            one,
        )


def _body(reason: str) -> DecisionBody:
    from api.requests.disputes import DecisionBody

    return DecisionBody(reason=reason)


def _checked(named: str) -> str:
    from api.fields import DISPUTE_PATTERN

    return checked_id(named, DISPUTE_PATTERN, "dispute")
