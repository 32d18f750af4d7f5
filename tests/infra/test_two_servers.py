"""A ledger on two PostgreSQL servers: shards move between them while they are written, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import psycopg
import pytest
from pydantic import ValidationError

from api.ports import AccountOnFile
from consumers.usage import decide_batch
from domain.account.decision import Decision, copy_of
from domain.account.funding import grant_credits
from domain.errors import Busy
from infra.failpoints import OF_MOVES
from infra.kafka.broker import describe_partitions
from infra.local.postgres import LocalPostgres
from infra.postgres.account_reads import AsyncShards, PostgresAccountReads
from infra.postgres.batch_stores import AnyTransaction, BatchStores
from infra.postgres.connections import ShardMoved
from infra.postgres.ledger_store import PostgresAccountSession, PostgresLedgerStore
from infra.postgres.migrations import InstallationMismatch, migrate, migrate_all
from infra.postgres.moving import MoveFailed, MoveRefused, forget, move, places
from infra.postgres.read_models import PostgresStatement
from infra.postgres.shards import ShardMap, WrongDatabase
from infra.postgres.stream_state import StreamState
from infra.postgres.verification import verify
from infra.project import ProjectorLoop, read_models
from infra.settings import Settings, shown
from infra.topics import Topic, create_topics, dead_letter_topic
from tests.builders import TESTER
from tests.conftest import MakeTopic, database_of, fresh_database
from tests.infra import two_servers
from tests.infra.two_servers import (
    CATALOGUE,
    GRANTED,
    PARTITIONS,
    SHARDS,
    TEAMS,
    Feed,
    Urls,
    consume,
    grant,
    start,
)
from tests.streams_on_kafka import Stream


@pytest.fixture(scope="module")
def second_server(run_directory: Path) -> Iterator[str]:
    server = LocalPostgres(run_directory / "second")
    yield server.start()
    server.stop()
    shutil.rmtree(run_directory / "second", ignore_errors=True)


@pytest.fixture(scope="module")
def template(server_url: str, second_server: str) -> Iterator[Urls]:
    """A ledger of two databases, each with two of four shards, and with every team open."""
    with fresh_database(server_url, "template0") as first, fresh_database(second_server, "template0") as east:
        urls = Urls(first, east)
        migrate_all({"first": first, "east": east}, SHARDS)
        shards = two_servers.opened(urls)
        two_servers.open_teams(shards)
        for shard in (1, 3):
            move(shards, shard, "east", read_models())
            forget(shards, shard, "first")
        shards.close()
        yield urls


@pytest.fixture
def urls(server_url: str, second_server: str, template: Urls) -> Iterator[Urls]:
    with (
        fresh_database(server_url, database_of(template.first)) as first,
        fresh_database(second_server, database_of(template.east)) as east,
    ):
        yield Urls(first, east)


@pytest.fixture
def shards(urls: Urls) -> Iterator[ShardMap]:
    shards = two_servers.opened(urls)
    yield shards
    shards.close()


def told(urls: Urls, query: str) -> list[tuple[object, ...]]:
    """What plain SQL says in both databases, of shards that live there."""
    rows: list[tuple[object, ...]] = []
    for url in urls:
        with psycopg.connect(url) as connection:
            rows += connection.execute(query.encode()).fetchall()
    return sorted(rows)


def homes(urls: Urls) -> list[tuple[object, ...]]:
    return told(urls, "SELECT shard FROM shard_log WHERE lives_here")


def check_books(urls: Urls, feed: Feed, grants: dict[str, int] | None = None) -> None:
    """Nothing is lost or doubled: every sum is that of the feed and the grants, counted apart, and everything agrees."""
    used, given = feed.used(), grants or {}
    assert told(
        urls,
        "SELECT team_id, settled_micros, debt_micros FROM account_balance JOIN shard_log USING (shard) WHERE lives_here",
    ) == sorted((team, (GRANTED + given.get(team, 0) - used[team]) * 1_000_000, 0) for team in TEAMS)
    claims = told(
        urls,
        "SELECT usage_key FROM ledger_events JOIN shard_log USING (shard) WHERE lives_here AND usage_key IS NOT NULL",
    )
    assert len(claims) == len(set(claims)) == feed.charges()
    offsets = told(
        urls, "SELECT part, next_offset FROM consumed JOIN shard_log USING (shard) WHERE lives_here"
    )
    assert offsets == [(part, feed.length) for part in range(SHARDS)] * bool(feed.length)
    counted = told(
        urls,
        "SELECT shard, l.position, count(*), max(e.position) FROM shard_log l JOIN ledger_events e USING (shard)"
        " WHERE lives_here GROUP BY 1, 2",
    )
    assert [shard for shard, *_ in counted] == list(range(SHARDS))
    assert all(position == count == last for _, position, count, last in counted)
    shards = two_servers.opened(urls)
    try:
        ProjectorLoop(shards).catch_up()
        verified = verify(shards)
        assert verified.findings == []
        assert verified.teams == len(TEAMS)
        assert verified.events_in_log == verified.events
    finally:
        shards.close()


@contextmanager
def beside(*work: Callable[[], None]) -> Iterator[None]:
    """The work goes on while the block runs, and has ended well when it is left."""
    failed: list[BaseException] = []

    def run(each: Callable[[], None]) -> None:
        try:
            each()
        except BaseException as error:  # noqa: BLE001 - raised below, in the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=run, args=(each,)) for each in work]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for thread in threads:
            thread.join(60)
    if failed:
        raise failed[0]


def granting(urls: Urls, name: str, times: int, given: dict[str, int]) -> None:
    """Commands of the API, one after the other over all teams."""
    shards = two_servers.opened(urls)
    try:
        for number in range(times):
            team = TEAMS[number % len(TEAMS)]
            grant(shards, team, f"{name} {number}")
            given[team] = given.get(team, 0) + 1
    finally:
        shards.close()


# --- the whole of it ---


def test_shards_move_while_workers_projectors_and_commands_write_i4_i5_i7(
    urls: Urls, shards: ShardMap
) -> None:
    feed, given = Feed(240), dict[str, int]()
    following = two_servers.opened(urls)
    projector = ProjectorLoop(following, poll_seconds=0.1)

    with beside(
        lambda: consume(urls, feed, PARTITIONS[:2]),
        lambda: consume(urls, feed, PARTITIONS[2:]),
        lambda: granting(urls, "grant", 120, given),
    ):
        thread = threading.Thread(target=projector.run)
        thread.start()
        for shard, to in ((0, "east"), (1, "first"), (0, "first"), (2, "east")):
            assert move(shards, shard, to, read_models()).done
    projector.stop()
    thread.join(10)
    following.close()

    assert [shards.home_of(shard) for shard in range(SHARDS)] == ["first", "first", "east", "east"]
    check_books(urls, feed, given)


def test_the_worker_reads_a_real_stream_while_shards_move_i4_i5(
    urls: Urls, shards: ShardMap, kafka_bootstrap: str, topic: MakeTopic
) -> None:
    name = topic(partitions=SHARDS, name="usage")
    create_topics(kafka_bootstrap, [Topic(dead_letter_topic(name), 1)])
    stream = Stream(urls.first, kafka_bootstrap, name)
    # Records of a team come in the partition of another shard as often as not.
    stream.settings = Settings(
        database_url=urls.first, more_databases=f"east={urls.east}", kafka_bootstrap=kafka_bootstrap
    )
    stream.publish()

    with stream.start(alone=True):
        for number, (shard, to) in enumerate(((0, "east"), (1, "first"), (0, "first"))):
            stream.use_many([f"r{number}-{each}" for each in range(96)], teams=TEAMS, partitions=SHARDS)
            move(shards, shard, to, read_models())
    stream.work()

    state = StreamState(shards)
    assert state.totals([name]) == {"charged": {"": 288}}
    fates = {
        state.outcome_of(key, offset).kind
        for key in describe_partitions(kafka_bootstrap, [name])
        for offset in range(72)
    }
    assert fates == {"charged"}
    assert told(
        urls,
        "SELECT team_id, settled_micros FROM account_balance JOIN shard_log USING (shard) WHERE lives_here",
    ) == sorted((team, (GRANTED - 24) * 1_000_000) for team in TEAMS)
    ProjectorLoop(shards).catch_up()
    assert verify(shards).findings == []
    stream.close()


@pytest.mark.parametrize("strewn", [False, True])
def test_two_workers_read_partitions_of_both_databases_i4(urls: Urls, strewn: bool) -> None:
    feed = Feed(60, strewn)

    with beside(lambda: consume(urls, feed, PARTITIONS[:2]), lambda: consume(urls, feed, PARTITIONS[2:])):
        pass

    check_books(urls, feed)


def test_a_worker_that_dies_between_two_databases_doubles_nothing_i4_i15(urls: Urls) -> None:
    feed = Feed(40, strewn=True)
    for passed in (1, 3):
        dying = start(
            "consume", urls, feed.length, feed.strewn, failpoint=f"stream.between_databases:{passed}"
        )
        said = dying.communicate(timeout=60)[0]
        assert dying.returncode == -signal.SIGKILL, said

    consume(urls, feed)

    check_books(urls, feed)


def test_a_move_killed_at_any_place_is_taken_further_and_two_homes_never_accept(
    urls: Urls, shards: ShardMap
) -> None:
    feed, given, stop = Feed(0), dict[str, int](), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            granting(urls, f"round {number}", 6, given)
            number += 1

    with beside(write):
        try:
            for number, place in enumerate(OF_MOVES):
                to = "east" if number % 2 == 0 else "first"
                dying = start("move", urls, 2, to, failpoint=place)
                said = dying.communicate(timeout=60)[0]
                assert dying.returncode == -signal.SIGKILL, said
                assert homes(urls).count((2,)) == (0 if place == "shard.after_leaving" else 1)
                assert len(homes(urls)) == len(set(homes(urls)))

                assert move(shards, 2, to, read_models()).done

                assert [shards.home_of(2), len(homes(urls))] == [to, SHARDS]
        finally:
            stop.set()

    check_books(urls, feed, given)


# --- writers and readers with an old map ---


def other(shards: ShardMap, shard: int) -> str:
    return "east" if shards.home_of(shard) == "first" else "first"


@pytest.mark.parametrize("has_events", [True, False])
def test_a_command_that_meets_a_move_is_refused_and_finds_the_new_home_i17(
    urls: Urls, shards: ShardMap, has_events: bool
) -> None:
    old, team = two_servers.opened(urls), TEAMS[0]

    def decided(session: PostgresAccountSession) -> None:
        # The account is locked and decided on at its old home; only then does the shard leave.
        move(shards, shards.shard_of(team), other(shards, shards.shard_of(team)), read_models())
        assert session.account is not None
        version = session.account.version
        decision = Decision(copy_of(session.account), session.now, TESTER, session.index)
        if has_events:
            grant_credits(decision, 1_000_000)
        session.save(decision.account, decision, version, principal="p", key="k", body_digest=b"", answer=b"")

    with pytest.raises(Busy, match="moved"), PostgresLedgerStore(old).session(team) as session:
        decided(session)

    assert told(urls, "SELECT count(*) FROM idempotency WHERE key = 'k'") == [(0,), (0,)]
    grant(old, team, "again")
    check_books(urls, Feed(0), {team: 1})
    old.close()


def test_a_batch_that_meets_a_move_is_refused_and_its_worker_finds_the_new_home_i17(
    urls: Urls, shards: ShardMap
) -> None:
    feed, key, old = Feed(12), PARTITIONS[0], two_servers.opened(urls)
    store = BatchStores(old)
    store.register(key, 0)

    def written(transaction: AnyTransaction) -> None:
        batch = decide_batch([feed.read(key, 0)], transaction, CATALOGUE)
        move(shards, 0, other(shards, 0), read_models())
        transaction.write(batch)

    with pytest.raises(Busy, match="moved"), store.transaction_for(key) as transaction:
        written(transaction)
    with pytest.raises(Busy, match="moved"):
        store.halt(key, "from the old home")
    store.close()
    old.close()

    consume(urls, feed)
    check_books(urls, feed)


def test_a_read_with_an_old_map_is_answered_by_the_new_home_i25(urls: Urls, shards: ShardMap) -> None:
    old, team = two_servers.opened(urls), TEAMS[0]
    move(shards, shards.shard_of(team), other(shards, shards.shard_of(team)), read_models())
    grant(shards, team, "there")
    ProjectorLoop(shards).catch_up()

    async def asked() -> AccountOnFile | None:
        reads = AsyncShards(urls.first, SHARDS, homes=old)
        try:
            return await PostgresAccountReads(reads).account(team)
        finally:
            await reads.close()

    found = asyncio.run(asked())

    assert found is not None
    assert found.account.settled_micros == (GRANTED + 1) * 1_000_000
    assert len(PostgresStatement(old).page(team).rows) == 2
    old.close()


# --- what is refused ---


def test_only_what_a_shard_left_behind_is_forgotten_and_it_may_come_back(
    urls: Urls, shards: ShardMap
) -> None:
    with pytest.raises(MoveRefused, match="lives in 'first'"):
        forget(shards, 0, "first")
    move(shards, 0, "east", read_models())
    events = {
        (place.database, place.lives_here): place.events for place in places(shards) if place.shard == 0
    }

    assert forget(shards, 0, "first") == events["first", False] == events["east", True] > 0

    assert [place.database for place in places(shards) if place.shard == 0] == ["east"]
    move(shards, 0, "first", read_models())
    check_books(urls, Feed(0))


def test_the_log_is_append_only_where_a_shard_was_as_well(urls: Urls, shards: ShardMap) -> None:
    move(shards, 0, "east", read_models())

    with psycopg.connect(urls.first) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM ledger_events WHERE shard = 0")


def test_two_moves_of_one_shard_and_unknown_ends_are_refused(urls: Urls, shards: ShardMap) -> None:
    with pytest.raises(MoveRefused, match="first, east"):
        move(shards, 0, "west", read_models())
    with pytest.raises(MoveRefused, match="0 to 3"):
        move(shards, 4, "east", read_models())
    with shards.own_connection_to("east") as connection:
        connection.execute("SELECT pg_advisory_lock(hashtextextended('move shard', 0))")
        with pytest.raises(MoveRefused, match="another process"):
            move(shards, 0, "east", read_models())


def test_a_shard_on_its_way_is_finished_before_it_goes_elsewhere(urls: Urls, shards: ShardMap) -> None:
    dying = start("move", urls, 0, "east", failpoint="shard.after_leaving")
    dying.communicate(timeout=60)[0]

    with pytest.raises(ShardMoved, match="being moved"):
        two_servers.opened(urls).home_of(0)
    with pytest.raises(MoveRefused, match="--to east"):
        move(shards, 0, "first", read_models())

    assert move(shards, 0, "east", read_models()).done


def test_databases_of_other_names_or_ledgers_are_refused(
    urls: Urls, empty_database: Callable[[], AbstractContextManager[str]]
) -> None:
    with pytest.raises(WrongDatabase, match="is called 'east'"):
        ShardMap(urls.first, others={"west": urls.east})
    with pytest.raises(WrongDatabase, match="called 'east'"):
        ShardMap(urls.east)
    with empty_database() as url:
        migrate(url, SHARDS)
        with pytest.raises(WrongDatabase, match="another ledger"):
            ShardMap(urls.first, others={"east": url})
        with pytest.raises(InstallationMismatch, match="a ledger of its own"):
            migrate_all({"first": urls.first, "west": url}, SHARDS)


def test_a_copy_that_differs_is_not_moved_to(urls: Urls, shards: ShardMap) -> None:
    dying = start("move", urls, 0, "east", failpoint="shard.after_portion")
    dying.communicate(timeout=60)[0]
    with psycopg.connect(urls.east) as connection:
        connection.execute("SET session_replication_role = replica")
        connection.execute(
            "UPDATE ledger_events SET hash = sha256(hash) WHERE (shard, position) ="
            " (SELECT 0, max(position) FROM ledger_events WHERE shard = 0)"
        )

    with pytest.raises(MoveFailed, match="differs between the databases"):
        move(shards, 0, "east", read_models())

    assert homes(urls).count((0,)) == 1
    grant(shards, next(team for team in TEAMS if shards.shard_of(team) == 0), "still at home")


def test_databases_are_named_in_the_settings_once_and_shown_without_passwords() -> None:
    named = "east=postgresql://a:hush@host/b west=postgresql://host/c"
    settings = Settings(more_databases=named)

    assert settings.other_databases == {
        "east": "postgresql://a:hush@host/b",
        "west": "postgresql://host/c",
    }
    assert "hush" not in shown(settings)["more_databases"]
    assert "east=postgresql://a:" in shown(settings)["more_databases"]
    for wrong in ("first=postgresql://host/b", f"{named} east=postgresql://host/d", "postgresql://host/b"):
        with pytest.raises(ValidationError):
            Settings(more_databases=wrong)
