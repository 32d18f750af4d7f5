"""Commands that bring credits in or give them back: grant, top-up, refund."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from infra.cli.session import KeyOption, Output, OutputOption, ReasonOption, Team, execute

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
    from domain.amounts import parse_credits
    from domain.errors import Malformed
    from domain.ledger import GrantCredits

    if source not in {"promotional", "included"}:
        raise Malformed(f"--source {source!r}: promotional or included would be right")
    execute(
        GrantCredits(
            team_id=team,
            reason=reason,
            amount_micros=parse_credits(amount, "amount"),
            source="included" if source == "included" else "promotional",
            effective_at=instant(effective_at, "--effective-at"),
            expires_at=instant(expires_at, "--expires-at"),
            priority=priority,
            action=action,
            project=project,
        ),
        key,
        output,
    )


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
    priority: Priority = 20,
    action: OnlyAction = None,
    project: OnlyProject = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Sell credits as a new lot with what was paid for it; debt is repaid first.

    Example: coffer topup acme 500 --payment-reference pay-7 --price-minor 1000 --currency EUR
    """
    from domain.account.events import CostBasis
    from domain.amounts import parse_credits
    from domain.errors import Malformed
    from domain.ledger import TopUpCredits

    if not (len(currency) == 3 and currency.isascii() and currency.isupper()):
        raise Malformed(f"--currency {currency!r}: three capital letters such as EUR would be right")
    execute(
        TopUpCredits(
            team_id=team,
            reason=reason,
            amount_micros=parse_credits(amount, "amount"),
            payment_reference=reference,
            cost_basis=CostBasis(price_minor, currency, tax_minor),
            expires_at=instant(expires_at, "--expires-at"),
            priority=priority,
            action=action,
            project=project,
        ),
        key,
        output,
    )


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
    from domain.amounts import parse_credits
    from domain.ledger import RefundCharge
    from domain.usage import usage_key
    from infra.cli.accounts import checked_charge

    charge_id = usage_key(team, source, charge) if source else checked_charge(charge)
    micros = None if amount is None else parse_credits(amount, "--amount")
    execute(RefundCharge(team_id=team, charge_id=charge_id, amount_micros=micros, reason=reason), key, output)


def instant(text: str | None, option: str) -> datetime | None:
    """The time that an option gives. Raises: Malformed."""
    from domain.times import parse_instant

    return None if text is None else parse_instant(text, option)
