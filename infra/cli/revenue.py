"""The command that tells deferred revenue, and writes the journal of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.cli.session import (
    Output,
    OutputOption,
    Ticker,
    checked_team,
    note,
    path_of,
    reached,
    show_rows,
    wired,
)

if TYPE_CHECKING:
    from projections.replay import EventSource
    from projections.revenue import RollForward, TeamFlow


def revenue(
    teams: Annotated[
        list[str] | None,
        typer.Argument(metavar="TEAM", help="The teams; every team by default.", show_default=False),
    ] = None,
    by_team: Annotated[bool, typer.Option("--by-team", help="Each team for itself.")] = False,
    journal: Annotated[
        Path | None,
        typer.Option(
            "--journal",
            dir_okay=False,
            help="Also write a journal that hledger or ledger check to this file.",
            show_default=False,
        ),
    ] = None,
    output: OutputOption = Output.table,
) -> None:
    """Tell deferred revenue: opening + sold - used - breakage - refunded = closing, by issuer, currency and period.

    From the cost basis of the lots that were bought, in minor units without tax. A period is named by the month of its start in
    the team's zone; an event counts in the period on whose invoice it is. What is not closed may still change.

    Example: coffer revenue -o csv --journal revenue.journal
    """
    from domain.errors import UnknownTeam
    from infra.postgres.histories import PostgresEvents
    from projections.revenue import rolled_forward
    from projections.revenue_files import revenue_journal

    asked = list(dict.fromkeys(checked_team(each) for each in teams or ()))
    api = reached()
    if api is not None and len(asked) == 1 and journal is None and not by_team:
        told = api.read(path_of("accounts", asked[0], "revenue")).json()
        show_rows(told["data"], output)
        return
    with wired() as wiring:
        source = PostgresEvents(wiring.shards)
        for team in asked:
            if not source.has(team):
                raise UnknownTeam(f"team {team!r} has no account")
        chosen = asked or list(source.team_ids())
        flows = list(_flows(source, chosen))
    rows = rolled_forward(flows)
    if journal is not None:
        part = journal.with_name(f"{journal.name}.part")
        part.write_text("".join(f"{line}\n" for line in revenue_journal(rows)), encoding="ascii")
        part.replace(journal)
        note(f"{len(rows):,} entries; check them with: hledger -f {journal} check --strict")
    show_rows(_by_team(flows) if by_team else map(_row, rows), output)


def _flows(source: EventSource, teams: list[str]) -> Iterator[TeamFlow]:
    from projections.revenue import team_flows

    ticker = Ticker()
    for number, team in enumerate(teams):
        ticker.tell(f"{number} of {len(teams)} teams")
        yield from team_flows(source, team)


def _by_team(flows: list[TeamFlow]) -> Iterator[dict[str, object]]:
    from itertools import groupby

    from projections.revenue import rolled_forward

    for team, its in groupby(flows, key=lambda each: each.team_id):
        for row in rolled_forward(its):
            yield {"team": team, **_row(row)}


def _row(row: RollForward) -> dict[str, object]:
    import msgspec

    return msgspec.structs.asdict(row)
