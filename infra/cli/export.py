"""The command that writes the books for other programs to check."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from infra.cli.session import DIFFERENCE, Ticker, checked_team, note, wired

if TYPE_CHECKING:
    from projections.books import BookEntry
    from projections.replay import EventSource

CUT_SHORT = "\n    these books were cut short, and this is no line of books, so that nobody accepts them"


class BooksFormat(StrEnum):
    """The program that shall check the books."""

    hledger = "hledger"
    ledger = "ledger"
    beancount = "beancount"


def export(
    teams: Annotated[
        list[str] | None, typer.Argument(metavar="TEAM", help="The teams.", show_default=False)
    ] = None,
    style: Annotated[
        BooksFormat, typer.Option("--format", help="The program that shall check them.")
    ] = BooksFormat.hledger,
    everyone: Annotated[bool, typer.Option("--all", help="Every team of the ledger.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", dir_okay=False, help="The file; standard output by default.", show_default=False
        ),
    ] = None,
) -> None:
    """Write the books of teams as double entry that hledger, ledger or beancount check, our balances asserted.

    Check them with `hledger -f books.journal check --strict`, `ledger --pedantic -f books.journal balance` or
    `bean-check books.beancount`: each says where a balance is not the claimed one. Amounts are whole micro-credits. Exit 1 where
    a history can not be followed.

    Example: coffer export acme --format hledger --out books.journal
    """
    from domain.errors import Malformed, UnknownTeam
    from infra.postgres.histories import PostgresEvents
    from projections.books import NotFoldable
    from projections.books_files import CHECKS, lines_of

    if everyone == bool(teams):
        raise Malformed("name the teams whose books you want, or say --all for every team")
    asked = list(dict.fromkeys(checked_team(each) for each in teams or ()))
    with wired() as wiring:
        source = PostgresEvents(wiring.shards)
        chosen = asked or list(source.team_ids())
        for team in asked:
            if not source.has(team):
                raise UnknownTeam(f"team {team!r} has no account")
        told = _Told(len(chosen))
        try:
            with _written(out) as file:
                file.writelines(f"{line}\n" for line in lines_of(told.entries(source, chosen), style.value))
        except NotFoldable as broken:
            note(f"no books: {broken}; `coffer verify --team {broken.team_id}` says more")
            raise typer.Exit(DIFFERENCE) from broken
    where = str(out) if out else "FILE"
    note(
        f"{told.teams:,} teams, {told.written:,} entries, {told.postings:,} postings;"
        f" check them with: {CHECKS[style.value].replace('FILE', where)}"
    )


class _Told:
    """Counts what goes out, and says so to whoever waits."""

    def __init__(self, of_teams: int) -> None:
        self.teams = self.written = self.postings = 0
        self._of_teams, self._ticker = of_teams, Ticker()

    def entries(self, source: EventSource, teams: list[str]) -> Iterator[BookEntry]:
        """The books of the teams, one after another."""
        from projections.books import entries

        for team in teams:
            for entry in entries(source, team):
                self.written += 1
                self.postings += len(entry.postings)
                self._ticker.tell(f"{self.teams} of {self._of_teams} teams, {self.written} entries")
                yield entry
            self.teams += 1


@contextmanager
def _written(out: Path | None) -> Iterator[TextIO]:
    """Where the books go: a file that appears once it is complete, or standard output, unreadable if it is not."""
    if out is None:
        try:
            yield sys.stdout
        except Exception:
            typer.echo(CUT_SHORT)
            raise
        return
    part = out.with_name(f"{out.name}.part")
    try:
        with part.open("w", encoding="ascii") as file:
            yield file
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
