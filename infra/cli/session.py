"""What every command shares: how it connects, who it is, how it prints, and how it says no."""

from __future__ import annotations

import csv
import getpass
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple
from urllib.parse import quote

import typer

if TYPE_CHECKING:
    from pydantic import BaseModel

    from api.moments import Moment
    from api.queries import Queries
    from domain.actors import Actor
    from domain.commands import Command
    from domain.ledger import Answer
    from infra.cli.remote import Api
    from infra.wiring import Wiring

FINE, DIFFERENCE, REFUSED = 0, 1, 2
LIST_ROWS = 500
"""As many rows as the API gives on one page."""

Row = Mapping[str, object]


class Output(StrEnum):
    """How an answer is printed."""

    table = "table"
    json = "json"
    jsonl = "jsonl"
    csv = "csv"


OutputOption = Annotated[Output, typer.Option("-o", "--output", help="How to print the answer.")]
Team = Annotated[str, typer.Argument(help="The team, as its usage records name it.", show_default=False)]
KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        help="Idempotency key: the same key and command happen once. A new one by default.",
        show_default=False,
    ),
]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why, for whoever reads the history.", show_default=False)
]

AtVersion = Annotated[
    int | None, typer.Option("--at-version", min=1, help="As it was after this version.", show_default=False)
]
AsOf = Annotated[
    str | None,
    typer.Option("--as-of", help="As the ledger knew it at this time, with offset.", show_default=False),
]
MaybeReason = Annotated[
    str | None, typer.Option("--reason", help="Why, for whoever reads the history.", show_default=False)
]
Reference = Annotated[str, typer.Argument(help="The payment, as its provider names it.", show_default=False)]
Hold = Annotated[str, typer.Argument(help="The hold, such as hold-12.", show_default=False)]


class Sent(NamedTuple):
    """How the API takes a command: its place below the team's account, and its body."""

    places: tuple[str, ...]
    body: BaseModel
    is_of_team: bool = True


def over(*places: str, body: BaseModel) -> Sent:
    """How the API takes a command about a team."""
    return Sent(places, body)


class _Reach:
    """Whom this run asks: the API at an address, or the database when there is none."""

    api: Api | None = None


def reach(url: str | None) -> None:
    """Commands ask the API at the address, with the key of the environment; without one, the database. Raises: Malformed."""
    from infra.cli.remote import Api

    _Reach.api = Api(url, os.environ.get("COFFER_API_KEY") or None) if url else None


def reached() -> Api | None:
    """The API that is asked; None when the database is."""
    return _Reach.api


@contextmanager
def wired() -> Iterator[Wiring]:
    """The parts of the ledger that the command asks for, closed at its end. Raises: Refused while an API is to be asked."""
    from domain.errors import Refused
    from infra.settings import load_settings
    from infra.wiring import Wiring

    if _Reach.api is not None:
        raise Refused(
            f"only the database can do this, and {_Reach.api.url} was named: leave out --api and COFFER_API_URL"
        )
    with Wiring(load_settings(), "coffer cli") as wiring:
        yield wiring


def log_to_stderr() -> None:
    """Long work logs as the settings say."""
    from infra.logs import configure_logs
    from infra.settings import load_settings

    configure_logs(load_settings().log_level)


def principal() -> str:
    """Who types: the operating system's user."""
    try:
        return f"cli:{getpass.getuser()}"
    except (KeyError, OSError):
        return "cli:unknown"


def operator() -> Actor:
    """The actor of what is typed here."""
    from domain.actors import Actor

    return Actor(principal(), "operator")


def execute(command: Command, key: str | None, output: Output, sent: Sent) -> None:
    """The command has happened, by the API or in the database, and its answer is printed."""
    from uuid import uuid4

    told, is_replayed = done(command, key or uuid4().hex, sent)
    if is_replayed:
        note("this key was used before: the answer of that time, nothing was done now")
    if told.get("act_id") and told.get("outcome") == "proposed":
        note(f"it waits for a second person: coffer acts approve {command.team_id} {told['act_id']}")
    show(told, output)


def done(command: Command, key: str, sent: Sent) -> tuple[dict[str, Any], bool]:
    """The command has happened, by the API or in the database: its answer as JSON, and whether it is one from file."""
    from api.answers import CommandAnswer
    from domain.ledger import Caller

    api = reached()
    if api is not None:
        team = (command.team_id,) if sent.is_of_team else ()
        path = path_of("accounts", *team, *sent.places)
        reply = api.ask("POST", path, body=body_of(sent.body), key=key)
        return reply.json(), reply.is_replayed
    with wired() as wiring:
        answer: Answer = wiring.ledger.execute(command, Caller(principal(), "operator"), key)
    return CommandAnswer.of(answer).model_dump(mode="json"), answer.is_replayed


def path_of(*places: str) -> str:
    """The path of the API that the places name, whatever is in them."""
    return "/v1/" + "/".join(quote(place, safe="") for place in places)


def body_of(body: BaseModel) -> dict[str, Any]:
    """The body as it is sent: what was not said is left out."""
    return body.model_dump(mode="json", exclude_unset=True)


def asked(
    question: Callable[[Queries], Awaitable[BaseModel]],
    *places: str,
    query: Mapping[str, object] | None = None,
    body: BaseModel | None = None,
) -> dict[str, Any]:
    """The answer as JSON: of the API at these places, or of the database to the question. The same, whoever is asked."""
    return fetched(lambda wiring: wiring.ask(question), *places, query=query, body=body)


def fetched(
    local: Callable[[Wiring], BaseModel],
    *places: str,
    query: Mapping[str, object] | None = None,
    body: BaseModel | None = None,
) -> dict[str, Any]:
    """The answer as JSON: of the API at these places, or of whatever knows it here."""
    api = reached()
    if api is not None:
        return api.read(path_of(*places), query, None if body is None else body_of(body)).json()
    with wired() as wiring:
        return local(wiring).model_dump(mode="json")


def listed(
    api: Api, places: tuple[str, ...], query: Mapping[str, object], limit: int = 0
) -> Iterator[dict[str, Any]]:
    """Every row of a list of the API, fetched page by page as they are taken; who wants fewer says so, and gets small pages."""
    after = query.get("after")
    rows = min(limit, LIST_ROWS) if limit else LIST_ROWS
    while True:
        answer = api.read(path_of(*places), {**query, "limit": rows, "after": after}).json()
        yield from answer["data"]
        after = answer["next"]
        if after is None:
            return


def told(
    question: Callable[[Queries, Moment], Awaitable[BaseModel]],
    at_version: int | None,
    as_of: str | None,
    output: Output,
    *places: str,
    columns: Sequence[str] = (),
) -> None:
    """The answer to a question about an account, now or then, is printed; ``columns`` are those of its list ``data``, if any.

    ``places``: the team, and what the API has below its account.
    """
    from api.parameters import moment

    then = moment(None, at_version, as_of)
    answer = asked(
        lambda queries: question(queries, then), "accounts", *places, query=when(at_version, as_of)
    )
    show(answer, output, rows="data" if columns else None, columns=columns)


def when(at_version: int | None, as_of: str | None) -> dict[str, object]:
    """The moment as the API is asked for it. Raises: Malformed."""
    return {"at_version": at_version, "as_of": time_text(as_of, "--as-of")}


def time_text(text: str | None, option: str) -> str | None:
    """The time as the API reads it. Raises: Malformed, naming the option."""
    from domain.times import instant_text, parse_instant

    return None if text is None else instant_text(parse_instant(text, option))


def show(
    answer: BaseModel | Mapping[str, Any],
    output: Output,
    *,
    rows: str | None = None,
    columns: Sequence[str] = (),
) -> None:
    """An answer is printed; ``rows`` names the list in it that is one row each, ``columns`` those that a table has room for."""
    told: Mapping[str, Any] = answer if isinstance(answer, Mapping) else answer.model_dump(mode="json")
    listed = told.get(rows) if rows else None
    if output is Output.json:
        typer.echo(json.dumps(told, ensure_ascii=False, indent=2))
    elif isinstance(listed, list):
        show_rows(listed, output, columns)
    else:
        show_one(told, output)


def show_one(told: Row, output: Output) -> None:
    """One thing with names and values is printed."""
    if output is Output.json:
        typer.echo(json.dumps(told, ensure_ascii=False, indent=2))
    elif output is Output.table:
        _table(
            ("", ""),
            [(name, _cell(value)) for name, value in told.items() if value is not None],
            header=False,
        )
    else:
        show_rows([told], output)


def show_rows(
    rows: Iterable[Row], output: Output, columns: Sequence[str] = (), *, header: bool = True
) -> None:
    """Rows are printed, all of one kind; without ``header`` those of a CSV go on where others ended."""
    if output is Output.jsonl:
        for row in rows:
            typer.echo(json.dumps(row, ensure_ascii=False))
        return
    listed = list(rows)
    if output is Output.json:
        typer.echo(json.dumps(listed, ensure_ascii=False, indent=2))
    elif output is Output.csv:
        _csv(listed, header)
    else:
        names = columns or list(listed[0] if listed else ())
        _table(names, [[_cell(row.get(name)) for name in names] for row in listed])


def note(text: str) -> None:
    """A remark for people, apart from the answer."""
    typer.echo(text, err=True)


def checked_charge(charge_id: str) -> str:
    """The id of a charge. Raises: Malformed."""
    from domain.errors import Malformed

    if len(charge_id) != 32 or not set(charge_id) <= set("0123456789abcdef"):
        raise Malformed(
            f"charge {charge_id[:64]!r} is not 32 hex digits: give the charge's id, or --source with the record's id"
        )
    return charge_id


def checked_id(text: str, pattern: str, what: str) -> str:
    """The id, as a path of the API could name it. Raises: Malformed."""
    import re

    from api.findings import RIGHT
    from domain.errors import Malformed

    if not re.fullmatch(pattern, text):
        raise Malformed(f"{what} {text[:64]!r}: {RIGHT[pattern]}")
    return text


def checked_team(team: str) -> str:
    """The id of a team that the API could name as well. Raises: Malformed."""
    import re

    from api.fields import ID_PATTERN
    from domain.errors import Malformed

    if not re.fullmatch(ID_PATTERN, team):
        raise Malformed(
            f"team {team[:64]!r}: 1 to 128 ASCII letters, digits or _.:@~+=- would be right (not first: .:@~+=)"
        )
    return team


class Ticker:
    """Progress of long work on standard error, about once a second, and only for somebody who watches."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()

    def tell(self, text: str) -> None:
        """The text is shown if a second has passed since the last."""
        if sys.stderr.isatty() and time.monotonic() - self._told_at >= 1:
            self._told_at = time.monotonic()
            note(text)


def _csv(rows: Sequence[Row], header: bool) -> None:
    if rows:
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows({name: _cell(value) for name, value in row.items()} for row in rows)


def _table(names: Sequence[str], rows: Sequence[Sequence[str]], *, header: bool = True) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD if header else None, show_header=header, pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")
    for row in rows:
        # As text, so that nothing a caller once sent is read as markup.
        table.add_row(*map(Text, row))
    # A file or a pipe has no width: nothing is cut there.
    Console(width=None if sys.stdout.isatty() else 400).print(table)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)
