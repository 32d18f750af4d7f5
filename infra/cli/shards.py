"""Commands about where shards live: list them, move one to another database, clear what it left behind."""

from __future__ import annotations

from typing import Annotated

import typer

from infra.cli.session import DIFFERENCE, Output, OutputOption, Ticker, note, show_one, show_rows, wired

shard = typer.Typer(help="Move a shard to another database.", no_args_is_help=True)

Shard = Annotated[int, typer.Argument(min=0, help="The shard, by number.", show_default=False)]
_COLUMNS = ("shard", "database", "lives_here", "moved_to", "position", "events")


def shards(output: OutputOption = Output.table) -> None:
    """List the shards with the databases that they live in, and what they left behind in others.

    Example: coffer shards
    """
    import msgspec

    from infra.postgres.moving import places

    with wired() as wiring:
        found = places(wiring.shards)
    show_rows([msgspec.to_builtins(each) for each in found], output, _COLUMNS)


@shard.command("move")
def move_shard(
    shard: Shard,
    to: Annotated[
        str, typer.Option("--to", help="The database, as COFFER_MORE_DATABASES names it, or first.")
    ],
    output: OutputOption = Output.table,
) -> None:
    """Move a shard to another database while it is written. Interrupted, it goes on when it is asked for again.

    Example: coffer shard move 3 --to east
    """
    import msgspec

    from domain.errors import Refused
    from infra.postgres.moving import MoveFailed, MoveRefused, move
    from infra.project import read_models

    ticker = Ticker()
    try:
        with wired() as wiring:
            done = move(
                wiring.shards,
                shard,
                to,
                read_models(),
                progress=lambda so_far: ticker.tell(
                    f"{so_far.events} of {so_far.events_in_log} events copied"
                ),
            )
    except MoveRefused as error:
        raise Refused(str(error)) from error
    except MoveFailed as error:
        note(f"the shard was not moved: {error}")
        raise typer.Exit(DIFFERENCE) from error
    show_one(msgspec.to_builtins(done), output)


@shard.command("forget")
def forget_shard(
    shard: Shard,
    at: Annotated[str, typer.Option("--at", help="The database in which the shard lived before.")],
) -> None:
    """Remove the rows that a moved shard left behind in its old database.

    Example: coffer shard forget 3 --at first
    """
    from domain.errors import Refused
    from infra.postgres.moving import MoveRefused, forget

    try:
        with wired() as wiring:
            gone = forget(wiring.shards, shard, at)
    except MoveRefused as error:
        raise Refused(str(error)) from error
    note(f"{gone} events of shard {shard} and what belongs to them were removed from {at!r}")
