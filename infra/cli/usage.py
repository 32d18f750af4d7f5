"""Commands about usage: what became of one record, and sending records to the stream."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.session import (
    DIFFERENCE,
    Output,
    OutputOption,
    Team,
    asked,
    checked_charge,
    note,
    reached,
    show,
    show_rows,
    wired,
)

if TYPE_CHECKING:
    from infra.wiring import Wiring

usage = typer.Typer(help="Usage records: send them, and see what became of one.", no_args_is_help=True)

_BATCH_RECORDS = 500
_BATCH_BYTES = 900_000


@usage.command("show")
def show_charge(
    team: Team,
    charge: Annotated[
        str,
        typer.Argument(help="The charge, or the id of its usage record with --source.", show_default=False),
    ],
    source: Annotated[
        str | None, typer.Option(help="The source of the usage record.", show_default=False)
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Show what became of a usage record: its price, its lots, what was given back. `coffer explain` says why.

    Example: coffer usage show acme rec-7 --source urn:render:eu-1
    """
    from domain.usage import usage_key

    named = usage_key(team, source, charge) if source else checked_charge(charge)
    show(asked(lambda queries: queries.charge(team, named), "accounts", team, "charges", named), output)


@usage.command("send")
def send(
    file: Annotated[
        Path,
        typer.Argument(
            help="CloudEvents, one JSON object a line; - for standard input.",
            allow_dash=True,
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ],
    output: OutputOption = Output.table,
) -> None:
    """Send usage records to the stream; each is acknowledged or refused. Sending one again is safe. Exit 1 when any is refused.

    Example: coffer usage send november.jsonl
    """
    refused: list[dict[str, Any]] = []
    accepted = 0
    for first, batch in _batches(file):
        for each in _sent(batch):
            if each["outcome"] == "accepted":
                accepted += 1
            else:
                refused.append({"line": first + each["index"], **each})
    if refused:
        show_rows(refused, output, ("line", "team_id", "source", "id", "reason", "detail"))
    note(f"{accepted:,} accepted, {len(refused):,} refused")
    if refused:
        raise typer.Exit(DIFFERENCE)


def _batches(file: Path) -> Iterator[tuple[int, list[bytes]]]:
    """The records in batches that one request takes, each with the line of its first. Raises: Malformed."""
    from domain.errors import Malformed

    raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    batch: list[bytes] = []
    first, size = 1, 0
    for number, line in enumerate(raw.splitlines(), 1):
        if not line.strip():
            raise Malformed(f"line {number} is empty: one record a line would be right")
        if batch and (len(batch) == _BATCH_RECORDS or size + len(line) > _BATCH_BYTES):
            yield first, batch
            batch, first, size = [], number, 0
        batch.append(line)
        size += len(line) + 1
    if batch:
        yield first, batch


def _sent(batch: list[bytes]) -> list[dict[str, Any]]:
    from api.intake import BATCH

    api = reached()
    if api is not None:
        # Joined, not parsed: a record is judged by the bytes that it came with.
        reply = api.ask("POST", "/v1/usage-records", content=b"[" + b",".join(batch) + b"]", kind=BATCH)
        found: list[dict[str, Any]] = reply.json()["data"]
        return found
    with wired() as wiring:
        return _sent_here(wiring, batch)


def _sent_here(wiring: Wiring, batch: list[bytes]) -> list[dict[str, Any]]:
    """What became of each record, as the API words it."""
    from api.intake import STRUCTURED, Message, Readable

    messages = [Message([("content-type", STRUCTURED.encode())], each) for each in batch]
    read = wiring.intake.read(messages)
    good = [
        (each.team_id, message)
        for each, message in zip(read, messages, strict=True)
        if isinstance(each, Readable)
    ]
    if good:
        wiring.intake.send(good)
    return [
        {
            "index": index,
            "outcome": "accepted" if isinstance(each, Readable) else "refused",
            "team_id": getattr(each, "team_id", None),
            "source": getattr(each, "source", None),
            "id": getattr(each, "id", None),
            "reason": getattr(each, "reason", None),
            "detail": getattr(each, "detail", None),
        }
        for index, each in enumerate(read)
    ]
