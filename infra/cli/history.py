"""Commands of auditors and support: why something is as it is, an account step by step, what changed between two moments."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from infra.cli.session import (
    AsOf,
    AtVersion,
    Output,
    OutputOption,
    Team,
    checked_charge,
    listed,
    note,
    path_of,
    reached,
    show,
    show_rows,
    time_text,
    when,
    wired,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping

    from pydantic import BaseModel

    from api.audits import Audits
    from api.moments import Moment
    from projections.replay import ReplayFilter

TABLE_ROWS = 1_000
"""A longer table is printed in parts, so that a history of any length fits."""


class Telling(StrEnum):
    """How an explanation is told."""

    text = "text"
    json = "json"


class Clock(StrEnum):
    """Which time of an event is meant."""

    recorded = "recorded"
    effective = "effective"


TellingOption = Annotated[
    Telling, typer.Option("-o", "--output", help="Text to paste into a mail, or the same as JSON.")
]
NewestOption = Annotated[
    int, typer.Option("--newest", min=0, max=500, help="How many movements or charges are told one by one.")
]


def explain(
    team: Team,
    charge: Annotated[
        str | None,
        typer.Argument(
            help="The charge, or the id of its usage record with --source; none explains the balance.",
            show_default=False,
        ),
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="The source of the usage record.", show_default=False)
    ] = None,
    denial: Annotated[
        int | None,
        typer.Option(
            min=1, help="The version of a denied hold, to explain that instead.", show_default=False
        ),
    ] = None,
    newest: NewestOption = 20,
    at_version: AtVersion = None,
    as_of: AsOf = None,
    output: TellingOption = Telling.text,
) -> None:
    """Explain a balance, a charge or a denial, summing exactly: what there is and where it came from, down to record and price.

    Example: coffer explain acme rec-7 --source urn:render:eu-1
    """
    from api.parameters import moment
    from domain.errors import Malformed

    asked = moment(None, at_version, as_of)
    query = when(at_version, as_of)
    if charge is not None and denial is not None:
        raise Malformed("charge and --denial: ask for one of them")
    if charge is None and source is not None:
        raise Malformed("--source names where a record is from: give the record's id with it")
    if charge is not None:
        _explain_charge(team, charge, source, asked, query, output)
    elif denial is not None:
        _explain_denial(team, denial, newest, asked, query, output)
    else:
        _explain_balance(team, newest, asked, query, output)


def replay(
    team: Team,
    kind: Annotated[
        str | None, typer.Option(help="Only events of this name, such as HoldDenied.", show_default=False)
    ] = None,
    member: Annotated[str | None, typer.Option(help="Only this member.", show_default=False)] = None,
    action: Annotated[str | None, typer.Option(help="Only this action.", show_default=False)] = None,
    project: Annotated[str | None, typer.Option(help="Only this project.", show_default=False)] = None,
    work: Annotated[str | None, typer.Option(help="Only this work.", show_default=False)] = None,
    charge: Annotated[str | None, typer.Option(help="Only this charge.", show_default=False)] = None,
    hold: Annotated[str | None, typer.Option(help="Only this hold.", show_default=False)] = None,
    since: Annotated[
        str | None, typer.Option(help="From this time on, with offset.", show_default=False)
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="Before this time, with offset.", show_default=False)
    ] = None,
    clock: Annotated[Clock, typer.Option(help="Which time --since and --until mean.")] = Clock.recorded,
    after: Annotated[
        int, typer.Option(min=0, help="Steps after this version; where the last page ended.")
    ] = 0,
    limit: Annotated[int, typer.Option(min=0, help="Steps at most; 0 for all.")] = 50,
    output: OutputOption = Output.table,
) -> None:
    """Replay an account step by step with the balances after each; filters choose steps, balances are those of the whole account.

    Example: coffer replay acme --kind CreditsCharged --since 2026-12-01T00:00:00Z --limit 0 -o jsonl
    """
    from api.auditing import EVENT_NAMES
    from domain.errors import Malformed
    from domain.times import parse_instant
    from projections.replay import ReplayFilter

    if kind is not None and kind not in EVENT_NAMES:
        raise Malformed(
            f"--kind {kind[:80]!r} is no event of an account: {', '.join(EVENT_NAMES)} would be right"
        )
    first = parse_instant(since, "--since") if since else None
    end = parse_instant(until, "--until") if until else None
    is_recorded = clock is Clock.recorded
    asked = ReplayFilter(
        kinds=frozenset({kind}) if kind else None,
        member=member,
        action=action,
        project=project,
        work=work,
        charge_id=checked_charge(charge) if charge else None,
        hold_id=hold,
        recorded_from=first if is_recorded else None,
        recorded_until=end if is_recorded else None,
        occurred_from=None if is_recorded else first,
        occurred_until=None if is_recorded else end,
    )
    api = reached()
    if api is not None:
        query = {
            "kind": kind,
            "member": member,
            "action": action,
            "project": project,
            "work": work,
            "charge_id": charge,
            "hold_id": hold,
            f"{'recorded' if is_recorded else 'occurred'}_from": time_text(since, "--since"),
            f"{'recorded' if is_recorded else 'occurred'}_until": time_text(until, "--until"),
        }
        rest = _print_listed(listed(api, ("accounts", team, "replay"), query), after, limit, output)
    else:
        with wired() as wiring:
            rest = wiring.ask(lambda queries: _print_steps(queries.audits, team, asked, after, limit, output))
    if rest is not None:
        note(f"there are more: --after {rest}")


def diff(
    team: Team,
    before: Annotated[
        str,
        typer.Option(
            "--from", help="The earlier moment: a version, or a time with offset.", show_default=False
        ),
    ],
    after: Annotated[
        str,
        typer.Option("--to", help="The later moment: a version, or a time with offset.", show_default=False),
    ],
    output: TellingOption = Telling.text,
) -> None:
    """Tell what changed on an account between two moments: balances, lots, holds, limits, and what happened, adding up exactly.

    Example: coffer diff acme --from 2026-12-01T00:00:00Z --to 2026-12-02T00:00:00Z
    """
    from api.auditing import diff_moment
    from api.explanations import diff_answer
    from projections.diff import diff_text

    sides = diff_moment(before, "--from"), diff_moment(after, "--to")
    if _told_elsewhere(output, ("accounts", team, "diff"), {"from": _side(before), "to": _side(after)}):
        return
    with wired() as wiring:
        told = wiring.ask(lambda queries: queries.audits.diff(team, *sides))
    _tell(diff_text(told), diff_answer(told), output)


def _told_elsewhere(output: Telling, places: tuple[str, ...], query: Mapping[str, object]) -> bool:
    """Whether an API is asked, in which case its words, or its JSON, are printed."""
    api = reached()
    if api is None:
        return False
    if output is Telling.text:
        accept = "text/plain"
        typer.echo(api.ask("GET", path_of(*places), query, accept=accept).body.decode(), nl=False)
    else:
        show(api.read(path_of(*places), query).json(), Output.json)
    return True


def _side(text: str) -> str:
    """A version as it is, a time as the API reads it."""
    return text if text.isascii() and text.isdigit() else time_text(text, "the moment") or text


def _explain_charge(
    team: str, charge: str, source: str | None, asked: Moment, query: Mapping[str, object], output: Telling
) -> None:
    from api.explanations import ExplanationAnswer, context_words
    from domain.errors import UnknownCharge
    from domain.usage import usage_key
    from projections.explain import plain_text

    charge_id = usage_key(team, source, charge) if source else checked_charge(charge)
    if _told_elsewhere(output, ("accounts", team, "charges", charge_id, "explanation"), query):
        return
    with wired() as wiring:
        try:
            found, explained = wiring.ask(lambda queries: queries.audits.charge(team, charge_id, asked))
        except UnknownCharge:
            if source is None:
                raise
            raise UnknownCharge(
                f"record {charge[:128]!r} of {source[:256]!r} was neither charged nor waived for team {team[:128]!r}: "
                "look for it in `coffer dlq list`"
            ) from None
        context = wiring.works.context(team, charge_id)
    words = plain_text(explained) + context_words(context)
    _tell(words, ExplanationAnswer.of(found, explained, context), output)


def _explain_balance(
    team: str, newest: int, asked: Moment, query: Mapping[str, object], output: Telling
) -> None:
    from api.explanations import balance_answer
    from projections.explain_balance import balance_text

    if _told_elsewhere(output, ("accounts", team, "balance", "explanation"), {**query, "newest": newest}):
        return
    with wired() as wiring:
        told = wiring.ask(lambda queries: queries.audits.balance(team, asked, newest))
    _tell(balance_text(told), balance_answer(told), output)


def _explain_denial(
    team: str, version: int, newest: int, asked: Moment, query: Mapping[str, object], output: Telling
) -> None:
    from api.explanations import denial_answer
    from projections.explain_denial import denial_text

    places = ("accounts", team, "denials", str(version), "explanation")
    if _told_elsewhere(output, places, {**query, "newest": newest}):
        return
    with wired() as wiring:
        told, position = wiring.ask(lambda queries: queries.audits.denial(team, version, asked, newest))
    _tell(denial_text(told), denial_answer(told, position), output)


def _tell(text: str, answer: BaseModel, output: Telling) -> None:
    if output is Telling.text:
        typer.echo(text, nl=False)
    else:
        show(answer, Output.json)


_STEP_COLUMNS = (
    "version",
    "recorded_at",
    "effective_at",
    "kind",
    "amount",
    "settled_after",
    "available_after",
    "held_after",
    "debt_after",
    "words",
)


def _print_listed(steps: Iterator[dict[str, Any]], after: int, limit: int, output: Output) -> int | None:
    """Steps of the API are printed as they come; returns the last version printed when the limit left some out."""
    printer = _Printer(output)
    shown, last = 0, None
    for step in steps:
        # The API continues a list where its own cursor says; a version is found by going there.
        if int(step["version"]) <= after:
            continue
        if limit and shown == limit:
            printer.end()
            return last
        printer.add(step)
        shown, last = shown + 1, int(step["version"])
    printer.end()
    return None


async def _print_steps(
    audits: Audits, team: str, asked: ReplayFilter, after: int, limit: int, output: Output
) -> int | None:
    """Steps are printed as they are folded; returns the last version printed when the limit left some out."""
    printer = _Printer(output)
    shown, last = 0, None
    async for step in _lines(audits, team, asked, after):
        if limit and shown == limit:
            printer.end()
            return last
        printer.add(step)
        shown, last = shown + 1, int(step["version"])
    printer.end()
    return None


async def _lines(audits: Audits, team: str, asked: ReplayFilter, after: int) -> AsyncIterator[dict[str, Any]]:
    from api.answers_audits import ReplayLine

    async for step in audits.steps(team, asked, after=after):
        yield ReplayLine.of(step).model_dump(mode="json")


class _Printer:
    """Prints rows as they come, with at most ``TABLE_ROWS`` of them in memory."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._rows: list[dict[str, Any]] = []
        self._is_begun = False

    def add(self, row: dict[str, Any]) -> None:
        """One row more."""
        self._rows.append(row)
        if len(self._rows) == TABLE_ROWS:
            self._flush()

    def end(self) -> None:
        """Nothing follows."""
        if self._rows or not self._is_begun:
            self._flush()
        if self._output is Output.json:
            typer.echo("\n]" if self._is_begun else "[]")

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        if self._output is Output.json:
            for row in rows:
                typer.echo(
                    (",\n" if self._is_begun else "[\n") + json.dumps(row, ensure_ascii=False), nl=False
                )
                self._is_begun = True
            return
        if self._output is Output.jsonl and rows:
            # One write for all: a history has many lines.
            typer.echo("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
        else:
            show_rows(rows, self._output, _STEP_COLUMNS, header=not self._is_begun)
        self._is_begun = True
