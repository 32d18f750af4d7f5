"""Commands of trust: sign what there is, give one team's events away with their proof, and check both without this ledger."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.session import (
    DIFFERENCE,
    Output,
    OutputOption,
    Team,
    Ticker,
    checked_team,
    note,
    show_one,
    show_rows,
    wired,
)

if TYPE_CHECKING:
    from domain.bundles import Checked
    from infra.checkpoints import CheckpointOnFile
    from infra.wiring import Wiring

CheckpointOption = Annotated[
    Path | None,
    typer.Option(
        "--checkpoint",
        exists=True,
        help="A checkpoint that you kept: its document, or the directory it is in.",
        show_default=False,
    ),
]


def checkpoint(
    check: Annotated[
        bool,
        typer.Option("--check", help="Compare a checkpoint with the log instead; the newest by default."),
    ] = False,
    kept: CheckpointOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Sign one hash over the newest event of every stream, with the position of every shard, and keep it outside the database.

    It goes to COFFER_CHECKPOINT_DIRECTORY; give copies of `checkpoint.json`, or of what `-o json` prints, to people who do not
    run this ledger. With --check: exit 1 where the log is not what was signed; what is newer is unwitnessed.

    Example: coffer checkpoint -o json > friday.checkpoint.json
    Example: coffer checkpoint --check
    """
    from domain.errors import Malformed
    from infra.checkpoints import Checkpoints

    if check:
        _compare(kept, output)
        return
    if kept is not None:
        raise Malformed("--checkpoint names one that there is: say --check as well")
    ticker = Ticker()
    with wired() as wiring:
        made = Checkpoints(wiring.settings.checkpoints).make(
            wiring.shards, wiring.signing_key, lambda leaves: ticker.tell(f"{leaves} teams and issuers")
        )
    note(f"kept in {made.directory}")
    if output is Output.json:
        typer.echo(_json_of(made), nl=False)
    else:
        show_one(_told(made), output)


def bundle(
    team: Team,
    out: Annotated[Path, typer.Option("--out", dir_okay=False, help="The file.", show_default=False)],
    kept: CheckpointOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Write one team's events, as stored, with the proof that the newest checkpoint covers them and the public key.

    `coffer verify-bundle` checks the file anywhere, without this ledger. Nothing of other teams is in it, and no context.

    Example: coffer bundle acme --out acme.bundle.jsonl
    """
    from infra.bundles import write_bundle

    ticker = Ticker()
    with wired() as wiring:
        covering = _named(wiring, kept)
        told = write_bundle(
            wiring.shards,
            checked_team(team),
            wiring.signing_key,
            covering,
            out,
            lambda written, length: ticker.tell(f"{written} of {length} events written"),
        )
    if told.checkpoint is None:
        note("no checkpoint covers the team, so all of it is unwitnessed: make one with `coffer checkpoint`")
    show_one(told._asdict() | {"file": str(out)}, output)


def verify_bundle(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="An audit bundle.", show_default=False)
    ],
    key: Annotated[
        list[str] | None,
        typer.Option(
            "--key",
            help="The ledger's public key in hex, or a file that `coffer signing-key -o json` wrote; of each key it ever had.",
            show_default=False,
        ),
    ] = None,
    kept: CheckpointOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Verify an audit bundle: no database, no network. Exit 1 on a difference, which is named by team, stream and version.

    Events that the checkpoint covers are verified; newer ones are unwitnessed. Without --key the bundle's own key is taken, which
    whoever made it chose. With --checkpoint it must be witnessed by the one that you kept.

    Example: coffer verify-bundle acme.bundle.jsonl --key coffer.key.json
    """
    from domain.errors import Malformed
    from infra.bundles import check_bundle
    from infra.checkpoints import read_checkpoint
    from infra.cli.works import public_key_of

    try:
        keys = [public_key_of(each) for each in key or ()]
    except ValueError as error:
        raise Malformed(f"--key {error}") from None
    told = check_bundle(file, keys, read_checkpoint(kept).signed.document if kept else None)
    _show(told, output)
    if not keys:
        note("the key is the bundle's own: compare it with the one that the ledger publishes, or say --key")
    if not told.is_sound:
        raise typer.Exit(DIFFERENCE)


def _compare(kept: Path | None, output: Output) -> None:
    """The log has what was signed, or what differs is printed."""
    from domain.errors import Unknown
    from infra.postgres.witnessing import compare_leaves, positions_now

    ticker = Ticker()
    with wired() as wiring:
        found = _named(wiring, kept)
        if found is None:
            raise Unknown(
                f"no checkpoint is in {wiring.settings.checkpoints}: make one with `coffer checkpoint`"
            )
        told = compare_leaves(
            wiring.shards, found.checked_leaves(), lambda streams: ticker.tell(f"{streams} streams compared")
        )
        newer = positions_now(wiring.shards) - sum(found.checkpoint.positions)
    differences = [each._asdict() for each in told.astray]
    summary: dict[str, object] = {
        "checkpoint": found.checkpoint.number,
        "made_at": found.checkpoint.made_at,
        "streams": told.streams,
        "in_archives": told.archived,
        "unwitnessed": newer,
        "differences": len(differences),
    }
    if output is Output.json:
        show_one(summary | {"findings": differences}, output)
    else:
        if differences:
            show_rows(differences, output)
        note(", ".join(f"{name} {value}" for name, value in summary.items()))
    # Less than then: events are gone from the end of a log.
    if differences or newer < 0:
        raise typer.Exit(DIFFERENCE)


def _named(wiring: Wiring, kept: Path | None) -> CheckpointOnFile | None:
    """The checkpoint that was named, or the newest; it is one of this ledger. Raises: CheckpointDamaged, Refused."""
    from infra.checkpoints import Checkpoints, check_ledger, read_checkpoint
    from infra.postgres.witnessing import ledger_of

    checkpoints = Checkpoints(wiring.settings.checkpoints)
    if kept is None:
        return checkpoints.newest_of(wiring.shards)
    found = checkpoints.with_leaves(read_checkpoint(kept))
    check_ledger(found, ledger_of(wiring.shards))
    return found


def _json_of(made: CheckpointOnFile) -> str:
    from domain.checkpoints import signed_bytes

    return signed_bytes(made.signed).decode()


def _told(made: CheckpointOnFile) -> dict[str, object]:
    from infra.signing import key_id_of

    told = made.checkpoint
    return {
        "number": told.number,
        "made_at": told.made_at,
        "leaves": told.leaves,
        "positions": " ".join(map(str, told.positions)),
        "root": told.root,
        "key_id": key_id_of(made.signed.public_key),
    }


def _show(told: Checked, output: Output) -> None:
    import msgspec

    summary: dict[str, object] = {
        "team_id": told.team_id,
        "checkpoint": told.checkpoint.number if told.checkpoint else None,
        "made_at": told.checkpoint.made_at if told.checkpoint else None,
        "verified": sum(each.verified for each in told.streams),
        "unwitnessed": told.unwitnessed,
        "differences": len(told.differences),
        "keys": told.keys,
    }
    streams = [msgspec.to_builtins(each) for each in told.streams]
    differences = [msgspec.to_builtins(each) for each in told.differences]
    if output is Output.json:
        show_one(summary | {"streams": streams, "findings": differences}, output)
        return
    show_rows(streams, output, ("stream", "events", "verified", "unwitnessed"))
    if differences:
        show_rows(differences, output, ("team_id", "stream", "version", "what", "expected", "found"))
    note(", ".join(f"{name} {_words(value)}" for name, value in summary.items() if value is not None))


def _words(value: object) -> object:
    return " ".join(map(str, value)) if isinstance(value, list) else value
