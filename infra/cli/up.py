"""`coffer up`: the whole ledger on this machine, with one command."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

import typer

from infra.local.run import RECORDS_DEFAULT, RECORDS_MIN, RESULT_DEFAULT, SEED_DEFAULT, Run
from infra.settings import load_settings


def up(
    trace: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Replay this trace of requests (CSV, plain or gzip) instead of a made-up day.",
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(help="Which made-up day: the same seed gives the same day.")
    ] = SEED_DEFAULT,
    records: Annotated[
        int, typer.Option(min=RECORDS_MIN, help="How many records the made-up day has.")
    ] = RECORDS_DEFAULT,
    once: Annotated[
        bool, typer.Option("--once", help="End when everything is in the ledger and in its statement.")
    ] = False,
    state_dir: Annotated[
        Path | None, typer.Option(help="Where the data live; COFFER_STATE_DIRECTORY says the same.")
    ] = None,
    result: Annotated[Path, typer.Option(help="The file for what became of the records.")] = RESULT_DEFAULT,
) -> None:
    """Start PostgreSQL, Kafka, the ledger and its API, stream a day of usage, and serve until Ctrl-C.

    Servers that COFFER_DATABASE_URL and COFFER_KAFKA_BOOTSTRAP name are used as they are. Data survive a restart.
    Streaming the same day again charges nothing.

    Example: coffer up --seed 8 --once
    """
    # Here, so that no other command waits for Kafka's client and the rest of the stack.
    from infra.local.processes import LocalServerError
    from infra.local.producing import NotDelivered
    from infra.local.trace import TraceError
    from infra.local.up import run_up
    from infra.logs import configure_logs

    settings = load_settings()
    if state_dir is not None:
        settings = settings.model_copy(update={"state_directory": state_dir.absolute()})
    # Steps are told in words here; the processes write their own logs under the state directory.
    configure_logs("warning")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        code = run_up(Run(trace, seed, records, once, result), settings)
    except (LocalServerError, TraceError, NotDelivered) as error:
        typer.echo(f"coffer up: {error}", err=True)
        raise typer.Exit(1) from None
    raise typer.Exit(code)
