"""Commands about the program itself: its settings, and the description of its API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.session import (
    DIFFERENCE,
    Output,
    OutputOption,
    note,
    reached,
    show_one,
    show_rows,
    wired,
)

if TYPE_CHECKING:
    from infra.cli.remote import Api


def config(output: OutputOption = Output.table) -> None:
    """Print the settings of this process, secrets hidden.

    Example: COFFER_API_PORT=8080 coffer config -o json
    """
    from infra.settings import load_settings, shown, unknown_settings
    from infra.wiring import connected

    settings = load_settings()
    for name in unknown_settings(os.environ):
        note(f"{name} is no setting and has no effect")
    told: dict[str, object] = dict(shown(connected(settings)))
    show_one(told, output)


def doctor(output: OutputOption = Output.table) -> None:
    """Look whether all is in order, and say what would help: settings, database, clock, streams, read models. Exit 1 if not.

    Of an API: whether it is ready, and whether it takes the key.

    Example: coffer doctor
    """
    api = reached()
    if api is not None:
        rows = _examined(api)
    else:
        from infra.doctor import examine

        with wired() as wiring:
            rows = [each._asdict() for each in examine(wiring)]
    show_rows(rows, output, ("check", "passes", "seen", "remedy"))
    if not all(row["passes"] for row in rows):
        raise typer.Exit(DIFFERENCE)


def _examined(api: Api) -> list[dict[str, object]]:
    from infra.cli.remote import ApiRefused

    rows: list[dict[str, object]] = []
    for check, path, remedy in (
        ("ready", "/readyz", "see the log of `coffer serve`"),
        ("key", "/v1/rate-cards", "set COFFER_API_KEY to a key that is live and may read"),
    ):
        try:
            api.read(path)
            rows.append({"check": check, "passes": True, "seen": f"{api.url} answers", "remedy": None})
        except ApiRefused as error:
            rows.append({"check": check, "passes": False, "seen": str(error), "remedy": remedy})
    return rows


def openapi(
    file: Annotated[
        Path | None, typer.Option("--file", help="Write it here, not to standard output.", show_default=False)
    ] = None,
) -> None:
    """Print the OpenAPI 3.1 document of the HTTP API.

    Example: coffer openapi --file tests/api/openapi.json
    """
    from api.app import published_text

    text = published_text()
    if file is None:
        typer.echo(text, nl=False)
    else:
        file.write_text(text)
        note(f"{file} written")
