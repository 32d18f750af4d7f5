"""Commands of the demo: a payment provider that speaks the real topics."""

from __future__ import annotations

import signal
from enum import StrEnum
from threading import Event
from typing import TYPE_CHECKING, Annotated, cast

import typer

from domain.errors import Malformed
from infra.cli.session import Team, log_to_stderr, note, wired

if TYPE_CHECKING:
    from types import FrameType

    from infra.local.provider import ChargebackEnd

demo = typer.Typer(
    help="Others that the ledger talks to, made up for trying things out.", no_args_is_help=True
)


class Step(StrEnum):
    """A step of a chargeback."""

    opened = "opened"
    won = "won"
    lost = "lost"


@demo.command()
def provider(
    delay: Annotated[float, typer.Option(min=0, help="Seconds before each answer.")] = 1.0,
    fail_team: Annotated[
        list[str] | None,
        typer.Option(help="Payments of this team fail; may be repeated.", show_default=False),
    ] = None,
    fail_times: Annotated[
        int | None,
        typer.Option(
            min=0, help="So many payments of each such team fail, then they settle.", show_default=False
        ),
    ] = None,
    chargeback: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TEAM=open|won|lost",
            help="The bank takes back the team's first settled payment.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Answer the ledger's requests for top-ups on the payments topic until SIGTERM; each payment is charged once.

    Example: coffer demo provider --fail-team acme --fail-times 2
    """
    from infra.local.provider import ProviderTerms, run_provider

    terms = ProviderTerms(
        delay_seconds=delay,
        fail_teams=frozenset(fail_team or ()),
        fail_times=fail_times,
        chargebacks=dict(map(_chargeback, chargeback or ())),
    )
    log_to_stderr()
    stop = Event()

    def ask_to_stop(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, ask_to_stop)
    with wired() as wiring:
        run_provider(wiring.kafka_bootstrap, terms, stop)


@demo.command("chargeback")
def tell_chargeback(
    step: Annotated[Step, typer.Argument(help="What the bank did.", show_default=False)],
    team: Team,
    payment_reference: Annotated[str, typer.Argument(help="The payment.", show_default=False)],
) -> None:
    """Tell the ledger, on the payments topic, what a bank did about a payment.

    Example: coffer demo chargeback opened acme pay-2026-0001
    """
    from infra.local.provider import PaymentName, fact, tell

    kinds = {
        Step.opened: "chargeback.opened",
        Step.won: "chargeback.won",
        Step.lost: "chargeback.lost",
    }
    with wired() as wiring:
        payment = fact(PaymentName(team, payment_reference), kinds[step])  # type: ignore[arg-type]
        tell(wiring.kafka_bootstrap, payment)
    note(f"told: {payment.kind} of {payment_reference}; see `coffer history {team}`")


def _chargeback(text: str) -> tuple[str, ChargebackEnd]:
    team, _, end = text.partition("=")
    if not team or end not in {"open", "won", "lost"}:
        raise Malformed(
            f"--chargeback {text[:80]!r}: write TEAM=open, TEAM=won or TEAM=lost", field="chargeback"
        )
    return team, cast("ChargebackEnd", end)
