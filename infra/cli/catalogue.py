"""Commands about what is sold and where usage comes from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.session import Output, OutputOption, note, operator, show, show_rows, wired

if TYPE_CHECKING:
    from api.answers import RateCardAnswer
    from api.answers_plans import PlanTermsAnswer
    from domain.catalogue import Catalogue

sources = typer.Typer(help="Where usage may come from.", no_args_is_help=True)


def publish(
    file: Annotated[
        Path,
        typer.Argument(
            help="A rate card or a plan in TOML.", exists=True, dir_okay=False, show_default=False
        ),
    ],
    reason: Annotated[str | None, typer.Option(help="Why.", show_default=False)] = None,
    output: OutputOption = Output.table,
) -> None:
    """Publish a rate card or a plan, for ever. The same document again changes nothing.

    A file that says plan_id is a plan; its rate card is published first.

    Example: coffer publish cards/standard.toml --reason "new video model"
    """
    document = _document(file)
    with wired() as wiring:
        before = wiring.catalogue.current().version
        if "plan_id" in document:
            catalogue = wiring.catalogue.publish_plan(document, operator(), reason)
            told: PlanTermsAnswer | RateCardAnswer = _plan(catalogue, document)
            named = str(document["plan_id"])
        else:
            catalogue = wiring.catalogue.publish(document, operator(), reason)
            told, named = _rate_card(catalogue, document), str(document["card_id"])
    if catalogue.version == before:
        note(f"{named} version {told.version} stands already: nothing was changed")
    show(told, output)


def _document(file: Path) -> dict[str, object]:
    import tomllib

    from domain.errors import Malformed

    try:
        return tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"{file} is not TOML: {error}") from error


def _rate_card(catalogue: Catalogue, document: dict[str, object]) -> RateCardAnswer:
    from api.answers import RateCardAnswer
    from domain.documents import document_digest
    from domain.rate_cards import canonical_document

    digest = document_digest(canonical_document(document))
    return RateCardAnswer.of(next(card for card in catalogue.cards() if card.digest == digest))


def _plan(catalogue: Catalogue, document: dict[str, object]) -> PlanTermsAnswer:
    from api.answers_plans import PlanTermsAnswer

    plan = catalogue.plan(str(document["plan_id"]))
    assert plan is not None, "it was published just now"
    return PlanTermsAnswer.of(plan)


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
