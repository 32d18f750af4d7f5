"""Commands about one team: open, close, show; what it has, what happened, what a use would cost."""

from __future__ import annotations

import json
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from infra.cli.session import (
    AsOf,
    AtVersion,
    KeyOption,
    MaybeReason,
    Output,
    OutputOption,
    ReasonOption,
    Sent,
    Team,
    asked,
    checked_team,
    execute,
    listed,
    note,
    over,
    path_of,
    reached,
    show,
    show_one,
    show_rows,
    time_text,
    told,
    when,
    wired,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from api.answers import HistoryAnswer, StatementAnswer
    from api.moments import Moment
    from api.queries import Page, Queries

account = typer.Typer(help="Open, close and show accounts.", no_args_is_help=True)

Limit = Annotated[int, typer.Option("--limit", min=0, help="Rows at most; 0 for all.")]
Newest = Annotated[bool, typer.Option("--newest", help="Newest first.")]


@account.command("open")
def open_account(
    team: Team,
    zone: Annotated[str, typer.Option(help="Time zone of its periods.")] = "UTC",
    anchor_day: Annotated[int, typer.Option(help="Day of the month on which its periods start.")] = 1,
    card: Annotated[str, typer.Option(help="The rate card that prices its usage.")] = "standard",
    issuer: Annotated[str, typer.Option(help="Who sells to it.")] = "main",
    books_from: Annotated[
        str | None,
        typer.Option(
            help="Its first period is the one of this time; now by default, earlier for history that follows.",
            show_default=False,
        ),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why.", show_default=False)] = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Open a team's account.

    Example: coffer account open acme --zone Europe/Berlin
    """
    from api.requests.accounts import OpenAccountBody

    body = OpenAccountBody.model_validate(
        {
            "team_id": team,
            "zone": zone,
            "anchor_day": anchor_day,
            "card_id": card,
            "issuer_id": issuer,
            "books_from": books_from,
            "reason": reason,
        }
    )
    execute(body.command(), key, output, Sent((), body, is_of_team=False))


@account.command("close")
def close_account(
    team: Team, reason: ReasonOption, key: KeyOption = None, output: OutputOption = Output.table
) -> None:
    """Close a team's account: it takes no further command and no usage.

    Example: coffer account close acme --reason "moved away"
    """
    from api.requests.accounts import CloseAccountBody

    body = CloseAccountBody(reason=reason)
    execute(body.command(checked_team(team)), key, output, over("close", body=body))


@account.command("show")
def show_account(
    team: Team, at_version: AtVersion = None, as_of: AsOf = None, output: OutputOption = Output.table
) -> None:
    """Show a team's account and its terms.

    Example: coffer account show acme -o json
    """
    told(lambda queries, then: queries.accounts.account(team, then), at_version, as_of, output, team)


def suspend(
    team: Team, reason: ReasonOption, key: KeyOption = None, output: OutputOption = Output.table
) -> None:
    """Take no new request to spend from a team; its usage is still charged, credit still comes in.

    Example: coffer suspend acme --reason "invoice unpaid"
    """
    from api.requests.accounts import SuspendAccountBody

    body = SuspendAccountBody(reason=reason)
    execute(body.command(checked_team(team)), key, output, over("suspend", body=body))


def resume(
    team: Team, reason: ReasonOption, key: KeyOption = None, output: OutputOption = Output.table
) -> None:
    """Take requests to spend from a suspended team again.

    Example: coffer resume acme --reason "invoice paid"
    """
    from api.requests.accounts import ResumeAccountBody

    body = ResumeAccountBody(reason=reason)
    execute(body.command(checked_team(team)), key, output, over("resume", body=body))


def zone(
    team: Team,
    name: Annotated[str, typer.Argument(metavar="ZONE", help="Such as Europe/Berlin.", show_default=False)],
    reason: MaybeReason = None,
    key: KeyOption = None,
    output: OutputOption = Output.table,
) -> None:
    """Move a team's periods and windows to another zone, from the next turn on.

    Example: coffer zone acme America/Lima
    """
    from api.requests.accounts import ZoneBody

    body = ZoneBody(zone=name, reason=reason)
    execute(body.command(checked_team(team)), key, output, over("zone", body=body))


def balance(
    team: Team, at_version: AtVersion = None, as_of: AsOf = None, output: OutputOption = Output.table
) -> None:
    """Show what a team has: settled credits and their parts, debt, and its lots in burn order.

    Example: coffer balance acme --as-of 2026-12-01T00:00:00Z
    """
    moment, query = _moment(at_version, as_of), when(at_version, as_of)
    parts = asked(
        lambda queries: queries.accounts.balance(team, moment), "accounts", team, "balance", query=query
    )
    show(parts, output)
    if output is Output.table:
        found = asked(
            lambda queries: queries.accounts.lots(team, moment), "accounts", team, "lots", query=query
        )
        if found["data"]:
            show(found, output, rows="data", columns=_LOT_COLUMNS)


def lots(
    team: Team, at_version: AtVersion = None, as_of: AsOf = None, output: OutputOption = Output.table
) -> None:
    """Show every lot that has something left, in the order in which they burn.

    Example: coffer lots acme -o csv
    """
    told(
        lambda queries, then: queries.accounts.lots(team, then),
        at_version,
        as_of,
        output,
        team,
        "lots",
        columns=_LOT_COLUMNS,
    )


def watch(
    team: Team,
    times: Annotated[int, typer.Option("--times", min=0, help="End after so many; 0 for never.")] = 0,
) -> None:
    """Tell a team's balance now, and again whenever it changes: a line of JSON each, until Ctrl-C.

    Example: coffer watch acme --times 2
    """
    for number, answer in enumerate(_balances(team), 1):
        typer.echo(json.dumps(answer, ensure_ascii=False))
        if number == times:
            return


def _balances(team: str) -> Iterator[dict[str, Any]]:
    """The balance now and after each change, for ever."""
    api = reached()
    last: str | None = None
    while api is not None:
        # The API ends a stream after a while; it goes on where that one ended.
        for named, answer in api.events(path_of("accounts", team, "balance", "live"), last):
            last = named
            yield answer
    known: dict[str, Any] | None = None
    with wired() as wiring:
        while True:
            now = wiring.ask(lambda queries: queries.accounts.balance(team)).model_dump(mode="json")
            seen = {name: value for name, value in now.items() if name not in {"as_of", "position"}}
            if seen != known:
                known = seen
                yield now
            time.sleep(1)


_LOT_COLUMNS = (
    "lot_id",
    "source",
    "state",
    "remaining",
    "held",
    "withheld",
    "priority",
    "action",
    "project",
    "effective_at",
    "expires_at",
)
_STATEMENT_COLUMNS = (
    "version",
    "recorded_at",
    "kind",
    "amount",
    "settled_after",
    "debt_after",
    "held_after",
    "action",
    "charge_id",
    "lot_id",
    "hold_id",
    "reason",
)


def statement(
    team: Team,
    limit: Limit = 50,
    newest: Newest = False,
    kind: Annotated[
        str | None, typer.Option(help="Only events of this name, such as CreditsCharged.", show_default=False)
    ] = None,
    action: Annotated[str | None, typer.Option(help="Only this action.", show_default=False)] = None,
    member: Annotated[str | None, typer.Option(help="Only this member.", show_default=False)] = None,
    project: Annotated[str | None, typer.Option(help="Only this project.", show_default=False)] = None,
    charge: Annotated[str | None, typer.Option(help="Only this charge.", show_default=False)] = None,
    hold: Annotated[str | None, typer.Option(help="Only this hold.", show_default=False)] = None,
    since: Annotated[
        str | None,
        typer.Option("--from", help="Recorded from this time on, with offset.", show_default=False),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option("--until", help="Recorded before this time, with offset.", show_default=False),
    ] = None,
    as_csv: Annotated[
        bool, typer.Option("--csv", help="A statement of account of that range, as CSV.")
    ] = False,
    as_pdf: Annotated[bool, typer.Option("--pdf", help="The same as PDF/A-3, the CSV attached.")] = False,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", dir_okay=False, help="Where to; standard output by default.", show_default=False
        ),
    ] = None,
    at_version: AtVersion = None,
    as_of: AsOf = None,
    output: OutputOption = Output.table,
) -> None:
    """Show the running history: a line per event that moved credits, with the sums after it.

    With --csv or --pdf: a statement of account of a range, with the balances before and after it.
    Example: coffer statement acme --newest --limit 10
    Example: coffer statement acme --from 2026-11-01T00:00Z --until 2026-12-01T00:00Z --pdf --file november.pdf
    """
    if as_csv or as_pdf:
        _statement_of_account(team, since, until, "pdf" if as_pdf else "csv", file)
        return
    from domain.times import parse_instant
    from projections.statement import StatementFilter

    wanted = StatementFilter(
        kinds=frozenset({kind}) if kind else None,
        action=action,
        member=member,
        project=project,
        charge_id=charge,
        hold_id=hold,
        recorded_from=None if since is None else parse_instant(since, "--from"),
        recorded_until=None if until is None else parse_instant(until, "--until"),
    )
    then = _moment(at_version, as_of)
    query = when(at_version, as_of) | {
        "kind": kind,
        "action": action,
        "member": member,
        "project": project,
        "charge_id": charge,
        "hold_id": hold,
        "recorded_from": time_text(since, "--from"),
        "recorded_until": time_text(until, "--until"),
    }
    rows = _rows(
        lambda queries, page: queries.statement(team, page, wanted, then),
        (team, "statement"),
        query,
        limit,
        newest,
    )
    show_rows(rows, output, _STATEMENT_COLUMNS)


def _statement_of_account(
    team: str, since: str | None, until: str | None, form: Literal["csv", "pdf"], file: Path | None
) -> None:
    from domain.errors import Malformed
    from domain.times import parse_instant
    from infra.cli.invoices import write
    from infra.statements import statement_form, statement_of

    if since is None or until is None:
        raise Malformed("a statement of account has a range: give --from and --until", field="from")
    first, last = parse_instant(since, "--from"), parse_instant(until, "--until")
    api = reached()
    if api is not None:
        query = {"from": time_text(since, "--from"), "until": time_text(until, "--until"), "form": form}
        told = api.ask("GET", path_of("accounts", team, "statement-of-account"), query, accept="*/*")
        write(file, [told.body])
        return
    with wired() as wiring:
        if form == "pdf":
            write(file, [wiring.invoices.statement(checked_team(team), first, last, form)])
            return
        # However long it is, it goes out piece by piece.
        statement = statement_of(wiring.shards, checked_team(team), first, last)
        write(file, statement_form(statement, form))


def history(
    team: Team, limit: Limit = 50, newest: Newest = False, output: OutputOption = Output.table
) -> None:
    """Show a team's events as recorded, each with its hash.

    Example: coffer history acme --limit 0 -o jsonl
    """
    rows = _rows(lambda queries, page: queries.history(team, page), (team, "history"), {}, limit, newest)
    show_rows(rows, output, ("version", "position", "topic", "hash"))


def estimate(
    team: Team,
    action: Annotated[str, typer.Argument(help="The action, such as image.generate.", show_default=False)],
    meter: Annotated[
        list[str] | None,
        typer.Option("-m", "--meter", help="name=quantity, once per meter.", show_default=False),
    ] = None,
    dimension: Annotated[
        list[str] | None,
        typer.Option("-d", "--dimension", help="name=value, once per dimension.", show_default=False),
    ] = None,
    project: Annotated[
        str | None, typer.Option(help="The project that would pay.", show_default=False)
    ] = None,
    member: Annotated[
        str | None, typer.Option(help="The member whose limits count.", show_default=False)
    ] = None,
    times: Annotated[int, typer.Option(min=1, max=100, help="So many such uses, one after the other.")] = 1,
    replace: Annotated[
        bool, typer.Option("--replace", help="In a period as if nothing had happened in it.")
    ] = False,
    output: OutputOption = Output.table,
) -> None:
    """Tell what a use would cost now, which lots would pay, and what would refuse it; nothing is changed.

    Example: coffer estimate acme image.generate -m images=4 -d model=base --times 3
    """
    if times > 1 or replace or member is not None:
        from domain.account.estimating import PlannedUse

        planned = PlannedUse(
            action, pairs(meter, "--meter"), pairs(dimension, "--dimension"), member, project
        )
        from api.requests.spending import EstimatesBody

        use = {
            "action": planned.action,
            "meters": planned.meters,
            "dimensions": planned.dimensions,
            "member": member,
            "project": project,
        }
        mode: Literal["add", "replace"] = "replace" if replace else "add"
        many = asked(
            lambda queries: queries.spending.estimates(team, [planned] * times, mode),
            *("accounts", team, "estimates", "many"),
            body=EstimatesBody.model_validate({"uses": [use] * times, "mode": mode}),
        )
        columns = ("action", "amount", "debt", "available_after", "lines", "denied")
        show(many, output, rows="data", columns=columns)
        return
    from api.queries import Use
    from api.requests.uses import EstimateBody

    one = Use(action, pairs(meter, "--meter"), pairs(dimension, "--dimension"), project)
    answer = asked(
        lambda queries: queries.estimate(team, one),
        *("accounts", team, "estimates"),
        body=EstimateBody.model_validate(one._asdict()),
    )
    if output is not Output.table:
        show(answer, output)
        return
    left_out = {"computation", "card", "lines", "version", "position"}
    shown = {name: value for name, value in answer.items() if name not in left_out}
    card = answer["card"]
    shown["paid by"] = ", ".join(line["lot_id"] for line in answer["lines"]) or None
    shown["card"] = f"{card['card_id']} version {card['version']}" if card else None
    show_one(shown, output)
    if not answer["priced"]:
        note(f"nothing to price: none of these meters has a price for {action}, or all are zero")


def pairs(given: list[str] | None, option: str) -> dict[str, str]:
    """What ``name=value`` options say. Raises: Malformed."""
    from domain.errors import Malformed

    read: dict[str, str] = {}
    for each in given or []:
        name, equals, value = each.partition("=")
        if not equals or not name or name in read:
            raise Malformed(f"{option} {each!r}: write name=value, each name once")
        read[name] = value
    return read


def _moment(at_version: int | None, as_of: str | None) -> Moment:
    from api.parameters import moment

    return moment(None, at_version, as_of)


def _rows(
    question: Callable[[Queries, Page], Awaitable[StatementAnswer | HistoryAnswer]],
    places: tuple[str, ...],
    query: Mapping[str, object],
    limit: int,
    newest: bool,
) -> list[dict[str, Any]]:
    """So many rows of a list, from either end; all for 0."""
    api = reached()
    if api is not None:
        ordered = {**query, "order": "newest" if newest else "oldest"}
        return list(islice(listed(api, ("accounts", *places), ordered, limit), limit or None))
    with wired() as wiring:
        return wiring.ask(lambda queries: _collected(queries, question, limit, newest))


async def _collected(
    queries: Queries,
    question: Callable[[Queries, Page], Awaitable[StatementAnswer | HistoryAnswer]],
    limit: int,
    newest: bool,
) -> list[dict[str, Any]]:
    from api.cursors import LIMIT_MAX
    from api.queries import Page

    rows: list[dict[str, Any]] = []
    after: str | None = None
    while True:
        size = min(limit - len(rows), LIMIT_MAX) if limit else LIMIT_MAX
        answer = await question(queries, Page(size, after, newest))
        rows += [row.model_dump(mode="json") for row in answer.data]
        after = answer.next
        if after is None or (limit and len(rows) >= limit):
            return rows
