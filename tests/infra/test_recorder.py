"""The library reads what commands and batches wrote, and what the library writes is as good as theirs."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from threading import Event, Thread, Timer
from time import monotonic, sleep
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from eventsourcing.application import AggregateNotFoundError, Application
from eventsourcing.dispatch import singledispatchmethod
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import DataError, IntegrityError, ProgrammingError, StoredEvent, Tracking
from eventsourcing.popo import POPOTrackingRecorder
from eventsourcing.projection import ApplicationSubscription, Projection
from typing_extensions import override

from domain.account.decision import Decision, account_id
from domain.account.events import AccountOpened, CreditsCharged, CreditsGranted
from domain.account.funding import grant_credits
from domain.account.opening import open_account
from domain.catalogue import CATALOGUE_ID, publish_rate_card
from domain.commands import GrantCredits
from domain.errors import UnknownEventShape
from infra.postgres.application import CatalogueApplication, LedgerApplication
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.mapper import AccountEventOnFile
from infra.postgres.migrations import statements
from infra.postgres.recorder import HeadRecorder, ShardRecorder
from infra.postgres.shards import ShardMap
from infra.settings import ForbiddenSetting
from tests.builders import TESTER, unit_card, when
from tests.infra.stored import charge, decided, execute, opened, rows, usage


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url, connections_max=16)
    yield shards
    shards.close()


def ledger(shards: ShardMap, team: str = "acme") -> LedgerApplication:
    return LedgerApplication(shards, shards.shard_of(team))


def charged(shards: ShardMap, team: str, *ids: str) -> None:
    store = PostgresBatchStore(shards)
    charge(store, [usage(team, each) for each in ids])
    store.close()


# --- the stock library over our tables ---


def test_the_stock_repository_reads_what_both_writers_wrote(shards: ShardMap) -> None:
    opened(shards, "acme")
    charged(shards, "acme", "u1", "u2")
    application = ledger(shards)

    account: Any = application.repository.get(account_id("acme"))

    assert (account.version, account.settled_micros) == (4, 998_000_000)
    with pytest.raises(AggregateNotFoundError):
        application.repository.get(uuid4())


def test_every_earlier_version_is_a_replay_with_or_without_heads_i9(shards: ShardMap) -> None:
    opened(shards, "acme")
    charged(shards, "acme", "u1", "u2", "u3")
    with_heads = ledger(shards)
    without = LedgerApplication(shards, shards.shard_of("acme"), {"IS_SNAPSHOTTING_ENABLED": "n"})

    for version in range(1, 6):
        assert with_heads.account("acme", version) == without.account("acme", version)
        assert without.account("acme", version).version == version


def test_the_stock_notification_log_gives_positions_without_a_gap_i3(shards: ShardMap) -> None:
    opened(shards, "acme")
    charged(shards, "acme", "u1", "u2", "u3")
    log = ledger(shards).notification_log

    notifications = log.select(start=1, limit=100)

    assert [each.id for each in notifications] == [1, 2, 3, 4, 5]
    assert notifications[0].topic == "AccountOpened.1"
    assert [each.id for each in log.select(start=2, limit=2, inclusive_of_start=False)] == [3, 4]
    assert [each.id for each in log.select(start=None, limit=10, stop=2)] == [1, 2]
    assert [each.id for each in log.select(start=1, limit=10, topics=["CreditsCharged.2"])] == [3, 4, 5]
    assert log["1,3"].items == notifications[:3]


def test_a_stock_subscription_hears_of_a_batch_at_once(shards: ShardMap) -> None:
    opened(shards, "acme")
    seen: list[tuple[int, object]] = []
    with ApplicationSubscription(ledger(shards), gt=2) as subscription:
        Timer(0.3, charged, (shards, "acme", "u1", "u2")).start()
        for event, tracking in subscription:
            assert isinstance(event, AccountEventOnFile)
            seen.append((tracking.notification_id, type(event.event)))
            if len(seen) == 2:
                break

    assert seen == [(3, CreditsCharged), (4, CreditsCharged)]


def test_a_lost_notification_delays_a_subscription_a_second_or_two_p19(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme", granted=0)
    application = ledger(shards)
    with ApplicationSubscription(application, gt=1) as subscription:
        sleep(0.5)  # it sleeps now
        with psycopg.connect(database_url) as connection:
            # An event nobody announced.
            _append_silently(connection, shards.shard_of("acme"))
        patience = Timer(10, subscription.stop)
        patience.start()
        started = monotonic()

        found = [tracking.notification_id for _, tracking in islice(subscription, 1)]

        patience.cancel()
    assert found == [2]
    assert monotonic() - started < 5


def _append_silently(connection: psycopg.Connection[tuple[object, ...]], shard: int) -> None:
    connection.execute("UPDATE shard_log SET position = position + 1 WHERE shard = %s", (shard,))
    connection.execute(
        "INSERT INTO ledger_events SELECT shard, originator_id, 2, 2, 'AccountClosed.1',"
        ' convert_to(\'{"recorded_at":"2026-12-01T00:00:00Z","actor":{"id":"a","role":"b"}}\', \'UTF8\'),'
        " NULL, hash, hash FROM ledger_events"
    )


class _SpendingView(POPOTrackingRecorder):
    """Charged micro-credits, in memory."""

    def __init__(self) -> None:
        super().__init__()
        self.charged_micros = 0


class _Spending(Projection[_SpendingView]):
    """A projection written as the library's documentation says."""

    @override
    @singledispatchmethod
    def process_event(self, domain_event: DomainEventProtocol[UUID], tracking: Tracking) -> None:
        assert isinstance(domain_event, AccountEventOnFile)
        if isinstance(domain_event.event, CreditsCharged):
            self.view.charged_micros += domain_event.event.amount_micros
        self.view.insert_tracking(tracking)


def test_a_stock_projection_follows_the_log(shards: ShardMap) -> None:
    opened(shards, "acme")
    charged(shards, "acme", "u1", "u2")
    application = ledger(shards)
    projection = _Spending(_SpendingView())
    with ApplicationSubscription(application) as subscription:
        for event, tracking in subscription:
            projection.process_event(event, tracking)
            if tracking.notification_id == application.recorder.max_notification_id():
                break

    assert projection.view.charged_micros == 2_000_000
    assert projection.view.max_tracking_id(application.name) == 4


def test_what_the_library_saves_has_head_position_and_chain_too(database_url: str, shards: ShardMap) -> None:
    application = ledger(shards)
    decision = Decision(None, when("2026-11-20 09:00"), TESTER)
    open_account(decision, "acme")
    grant_credits(decision, 5_000_000)
    events = [
        AccountEventOnFile(account_id("acme"), version, event)
        for version, event in enumerate(decision.events, 1)
    ]

    recordings = application.save(*events)

    assert [each.notification.id for each in recordings] == [1, 2]
    execute(shards, GrantCredits(team_id="acme", amount_micros=1_000_000))
    charged(shards, "acme", "u1")
    assert rows(database_url, "SELECT version, settled_micros FROM account_balance") == [(4, 5_000_000)]
    broken = "SELECT count(*) FROM ledger_events a JOIN ledger_events b USING (shard, originator_id)"
    assert rows(
        database_url,
        f"{broken} WHERE b.originator_version = a.originator_version + 1 AND b.previous_hash <> a.hash",
    ) == [(0,)]


def test_a_save_of_two_accounts_gives_each_event_its_own_position(
    database_url: str, shards: ShardMap
) -> None:
    teams = [f"t{n}" for n in range(99) if shards.shard_of(f"t{n}") == 2][:2]
    application = ledger(shards, teams[0])
    events = []
    for team in teams:
        decision = Decision(None, when("2026-11-20 09:00"), TESTER)
        open_account(decision, team)
        grant_credits(decision, 5)
        events += [
            AccountEventOnFile(account_id(team), version, made)
            for version, made in enumerate(decision.events, 1)
        ]

    recordings = application.save(events[0], events[2], events[3], events[1])

    for each in recordings:
        stored = application.notification_log.select(each.notification.id, 1)[0]
        assert (stored.originator_id, stored.originator_version) == (
            each.domain_event.originator_id,
            each.domain_event.originator_version,
        )
    assert rows(database_url, "SELECT version FROM account_head") == [(2,), (2,)]


def test_a_stream_in_the_wrong_place_is_refused(database_url: str, shards: ShardMap) -> None:
    decision = Decision(None, when("2026-11-20 09:00"), TESTER)
    open_account(decision, "acme")
    elsewhere = LedgerApplication(shards, (shards.shard_of("acme") + 1) % shards.count)

    with pytest.raises(DataError, match="belongs to shard"):
        elsewhere.save(AccountEventOnFile(account_id("acme"), 1, decision.events[0]))
    with pytest.raises(DataError, match="not the account of team"):
        ledger(shards).save(AccountEventOnFile(uuid4(), 1, decision.events[0]))

    assert rows(database_url, "SELECT count(*) FROM account_head") == [(0,)]


def test_a_stale_save_is_the_librarys_integrity_error_and_leaves_nothing(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme")
    application = ledger(shards)
    stale = application.account("acme", version=1)
    decision = Decision(stale, when("2026-12-20 09:00"), TESTER)
    grant_credits(decision, 1)

    for version in (2, 4):  # taken; skipping one
        with pytest.raises(IntegrityError):
            application.save(AccountEventOnFile(account_id("acme"), version, decision.events[0]))

    assert rows(database_url, "SELECT version FROM account_head") == [(2,)]
    assert rows(database_url, "SELECT sum(position) FROM shard_log") == [(2,)]


# --- what is overridden, and why ---


def test_writers_of_two_shards_do_not_wait_for_each_other(database_url: str, shards: ShardMap) -> None:
    here, there = (
        "acme",
        next(f"t{n}" for n in range(99) if shards.shard_of(f"t{n}") != shards.shard_of("acme")),
    )
    opened(shards, here, there)
    slow = PostgresBatchStore(shards)
    with slow.transaction() as transaction:
        transaction.write(decided(transaction, [usage(here, "slow")]))
        started = monotonic()

        execute(
            shards, GrantCredits(team_id=there, amount_micros=1)
        )  # under a table lock it would wait for ever

        assert monotonic() - started < 2
    slow.close()


def test_no_reader_ever_misses_an_event_that_four_writers_wrote_i3_p11(shards: ShardMap) -> None:
    teams = [f"team-{n}" for n in range(400) if shards.shard_of(f"team-{n}") == 2][:8]
    opened(shards, *teams)
    recorder = ledger(shards, teams[0]).recorder
    done = Event()
    seen: list[int] = []

    def read() -> None:
        while True:
            finished = done.is_set()  # asked first: what is committed by then is seen by the next select
            page = recorder.select_notifications(seen[-1] if seen else None, 500, inclusive_of_start=False)
            seen.extend(each.id for each in page)
            if finished and not page:
                return

    def write(worker: int) -> None:
        store = PostgresBatchStore(shards)
        ends = monotonic() + 4
        n = 0
        while monotonic() < ends:
            n += 1
            mine = teams[worker * 2 : worker * 2 + 2]
            charge(store, [usage(mine[k % 2], f"{worker}-{n}-{k}") for k in range(1 + n * 7 % 40)])
            if n % 5 == 0:
                with pytest.raises(ZeroDivisionError):
                    _roll_back_after_drawing(store, mine[0], n)
        store.close()

    reader = Thread(target=read)
    reader.start()
    writers = [Thread(target=write, args=(n,)) for n in range(4)]
    for each in writers:
        each.start()
    for each in writers:
        each.join()
    done.set()
    reader.join()

    assert len(seen) > 500
    assert seen == list(range(1, len(seen) + 1)), "a gap, or an event out of order"
    assert recorder.max_notification_id() == len(seen)


def _roll_back_after_drawing(store: PostgresBatchStore, team: str, n: int) -> None:
    with store.transaction() as transaction:
        transaction.write(decided(transaction, [usage(team, f"never-{n}")]))
        raise ZeroDivisionError


def test_a_position_is_the_counters_so_an_empty_shard_has_none(shards: ShardMap) -> None:
    assert ledger(shards).recorder.max_notification_id() is None


def test_tables_are_not_made_by_the_recorder(shards: ShardMap) -> None:
    recorder = ShardRecorder(shards.datastore_for(0), 0, shards.count)
    with pytest.raises(ProgrammingError, match="migrate"):
        recorder.create_table()
    assert recorder.lock_table_statements == []
    with pytest.raises(ProgrammingError, match="never by themselves"):
        HeadRecorder(shards.datastore_for(0), 0).insert_events([])


def test_database_functions_are_refused(shards: ShardMap, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ForbiddenSetting):
        LedgerApplication(shards, 0, {"POSTGRES_ENABLE_DB_FUNCTIONS": "y"})
    monkeypatch.setenv("CATALOGUE_POSTGRES_ENABLE_DB_FUNCTIONS", "yes")
    with pytest.raises(ForbiddenSetting):
        CatalogueApplication(shards)


# --- topics are data, never code ---


@pytest.mark.parametrize(
    "topic", ["os:system", "CreditsCharged.2", "domain.account.events:CreditsCharged", ""]
)
def test_an_unknown_topic_is_refused_before_anything_is_imported_s4(shards: ShardMap, topic: str) -> None:
    mapper = ledger(shards).mapper
    with pytest.raises(UnknownEventShape):
        mapper.to_domain_event(StoredEvent(account_id("acme"), 1, topic, b"{}"))


def test_bytes_of_another_shape_are_refused(shards: ShardMap) -> None:
    mapper = ledger(shards).mapper
    for state in (b"{}", b"\xff", b'{"recorded_at": 5}', b"[]"):
        with pytest.raises(UnknownEventShape, match=r"CreditsGranted\.1"):
            mapper.to_domain_event(StoredEvent(account_id("acme"), 1, CreditsGranted.TOPIC, state))


def test_an_event_reads_back_as_it_was_written(shards: ShardMap) -> None:
    opened(shards, "acme")
    charged(shards, "acme", "u1")
    application = ledger(shards)

    for on_file in application.events.get(account_id("acme")):
        assert isinstance(on_file, AccountEventOnFile)
        assert application.mapper.to_domain_event(application.mapper.to_stored_event(on_file)) == on_file
    first = next(iter(application.events.get(account_id("acme"))))
    assert isinstance(first, AccountEventOnFile)
    assert isinstance(first.event, AccountOpened)


# --- the catalogue is a stock application ---


def test_the_catalogue_is_kept_by_the_stock_recorder(shards: ShardMap) -> None:
    application = CatalogueApplication(shards)
    before = application.catalogue()
    events = publish_rate_card(before, unit_card(), when("2026-11-20 09:00"), TESTER)

    application.record(before, events)

    assert application.catalogue().version == len(events)
    assert application.catalogue().card_in_force("standard", when("2026-11-20 09:00")) is not None
    assert application.recorder.max_notification_id() == len(events)
    with pytest.raises(IntegrityError):
        application.record(before, events)
    assert len(list(application.events.get(CATALOGUE_ID))) == len(events)


def test_the_catalogues_tables_are_those_of_the_locked_library(shards: ShardMap) -> None:
    recorder = CatalogueApplication(shards).recorder
    of_library = [_plain(each.as_string()) for each in recorder.sql_create_statements]  # type: ignore[attr-defined]
    # The insert function takes no lock and loses events for readers, so we do not make it.
    assert sum("CREATE OR REPLACE FUNCTION" in each for each in of_library) == 1

    committed = {_plain(each) for each in statements("0001_catalogue.sql")}

    assert committed == {each for each in of_library if "CREATE OR REPLACE FUNCTION" not in each}


def test_our_events_have_the_librarys_columns_in_the_same_types(database_url: str) -> None:
    columns = "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = %s"
    of_library = dict(rows(database_url, columns, "catalogue_events"))
    ours = dict(rows(database_url, columns, "ledger_events"))

    ours["notification_id"] = ours.pop("position")

    assert of_library.items() <= ours.items()


def _plain(statement: str) -> str:
    return " ".join(statement.replace("( ", "(").replace(" )", ")").split()).replace("( ", "(").rstrip(";")


def test_an_application_leaves_the_shared_pool_open(shards: ShardMap) -> None:
    opened(shards, "acme")
    application: Application[UUID] = ledger(shards)
    with application:
        pass
    application.close()

    assert ledger(shards).account("acme").version == 2
