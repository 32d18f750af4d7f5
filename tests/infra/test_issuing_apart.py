"""An issuer whose shard lives in another database draws its numbers there first: one for each document, whoever dies (I14)."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from domain import commands as c
from domain.ledger import Caller, Ledger
from infra.closing import Closed
from infra.postgres.documents import PostgresDocuments
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.migrations import migrate_all
from infra.postgres.moving import move
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from infra.project import read_models
from tests.conftest import fresh_database
from tests.infra.invoicing import (
    CLOSED,
    a_seller,
    documents,
    gapless,
    invoiced,
    issued_events,
    months,
    numbers,
    start_closer,
)

SHARDS = 4
TEAMS = [f"studio-{number}" for number in range(1, 9)]


class Apart:
    """A ledger in two databases: the issuer's shard lives in the second, all others in the first."""

    def __init__(self, first: str, east: str) -> None:
        self.first, self.east = first, east
        migrate_all({"first": first, "east": east}, SHARDS)
        self.shards = ShardMap(first, others={"east": east})
        a_seller(self.shards)
        months(self.shards, TEAMS)
        move(self.shards, self.shards.shard_of("main"), "east", read_models())

    def elsewhere(self) -> list[str]:
        """The teams whose accounts live in another database than their issuer."""
        home = self.shards.home_of(self.shards.shard_of("main"))
        return [team for team in TEAMS if self.shards.home_of(self.shards.shard_of(team)) != home]

    def documents(self) -> list[str]:
        """The numbers of all documents, in both databases."""
        return sorted(invoice for url in (self.first, self.east) for invoice, _, _ in documents(url))


@pytest.fixture
def apart(server_url: str) -> Iterator[Apart]:
    with fresh_database(server_url, "template0") as first, fresh_database(server_url, "template0") as east:
        ledger = Apart(first, east)
        yield ledger
        ledger.shards.close()


def test_numbers_drawn_in_another_database_have_no_gap_and_each_has_its_document(apart: Apart) -> None:
    assert apart.elsewhere(), "some teams live apart from their issuer"

    done = invoiced(apart.shards)

    given = [number for number, _ in numbers(apart.east)]
    assert done == Closed(invoices=len(TEAMS), pdfs=len(TEAMS))
    assert gapless(given)
    assert apart.documents() == sorted(given)
    assert numbers(apart.first) == []
    assert verify(apart.shards).findings == []


@pytest.mark.parametrize("place", ["close.drawn_apart", "close.before_commit"])
def test_a_closer_that_dies_after_it_drew_apart_comes_back_to_the_same_number(
    apart: Apart, place: str
) -> None:
    struck = start_closer(apart.first, more=apart.east, failpoint=place)
    told, _ = struck.communicate(timeout=60)
    assert struck.returncode == -signal.SIGKILL, told
    drawn = numbers(apart.east)

    invoiced(apart.shards)

    given = numbers(apart.east)
    assert given[: len(drawn)] == drawn
    assert gapless([number for number, _ in given])
    assert apart.documents() == sorted(number for number, _ in given)
    issued = [number for url in (apart.first, apart.east) for number, _ in issued_events(url)]
    assert sorted(issued) == apart.documents()
    assert verify(apart.shards).findings == []


def test_a_command_that_is_repeated_has_the_number_that_it_drew(apart: Apart) -> None:
    invoiced(apart.shards)
    team = apart.elsewhere()[0]
    number = next(invoice for invoice, whose, _ in documents(apart.first) if whose == team)
    ledger = Ledger(PostgresLedgerStore(apart.shards, clock=lambda _: CLOSED))
    void = c.VoidInvoice(team_id=team, invoice=number, reason="wrong")

    answers = [ledger.execute(void, Caller("olga", "operator"), "once") for _ in range(2)]

    assert answers[0].invoice == answers[1].invoice == f"CO-2026-{len(TEAMS) + 1:06d}"
    assert gapless([number for number, _ in numbers(apart.east)])
    assert verify(apart.shards).findings == []


def test_documents_and_their_pdfs_move_with_their_shard_and_come_back(apart: Apart) -> None:
    invoiced(apart.shards)
    team = apart.elsewhere()[0]
    shard = apart.shards.shard_of(team)
    kept = PostgresDocuments(apart.shards)
    number = next(invoice for invoice, whose, _ in documents(apart.first) if whose == team)
    before = kept.pdf(team, number)

    move(apart.shards, shard, "east", read_models())
    there = kept.pdf(team, number)
    move(apart.shards, shard, "first", read_models())

    assert before is not None
    assert kept.pdf(team, number) == there == before
    assert verify(apart.shards).findings == []
    assert invoiced(apart.shards) == Closed()
