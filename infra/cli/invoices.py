"""Commands about invoices: drafts, documents and their forms, lines and charges, close, void, correct; issuers."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from infra.cli.session import (
    DIFFERENCE,
    KeyOption,
    MaybeReason,
    Output,
    OutputOption,
    ReasonOption,
    Team,
    Ticker,
    body_of,
    checked_id,
    checked_team,
    execute,
    fetched,
    listed,
    log_to_stderr,
    note,
    operator,
    over,
    path_of,
    reached,
    show_one,
    show_rows,
    wired,
)

if TYPE_CHECKING:
    from domain.invoices.document import Invoice

invoice = typer.Typer(
    help="Invoices of closed periods, drafts of open ones, credit notes; from any line to its charges.",
    no_args_is_help=True,
)
issuer = typer.Typer(help="Who sells, as invoices print it.", no_args_is_help=True)

Number = Annotated[
    str, typer.Argument(metavar="INVOICE", help="The number, as it is printed.", show_default=False)
]
MaybeNumber = Annotated[
    str | None,
    typer.Argument(metavar="INVOICE", help="The number; the oldest draft without one.", show_default=False),
]
IssuerOption = Annotated[str, typer.Option("--issuer", help="Who sells, by its own id.")]
FileOption = Annotated[
    Path | None,
    typer.Option("--file", dir_okay=False, help="Where to; standard output by default.", show_default=False),
]

_LIST = ("invoice", "kind", "status", "label", "issued_at", "opening", "closing", "money", "corrects")
_LINES = (
    *("line", "kind", "period", "action", "project", "member", "card"),
    *("charges", "quantities", "unit_price", "amount"),
)
_CHARGES = ("charge_id", "version", "occurred_at", "action", "member", "project", "amount", "refund_id")


# --- what there is ---


@invoice.command("list")
def list_invoices(
    team: Team,
    limit: Annotated[int, typer.Option(min=1, max=500, help="Rows at most.")] = 50,
    output: OutputOption = Output.table,
) -> None:
    """Show a team's documents, newest first, with what became of each.

    Example: coffer invoice list acme
    """
    from api.answers_invoices import InvoiceAnswer

    api = reached()
    if api is not None:
        rows = list(islice(listed(api, ("accounts", checked_team(team), "invoices"), {}, limit), limit))
    else:
        with wired() as wiring:
            found = wiring.invoices.page(checked_team(team), limit=limit)
        rows = [InvoiceAnswer.of(each).model_dump(mode="json") for each in found.documents]
    if output is Output.table:
        rows = [row | {"money": _money_words(row["money"])} for row in rows]
    show_rows(rows, output, _LIST)


@invoice.command("draft")
def draft(team: Team, output: OutputOption = Output.table) -> None:
    """Show what the invoices of the periods that are not closed would say now.

    Example: coffer invoice draft acme
    """
    from msgspec import to_builtins

    drafts = _drafts(checked_team(team))
    if output is Output.table:
        for each in drafts:
            _show_document(each)
    else:
        show_rows([to_builtins(each) for each in drafts], output)


@invoice.command("show")
def show_invoice(team: Team, number: Number, output: OutputOption = Output.table) -> None:
    """Show a document as it was issued; as JSON it is canonical, byte for byte, and its SHA-256 is the digest on file.

    Example: coffer invoice show acme CO-2026-000001 -o json
    """
    from domain.invoices.document import canonical_invoice

    document = _document(team, number)
    if output is Output.json:
        _write(None, [canonical_invoice(document)])
    else:
        _show_document(document)


@invoice.command("status")
def status(team: Team, number: Number, output: OutputOption = Output.table) -> None:
    """Show what became of a document: what was paid, what is due, what corrects it.

    Example: coffer invoice status acme CO-2026-000001
    """
    from api.answers_invoices import InvoiceAnswer

    named = _number(number)
    told = fetched(
        lambda wiring: InvoiceAnswer.of(wiring.invoices.summary(checked_team(team), named)),
        *("accounts", checked_team(team), "invoices", named, "status"),
    )
    show_one(told, output)


@invoice.command("lines")
def lines(team: Team, number: MaybeNumber = None, output: OutputOption = Output.table) -> None:
    """Show the lines and adjustments of a document, or of the draft, by their numbers.

    Example: coffer invoice lines acme CO-2026-000001
    """
    show_rows(_line_rows(_document(team, number)), output, _LINES)


@invoice.command("charges")
def charges(
    team: Team,
    line: Annotated[int, typer.Option("--line", min=1, help="The line's number.", show_default=False)],
    number: MaybeNumber = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows at most; 0 for all.")] = 100,
    output: OutputOption = Output.table,
) -> None:
    """Show what a line is made of; each charge can be explained with `coffer explain TEAM CHARGE`.

    Example: coffer invoice charges acme CO-2026-000001 --line 2
    """
    from api.answers_invoices import InvoicedCharge

    named = _number(number) if number else None
    api = reached()
    if api is not None:
        places = ("accounts", checked_team(team), "invoices", named or "draft", "lines", str(line), "charges")
        show_rows(islice(listed(api, places, {}, limit), limit or None), output, _CHARGES)
        return
    with wired() as wiring:
        told = wiring.invoices.charges(checked_team(team), named, line, limit=limit or None)
    show_rows([InvoicedCharge.of(each).model_dump(mode="json") for each in told], output, _CHARGES)


# --- its forms ---


@invoice.command("pdf")
def pdf(team: Team, number: MaybeNumber = None, file: FileOption = None) -> None:
    """Write a document, or the draft, as PDF/A-3; of one that was issued the file that was stored then.

    Example: coffer invoice pdf acme CO-2026-000001 --file invoice.pdf
    """
    _form(team, number, file, "pdf")


@invoice.command("html")
def html(team: Team, number: MaybeNumber = None, file: FileOption = None) -> None:
    """Write a document, or the draft, as an HTML page that prints well.

    Example: coffer invoice html acme --file draft.html
    """
    _form(team, number, file, "html")


@invoice.command("csv")
def csv(team: Team, number: MaybeNumber = None, file: FileOption = None) -> None:
    """Write a document, or the draft, as CSV.

    Example: coffer invoice csv acme CO-2026-000001 --file invoice.csv
    """
    _form(team, number, file, "csv")


# --- what is done ---


@invoice.command("close")
def close(
    team: Team,
    reason: ReasonOption,
    period_start: Annotated[
        str | None,
        typer.Option("--period", help="When the period began that it must be.", show_default=False),
    ] = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Close the oldest open period, which has ended, before late grace is over: for history that is complete.

    Example: coffer invoice close acme --reason "all of November is here"
    """
    from api.requests.invoices import ClosePeriodBody

    body = ClosePeriodBody.model_validate({"period_start": period_start, "reason": reason})
    execute(body.command(checked_team(team)), key, output, over("periods", "close", body=body))


@invoice.command("issue")
def issue(
    without_pdfs: Annotated[
        bool, typer.Option("--without-pdfs", help="Leave the PDFs to the next tick.")
    ] = False,
    output: OutputOption = Output.table,
) -> None:
    """Issue the invoices of all periods that closed, as a tick does, and store their PDFs.

    Running it twice, or beside a tick, issues nothing twice. Exit 1 where an invoice could not be issued or printed.
    Example: coffer invoice issue
    """
    import msgspec

    from infra.closing import Closer

    log_to_stderr()
    ticker = Ticker()
    with wired() as wiring:
        closer = Closer(wiring.shards)
        act = closer.issue if without_pdfs else closer.run
        told = act(
            progress=lambda so_far: ticker.tell(f"{so_far.invoices} invoices, {so_far.pdfs} PDFs"),
        )
    show_one(msgspec.to_builtins(told), output)
    if told.waiting:
        note(f"{told.waiting} accounts wait for their issuer's details: coffer issuer set")
    if told.failed:
        raise typer.Exit(DIFFERENCE)


@invoice.command("void")
def void(
    team: Team,
    number: Number,
    reason: ReasonOption,
    reissue: Annotated[bool, typer.Option("--reissue", help="Its period gets another invoice.")] = False,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Let an invoice count no more, by a document under a number of its own.

    Example: coffer invoice void acme CO-2026-000001 --reissue --reason "wrong address"
    """
    from api.requests.invoices import VoidInvoiceBody

    body = VoidInvoiceBody(reissue=reissue, reason=reason)
    named = _number(number)
    sent = over("invoices", named, "void", body=body)
    execute(body.command(checked_team(team), named), key, output, sent)


@invoice.command("credit-note")
def credit_note(
    team: Team,
    number: Number,
    text: Annotated[str, typer.Option("--text", help="What for.", show_default=False)],
    net_minor: Annotated[
        int, typer.Option("--net", min=0, help="Without tax, in minor units.", show_default=False)
    ],
    reason: ReasonOption,
    tax_minor: Annotated[int, typer.Option("--tax", min=0, help="Tax on it, in minor units.")] = 0,
    currency: Annotated[str, typer.Option(help="The invoice's currency.")] = "EUR",
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Correct the money of an invoice by a credit note under a number of its own.

    Example: coffer invoice credit-note acme CO-2026-000001 --net 500 --tax 95 --text "Outage" --reason goodwill
    """
    from api.requests.invoices import CreditNoteBody

    line = {"text": text, "net_minor": net_minor, "tax_minor": tax_minor}
    body = CreditNoteBody.model_validate({"currency": currency, "lines": [line], "reason": reason})
    named = _number(number)
    sent = over("invoices", named, "credit-notes", body=body)
    execute(body.command(checked_team(team), named), key, output, sent)


@invoice.command("uncollectible")
def uncollectible(
    team: Team,
    number: Number,
    reason: ReasonOption,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Expect no more money for an invoice; it still counts if it comes.

    Example: coffer invoice uncollectible acme CO-2026-000001 --reason "insolvent"
    """
    from api.requests.invoices import UncollectibleBody

    body = UncollectibleBody(reason=reason)
    named = _number(number)
    sent = over("invoices", named, "uncollectible", body=body)
    execute(body.command(checked_team(team), named), key, output, sent)


# --- who sells ---


@issuer.command("show")
def show_issuer(named: IssuerOption = "main", output: OutputOption = Output.table) -> None:
    """Show who sells, as invoices print it from now on.

    Example: coffer issuer show
    """
    from api.answers_invoices import IssuerAnswer

    found = fetched(lambda wiring: IssuerAnswer.of(wiring.invoices.issuer(named)), "issuers", named)
    _show_issuer(found, output)


@issuer.command("set")
def set_issuer(
    name: Annotated[str, typer.Option(help="The name of the firm.", show_default=False)],
    address: Annotated[
        list[str], typer.Option("--address", help="A line of its address, once per line.", show_default=False)
    ],
    country: Annotated[str, typer.Option(help="ISO 3166 code, such as DE.", show_default=False)],
    named: IssuerOption = "main",
    tax_id: Annotated[
        str | None, typer.Option("--tax-id", help="Its VAT number.", show_default=False)
    ] = None,
    email: Annotated[str | None, typer.Option(help="Whom to write to.", show_default=False)] = None,
    zone: Annotated[str, typer.Option(help="Decides to which year an invoice belongs.")] = "UTC",
    prefix: Annotated[str, typer.Option(help="Stands before the year in a number.")] = "",
    tax_percent: Annotated[str, typer.Option("--tax-percent", help="Tax added to fees.")] = "0",
    iban: Annotated[str | None, typer.Option(help="Where to pay to.", show_default=False)] = None,
    bic: Annotated[str | None, typer.Option(help="Its bank.", show_default=False)] = None,
    remark: Annotated[
        str | None, typer.Option("--note", help="At the foot of every invoice.", show_default=False)
    ] = None,
    reason: MaybeReason = None,
    output: OutputOption = Output.table,
) -> None:
    """Set who sells; invoices from now on say so, those that were issued stay as they are.

    Example: coffer issuer set --name "Coffer SE" --address "Kai 7" --address "20457 Hamburg" --country DE --prefix CO-
    """
    from api.answers_invoices import IssuerAnswer
    from api.requests.invoices import IssuerBody
    from domain.ledger import Caller

    body = IssuerBody.model_validate(
        {
            "name": name,
            "address_lines": address,
            "country": country,
            "tax_id": tax_id,
            "email": email,
            "zone": zone,
            "prefix": prefix,
            "tax_percent": tax_percent,
            "iban": iban,
            "bic": bic,
            "note": remark,
            "reason": reason,
        }
    )
    details, who = body.details(named), operator()
    api = reached()
    if api is not None:
        _show_issuer(api.ask("PUT", path_of("issuers", named), body=body_of(body)).json(), output)
        return
    with wired() as wiring:
        found = wiring.invoices.set_details(details, Caller(who.id, who.role), reason)
    _show_issuer(IssuerAnswer.of(found).model_dump(mode="json"), output)


# --- how ---


def _number(number: str) -> str:
    from api.fields import INVOICE_PATTERN

    return checked_id(number, INVOICE_PATTERN, "invoice")


def _drafts(team: str) -> list[Invoice]:
    from msgspec import convert

    from domain.invoices.document import Invoice

    api = reached()
    if api is not None:
        told = api.read(path_of("accounts", team, "invoices", "draft")).json()
        return convert(told["data"], list[Invoice])
    with wired() as wiring:
        return wiring.invoices.drafts(team)


def _document(team: str, number: str | None) -> Invoice:
    from msgspec.json import decode

    from domain.invoices.document import Invoice

    if number is None:
        return _drafts(checked_team(team))[0]
    named = _number(number)
    api = reached()
    if api is not None:
        return decode(api.read(path_of("accounts", checked_team(team), "invoices", named)).body, type=Invoice)
    with wired() as wiring:
        return wiring.invoices.document(checked_team(team), named)


def _form(team: str, number: str | None, file: Path | None, form: Literal["csv", "html", "pdf"]) -> None:
    api = reached()
    if api is not None:
        path = path_of("accounts", checked_team(team), "invoices", _number(number) if number else "draft")
        write(file, [api.ask("GET", path, {"form": form}, accept="*/*").body])
        return
    document = _document(team, number)
    with wired() as wiring:
        body = wiring.invoices.form(document, form)
    write(file, [body])


def write(file: Path | None, pieces: Iterable[bytes]) -> None:
    """The pieces are in the file, or on standard output; a note says how much it was."""
    if file is None:
        _write(None, pieces)
        return
    _write(file, pieces)
    note(f"{file}: {file.stat().st_size} bytes")


def _write(file: Path | None, pieces: Iterable[bytes]) -> None:
    if file is None:
        for piece in pieces:
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    with file.open("wb") as out:
        for piece in pieces:
            out.write(piece)


def _line_rows(document: Invoice) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = [
        {
            "line": line.line,
            "kind": line.kind,
            "period": document.period.label,
            "action": line.action,
            "project": line.project,
            "member": line.member,
            "card": _card(line.card, line.card_version),
            "charges": line.charges,
            "quantities": line.quantities,
            "unit_price": line.unit_price,
            "amount": line.amount,
        }
        for line in document.lines
    ]
    rows += [
        {
            "line": each.line,
            "kind": f"adjustment ({each.kind})",
            "period": each.period_label,
            "action": each.action,
            "project": each.project,
            "member": each.member,
            "card": _card(each.card, each.card_version),
            "charges": each.charges,
            "quantities": each.quantities,
            "unit_price": None,
            "amount": each.amount,
        }
        for each in document.adjustments
    ]
    return rows


def _card(card: str | None, version: int | None) -> str | None:
    return None if card is None else f"{card} v{version}"


def _show_document(document: Invoice) -> None:
    from msgspec import to_builtins

    head = {
        "invoice": document.number or "draft",
        "kind": document.kind,
        "issued_at": document.issued_at,
        "team": document.team,
        "issuer": document.issuer.name if document.issuer else None,
        "customer": document.customer.name if document.customer else None,
        "period": f"{document.period.label}: {document.period.start} to {document.period.end}",
        "version": document.version,
        "corrects": document.corrects,
        "reason": document.reason,
    }
    if document.credits is not None:
        head |= to_builtins(document.credits)
    show_one(head, Output.table)
    if document.lines or document.adjustments:
        show_rows(_line_rows(document), Output.table, _LINES)
    for rows in (document.purchases, document.note_lines, document.totals):
        if rows:
            show_rows([to_builtins(each) for each in rows], Output.table)


def _show_issuer(told: dict[str, Any], output: Output) -> None:
    if output is Output.table:
        told |= told.pop("details") or {"details": "none yet: coffer issuer set"}
    show_one(told, output)


def _money_words(money: list[dict[str, object]]) -> str:
    return json.dumps(
        {each["currency"]: f"{each['due_minor']} of {each['gross_minor']} due" for each in money}
    )
