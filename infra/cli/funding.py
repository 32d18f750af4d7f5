"""Commands that bring credits in or give them back: grant, top-up, refund."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.cli.session import (
    KeyOption,
    Output,
    OutputOption,
    ReasonOption,
    Team,
    checked_charge,
    checked_team,
    execute,
    over,
)

Amount = Annotated[str, typer.Argument(help="Credits, such as 12.5.", show_default=False)]
ExpiresAt = Annotated[
    str | None, typer.Option(help="When the lot expires, with offset; never by default.", show_default=False)
]
EffectiveAt = Annotated[
    str | None,
    typer.Option(help="From when it may be spent, with offset; now by default.", show_default=False),
]
Priority = Annotated[int, typer.Option(min=0, max=1_000, help="Lower burns first.")]
OnlyAction = Annotated[
    str | None, typer.Option("--action", help="Pays for this action only.", show_default=False)
]
OnlyProject = Annotated[
    str | None, typer.Option("--project", help="Pays for this project only.", show_default=False)
]


def grant(
    team: Team,
    amount: Amount,
    reason: ReasonOption,
    source: Annotated[str, typer.Option(help="promotional or included.")] = "promotional",
    expires_at: ExpiresAt = None,
    effective_at: EffectiveAt = None,
    priority: Priority = 20,
    action: OnlyAction = None,
    project: OnlyProject = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Give credits as a new lot; debt is repaid first.

    Example: coffer grant acme 100 --reason "welcome" --expires-at 2027-01-01T00:00:00Z
    """
    from api.requests.credits import GrantBody

    body = GrantBody.model_validate(
        {
            "amount": amount,
            "reason": reason,
            "source": source,
            "effective_at": effective_at,
            "expires_at": expires_at,
            "priority": priority,
            "action": action,
            "project": project,
        }
    )
    execute(body.command(checked_team(team)), key, output, over("grants", body=body))


def topup(
    team: Team,
    amount: Amount,
    reference: Annotated[
        str, typer.Option("--payment-reference", help="The payment; it buys once.", show_default=False)
    ],
    price_minor: Annotated[
        int, typer.Option(min=0, help="Price in minor units, such as cents.", show_default=False)
    ],
    currency: Annotated[str, typer.Option(help="ISO 4217 code, such as EUR.", show_default=False)],
    tax_minor: Annotated[int, typer.Option(min=0, help="Tax in minor units.")] = 0,
    reason: Annotated[str | None, typer.Option(help="Why.", show_default=False)] = None,
    expires_at: ExpiresAt = None,
    effective_at: EffectiveAt = None,
    priority: Priority = 20,
    action: OnlyAction = None,
    project: OnlyProject = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Sell credits as a new lot with what was paid for it; debt is repaid first.

    Example: coffer topup acme 500 --payment-reference pay-7 --price-minor 1000 --currency EUR
    """
    from api.requests.payments import TopUpBody

    body = TopUpBody.model_validate(
        {
            "amount": amount,
            "payment_reference": reference,
            "cost_basis": {"price_minor": price_minor, "currency": currency, "tax_minor": tax_minor},
            "reason": reason,
            "effective_at": effective_at,
            "expires_at": expires_at,
            "priority": priority,
            "action": action,
            "project": project,
        }
    )
    execute(body.command(checked_team(team)), key, output, over("top-ups", body=body))


def refund(
    team: Team,
    charge: Annotated[
        str,
        typer.Argument(help="The charge, or the id of its usage record with --source.", show_default=False),
    ],
    reason: ReasonOption,
    amount: Annotated[
        str | None,
        typer.Option(help="Credits; all that is left of the charge by default.", show_default=False),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The source of the usage record.", show_default=False)
    ] = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Give a charge back: all that is left of it, or an amount.

    Example: coffer refund acme rec-7 --source urn:render:eu-1 --amount 5 --reason "bad picture"
    """
    from api.requests.credits import RefundBody
    from domain.usage import usage_key

    charge_id = usage_key(team, source, charge) if source else checked_charge(charge)
    body = RefundBody(amount=amount, reason=reason)
    sent = over("charges", charge_id, "refunds", body=body)
    execute(body.command(checked_team(team), charge_id), key, output, sent)
