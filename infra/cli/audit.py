"""Commands that check and mend: compare everything with a replay, build a read model anew."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.cli.session import DIFFERENCE, Output, OutputOption, note, show_one, show_rows, wired


def verify(
    team: Annotated[str | None, typer.Option("--team", help="Only this team.", show_default=False)] = None,
    shard: Annotated[
        int | None, typer.Option("--shard", min=0, help="Only this shard.", show_default=False)
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Replay every account and compare heads, hashes, index, positions, statement and stream records. Exit 1 on a difference.

    Rows that agree do not say who wrote them: events newer than the newest checkpoint are told as unwitnessed, and
    `coffer checkpoint --check` compares the rest with what was signed.

    Example: coffer verify --team acme
    """
    import msgspec

    from domain.errors import Unknown, UnknownTeam
    from infra.checkpoints import Checkpoints
    from infra.cli.session import Ticker
    from infra.postgres.verification import verify as verify_ledger

    ticker = Ticker()
    with wired() as wiring:
        newest = Checkpoints(wiring.settings.checkpoints).newest_of(wiring.shards)
        if shard is not None and shard >= wiring.shards.count:
            raise Unknown(f"shard {shard} does not exist: 0 to {wiring.shards.count - 1} would be right")
        told = verify_ledger(
            wiring.shards,
            shard=shard,
            team_id=team,
            progress=lambda so_far: ticker.tell(f"{so_far.events} of {so_far.events_in_log} events compared"),
        )
    if team is not None and not (told.teams or told.events or told.findings):
        # A name mistyped must not read as a team without a difference.
        raise UnknownTeam(
            f"team {team[:128]!r} has no account, so nothing was verified; without --team, events without account are found"
        )
    findings = [msgspec.to_builtins(finding) for finding in told.findings]
    told_in_part = team is not None or shard is not None or not told.is_complete
    witnessed = sum(newest.checkpoint.positions) if newest else 0
    summary: dict[str, object] = {
        "teams": told.teams,
        "events": told.events,
        "differences": len(findings),
        "complete": told.is_complete,
        **({} if told_in_part else {"unwitnessed": told.events_in_log - witnessed}),
        "seconds": f"{told.seconds:.1f}",
    }
    if output is Output.json:
        show_one(summary | {"findings": findings}, output)
    else:
        show_rows(
            findings, output, ("table", "team_id", "version", "what", "expected", "found")
        ) if findings else None
        note(", ".join(f"{name} {value}" for name, value in summary.items()))
    if findings or not told.is_complete:
        raise typer.Exit(DIFFERENCE)


def snapshots(
    drop: Annotated[
        bool, typer.Option("--drop", help="Delete all there are instead; they can be made again.")
    ] = False,
    output: OutputOption = Output.table,
) -> None:
    """Keep accounts as they were at every thousandth version, so that questions about their past are answered at once.

    They are a cache: nothing is decided on them, and verify compares them with a replay. Running it twice, or beside anything
    else, makes nothing twice. Exit 1 when an account could not be read. Example: coffer snapshots
    """
    import msgspec

    from infra.cli.session import Ticker, log_to_stderr
    from infra.postgres.kept_heads import Keeper, drop_kept

    log_to_stderr()
    ticker = Ticker()
    with wired() as wiring:
        if drop:
            drop_kept(wiring.shards)
            note("every snapshot was dropped")
            return
        told = Keeper(wiring.shards).keep_all(
            lambda so_far: ticker.tell(f"{so_far.snapshots} snapshots, {so_far.events} events folded")
        )
    show_one(msgspec.to_builtins(told), output)
    if told.failed:
        raise typer.Exit(DIFFERENCE)


def rebuild(
    model: Annotated[str, typer.Argument(help="The read model.")] = "statement",
    output: OutputOption = Output.table,
) -> None:
    """Build a read model anew beside the live one and swap it in; it stays readable all the while.

    Example: coffer rebuild statement
    """
    import msgspec

    from domain.errors import Refused, Unknown
    from infra.cli.session import Ticker
    from infra.postgres.rebuilding import RebuildHalted, RebuildRunning, SwapPostponed
    from infra.postgres.rebuilding import rebuild as rebuild_model
    from infra.project import read_models

    known = {each.name: each for each in read_models()}
    if model not in known:
        raise Unknown(f"read model {model[:80]!r} does not exist: {', '.join(known)} would be right")
    ticker = Ticker()
    try:
        with wired() as wiring:
            told = rebuild_model(
                wiring.shards,
                known[model],
                progress=lambda so_far: ticker.tell(
                    f"{so_far.events} of {so_far.events_in_log} events taken"
                ),
            )
    except (RebuildRunning, RebuildHalted, SwapPostponed) as error:
        raise Refused(str(error)) from error
    show_one(msgspec.to_builtins(told), output)
