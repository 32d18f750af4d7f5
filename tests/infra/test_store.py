"""Commands on real accounts: one winner, one answer, bounded waits, and a state that is only a shortcut."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from time import monotonic

import msgspec
import psycopg
import pytest

from domain.account.decision import account_id
from domain.account.events import CostBasis
from domain.account.state import STATE_SCHEMA
from domain.chain import GENESIS
from domain.commands import GrantCredits, OpenAccount, RefundCharge, TopUpCredits
from domain.errors import AccountAlreadyOpen, Busy, IdempotencyKeyReused, PaymentReferenceUsed, Refused
from domain.ledger import Answer
from infra.postgres.application import LedgerApplication
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.connections import Timeouts
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.shards import ShardMap
from tests.infra.proxy import COMMIT, proxied
from tests.infra.stored import charge, execute, opened, rows, usage


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url, timeouts=Timeouts(lock_milliseconds=1_000), connections_max=16)
    yield shards
    shards.close()


def together(work: Callable[[int], object], times: int) -> list[object]:
    """What each of several threads got, an exception included, in no order."""

    def outcome(number: int) -> object:
        try:
            return work(number)
        except Exception as error:  # noqa: BLE001 - the outcome is what the test is about
            return error

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(outcome, range(times)))


def test_of_two_openings_at_once_one_wins_and_the_other_is_told(database_url: str, shards: ShardMap) -> None:
    outcomes = together(lambda n: execute(shards, OpenAccount(team_id="acme"), f"open-{n}"), 8)

    assert sum(isinstance(each, AccountAlreadyOpen) for each in outcomes) == 7
    assert rows(database_url, "SELECT version FROM account_head") == [(1,)]


def test_one_key_used_by_many_at_once_has_one_effect_and_one_answer_i14(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme", granted=0)

    outcomes = together(lambda _: execute(shards, GrantCredits(team_id="acme", amount_micros=7), "same"), 12)

    answers = [each for each in outcomes if isinstance(each, Answer)]
    assert len(answers) == 12, outcomes
    assert sum(not each.is_replayed for each in answers) == 1
    assert len({msgspec.structs.replace(each, is_replayed=False) for each in answers}) == 1
    assert rows(database_url, "SELECT settled_micros, version FROM account_balance") == [(7, 2)]


def test_many_commands_on_one_account_follow_one_another(database_url: str, shards: ShardMap) -> None:
    opened(shards, "acme", granted=0)

    outcomes = together(
        lambda n: execute(shards, GrantCredits(team_id="acme", amount_micros=10**n), f"g{n}"), 10
    )

    assert not [each for each in outcomes if isinstance(each, Exception)]
    assert rows(database_url, "SELECT settled_micros, version FROM account_balance") == [(1_111_111_111, 11)]


def test_another_body_under_a_used_key_is_refused_and_leaves_nothing_i15(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme", granted=0)
    execute(shards, GrantCredits(team_id="acme", amount_micros=7), "same")

    with pytest.raises(IdempotencyKeyReused):
        execute(shards, GrantCredits(team_id="acme", amount_micros=8), "same")

    assert rows(database_url, "SELECT version FROM account_head") == [(2,)]


def test_a_refused_command_leaves_no_trace_i15(database_url: str, shards: ShardMap) -> None:
    opened(shards, "acme", granted=0)
    before = _digest(database_url)

    with pytest.raises(Refused):
        execute(shards, GrantCredits(team_id="acme", amount_micros=2**62 + 1), "too-much")

    assert _digest(database_url) == before


def test_a_payment_reference_buys_once(shards: ShardMap) -> None:
    opened(shards, "acme", granted=0)
    bought = TopUpCredits(
        team_id="acme", amount_micros=10, payment_reference="pay-1", cost_basis=CostBasis(100, "EUR")
    )
    execute(shards, bought)

    with pytest.raises(PaymentReferenceUsed):
        execute(shards, bought, "another key")


def test_a_locked_account_is_busy_after_the_bound_and_not_for_ever(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme")
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT 1 FROM account_head WHERE team_id = 'acme' FOR UPDATE")
        started = monotonic()

        with pytest.raises(Busy, match="acme"):
            execute(shards, GrantCredits(team_id="acme", amount_micros=1))

        assert 0.9 < monotonic() - started < 4


def test_a_transaction_that_sleeps_on_its_lock_is_ended_by_the_server(database_url: str) -> None:
    shards = ShardMap(database_url, timeouts=Timeouts(idle_in_transaction_milliseconds=300))
    opened(shards, "acme")
    sleeper = shards.own_connection_for(0)
    sleeper.execute("SELECT 1 FROM account_head WHERE team_id = 'acme' FOR UPDATE")

    execute(shards, GrantCredits(team_id="acme", amount_micros=1))  # waits for the server to end the sleeper

    with pytest.raises(psycopg.errors.IdleInTransactionSessionTimeout):
        sleeper.execute("SELECT 1")
    sleeper.close()
    shards.close()


def test_every_connection_is_bounded_and_named(shards: ShardMap) -> None:
    own = shards.own_connection_for(0)
    with shards.connection_for(0) as pooled:
        for connection in (own, pooled):
            settings = {
                name: connection.execute("SELECT current_setting(%s)", (name,)).fetchone()
                for name in (
                    "lock_timeout",
                    "statement_timeout",
                    "idle_in_transaction_session_timeout",
                    "jit",
                )
            }
            assert settings == {
                "lock_timeout": ("1s",),
                "statement_timeout": ("30s",),
                "idle_in_transaction_session_timeout": ("1min",),
                "jit": ("off",),
            }
            assert connection.execute("SELECT current_setting('application_name')").fetchone() == ("coffer",)
    own.close()


def test_a_head_of_another_schema_is_discarded_and_folded_again(database_url: str, shards: ShardMap) -> None:
    opened(shards, "acme")
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE account_head SET state_schema = 0, state = 'of another time'")

    execute(shards, GrantCredits(team_id="acme", amount_micros=1))

    assert rows(database_url, "SELECT settled_micros, version FROM account_balance") == [(1_000_000_001, 3)]
    assert rows(database_url, "SELECT state_schema FROM account_head") == [(STATE_SCHEMA,)]


def test_a_refund_finds_its_charge_in_the_index_whoever_wrote_it_i13(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme")
    store = PostgresBatchStore(shards)
    record = usage("acme", "u1", 300)
    charge(store, [record])
    store.close()

    execute(shards, RefundCharge(team_id="acme", charge_id=record.usage_key(), amount_micros=100_000_000))
    with pytest.raises(Refused):
        execute(shards, RefundCharge(team_id="acme", charge_id=record.usage_key(), amount_micros=201_000_000))
    execute(shards, RefundCharge(team_id="acme", charge_id=record.usage_key()))

    assert rows(database_url, "SELECT settled_micros FROM account_balance") == [(1_000_000_000,)]


def test_anyone_can_recompute_the_chain_with_sql_and_sha256_i11(database_url: str, shards: ShardMap) -> None:
    opened(shards, "acme", "zebra")
    store = PostgresBatchStore(shards)
    charge(store, [usage("acme", f"u{n}") for n in range(20)] + [usage("zebra", "z")])
    store.close()
    execute(shards, GrantCredits(team_id="acme", amount_micros=1))

    last: dict[object, bytes] = {}
    for originator, version, topic, state, previous, own in rows(
        database_url,
        "SELECT originator_id, originator_version, topic, state, previous_hash, hash FROM ledger_events"
        " ORDER BY originator_id, originator_version",
    ):
        assert previous == last.get(originator, GENESIS)
        named = topic.encode()
        framed = len(named).to_bytes(4, "big") + named + len(state).to_bytes(4, "big") + state
        assert own == sha256(previous + originator.bytes + version.to_bytes(8, "big") + framed).digest()
        last[originator] = own

    assert last == dict(rows(database_url, "SELECT account_id, chain_hash FROM account_head"))


def test_stored_events_cannot_be_changed_even_by_the_owner(database_url: str, shards: ShardMap) -> None:
    opened(shards, "acme")
    for statement in (
        "UPDATE ledger_events SET topic = topic",
        "DELETE FROM ledger_events",
        "TRUNCATE ledger_events",
    ):
        with (
            psycopg.connect(database_url) as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"),
        ):
            connection.execute(statement.encode())


def test_the_newest_head_and_a_full_replay_are_the_same_account(shards: ShardMap) -> None:
    opened(shards, "acme")
    application = LedgerApplication(shards, shards.shard_of("acme"))
    replaying = LedgerApplication(shards, shards.shard_of("acme"), {"IS_SNAPSHOTTING_ENABLED": "n"})

    assert application.account("acme") == replaying.account("acme")
    assert replaying.account("acme", version=1).settled_micros == 0
    assert account_id("acme") in replaying.repository


def test_recorded_at_is_the_databases_and_never_goes_back_i20(database_url: str, shards: ShardMap) -> None:
    """T1: no worker's clock is asked."""
    opened(shards, "acme")
    with PostgresLedgerStore(shards).session("acme") as session:
        assert session.account is not None
        assert session.now >= session.account.recorded_at
        assert session.now.utcoffset() is not None


def _digest(database_url: str) -> list[object]:
    return [
        rows(database_url, f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} AS t")
        for table in (
            "ledger_events",
            "account_head",
            "idempotency",
            "shard_log",
            "account_index",
            "denial_repeat",
        )
    ]


def test_a_command_whose_commit_went_unheard_is_answered_and_not_done_again_i14(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme", granted=0)
    with proxied(database_url) as (proxy, through):
        away = ShardMap(through)
        for n in range(10):
            proxy.cut_after(COMMIT)
            answer = execute(away, GrantCredits(team_id="acme", amount_micros=5), f"after-{n}")
            assert (answer.version, answer.is_replayed) == (2 + 2 * n, False)

            proxy.cut_before(COMMIT)
            execute(away, GrantCredits(team_id="acme", amount_micros=5), f"before-{n}")
        assert proxy.cuts == 20
        away.close()

    assert rows(database_url, "SELECT settled_micros, version FROM account_balance") == [(100, 21)]


def test_a_connection_that_broke_before_the_commit_is_busy_and_nothing_was_written_i15(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme", granted=0)
    before = _digest(database_url)
    with proxied(database_url) as (proxy, through):
        away = ShardMap(through)
        proxy.cut_before(b"COPY ledger_events")

        with pytest.raises(Busy):
            execute(away, GrantCredits(team_id="acme", amount_micros=5))

        away.close()
    assert _digest(database_url) == before


def test_a_pool_survives_the_end_of_its_connections(database_url: str, shards: ShardMap) -> None:
    opened(shards, "acme", granted=0)
    with psycopg.connect(database_url, autocommit=True) as other:
        other.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    execute(shards, GrantCredits(team_id="acme", amount_micros=5))
