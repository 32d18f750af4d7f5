"""Commands about what is sold and where usage comes from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.session import (
    MaybeReason,
    Output,
    OutputOption,
    asked,
    fetched,
    note,
    operator,
    show,
)

if TYPE_CHECKING:
    from api.answers_publishing import PublishedAnswer
    from api.requests.publishing import PublishBody, WithdrawalBody
    from domain.catalogue import PublicationKind
    from infra.wiring import Wiring

Card = Annotated[
    str, typer.Argument(metavar="CARD", help="The rate card, such as standard.", show_default=False)
]
CardVersion = Annotated[int, typer.Argument(min=1, help="Its version.", show_default=False)]
Publication = Annotated[
    str,
    typer.Argument(metavar="PUBLICATION", help="What waits, as it is named in the list.", show_default=False),
]

catalogue = typer.Typer(
    help="What is sold: cards and plans that stand, and what waits for a second person.",
    no_args_is_help=True,
)
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

    A file that says plan_id is a plan; its rate card is published first. By the API it takes two operators: one publishes, which
    is a proposal, another says `coffer catalogue approve`.

    Example: coffer publish cards/standard.toml --reason "new video model"
    """
    from api.requests.publishing import PublishBody

    body = PublishBody.model_validate({"document": _document(file), "reason": reason})
    is_plan = "plan_id" in body.document
    operation: PublicationKind = "publish_plan" if is_plan else "publish_rate_card"
    told = _changed(operation, body.document, body, ("plans",) if is_plan else ("rate-cards",))
    _show_published(told, output)


@catalogue.command("withdraw")
def withdraw(
    card: Card,
    version: CardVersion,
    reason: MaybeReason = None,
    output: OutputOption = Output.table,
) -> None:
    """Withdraw a version of a rate card that is not yet effective: it never will be.

    Example: coffer catalogue withdraw standard 4 --reason "the price was wrong"
    """
    from api.requests.publishing import WithdrawalBody

    body = WithdrawalBody(reason=reason)
    named = {"card_id": card, "version": version}
    places = ("rate-cards", card, str(version), "withdrawal")
    _show_published(_changed("withdraw_rate_card", named, body, places), output)


@catalogue.command("cards")
def cards(output: OutputOption = Output.table) -> None:
    """List every standing version of every rate card.

    Example: coffer catalogue cards
    """
    answer = asked(lambda queries: queries.rate_cards(), "rate-cards")
    show(answer, output, rows="data", columns=("card_id", "version", "effective_at", "publisher", "actions"))


@catalogue.command("card")
def card_document(card: Card, version: CardVersion, output: OutputOption = Output.json) -> None:
    """Show a version of a rate card with its document, withdrawn or not: what a charge pins.

    Example: coffer catalogue card standard 1
    """
    show(asked(lambda queries: queries.rate_card(card, version), "rate-cards", card, str(version)), output)


@catalogue.command("plans")
def plans(output: OutputOption = Output.table) -> None:
    """List the newest version of every plan.

    Example: coffer catalogue plans -o json
    """
    answer = asked(lambda queries: queries.plans(), "plans")
    columns = ("plan_id", "version", "allowance", "card_id", "price_minor", "currency", "limits")
    show(answer, output, rows="data", columns=columns)


@catalogue.command("waiting")
def waiting(output: OutputOption = Output.table) -> None:
    """List what somebody wants to publish or withdraw, and a second person has not approved.

    Example: coffer catalogue waiting
    """
    from api.answers_publishing import PublicationAnswer, PublicationsAnswer
    from domain.publishing import waiting_at

    def here(wiring: Wiring) -> PublicationsAnswer:
        found = waiting_at(wiring.catalogue.current(), wiring.catalogue.now())
        return PublicationsAnswer(data=[PublicationAnswer.of(each) for each in found])

    columns = ("publication_id", "operation", "named", "proposed_by", "proposed_at", "reason")
    show(fetched(here, "publications"), output, rows="data", columns=columns)


@catalogue.command("proposal")
def proposal(publication: Publication, output: OutputOption = Output.json) -> None:
    """Show what waits to be published with its document: read it before you approve it.

    Example: coffer catalogue proposal publication-7
    """
    from api.answers_publishing import PublicationDocument
    from domain.publishing import waiting_of

    def here(wiring: Wiring) -> PublicationDocument:
        return PublicationDocument.whole(waiting_of(wiring.catalogue.current(), publication))

    show(fetched(here, "publications", publication), output)


@catalogue.command("approve")
def approve_publication(
    publication: Publication, reason: MaybeReason = None, output: OutputOption = Output.table
) -> None:
    """Publish or withdraw what another person proposed.

    Example: coffer catalogue approve publication-7
    """
    from api.publishing import approved
    from api.requests.publishing import PublicationApprovalBody

    body = PublicationApprovalBody(reason=reason)
    told = fetched(
        lambda wiring: approved(wiring.catalogue, publication, operator(), reason),
        *("publications", publication, "approval"),
        body=body,
    )
    _show_published(told, output)


def _changed(
    operation: PublicationKind,
    document: Mapping[str, object],
    body: PublishBody | WithdrawalBody,
    places: tuple[str, ...],
) -> dict[str, Any]:
    """What became of the change: done in the database at once; by the API done, or proposed to a second person."""
    from api.publishing import published_answer

    def here(wiring: Wiring) -> PublishedAnswer:
        before = wiring.catalogue.current().version
        found = wiring.catalogue.change(operation, document, operator(), body.reason)
        return published_answer(found, operation, document, before)

    return fetched(here, *places, body=body)


def _show_published(told: dict[str, Any], output: Output) -> None:
    """The card or plan as it stands, or that it waits."""
    stands = told["plan"] or told["rate_card"]
    if told["outcome"] == "proposed" or stands is None:
        if told["outcome"] == "proposed":
            note(f"it waits for a second person: coffer catalogue approve {told['publication_id']}")
        show(told, output)
        return
    if told["outcome"] == "unchanged":
        named = stands.get("plan_id", stands["card_id"])
        note(f"{named} version {stands['version']} stands already: nothing was changed")
    show(stands, output)


def _document(file: Path) -> dict[str, object]:
    import tomllib

    from domain.errors import Malformed

    try:
        return tomllib.loads(file.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise Malformed(f"{file} is not TOML: {error}") from error


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
    from api.answers_publishing import SourceAnswer
    from api.requests.publishing import SourceBody

    def here(wiring: Wiring) -> SourceAnswer:
        wiring.catalogue.register_source(source, historic, operator(), reason)
        return SourceAnswer(source=source, historic=historic)

    fetched(here, "sources", body=SourceBody(source=source, historic=historic, reason=reason))
    note(f"{source} is registered as {'historic' if historic else 'current'}")


@sources.command("list")
def list_sources(output: OutputOption = Output.table) -> None:
    """List the registered sources.

    Example: coffer sources list -o json
    """
    from api.publishing import sources_answer

    answer = fetched(lambda wiring: sources_answer(wiring.catalogue.current()), "sources")
    show(answer, output, rows="data", columns=("source", "historic"))
