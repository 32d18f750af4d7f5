"""Commands that run: the API, the consumer, the projector, the tick, migrations."""

from __future__ import annotations

import time
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from domain.errors import Malformed, Unknown
from infra.cli.session import (
    DIFFERENCE,
    Output,
    OutputOption,
    Ticker,
    log_to_stderr,
    note,
    show_one,
    wired,
)

if TYPE_CHECKING:
    from infra.postgres.stream_state import StreamState
    from infra.wiring import Wiring

AWAY_SECONDS_MAX = 5.0


class Stream(StrEnum):
    """A stream that the ledger reads."""

    usage = "usage"
    payments = "payments"


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
        _wait_for_database(wiring)
        settings = wiring.settings
        serve_api(wiring.api(), host or settings.api_host, settings.api_port if port is None else port)


def consume(
    topic: Annotated[
        Stream | None, typer.Option(help="Read this stream alone; both by default.", show_default=False)
    ] = None,
    until_drained: Annotated[
        bool, typer.Option("--until-drained", help="End once everything was read that was there.")
    ] = False,
    alone: Annotated[
        bool, typer.Option("--alone", help="Read every partition, without joining the group of workers.")
    ] = False,
    release: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC/PARTITION", help="Only let a halted partition be read again.", show_default=False
        ),
    ] = None,
    skip_to: Annotated[
        int | None,
        typer.Option(min=1, help="With --release: go on at this offset; needs --why.", show_default=False),
    ] = None,
    why: Annotated[
        str | None, typer.Option(help="Kept with the offsets that --skip-to leaves out.", show_default=False)
    ] = None,
) -> None:
    """Consume usage and payments from Kafka until SIGTERM; the batch in hand is finished first.

    Example: coffer consume --until-drained
    """
    from infra.collector import spare_collector
    from infra.consume import WorkerOptions, run_worker
    from infra.topics import PAYMENTS, USAGE

    log_to_stderr()
    spare_collector()
    with wired() as wiring:
        if release is not None:
            _release(wiring.stream_state, release, skip_to, why)
            return
        _ = wiring.database_url, wiring.kafka_bootstrap
        topics = {None: (USAGE, PAYMENTS), Stream.usage: (USAGE,), Stream.payments: (PAYMENTS,)}[topic]
        outcomes = run_worker(
            wiring.settings, WorkerOptions(topics=topics, until_drained=until_drained, alone=alone)
        )
    for outcome, reasons in outcomes.items():
        for reason, count in reasons.items():
            note(f"{outcome:<10} {reason:<24} {count}")


def _release(state: StreamState, named: str, skip_to: int | None, why: str | None) -> None:
    """The partition is read on by the next worker, from where it stood or from the offset given with its reason."""
    topic, _, part = named.rpartition("/")
    halted = state.halted(topic, int(part)) if part.isdigit() else []
    if not halted:
        raise Unknown(f"{named!r} names no halted partition: write TOPIC/PARTITION as the worker's log does")
    if (skip_to is None) != (why is None):
        raise Malformed("--skip-to and --why go together", field="why")
    for each in halted:
        if skip_to is None or why is None:
            state.release(each.partition)
        elif not state.skip_to(each.partition, skip_to, why):
            raise Malformed(
                f"--skip-to {skip_to} is not beyond offset {each.next_offset}, which is next", field="skip-to"
            )
        note(f"{named} may be read again: it was halted with {each.halted}")


def project(
    once: Annotated[bool, typer.Option("--once", help="End once the read models have caught up.")] = False,
) -> None:
    """Keep the read models up with the log until SIGTERM.

    Example: coffer project --once
    """
    from infra.collector import spare_collector
    from infra.project import ProjectorLoop, run

    log_to_stderr()
    spare_collector()
    with wired() as wiring:
        if once:
            note(f"{ProjectorLoop(wiring.shards).catch_up()} events taken into the read models")
        else:
            _wait_for_database(wiring)
            run(wiring.shards)


def tick(
    every: Annotated[
        float | None,
        typer.Option(
            min=0.1, metavar="SECONDS", help="Go on until SIGTERM, looking so often.", show_default=False
        ),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Book what time alone did on teams that nobody asks about: expired credits and holds, turns and closes of periods.

    Periods that closed get their invoices. Running it twice, or beside anything else, books nothing twice. With --every, what
    time is left goes into snapshots of accounts, as `coffer snapshots` makes them. Exit 1 when an account could not be read.
    Example: coffer tick --every 15
    """
    import msgspec

    from infra.closing import Closer
    from infra.postgres.kept_heads import Keeper
    from infra.tick import run, tick_due_teams

    log_to_stderr()
    ticker = Ticker()
    with wired() as wiring:
        if every is not None:
            _wait_for_database(wiring)
            closer, keeper = Closer(wiring.shards), Keeper(wiring.shards)
            told = run(wiring.ledger_store, wiring.due_teams, every, keeper, closer)
            fields, failed = msgspec.to_builtins(told), told.failed
        else:
            told = tick_due_teams(
                wiring.ledger_store,
                wiring.due_teams,
                progress=lambda so_far: ticker.tell(f"{so_far.teams} teams, {so_far.events} events"),
            )
            fields, failed = msgspec.to_builtins(told), told.failed
            closed = Closer(wiring.shards).run()
            failed += closed.failed
            fields |= {"invoices": closed.invoices, "pdfs": closed.pdfs}
    show_one(fields, output)
    if failed:
        raise typer.Exit(DIFFERENCE)


def relay(
    once: Annotated[bool, typer.Option("--once", help="End once everything in the log was sent.")] = False,
) -> None:
    """Send every event of the ledger to Kafka, alerts to their own topic too, until SIGTERM.

    Each goes out at least once; its place in the log (source and id) tells a repetition. Example: coffer relay --once
    """
    from infra.collector import spare_collector
    from infra.relay import Relay, run

    log_to_stderr()
    spare_collector()
    with wired() as wiring:
        if once:
            note(f"{Relay(wiring.shards, wiring.kafka_bootstrap).catch_up()} events sent")
        else:
            _wait_for_database(wiring)
            run(wiring.shards, wiring.kafka_bootstrap)


def _wait_for_database(wiring: Wiring) -> None:
    """The database has answered. A service waits for it at its start as it does later: both may start at the same moment."""
    import psycopg
    import structlog

    wait = 0.1
    while True:
        try:
            _ = wiring.shards
        except psycopg.OperationalError as error:
            structlog.get_logger("start").warning("database_away", error=str(error), wait_seconds=wait)
            time.sleep(wait)
            wait = min(wait * 2, AWAY_SECONDS_MAX)
        else:
            return


def migrate() -> None:
    """Bring the database, or all of several, to the newest tables; running it again changes nothing.

    Example: COFFER_DATABASE_URL=postgresql://... coffer migrate
    """
    from infra.postgres.migrations import migrate_all

    ticker = Ticker()
    with wired() as wiring:
        told = migrate_all(
            wiring.databases,
            wiring.settings.shards,
            progress=lambda so_far: ticker.tell(f"{so_far.accounts} accounts folded again"),
        )
    if told.accounts:
        note(f"{told.accounts} accounts were folded again from their events")
    for team_id in told.busy:
        note(f"team {team_id} is busy: it is folded again by its next writer, or by running this again")
    for team_id in told.unreadable:
        note(f"team {team_id} holds events that this version does not know: it was left as it is")
    note("the database is at the newest revision")
    if told.unreadable:
        raise typer.Exit(DIFFERENCE)
