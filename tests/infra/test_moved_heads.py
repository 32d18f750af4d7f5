"""Accounts that others moved while a batch was decided: they alone are decided anew, in the batch's own transaction."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from consumers.batches import UsageBatch
from consumers.usage import settle_reads
from domain.account.decision import account_id
from domain.account.events import AccountEvent, CreditsCharged, RecordedEvent
from domain.commands import CloseAccount, Command, GrantCredits, PlaceHold
from infra.postgres.application import LedgerApplication
from infra.postgres.batch_writer import PostgresBatchStore, PostgresBatchTransaction
from infra.postgres.shards import ShardMap
from tests.consumers.batch_stories import NOW, PARTITIONS, a_card, a_read, a_record
from tests.infra.stored import execute, opened, rows

TEAMS = ("acme", "borealis", "cygnus", "zebra")


class Watched:
    """The store, with somebody who acts after a batch was decided and before it is written; counts its transactions."""

    def __init__(self, shards: ShardMap) -> None:
        self.store = PostgresBatchStore(shards, clock=lambda _: NOW)
        self.store.register(PARTITIONS[0], 0)
        self.meanwhile: Callable[[], object] | None = None
        self.begun = 0

    @contextmanager
    def transaction(self) -> Iterator[PostgresBatchTransaction]:
        self.begun += 1
        with self.store.transaction() as transaction:
            write = transaction.write

            def write_late(batch: UsageBatch) -> None:
                meanwhile, self.meanwhile = self.meanwhile, None
                if meanwhile is not None:
                    meanwhile()
                write(batch)

            transaction.write = write_late  # type: ignore[method-assign]
            yield transaction


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url)
    opened(shards, *TEAMS)
    yield shards
    shards.close()


@pytest.fixture
def watched(shards: ShardMap) -> Iterator[Watched]:
    watched = Watched(shards)
    yield watched
    watched.store.close()


def events(shards: ShardMap, team_id: str) -> list[AccountEvent]:
    with LedgerApplication(shards, shards.shard_of(team_id)) as application:
        stored = application.events.get(account_id(team_id))
        return [each.event for each in stored if isinstance(each, RecordedEvent)]


def settled(shards: ShardMap, team_id: str) -> int:
    with LedgerApplication(shards, shards.shard_of(team_id)) as application:
        return application.account(team_id).settled_micros


def during(watched: Watched, shards: ShardMap, *commands: Command) -> None:
    watched.meanwhile = lambda: [execute(shards, command) for command in commands]


def test_an_account_that_a_command_moved_is_decided_anew_without_the_rest_of_the_batch(
    database_url: str, shards: ShardMap, watched: Watched
) -> None:
    records = [a_record(n, f"u{n}", 2, team=TEAMS[n % 4], context=b'{"n":1}') for n in range(12)]
    during(watched, shards, GrantCredits(team_id="borealis", amount_micros=5_000_000))

    settle_reads(watched, [a_read(*records)], a_card())  # type: ignore[arg-type]

    assert watched.begun == 1
    assert [settled(shards, team) for team in TEAMS] == [994_000_000, 999_000_000, 994_000_000, 994_000_000]
    assert watched.store.next_offset(PARTITIONS[0]) == 12
    assert rows(database_url, "SELECT outcomes FROM consumed_batch") == [({"charged": {"": 12}},)]
    # Positions have no gap, and every stored context is the one that its event tells the digest of.
    for positions, last in rows(
        database_url,
        "SELECT array_agg(e.position ORDER BY e.position), l.position FROM ledger_events AS e"
        " JOIN shard_log AS l USING (shard) GROUP BY l.shard, l.position",
    ):
        assert positions == list(range(1, last + 1))
    told = {
        event.charge_id: event.context_digest
        for team in TEAMS
        for event in events(shards, team)
        if isinstance(event, CreditsCharged)
    }
    kept = rows(database_url, "SELECT usage_key, salt, context FROM usage_context")
    assert {key.hex: hashlib.sha256(salt + context).hexdigest() for key, salt, context in kept} == told


def test_several_moved_accounts_are_decided_anew_together_and_kept_as_they_are_now(
    shards: ShardMap, watched: Watched
) -> None:
    first = [a_record(n, f"u{n}", team=TEAMS[n % 4]) for n in range(8)]
    second = [a_record(n, f"u{n}", team=TEAMS[n % 4]) for n in range(8, 16)]
    third = [a_record(n, f"u{n}", team=TEAMS[n % 4]) for n in range(16, 24)]
    settle_reads(watched, [a_read(*first)], a_card())  # type: ignore[arg-type]
    during(
        watched,
        shards,
        PlaceHold(team_id="zebra", action="image.generate", amount_micros=7_000_000),
        GrantCredits(team_id="acme", amount_micros=1_000_000),
    )

    settle_reads(watched, [a_read(*second)], a_card())  # type: ignore[arg-type]
    settle_reads(watched, [a_read(*third)], a_card())  # type: ignore[arg-type]

    assert watched.begun == 3
    assert [settled(shards, team) for team in TEAMS] == [995_000_000, *[994_000_000] * 3]


def test_a_moved_account_with_a_duplicate_makes_the_whole_batch_decide_again(
    database_url: str, shards: ShardMap, watched: Watched
) -> None:
    """The row of a duplicate names a version, which is another one now."""
    settle_reads(watched, [a_read(a_record(0, "u0"))], a_card())  # type: ignore[arg-type]
    records = [a_record(1, "u1"), a_record(2, "u1"), a_record(3, "u3", team="zebra")]
    during(watched, shards, GrantCredits(team_id="acme", amount_micros=1_000_000))

    settle_reads(watched, [a_read(*records)], a_card())  # type: ignore[arg-type]

    assert watched.begun == 3
    assert settled(shards, "acme") == 999_000_000
    ((first,),) = rows(database_url, "SELECT first_version FROM usage_outcome WHERE outcome = 'duplicate'")
    assert getattr(events(shards, "acme")[first - 1], "id", None) == "u1"


def test_an_account_closed_meanwhile_parks_its_records_and_costs_no_other(
    database_url: str, shards: ShardMap, watched: Watched
) -> None:
    records = [a_record(0, "u0"), a_record(1, "u1", team="zebra")]
    during(watched, shards, CloseAccount(team_id="acme"))

    settle_reads(watched, [a_read(*records)], a_card())  # type: ignore[arg-type]

    assert watched.begun == 2
    assert rows(database_url, "SELECT outcome, team_id FROM usage_outcome") == [("parked", "acme")]
    assert settled(shards, "zebra") == 999_000_000
