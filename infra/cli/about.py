"""Commands about the program itself: its settings, and the description of its API."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from infra.cli.session import Output, OutputOption, note, show_one


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
