"""Commands about people and paperwork: members and roles, billing details, payment method."""

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
    show_one,
)

team = typer.Typer(help="Members and their roles, billing details, how the team pays.", no_args_is_help=True)

Member = Annotated[str, typer.Argument(help="The member's opaque id.", show_default=False)]
Role = Annotated[str, typer.Option(help="owner, admin, member or viewer.", show_default=False)]


@team.command("members")
def members(named: Team, output: OutputOption = Output.table) -> None:
    """Show everyone in a team, in the order of joining.

    Example: coffer team members acme
    """
    answer = asked(lambda queries: queries.teams.members(named), "accounts", named, "members")
    show(answer, output, rows="data", columns=("member", "role", "since"))


@team.command("add")
def add_member(
    named: Team,
    member: Member,
    role: Role,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Let a member join a team in a role.

    Example: coffer team add acme mira --role owner
    """
    from api.requests.team import MemberBody

    body = MemberBody.model_validate({"member": member, "role": role, "reason": reason})
    execute(body.command(checked_team(named)), key, output, over("members", body=body))


@team.command("role")
def change_role(
    named: Team,
    member: Member,
    role: Role,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Give a member another role; a team is never without an owner.

    Example: coffer team role acme jo --role admin
    """
    from api.requests.team import MemberRoleBody

    body = MemberRoleBody.model_validate({"role": role, "reason": reason})
    who = _checked(member)
    sent = over("members", who, "role", body=body)
    execute(body.command(checked_team(named), who), key, output, sent)


@team.command("remove")
def remove_member(
    named: Team,
    member: Member,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Let a member leave a team.

    Example: coffer team remove acme jo
    """
    from api.requests.team import RemovalBody

    body, who = RemovalBody(reason=reason), _checked(member)
    sent = over("members", who, "removal", body=body)
    execute(body.of_member(checked_team(named), who), key, output, sent)


@team.command("billing")
def billing(named: Team, output: OutputOption = Output.table) -> None:
    """Show whom a team's invoices are made out to.

    Example: coffer team billing acme -o json
    """
    answer = asked(lambda queries: queries.teams.billing_details(named), "accounts", named, "billing-details")
    if output is Output.table and answer["billing_details"] is not None:
        show_one(answer["billing_details"], output)
    else:
        show(answer, output)


@team.command("set-billing")
def set_billing(
    named: Team,
    name: Annotated[str, typer.Option(help="Whom the invoices are made out to.", show_default=False)],
    address: Annotated[
        list[str], typer.Option("--address", help="A line of the address, once per line.", show_default=False)
    ],
    country: Annotated[str, typer.Option(help="ISO 3166 code, such as DE.", show_default=False)],
    email: Annotated[str | None, typer.Option(help="Where invoices go.", show_default=False)] = None,
    tax_id: Annotated[str | None, typer.Option(help="The tax number.", show_default=False)] = None,
    locale: Annotated[
        str | None,
        typer.Option(help="How amounts and dates are written, such as de_DE.", show_default=False),
    ] = None,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Set whom a team's invoices are made out to.

    Example: coffer team set-billing acme --name "Acme GmbH" --address "Hauptstr. 1" --address "10115 Berlin" --country DE
    """
    from api.requests.team import BillingDetailsBody

    body = BillingDetailsBody.model_validate(
        {
            "name": name,
            "address_lines": address,
            "country": country,
            "email": email,
            "tax_id": tax_id,
            "locale": locale,
            "reason": reason,
        }
    )
    execute(body.command(checked_team(named)), key, output, over("billing-details", body=body))


@team.command("payment-method")
def payment_method(named: Team, output: OutputOption = Output.table) -> None:
    """Show how a team pays: what a person recognises it by, never the provider's token.

    Example: coffer team payment-method acme
    """
    answer = asked(lambda queries: queries.teams.payment_method(named), "accounts", named, "payment-method")
    if output is Output.table and answer["payment_method"] is not None:
        show_one(answer["payment_method"], output)
    else:
        show(answer, output)


@team.command("set-payment-method")
def set_payment_method(
    named: Team,
    token: Annotated[
        str, typer.Option(help="The provider's token; never a card's number.", show_default=False)
    ],
    brand: Annotated[str, typer.Option(help="Such as visa.", show_default=False)],
    last_four: Annotated[str, typer.Option(help="The card's last four digits.", show_default=False)],
    expires_month: Annotated[int, typer.Option(help="1 to 12.", show_default=False)],
    expires_year: Annotated[int, typer.Option(help="Such as 2029.", show_default=False)],
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Set how a team pays, as the payment provider tells it.

    Example: coffer team set-payment-method acme --token tok_4 --brand visa --last-four 4242 --expires-month 5 --expires-year 2029
    """
    from api.requests.team import PaymentMethodBody

    body = PaymentMethodBody.model_validate(
        {
            "token": token,
            "brand": brand,
            "last_four": last_four,
            "expires_month": expires_month,
            "expires_year": expires_year,
            "reason": reason,
        }
    )
    execute(body.command(checked_team(named)), key, output, over("payment-method", body=body))


@team.command("remove-payment-method")
def remove_payment_method(
    named: Team, reason: MaybeReason = None, key: KeyOption = None, output: OutputOption = Output.table
) -> None:
    """Forget how a team pays.

    Example: coffer team remove-payment-method acme
    """
    from api.requests.team import RemovalBody

    body = RemovalBody(reason=reason)
    sent = over("payment-method", "removal", body=body)
    execute(body.of_payment_method(checked_team(named)), key, output, sent)


def _checked(member: str) -> str:
    from api.fields import ID_PATTERN

    return checked_id(member, ID_PATTERN, "member")
