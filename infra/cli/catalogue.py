"""Commands about what is sold and where usage comes from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from infra.cli.session import Output, OutputOption, note, operator, show, show_rows, wired

sources = typer.Typer(help="Where usage may come from.", no_args_is_help=True)


def publish(
    file: Annotated[
        Path, typer.Argument(help="A rate card in TOML.", exists=True, dir_okay=False, show_default=False)
    ],
    reason: Annotated[str | None, typer.Option(help="Why.", show_default=False)] = None,
    output: OutputOption = Output.table,
) -> None:
    """Publish a rate card, for ever. The same document again changes nothing.

    Example: coffer publish cards/standard.toml --reason "new video model"
    """
    import tomllib

    from api.answers import RateCardAnswer
    from domain.documents import document_digest
    from domain.errors import Malformed
    from domain.rate_cards import canonical_document

    try:
        document = tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"{file} is not TOML: {error}") from error
    with wired() as wiring:
        before = wiring.catalogue.current().version
        catalogue = wiring.catalogue.publish(document, operator(), reason)
    digest = document_digest(canonical_document(document))
    card = next(card for card in catalogue.cards() if card.digest == digest)
    if catalogue.version == before:
        note(f"{card.card_id} version {card.version} stands already: nothing was changed")
    show(RateCardAnswer.of(card), output)


@sources.command("register")
def register(
    source: Annotated[str, typer.Argument(help="The source that usage records name.", show_default=False)],
    historic: Annotated[
        bool, typer.Option("--historic/--current", help="Historic: its records may be of any age.")
    ] = False,
    reason: Annotated[str | None, typer.Option(help="Why.", show_default=False)] = None,
) -> None:
    """Register a source of usage, as historic (backfills, traces) or not.

    Example: coffer sources register urn:trace:2024 --historic
    """
    with wired() as wiring:
        wiring.catalogue.register_source(source, historic, operator(), reason)
    note(f"{source} is registered as {'historic' if historic else 'current'}")


@sources.command("list")
def list_sources(output: OutputOption = Output.table) -> None:
    """List the registered sources.

    Example: coffer sources list -o json
    """
    with wired() as wiring:
        known = wiring.catalogue.current().sources()
    show_rows([{"source": name, "historic": historic} for name, historic in sorted(known.items())], output)
