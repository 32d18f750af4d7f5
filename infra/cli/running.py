"""Commands that run: the API, the consumer, the projector, migrations."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.cli.session import log_to_stderr, note, wired


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; COFFER_API_HOST.", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65_535, help="Port to listen on; COFFER_API_PORT.", show_default=False),
    ] = None,
) -> None:
    """Serve the HTTP API until SIGTERM; requests in hand are answered first.

    Example: coffer serve --port 8080
    """
    from infra.http import serve_api

    log_to_stderr()
    with wired() as wiring:
        settings = wiring.settings
        serve_api(wiring.api(), host or settings.api_host, settings.api_port if port is None else port)


def consume(
    until_drained: Annotated[
        bool, typer.Option("--until-drained", help="End once everything was read that was there.")
    ] = False,
    alone: Annotated[
        bool, typer.Option("--alone", help="Read every partition, without joining the group of workers.")
    ] = False,
) -> None:
    """Consume usage from Kafka until SIGTERM; the batch in hand is finished first.

    Example: coffer consume --until-drained
    """
    from infra.consume import WorkerOptions, run_worker

    log_to_stderr()
    with wired() as wiring:
        _ = wiring.database_url, wiring.kafka_bootstrap
        outcomes = run_worker(wiring.settings, WorkerOptions(until_drained=until_drained, alone=alone))
    for outcome, reasons in outcomes.items():
        for reason, count in reasons.items():
            note(f"{outcome:<10} {reason:<24} {count}")


def project(
    once: Annotated[bool, typer.Option("--once", help="End once the read models have caught up.")] = False,
) -> None:
    """Keep the read models up with the log until SIGTERM.

    Example: coffer project --once
    """
    from infra.project import ProjectorLoop, run

    log_to_stderr()
    with wired() as wiring:
        if once:
            note(f"{ProjectorLoop(wiring.shards).catch_up()} events taken into the read models")
        else:
            run(wiring.shards)


def migrate() -> None:
    """Bring the database to the newest tables; running it again changes nothing.

    Example: COFFER_DATABASE_URL=postgresql://... coffer migrate
    """
    from infra.postgres.migrations import migrate as migrate_database

    with wired() as wiring:
        migrate_database(wiring.database_url, wiring.settings.shards)
    note("the database is at the newest revision")
