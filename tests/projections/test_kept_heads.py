"""What is kept of accounts changes no answer: with it, without it, dropped meanwhile, made twice; a wrong one is named."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import partial
from threading import Thread
from time import monotonic, sleep
from typing import Any, NamedTuple, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner
from typing_extensions import override

from api.cursors import Cursors
from api.moments import Moment
from api.ports import StoredEvent
from api.queries import Queries
from domain.account.events import (
    ChargeDisputeOpened,
    ChargeRefunded,
    CreditsHeld,
    CreditsToppedUp,
    HoldDenied,
)
from domain.catalogue import Catalogue
from domain.errors import LedgerError
from infra.cli.main import app
from infra.postgres import kept_heads
from infra.postgres.account_reads import AsyncShards, PostgresAccountReads
from infra.postgres.due_teams import DueTeams
from infra.postgres.histories import PostgresEvents
from infra.postgres.kept_heads import Keeper, KeptSoFar, drop_kept
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.read_models import PostgresStatement
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from infra.project import ProjectorLoop
from infra.tick import TickLoop
from projections.diff import Moment as DiffMoment
from projections.keeping import KEPT_SCHEMA, KeptAccount, KeptKind
from projections.replay import WHOLE, ReplayStep, account_at_version
from tests.builders import AnAccount
from tests.conftest import database_of, fresh_database
from tests.projections.ledgers import AStoredAccount, a_ledger, tamper
from tests.projections.lives import a_life

T = TypeVar("T")
EVERY = 7
SEEDS = (3, 4)
STEPS = 200


class _NothingKept(PostgresAccountReads):
    """Reads that know of nothing that is kept."""

    @override
    async def kept(self, team_id: str, version: int) -> KeptAccount | None:
        return None


class _WholeStream(_NothingKept):
    """Reads that find refunds by looking through the whole stream."""

    @override
    async def refunds(self, team_id: str, charge_id: str, after: int) -> list[StoredEvent]:
        stored = await self.events(team_id, after=after, limit=10_000)
        return [
            each
            for each in stored
            if isinstance(each.event, ChargeRefunded) and each.event.charge_id == charge_id
        ]


class _DroppedMeanwhile(PostgresAccountReads):
    """Reads that find an account kept, of which nothing is left a moment later."""

    @override
    async def kept_entries(
        self, team_id: str, version: int, kind: KeptKind, keys: Collection[str]
    ) -> dict[str, bytes] | None:
        return await super().kept_entries(team_id, -version, kind, keys)

    @override
    async def kept_latest(self, team_id: str, version: int, kind: KeptKind, **bounds: Any) -> Any:
        return await super().kept_latest(team_id, -version, kind, **bounds)


class _Published:
    """No catalogue is asked for."""

    def current(self) -> Catalogue:
        raise AssertionError("the past needs no catalogue")


class Asked:
    """One ledger, asked with one kind of reads."""

    def __init__(self, shards: ShardMap, url: str, now: datetime, reads: type[PostgresAccountReads]) -> None:
        self._shards, self._url, self._now, self._reads = shards, url, now, reads

    def __call__(self, question: Callable[[Queries], Awaitable[T]]) -> T:
        """The answer."""

        async def answer() -> T:
            pool = AsyncShards(self._url, self._shards.count, connections_max=1)
            reads = self._reads(pool, now=lambda: self._now)
            queries = Queries(
                reads, PostgresStatement(self._shards), _Published(), Cursors(b"k" * 32), [b"k" * 32]
            )
            try:
                return await question(queries)
            finally:
                await pool.close()

        return asyncio.run(answer())


class Life(NamedTuple):
    """A lived account, the shards of its ledger and the address of its database."""

    shards: ShardMap
    url: str
    account: AnAccount

    def asked(self, reads: type[PostgresAccountReads] = PostgresAccountReads) -> Asked:
        return Asked(self.shards, self.url, self.account.account.recorded_at + timedelta(days=3), reads)


@contextmanager
def a_kept_life(server_url: str, template: str, seed: int) -> Iterator[tuple[str, AnAccount]]:
    """A database with a whole life of every command, kept at every seventh version; nobody is connected to it."""
    with fresh_database(server_url, template) as url:
        with opened(url) as shards:
            account = a_life(seed, STEPS, partial(AStoredAccount, shards))
            ProjectorLoop(shards).catch_up()
            Keeper(shards, every=EVERY).keep_all()
        yield url, account


@pytest.fixture(scope="module", params=SEEDS)
def lived(
    request: pytest.FixtureRequest, server_url: str, migrated_template: str
) -> Iterator[tuple[str, AnAccount]]:
    """Several lives, for what must hold of any."""
    with a_kept_life(server_url, migrated_template, request.param) as kept:
        yield kept


@pytest.fixture(scope="module")
def lived_once(server_url: str, migrated_template: str) -> Iterator[tuple[str, AnAccount]]:
    """One life, to be copied."""
    with a_kept_life(server_url, migrated_template, SEEDS[0]) as kept:
        yield kept


@pytest.fixture
def life(lived: tuple[str, AnAccount]) -> Iterator[Life]:
    """That ledger, to be read."""
    url, account = lived
    with opened(url) as shards:
        yield Life(shards, url, account)


@pytest.fixture
def copied(server_url: str, lived_once: tuple[str, AnAccount]) -> Iterator[Life]:
    """A copy of a lived ledger, to be spoilt."""
    url, account = lived_once
    with fresh_database(server_url, database_of(url)) as copy, opened(copy) as shards:
        yield Life(shards, copy, account)


@contextmanager
def opened(url: str) -> Iterator[ShardMap]:
    shards = ShardMap(url, application_name="coffer tests")
    try:
        yield shards
    finally:
        shards.close()


async def told(question: Awaitable[object]) -> object:
    """The answer, or how it was refused."""
    try:
        return await question
    except LedgerError as error:
        return type(error), str(error)


async def everything(queries: Queries, account: AnAccount, moment: Moment) -> list[object]:
    """Every question that can be asked about a moment of the account."""
    accounts, audits = queries.accounts, queries.audits
    denials = [place for place, event in enumerate(account.events, 1) if isinstance(event, HoldDenied)]
    questions: list[Awaitable[object]] = [
        accounts.account("acme", moment),
        accounts.balance("acme", moment),
        accounts.lots("acme", moment),
        accounts.holds("acme", moment),
        accounts.limits("acme", moment),
        accounts.plan("acme", moment),
        accounts.auto_top_up("acme", moment),
        accounts.chargebacks("acme", moment),
        accounts.disputes("acme", moment),
        *(accounts.hold("acme", each.hold_id, moment) for each in account.events_of(CreditsHeld)[:4]),
        *(
            accounts.top_up("acme", each.payment_reference, moment)
            for each in account.events_of(CreditsToppedUp)[:4]
        ),
        *(
            accounts.dispute("acme", each.dispute_id, moment)
            for each in account.events_of(ChargeDisputeOpened)[:2]
        ),
        *(audits.balance("acme", moment, newest) for newest in (0, 30)),
        *(audits.charge("acme", each.charge_id, moment) for each in account.events_of(ChargeRefunded)[:4]),
        *(audits.denial("acme", version, moment, 3) for version in denials[::6]),
    ]
    return [await told(question) for question in questions]


# Drawn: how much of the life has passed, and how long after its event the question is asked.
PLACES = st.integers(min_value=0, max_value=10**6)
LATER = st.sampled_from([timedelta(0), timedelta(microseconds=1), timedelta(hours=30), timedelta(days=40)])


def moment_of(account: AnAccount, place: int, later: timedelta | None) -> Moment:
    """The version at that place of the life, or (with ``later``) an instant after its event."""
    version = place % len(account.events) + 1
    if later is None:
        return Moment(at_version=version)
    return Moment(as_of=account.events[version - 1].recorded_at + later)


@given(place=PLACES, later=st.none() | LATER)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_i9_the_past_reads_the_same_from_what_was_kept_as_from_the_first_event(
    life: Life, place: int, later: timedelta | None
) -> None:
    moment = moment_of(life.account, place, later)

    answers = life.asked()(lambda queries: everything(queries, life.account, moment))

    assert answers == life.asked(_WholeStream)(lambda queries: everything(queries, life.account, moment))


@given(first=PLACES, last=PLACES, later=st.none() | LATER)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_i9_a_difference_is_the_same_from_what_was_kept(
    life: Life, first: int, last: int, later: timedelta | None
) -> None:
    def side(place: int) -> DiffMoment:
        moment = moment_of(life.account, place, later)
        return DiffMoment(version=moment.at_version, at=moment.as_of)

    def difference(queries: Queries) -> Awaitable[object]:
        return told(queries.audits.diff("acme", side(first), side(last)))

    assert life.asked()(difference) == life.asked(_WholeStream)(difference)


def test_every_kept_account_is_the_fold_of_its_events(life: Life) -> None:
    source = PostgresEvents(life.shards)

    kept = kept_rows(life.shards, "SELECT version, state FROM kept_head ORDER BY version")

    assert [version for version, _ in kept] == list(range(EVERY, len(life.account.events) + 1, EVERY))
    for version, state in kept:
        folded = msgspec.json.encode(account_at_version(source, "acme", version))
        assert state.startswith(folded[:-1] + b',"mac":"')


def test_steps_after_a_version_are_those_of_the_whole_replay(life: Life) -> None:
    async def steps_after(after: int, queries: Queries) -> list[ReplayStep]:
        return [step async for step in queries.audits.steps("acme", WHOLE, after=after)]

    whole = life.asked(_WholeStream)(partial(steps_after, 0))

    for after in (1, EVERY, EVERY + 1, 100):
        assert life.asked()(partial(steps_after, after)) == whole[after:]


def test_what_is_dropped_between_two_readings_is_folded_again(life: Life) -> None:
    for place in (20, 90, 170):
        moment = moment_of(life.account, place, timedelta(hours=30))
        question = partial(everything, account=life.account, moment=moment)

        assert life.asked(_DroppedMeanwhile)(question) == life.asked(_WholeStream)(question)


# --- made, dropped, made again ---


def kept_rows(shards: ShardMap, query: str) -> list[tuple[Any, ...]]:
    with shards.own_connection_for(0) as connection:
        return connection.execute(query.encode()).fetchall()


ALL_HEADS = "SELECT team_id, version, position, chain_hash, state, kept_schema FROM kept_head ORDER BY 1, 2"
ALL_ENTRIES = "SELECT * FROM kept_entry ORDER BY 1, 2, 3, 4, 5"


def test_what_was_dropped_is_made_again_and_in_between_nothing_is_missed(copied: Life) -> None:
    heads, entries = kept_rows(copied.shards, ALL_HEADS), kept_rows(copied.shards, ALL_ENTRIES)
    moment = moment_of(copied.account, 150, timedelta(hours=1))
    before = copied.asked()(lambda queries: everything(queries, copied.account, moment))

    drop_kept(copied.shards)

    assert kept_rows(copied.shards, ALL_HEADS) == kept_rows(copied.shards, ALL_ENTRIES) == []
    assert copied.asked()(lambda queries: everything(queries, copied.account, moment)) == before
    made = Keeper(copied.shards, every=EVERY).keep_all()
    assert made.snapshots == len(heads) > 20
    assert kept_rows(copied.shards, ALL_HEADS) == heads
    assert kept_rows(copied.shards, ALL_ENTRIES) == entries


def test_a_second_run_finds_nothing_to_do(life: Life) -> None:
    assert Keeper(life.shards, every=EVERY).keep_all() == KeptSoFar()


@pytest.mark.parametrize("missing", ["version > 50", "version = 49", "version < 60", "true"])
def test_rows_deleted_by_hand_are_made_again_where_the_account_goes_on(copied: Life, missing: str) -> None:
    heads, entries = kept_rows(copied.shards, ALL_HEADS), kept_rows(copied.shards, ALL_ENTRIES)
    shard = copied.shards.shard_of("acme")
    tamper(copied.shards, shard, f"DELETE FROM kept_head WHERE {missing}")
    tamper(copied.shards, shard, "UPDATE kept_place SET position = 0")

    Keeper(copied.shards, every=EVERY).keep_all()

    assert kept_rows(copied.shards, ALL_HEADS) == heads
    assert kept_rows(copied.shards, ALL_ENTRIES) == entries


def test_rows_of_an_older_schema_are_ignored_and_made_again(copied: Life) -> None:
    heads, entries = kept_rows(copied.shards, ALL_HEADS), kept_rows(copied.shards, ALL_ENTRIES)
    shard, older = copied.shards.shard_of("acme"), KEPT_SCHEMA - 1
    tamper(copied.shards, shard, "UPDATE kept_head SET kept_schema = %s, state = 'older'", older)
    tamper(copied.shards, shard, "UPDATE kept_entry SET entry = 'older'")
    tamper(copied.shards, shard, "UPDATE kept_place SET kept_schema = %s", older)
    moment = moment_of(copied.account, 150, timedelta(hours=1))
    expected = copied.asked(_WholeStream)(lambda queries: everything(queries, copied.account, moment))
    assert copied.asked()(lambda queries: everything(queries, copied.account, moment)) == expected

    Keeper(copied.shards, every=EVERY).keep_all()

    assert kept_rows(copied.shards, ALL_HEADS) == heads
    assert kept_rows(copied.shards, ALL_ENTRIES) == entries


def test_rows_of_a_newer_schema_are_left_to_newer_code(copied: Life) -> None:
    shard, newer = copied.shards.shard_of("acme"), KEPT_SCHEMA + 1
    tamper(copied.shards, shard, "UPDATE kept_head SET kept_schema = %s", newer)
    tamper(copied.shards, shard, "UPDATE kept_place SET kept_schema = %s, position = 0", newer)
    heads = kept_rows(copied.shards, ALL_HEADS)

    assert Keeper(copied.shards, every=EVERY).keep_all() == KeptSoFar()

    assert kept_rows(copied.shards, ALL_HEADS) == heads


def test_an_account_kept_of_another_history_is_passed_over(copied: Life) -> None:
    shard = copied.shards.shard_of("acme")
    tamper(copied.shards, shard, "UPDATE kept_head SET chain_hash = '\\x00', state = 'another history'")

    moment = moment_of(copied.account, 150, None)

    assert copied.asked()(lambda queries: everything(queries, copied.account, moment)) == copied.asked(
        _WholeStream
    )(lambda queries: everything(queries, copied.account, moment))


def test_j5_an_account_kept_of_the_past_that_was_edited_is_passed_over(copied: Life) -> None:
    """Each says that ten times as much was settled, or more; the past reads as from the first event all the same."""
    with copied.shards.own_connection_for(0) as connection:
        connection.execute(
            "UPDATE kept_head SET state = convert_to(replace(convert_from(state, 'UTF8'), '\"settled_micros\":',"
            " '\"settled_micros\":1'), 'UTF8')"
        )

    for place in (20, 90, 170):
        moment = moment_of(copied.account, place, timedelta(hours=30))
        question = partial(everything, account=copied.account, moment=moment)

        assert copied.asked()(question) == copied.asked(_WholeStream)(question)


def test_many_keepers_at_once_make_each_snapshot_once_while_the_ledger_is_written(
    shards: ShardMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_heads, "LOOK_POSITIONS", 20)
    teams = a_ledger(shards, teams=["acme", "beta", "gamma"], steps=40)

    def keep() -> KeptSoFar:
        told = KeptSoFar()
        for _ in range(6):
            told = told.plus(Keeper(shards, every=5).keep_all())
        return told

    with ThreadPoolExecutor(5) as pool:
        runs = [pool.submit(keep) for _ in range(4)]
        for number in range(3):
            for team in teams.values():
                team.live(number + 2, 15)
        made = [run.result() for run in runs]
    made.append(Keeper(shards, every=5).keep_all())

    versions = [
        (team_id, version)
        for team_id, team in sorted(teams.items())
        for version in range(5, team.version + 1, 5)
    ]
    assert kept_rows(shards, "SELECT team_id, version FROM kept_head ORDER BY 1, 2") == versions
    assert sum(each.snapshots for each in made) == len(versions)
    assert all(each.failed == 0 for each in made)
    entries = kept_rows(shards, ALL_ENTRIES)
    drop_kept(shards)
    Keeper(shards, every=5).keep_all()
    assert kept_rows(shards, ALL_ENTRIES) == entries


def test_a_tick_process_keeps_accounts_in_the_time_it_has_left(copied: Life) -> None:
    heads = kept_rows(copied.shards, ALL_HEADS)
    drop_kept(copied.shards)
    store, due = PostgresLedgerStore(copied.shards), _NobodyDue(copied.shards)
    loop = TickLoop(store, due, every_seconds=0.2, keeper=Keeper(copied.shards, every=EVERY))

    ticking = Thread(target=loop.run)
    ticking.start()
    until = monotonic() + 60
    while len(kept_rows(copied.shards, ALL_HEADS)) < len(heads) and monotonic() < until:
        sleep(0.05)
    loop.stop()
    ticking.join(60)

    assert not ticking.is_alive()
    assert kept_rows(copied.shards, ALL_HEADS) == heads


def test_the_command_makes_and_drops_snapshots(copied: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COFFER_DATABASE_URL", copied.url)
    run = CliRunner().invoke

    assert run(app, ["snapshots", "--drop"]).exit_code == 0
    assert kept_rows(copied.shards, ALL_HEADS) == kept_rows(copied.shards, ALL_ENTRIES) == []
    made = run(app, ["snapshots", "-o", "json"])

    assert made.exit_code == 0
    # The life is shorter than a thousand events.
    assert json.loads(made.stdout)["snapshots"] == 0


class _NobodyDue(DueTeams):
    """No time has passed that this test tells of."""

    @override
    def teams(self) -> Iterator[str]:
        return iter(())


# --- verified ---


def test_verify_finds_nothing_in_what_is_kept(life: Life) -> None:
    told = verify(life.shards)

    assert told.findings == []
    assert kept_rows(life.shards, "SELECT count(*) FROM kept_head") != [(0,)]


FIRST_ENTRY = "version = 49 AND (kind, key) = (SELECT kind, key FROM kept_entry WHERE version = 49 ORDER BY 1, 2 LIMIT 1)"
SPOILT = [
    ("UPDATE kept_head SET position = position + 1 WHERE version = 49", "kept_head", "position"),
    ("UPDATE kept_head SET chain_hash = '\\x00' WHERE version = 49", "kept_head", "chain_hash"),
    (
        "UPDATE kept_head SET recorded_at = recorded_at + interval '1 s' WHERE version = 49",
        "kept_head",
        "recorded_at",
    ),
    (
        "UPDATE kept_head SET state = (SELECT state FROM kept_head WHERE version = 42) WHERE version = 49",
        "kept_head",
        "state.recorded_at",
    ),
    ("UPDATE kept_head SET state = 'nothing' WHERE version = 49", "kept_head", "state"),
    (f"UPDATE kept_entry SET entry = 'other' WHERE {FIRST_ENTRY}", "kept_entry", None),
    (f"DELETE FROM kept_entry WHERE {FIRST_ENTRY}", "kept_entry", None),
    (
        "INSERT INTO kept_entry SELECT shard, team_id, 'lot', 'lot-0', version, NULL FROM kept_head WHERE version = 49",
        "kept_entry",
        "lot lot-0",
    ),
]


@pytest.mark.parametrize(("spoil", "table", "what"), SPOILT)
def test_verify_names_what_is_kept_wrong(copied: Life, spoil: str, table: str, what: str | None) -> None:
    shard = copied.shards.shard_of("acme")
    assert tamper(copied.shards, shard, spoil) == 1

    (finding,) = verify(copied.shards).findings

    assert (finding.table, finding.team_id, finding.version) == (table, "acme", 49)
    assert what is None or finding.what == what


def test_verify_names_what_is_kept_of_a_version_that_is_not_there(copied: Life) -> None:
    shard = copied.shards.shard_of("acme")
    tamper(
        copied.shards,
        shard,
        "INSERT INTO kept_head SELECT shard, team_id, 7000, position, chain_hash, recorded_at, state, kept_schema"
        " FROM kept_head WHERE version = 49",
    )

    (finding,) = verify(copied.shards, team_id="acme").findings

    assert (finding.table, finding.version) == ("kept_head", 7_000)
