"""Let events of closed months leave for files, and bring them back."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from infra.cli.session import Output, OutputOption, Ticker, log_to_stderr, note, show_one, show_rows, wired

KEPT_MONTHS = 13


def archive(
    to: Annotated[
        Path, typer.Argument(help="The directory that archives are written below.", show_default=False)
    ],
    before: Annotated[
        str | None,
        typer.Option(
            "--before",
            help="Months that ended by then, such as 2026-01: January of 2026 and later stay. 13 months stay by default.",
            show_default=False,
        ),
    ] = None,
    shard: Annotated[
        int | None, typer.Option("--shard", min=0, help="Only this shard.", show_default=False)
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="What was restored leaves again, too.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Write the events of closed months to Parquet with a manifest of hashes, read them back, then take them out of the log.

    Claims stay, so a duplicate is one for ever; balances and new charges need nothing that left. What was interrupted goes on.

    Example: coffer archive /var/archives --before 2026-01
    """
    import msgspec

    from domain.errors import Unknown
    from infra.postgres.archiving import archive as archive_months

    log_to_stderr()
    ticker = Ticker()
    with wired() as wiring:
        if shard is not None and shard >= wiring.shards.count:
            raise Unknown(f"shard {shard} does not exist: 0 to {wiring.shards.count - 1} would be right")
        told = archive_months(
            wiring.shards, to, _before(before), shard=shard, again=again, progress=ticker.tell
        )
    rows = [{**msgspec.to_builtins(each), "events": each.events} for each in told]
    show_rows(rows, output, ("shard", "month", "status", "events", "removed", "manifest"))
    if not rows:
        note("nothing is old enough to leave")


def restore(
    manifest: Annotated[Path, typer.Argument(help="The manifest of the archive.", show_default=False)],
    team: Annotated[str | None, typer.Option("--team", help="Only this team.", show_default=False)] = None,
    output: OutputOption = Output.table,
) -> None:
    """Put the events of an archive back into the log, exactly as they were. A changed byte in a file is refused by its name.

    They stay until `coffer archive --again`. Repeating it changes nothing.

    Example: coffer restore /var/archives/shard-0004/2026-01-92ce1654/manifest.json --team acme
    """
    import msgspec

    from infra.cli.session import checked_team
    from infra.postgres.archiving import restore as restore_events

    log_to_stderr()
    ticker = Ticker()
    with wired() as wiring:
        told = restore_events(
            wiring.shards, manifest, checked_team(team) if team is not None else None, progress=ticker.tell
        )
    show_one(msgspec.to_builtins(told), output)


def _before(month: str | None) -> datetime:
    """The first instant of the month. Raises: Malformed."""
    import re

    from domain.errors import Malformed
    from infra.postgres.archived import month_start, months_before

    if month is None:
        return months_before(KEPT_MONTHS)
    if not re.fullmatch(r"[0-9]{4}-(0[1-9]|1[0-2])", month):
        raise Malformed(f"--before {month[:32]!r}: a month such as 2026-01 would be right")
    return month_start(month)
