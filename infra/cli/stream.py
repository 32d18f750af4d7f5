"""Commands about the stream: dead letters, and what became of an offset."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.session import DIFFERENCE, Output, OutputOption, show_one, show_rows, wired

if TYPE_CHECKING:
    from infra.postgres.dead_letters import StoredLetter

dlq = typer.Typer(help="Records that were rejected or parked: list, show, retry.", no_args_is_help=True)

Reason = Annotated[str | None, typer.Option(help="Only with this reason code.", show_default=False)]
Outcome = Annotated[str | None, typer.Option(help="Only rejected, or only parked.", show_default=False)]
_COLUMNS = ("letter", "topic", "partition", "offset", "outcome", "reason", "detail", "status")


@dlq.command("list")
def list_letters(
    outcome: Outcome = None,
    reason: Reason = None,
    everything: Annotated[bool, typer.Option("--all", help="Retried ones, too.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Letters at most.")] = 100,
    after: Annotated[int, typer.Option(min=0, help="Only those after this number.")] = 0,
    output: OutputOption = Output.table,
) -> None:
    """List dead letters, oldest first.

    Example: coffer dlq list --reason unknown_action
    """
    from infra.postgres.dead_letters import LetterFilter

    wanted = LetterFilter(outcome=outcome, reason=reason, status=None if everything else "open")
    with wired() as wiring:
        letters = wiring.dead_letters.find(wanted, limit, after)
    show_rows([_told(letter) for letter in letters], output, _COLUMNS)


@dlq.command("show")
def show_letter(
    letter: Annotated[int, typer.Argument(help="The number of the letter.", show_default=False)],
    output: OutputOption = Output.table,
) -> None:
    """Show one dead letter with its record, as it was read.

    Example: coffer dlq show 12
    """
    from domain.errors import Unknown

    with wired() as wiring:
        found = wiring.dead_letters.show(letter)
    if found is None:
        raise Unknown(f"dead letter {letter} does not exist: see `coffer dlq list --all`")
    show_one(_told(found) | _record(found), output)


@dlq.command("retry")
def retry(
    letters: Annotated[
        list[int] | None, typer.Argument(help="Numbers of letters.", show_default=False)
    ] = None,
    reason: Reason = None,
    outcome: Outcome = None,
    everything: Annotated[bool, typer.Option("--all", help="Every open letter.")] = False,
    output: OutputOption = Output.table,
) -> None:
    """Try dead letters again once the cause is fixed; a record is never charged twice. Exit 1 when some stay dead.

    Example: coffer dlq retry --reason unknown_action
    """
    from domain.errors import Malformed
    from infra.postgres.dead_letters import LetterFilter

    if not (letters or reason or outcome or everything):
        raise Malformed("which letters? Give numbers, --reason, --outcome or --all")
    wanted = LetterFilter(outcome=outcome, reason=reason, letter_ids=letters or None)
    with wired() as wiring:
        reports = wiring.dead_letters.retry(wiring.batch_store, wiring.catalogue.current, wanted)
    show_rows(
        [
            {
                "letter": report.letter_id,
                "outcome": report.outcome,
                "reason": report.reason,
                "detail": report.detail,
                "settled_before": report.already_settled,
            }
            for report in reports
        ],
        output,
    )
    if any(report.outcome in {"parked", "rejected"} for report in reports):
        raise typer.Exit(DIFFERENCE)


def offset(
    partition: Annotated[int, typer.Argument(min=0, help="The partition.", show_default=False)],
    number: Annotated[int, typer.Argument(metavar="OFFSET", min=0, help="The offset.", show_default=False)],
    topic: Annotated[
        str | None, typer.Option(help="The topic; the usage topic by default.", show_default=False)
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Tell what became of an offset: charged, waived, applied, duplicate, conflict, parked, rejected, or nothing was there.

    Example: coffer offset 3 1042
    """
    import msgspec

    from domain.errors import Unknown
    from infra.topics import USAGE

    asked = topic or USAGE
    with wired() as wiring:
        known = [each.partition for each in wiring.stream_state.positions([asked])]
        meant = [each for each in known if each.partition == partition]
        if not meant:
            raise Unknown(f"topic {asked!r} partition {partition} was never read by this ledger")
        rows = [
            {
                "topic_id": each.topic_id,
                **msgspec.to_builtins(wiring.stream_state.outcome_of(each, number)),
            }
            for each in meant
        ]
    show_rows(rows, output) if len(rows) > 1 else show_one(rows[0], output)


def _told(letter: StoredLetter) -> dict[str, object]:
    from domain.times import instant_text

    record = letter.letter
    return {
        "letter": letter.letter_id,
        "topic": record.partition.topic,
        "partition": record.partition.partition,
        "offset": record.offset,
        "arrived_at": instant_text(record.arrived_at),
        "outcome": record.outcome,
        "reason": record.reason,
        "detail": record.detail,
        "status": letter.status,
        "retry_outcome": letter.retry_outcome,
        "retry_reason": letter.retry_reason,
    }


def _record(letter: StoredLetter) -> dict[str, object]:
    """The record as text where it is text; other bytes are escaped, so a terminal cannot be fooled."""
    record = letter.letter
    return {
        "key": _text(record.key),
        "headers": {name: _text(value) for name, value in record.headers},
        "value": _text(record.value),
    }


def _text(raw: bytes | None) -> str | None:
    if raw is None:
        return None
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode()
        for each in raw.decode(errors="backslashreplace")
    )
