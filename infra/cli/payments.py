"""Commands about payments: top-ups that are asked for or fail, automatic top-up, chargebacks."""

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
    Reference,
    Team,
    checked_id,
    checked_team,
    execute,
    over,
    told,
)

if TYPE_CHECKING:
    from api.requests.payments import ChargebackBody

auto_top_up = typer.Typer(help="Buy credits automatically when few are left.", no_args_is_help=True)
chargeback = typer.Typer(help="What a bank does about a top-up.", no_args_is_help=True)

PriceMinor = Annotated[
    int, typer.Option(min=0, help="Price in minor units, such as cents.", show_default=False)
]
Currency = Annotated[str, typer.Option(help="ISO 4217 code, such as EUR.", show_default=False)]
TaxMinor = Annotated[int, typer.Option(min=0, help="Tax in minor units.")]
_CHARGEBACK_COLUMNS = ("payment_reference", "origin_lot_id", "opened_at", "withheld")


def topup_request(
    team: Team,
    amount: Annotated[str, typer.Argument(help="Credits, such as 500.", show_default=False)],
    reference: Annotated[
        str, typer.Option("--payment-reference", help="The payment; it buys once.", show_default=False)
    ],
    price_minor: PriceMinor,
    currency: Currency,
    tax_minor: TaxMinor = 0,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Note that a top-up was asked for; no credit comes before its payment is settled (`coffer topup`).

    Example: coffer topup-request acme 500 --payment-reference pay-7 --price-minor 1000 --currency EUR
    """
    from api.requests.payments import TopUpRequestBody

    body = TopUpRequestBody.model_validate(
        {
            "amount": amount,
            "payment_reference": reference,
            "cost_basis": {"price_minor": price_minor, "currency": currency, "tax_minor": tax_minor},
            "reason": reason,
        }
    )
    execute(body.command(checked_team(team)), key, output, over("top-ups", "requests", body=body))


def topup_fail(
    team: Team,
    reference: Reference,
    failure: Annotated[str, typer.Option(help="Why, as the provider says it.", show_default=False)],
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Note that the payment of a top-up, automatic or not, failed.

    Example: coffer topup-fail acme pay-7 --failure card_declined
    """
    from api.requests.payments import TopUpFailureBody

    body = TopUpFailureBody.model_validate({"failure": failure, "reason": reason})
    named = _checked(reference)
    sent = over("top-ups", named, "failure", body=body)
    execute(body.command(checked_team(team), named), key, output, sent)


def topup_show(
    team: Team,
    reference: Reference,
    at_version: AtVersion = None,
    as_of: AsOf = None,
    output: OutputOption = Output.table,
) -> None:
    """Show what became of a payment: requested, settled or failed, the lot it bought, its chargeback.

    Example: coffer topup-show acme pay-7
    """
    named = _checked(reference)
    told(
        lambda queries, then: queries.accounts.top_up(team, named, then),
        at_version,
        as_of,
        output,
        team,
        "top-ups",
        named,
    )


@auto_top_up.command("set")
def set_auto_top_up(
    team: Team,
    amount: Annotated[str, typer.Option(help="Credits to buy each time.", show_default=False)],
    threshold: Annotated[str, typer.Option(help="Buy when less than this is available.", show_default=False)],
    price_minor: PriceMinor,
    currency: Currency,
    money_cap_minor: Annotated[
        int,
        typer.Option(min=0, help="Minor units that one window may spend, tax included.", show_default=False),
    ],
    tax_minor: TaxMinor = 0,
    window: Annotated[str, typer.Option(help="hour, day, week, month, period or lifetime.")] = "month",
    failures_max: Annotated[int, typer.Option(help="Failures in a row after which it stops.")] = 3,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Switch automatic top-up on, on these terms; earlier failures are forgotten.

    Example: coffer auto-topup set acme --amount 500 --threshold 50 --price-minor 1000 --currency EUR --money-cap-minor 5000
    """
    from api.requests.payments import AutoTopUpBody

    body = AutoTopUpBody.model_validate(
        {
            "enabled": True,
            "threshold": threshold,
            "amount": amount,
            "cost_basis": {"price_minor": price_minor, "currency": currency, "tax_minor": tax_minor},
            "money_cap_minor": money_cap_minor,
            "window": window,
            "failures_max": failures_max,
            "reason": reason,
        }
    )
    execute(body.command(checked_team(team)), key, output, over("auto-top-up", body=body))


@auto_top_up.command("off")
def switch_auto_top_up_off(
    team: Team, reason: MaybeReason = None, key: KeyOption = None, output: OutputOption = Output.table
) -> None:
    """Switch automatic top-up off.

    Example: coffer auto-topup off acme
    """
    from api.requests.payments import AutoTopUpBody

    body = AutoTopUpBody(enabled=False, reason=reason)
    execute(body.command(checked_team(team)), key, output, over("auto-top-up", body=body))


@auto_top_up.command("show")
def show_auto_top_up(
    team: Team, at_version: AtVersion = None, as_of: AsOf = None, output: OutputOption = Output.table
) -> None:
    """Show automatic top-up: its terms, the request in flight, failures, what its window has spent.

    Example: coffer auto-topup show acme
    """
    told(
        lambda queries, then: queries.accounts.auto_top_up(team, then),
        at_version,
        as_of,
        output,
        team,
        "auto-top-up",
    )


@chargeback.command("open")
def open_chargeback(
    team: Team,
    reference: Reference,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Withhold what is left of a top-up that a bank takes back for now.

    Example: coffer chargeback open acme pay-7
    """
    body, named = _body(reason), _checked(reference)
    sent = over("top-ups", named, "chargeback", body=body)
    execute(body.opens(checked_team(team), named), key, output, sent)


@chargeback.command("won")
def win_chargeback(
    team: Team,
    reference: Reference,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Give back what an open chargeback withheld: the top-up stands.

    Example: coffer chargeback won acme pay-7
    """
    body, named = _body(reason), _checked(reference)
    sent = over("top-ups", named, "chargeback", "won", body=body)
    execute(body.won(checked_team(team), named), key, output, sent)


@chargeback.command("lost")
def lose_chargeback(
    team: Team,
    reference: Reference,
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Void what an open chargeback withheld; what had been drawn from the top-up becomes debt.

    Example: coffer chargeback lost acme pay-7
    """
    body, named = _body(reason), _checked(reference)
    sent = over("top-ups", named, "chargeback", "lost", body=body)
    execute(body.lost(checked_team(team), named), key, output, sent)


@chargeback.command("show")
def show_chargebacks(
    team: Team, at_version: AtVersion = None, as_of: AsOf = None, output: OutputOption = Output.table
) -> None:
    """Show a team's open chargebacks and what each withholds.

    Example: coffer chargeback show acme
    """
    told(
        lambda queries, then: queries.accounts.chargebacks(team, then),
        at_version,
        as_of,
        output,
        team,
        "chargebacks",
        columns=_CHARGEBACK_COLUMNS,
    )


def _body(reason: str | None) -> ChargebackBody:
    from api.requests.payments import ChargebackBody

    return ChargebackBody(reason=reason)


def _checked(reference: str) -> str:
    from api.fields import PAYMENT_PATTERN

    return checked_id(reference, PAYMENT_PATTERN, "payment")
