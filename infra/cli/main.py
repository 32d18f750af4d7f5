"""The `coffer` command: one family of commands per file; a refusal is one clear line and exit 2."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli import (
    about,
    accounts,
    acts,
    adjusting,
    archive,
    audit,
    catalogue,
    checkpoints,
    demo,
    disputes,
    export,
    funding,
    history,
    holds,
    invoices,
    keys,
    limits,
    payments,
    plans,
    quotes,
    revenue,
    running,
    shards,
    spending,
    stream,
    team,
    team_keys,
    up,
    usage,
    works,
)
from infra.cli.remote import ApiRefused
from infra.cli.session import REFUSED, reach

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

INTERRUPTED = 130

app = typer.Typer(
    name="coffer",
    help="A credits ledger: every charge, grant, top-up and refund is one immutable event on one team's account.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

ApiOption = Annotated[
    str | None,
    typer.Option(
        "--api",
        metavar="URL",
        envvar="COFFER_API_URL",
        help="Ask the API at this address, with the key in COFFER_API_KEY; the database by default.",
        show_default=False,
    ),
]


@app.callback()
def coffer(api: ApiOption = None) -> None:
    """Whom the commands ask is settled."""
    reach(api)


_PANELS: dict[str, tuple[Callable[..., None], ...]] = {
    "Run": (
        up.up,
        running.serve,
        running.consume,
        running.project,
        running.relay,
        running.tick,
        running.migrate,
    ),
    "Ask": (
        accounts.balance,
        accounts.lots,
        accounts.watch,
        accounts.statement,
        accounts.history,
        history.explain,
        history.replay,
        history.diff,
        accounts.estimate,
        spending.preflight,
        spending.spending,
        spending.review,
        quotes.quote,
        payments.topup_show,
        adjusting.adjustments,
        works.contexts,
        works.signing_key,
        works.verify_handover,
        checkpoints.verify_bundle,
    ),
    "Change": (
        accounts.suspend,
        accounts.resume,
        accounts.zone,
        funding.grant,
        adjusting.void,
        funding.topup,
        payments.topup_request,
        payments.topup_fail,
        funding.refund,
        adjusting.adjust,
        adjusting.approve,
        quotes.quote_withdraw,
        works.forget,
    ),
    "Catalogue": (catalogue.publish,),
    "Stream": (stream.offset,),
    "Operate": (
        audit.verify,
        checkpoints.checkpoint,
        checkpoints.bundle,
        export.export,
        revenue.revenue,
        audit.rebuild,
        audit.snapshots,
        archive.archive,
        archive.restore,
        shards.shards,
        about.doctor,
        about.config,
        about.openapi,
    ),
}
for panel, commands in _PANELS.items():
    for command in commands:
        app.command(rich_help_panel=panel)(command)
app.add_typer(accounts.account, name="account", rich_help_panel="Change")
app.add_typer(plans.plan, name="plan", rich_help_panel="Change")
app.add_typer(holds.hold, name="hold", rich_help_panel="Change")
app.add_typer(limits.limits, name="limits", rich_help_panel="Change")
app.add_typer(payments.auto_top_up, name="auto-topup", rich_help_panel="Change")
app.add_typer(payments.chargeback, name="chargeback", rich_help_panel="Change")
app.add_typer(disputes.dispute, name="dispute", rich_help_panel="Change")
app.add_typer(invoices.invoice, name="invoice", rich_help_panel="Change")
app.add_typer(invoices.issuer, name="issuer", rich_help_panel="Change")
app.add_typer(team.team, name="team", rich_help_panel="Change")
app.add_typer(works.work, name="work", rich_help_panel="Change")
app.add_typer(acts.acts, name="acts", rich_help_panel="Change")
app.add_typer(usage.usage, name="usage", rich_help_panel="Stream")
app.add_typer(demo.demo, name="demo", rich_help_panel="Run")
app.add_typer(catalogue.catalogue, name="catalogue", rich_help_panel="Catalogue")
app.add_typer(catalogue.sources, name="sources", rich_help_panel="Catalogue")
app.add_typer(stream.dlq, name="dlq", rich_help_panel="Stream")
app.add_typer(shards.shard, name="shard", rich_help_panel="Operate")
app.add_typer(keys.keys, name="keys", rich_help_panel="Operate")

# It only adds to the family of another file.
assert team_keys.accesses in {each.callback for each in team.team.registered_commands}


def main() -> None:
    """One command has run; exit 0 fine, 1 a difference was found, 2 refused or not understood."""
    try:
        app()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:
        told = refusal(error)
        if told is None:
            raise
        print(f"coffer: {told}", file=sys.stderr)
        sys.exit(REFUSED)


def refusal(error: Exception) -> str | None:
    """What to say of an error that somebody outside this program can do something about; None for a bug."""
    from pydantic import ValidationError

    from domain.errors import Busy, LedgerError
    from domain.ledger import OutcomeUnknown
    from infra.settings import ForbiddenSetting
    from infra.wiring import NotConnected

    if isinstance(error, LedgerError):
        return error.detail
    if isinstance(error, NotConnected | ForbiddenSetting | ApiRefused):
        return str(error)
    if isinstance(error, Busy):
        return f"{error}; nothing was written, try again"
    if isinstance(error, OutcomeUnknown):
        return f"{error}; repeat the command with the same --key, it happens at most once"
    if isinstance(error, ValidationError):
        return "; ".join(_finding(error.title, each) for each in error.errors())
    if isinstance(error, UnicodeEncodeError):
        return f"{error.object[:40]!r} is not plain text: write UTF-8"
    return _machine_refusal(error)


def _finding(title: str, error: ErrorDetails) -> str:
    """A setting or an option that is wrong: its name, what it was, what would be right."""
    from api.findings import finding
    from infra.settings import Settings

    name = ".".join(map(str, error["loc"]))
    if title != "Settings":
        return f"{name} {finding(error)}"
    # What was set is not repeated: it may be an address with a password.
    right = Settings.model_fields[name].description if name in Settings.model_fields else None
    return f"COFFER_{name.upper()}: {right or error['msg'].removeprefix('Value error, ')}"


def _machine_refusal(error: Exception) -> str | None:
    """Servers that are away or not set up, told without a traceback and without a password."""
    import psycopg

    from infra.logs import SECRET_TEXT
    from infra.postgres.migrations import InstallationMismatch
    from infra.postgres.shards import WrongDatabase

    if isinstance(error, InstallationMismatch | WrongDatabase):
        return str(error)
    if isinstance(error, psycopg.errors.UndefinedTable):
        return "the database has no tables yet: run `coffer migrate`"
    if isinstance(error, psycopg.OperationalError | OSError):
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return SECRET_TEXT.sub("[hidden]", first)
    if type(error).__module__.startswith("kafka."):
        return f"Kafka: {type(error).__name__}: {error}"
    return None


if __name__ == "__main__":
    main()
