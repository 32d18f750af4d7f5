"""Commands about the stream: dead letters, and what became of an offset."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.session import (
    DIFFERENCE,
    Output,
    OutputOption,
    body_of,
    fetched,
    listed,
    path_of,
    reached,
    show_one,
    show_rows,
    wired,
)

if TYPE_CHECKING:
    from api.dead_letters import LetterQuery
    from api.requests.dead_letters import RetryBody
    from infra.wiring import Wiring

dlq = typer.Typer(help="Records that were rejected or parked: list, show, retry.", no_args_is_help=True)

Reason = Annotated[str | None, typer.Option(help="Only with this reason code.", show_default=False)]
Outcome = Annotated[str | None, typer.Option(help="Only rejected, or only parked.", show_default=False)]
LETTERS_MAX = 10_000
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
    api = reached()
    if api is not None:
        query = {"outcome": outcome, "reason": reason, "everything": everything, "after": after}
        show_rows(islice(listed(api, ("dead-letters",), query, limit), limit), output, _COLUMNS)
        return
    with wired() as wiring:
        found = wiring.letter_desk.letters(_query(outcome, reason, everything=everything), limit, after)
    show_rows([each.model_dump(mode="json") for each in found], output, _COLUMNS)


@dlq.command("show")
def show_letter(
    letter: Annotated[int, typer.Argument(help="The number of the letter.", show_default=False)],
    output: OutputOption = Output.table,
) -> None:
    """Show one dead letter with its record, as it was read.

    Example: coffer dlq show 12
    """
    from api.answers_dead_letters import LetterRecordAnswer
    from domain.errors import Unknown

    def here(wiring: Wiring) -> LetterRecordAnswer:
        found = wiring.letter_desk.letter(letter)
        if found is None:
            raise Unknown(f"dead letter {letter} does not exist: see `coffer dlq list --all`")
        return found

    show_one(fetched(here, "dead-letters", str(letter)), output)


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
    from api.requests.dead_letters import RetryBody

    body = RetryBody.model_validate(
        {"letters": letters or None, "reason": reason, "outcome": outcome, "everything": everything}
    ).check()
    rows = _retried(body)
    show_rows(rows, output)
    if any(each["outcome"] in {"parked", "rejected"} for each in rows):
        raise typer.Exit(DIFFERENCE)


def _retried(body: RetryBody) -> list[dict[str, Any]]:
    """What each letter came to; the API tries a hundred of them a request."""
    api = reached()
    if api is None:
        with wired() as wiring:
            asked = _query(body.outcome, body.reason, letters=body.letters)
            told = wiring.letter_desk.retry(asked, LETTERS_MAX)
        return [each.model_dump(mode="json") for each in told]
    rows: list[dict[str, Any]] = []
    after: object = 0
    while after is not None:
        sent = {**body_of(body), "after": after}
        answer = api.ask("POST", path_of("dead-letters", "retries"), body=sent).json()
        rows += answer["data"]
        after = answer["next"]
    return rows


def _query(
    outcome: str | None, reason: str | None, *, everything: bool = False, letters: list[int] | None = None
) -> LetterQuery:
    from typing import get_args

    from api.dead_letters import LetterQuery
    from api.requests.dead_letters import LetterOutcome
    from domain.errors import Malformed

    known: dict[str, LetterOutcome] = {each: each for each in get_args(LetterOutcome)}
    if outcome is not None and outcome not in known:
        raise Malformed(f"--outcome {outcome[:40]!r}: one of {', '.join(known)} would be right")
    kind = None if outcome is None else known[outcome]
    return LetterQuery(kind, reason, None if everything else "open", letters)


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
    from api.answers_dead_letters import OffsetsAnswer
    from domain.errors import Unknown
    from infra.topics import USAGE

    meant = topic or USAGE

    def here(wiring: Wiring) -> OffsetsAnswer:
        found = wiring.letter_desk.offset(meant, partition, number)
        if not found:
            raise Unknown(f"topic {meant!r} partition {partition} was never read by this ledger")
        return OffsetsAnswer(data=found)

    rows = fetched(here, "offsets", meant, str(partition), str(number))["data"]
    show_rows(rows, output) if len(rows) > 1 else show_one(rows[0], output)
