"""A batch is one transaction: heads and offsets by compare-and-set, nothing twice, nothing half."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from time import monotonic

import psycopg
import pytest

from consumers.batches import ContextRow, DeadLetter, Fenced, Hole, MovedHeads, OutcomeRow, UsageBatch
from domain.commands import GrantCredits
from domain.errors import Busy
from domain.ledger import OutcomeUnknown
from infra.local.postgres import LocalPostgres
from infra.postgres.batch_writer import COMMIT_OUTCOME_RESOLVED, PostgresBatchStore
from infra.postgres.connections import Timeouts
from infra.postgres.dead_letters import DeadLetters, LetterFilter
from infra.postgres.migrations import migrate
from infra.postgres.shards import ShardMap
from tests.builders import when
from tests.infra.proxy import COMMIT, proxied
from tests.infra.stored import PARTITION, advance, charge, decided, execute, opened, rows, usage


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url)
    yield shards
    shards.close()


@pytest.fixture
def store(shards: ShardMap) -> Iterator[PostgresBatchStore]:
    store = PostgresBatchStore(shards)
    yield store
    store.close()


def test_a_batch_moves_heads_log_and_offset_together(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    opened(shards, "acme", "zebra")
    store.register(PARTITION, 0)

    charge(store, [usage("acme", "u1"), usage("zebra", "u2"), usage("acme", "u3")], advances=[advance(0, 3)])

    heads = rows(database_url, "SELECT team_id, version FROM account_head ORDER BY team_id")
    assert heads == [("acme", 4), ("zebra", 3)]
    assert store.next_offset(PARTITION) == 3
    batches = rows(
        database_url, "SELECT first_offset, next_offset, records, outcomes, positions FROM consumed_batch"
    )
    assert batches[0][:4] == (0, 3, 3, {"charged": {"": 3}})
    assert sum(last - first + 1 for first, last in batches[0][4].values()) == 3
    balance = rows(
        database_url, "SELECT settled_micros, debt_micros FROM account_balance WHERE team_id = 'acme'"
    )
    assert balance == [(998_000_000, 0)]


def test_a_head_moved_by_a_command_makes_the_batch_decide_again(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    opened(shards, "acme", "zebra")
    charge(store, [usage("acme", "u1"), usage("zebra", "u2")])  # both are cached now
    execute(shards, GrantCredits(team_id="acme", amount_micros=5_000_000))

    with pytest.raises(MovedHeads):
        charge(store, [usage("acme", "u3"), usage("zebra", "u4")])
    charge(store, [usage("acme", "u3"), usage("zebra", "u4")])

    balances = rows(database_url, "SELECT team_id, version, settled_micros FROM account_balance ORDER BY 1")
    assert balances == [("acme", 5, 1_003_000_000), ("zebra", 4, 998_000_000)]


def test_a_worker_that_lost_its_partition_writes_nothing_i17(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    opened(shards, "acme")
    store.register(PARTITION, 0)
    other = PostgresBatchStore(shards)
    charge(other, [usage("acme", "u1")], advances=[advance(0, 1)])
    other.close()

    with pytest.raises(Fenced):
        charge(store, [usage("acme", "u9")], advances=[advance(0, 1)])

    assert rows(database_url, "SELECT version FROM account_head") == [(3,)]
    assert store.next_offset(PARTITION) == 1


# --- a COMMIT whose answer is lost ---


def test_a_commit_whose_answer_was_lost_is_read_back_and_done_once_i4(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme")
    with proxied(database_url) as (proxy, through):
        away = ShardMap(through)
        store = PostgresBatchStore(away)
        store.register(PARTITION, 0)
        before = _resolved("committed")

        for n in range(20):
            proxy.cut_after(COMMIT)
            charge(store, [usage("acme", f"u{n}")], advances=[advance(n, n + 1)])  # no exception: it happened

        assert proxy.cuts == 20
        assert _resolved("committed") == before + 20
        store.close()
        away.close()
    assert rows(database_url, "SELECT count(*) FROM ledger_events WHERE topic = 'CreditsCharged.2'") == [
        (20,)
    ]
    assert rows(database_url, "SELECT settled_micros FROM account_balance") == [(980_000_000,)]


def test_a_commit_that_never_arrived_is_known_not_to_have_happened_i5(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme")
    with proxied(database_url) as (proxy, through):
        away = ShardMap(through)
        store = PostgresBatchStore(away)
        store.register(PARTITION, 0)
        for n in range(5):
            proxy.cut_before(COMMIT)
            with pytest.raises(Busy):
                charge(store, [usage("acme", f"u{n}")], advances=[advance(n, n + 1)])

            charge(store, [usage("acme", f"u{n}")], advances=[advance(n, n + 1)])
        store.close()
        away.close()
    assert rows(database_url, "SELECT count(*) FROM ledger_events WHERE topic = 'CreditsCharged.2'") == [(5,)]
    assert rows(database_url, "SELECT next_offset FROM consumed") == [(5,)]


def test_a_server_that_waits_for_a_vanished_worker_does_not_keep_its_locks_i18(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme")
    with proxied(database_url) as (proxy, through):
        away = ShardMap(through)
        store = PostgresBatchStore(away)
        store.register(PARTITION, 0)
        started = monotonic()
        for at, message in enumerate((COMMIT, b"COPY ledger_events")):
            proxy.cut_before(message, half_open=True)

            with pytest.raises(Busy):
                charge(store, [usage("acme", f"u{at}")], advances=[advance(at, at + 1)])
            charge(store, [usage("acme", f"u{at}")], advances=[advance(at, at + 1)])

        assert monotonic() - started < 5
        store.close()
        away.close()
    assert rows(database_url, "SELECT next_offset FROM consumed") == [(2,)]


def test_a_batch_without_offsets_never_guesses_about_its_commit(database_url: str, shards: ShardMap) -> None:
    opened(shards, "acme")
    with proxied(database_url) as (proxy, through):
        away = ShardMap(through)
        store = PostgresBatchStore(away)
        charge(store, [usage("acme", "u0")])
        proxy.cut_after(COMMIT)

        with pytest.raises(OutcomeUnknown):
            charge(store, [usage("acme", "u1")])
        charge(store, [usage("acme", "u1")])  # the claim answers: nothing is charged again

        store.close()
        away.close()
    assert rows(database_url, "SELECT count(*) FROM ledger_events WHERE topic = 'CreditsCharged.2'") == [(2,)]


def test_a_connection_lost_in_the_middle_leaves_nothing_i15(database_url: str, shards: ShardMap) -> None:
    opened(shards, "acme")
    with proxied(database_url) as (proxy, through):
        away = ShardMap(through)
        store = PostgresBatchStore(away)
        store.register(PARTITION, 0)
        proxy.cut_before(b"COPY ledger_events")

        with pytest.raises(Busy):
            charge(store, [usage("acme", "u1")], advances=[advance(0, 1)])

        assert rows(database_url, "SELECT version FROM account_head") == [(2,)]
        charge(store, [usage("acme", "u1")], advances=[advance(0, 1)])
        store.close()
        away.close()
    assert rows(database_url, "SELECT version FROM account_head") == [(3,)]


def _resolved(outcome: str) -> float:
    return float(COMMIT_OUTCOME_RESOLVED.labels(outcome)._value.get())


# --- the cache ---


def test_the_cache_is_bounded_by_number_and_drops_what_was_not_used_i24(shards: ShardMap) -> None:
    opened(shards, "a", "b", "c", "d")
    store = PostgresBatchStore(shards, accounts_kept_max=2)

    for n, team in enumerate(["a", "b", "a", "c", "d", "a"]):
        charge(store, [usage(team, f"u{n}")])

        assert len(store._cache) <= 2
    assert set(store._cache._heads) == {"d", "a"}
    store.close()


def test_an_account_changed_by_a_batch_that_failed_is_not_kept(database_url: str, shards: ShardMap) -> None:
    opened(shards, "acme")
    store = PostgresBatchStore(shards)
    charge(store, [usage("acme", "u1")])

    def failing() -> None:
        with store.transaction() as transaction:
            decided(transaction, [usage("acme", "u2")])
            raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        failing()
    charge(store, [usage("acme", "u3")])
    with store.transaction() as transaction:
        decided(transaction, [usage("acme", "u4")])  # decided and never written
    charge(store, [usage("acme", "u5")])

    assert rows(database_url, "SELECT version, settled_micros FROM account_balance") == [(5, 997_000_000)]
    store.close()


# --- rows beside the events ---


def test_outcomes_letters_holes_and_contexts_are_stored_as_they_were_read(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    opened(shards, "acme")
    store.register(PARTITION, 5)
    at = when("2026-11-20 09:00")
    record = usage("acme", "u1")
    with store.transaction() as transaction:
        batch = decided(transaction, [record], advances=[advance(5, 10)])
        batch.outcomes = [
            OutcomeRow(partition=PARTITION, offset=6, outcome="duplicate", reason="", detail="of version 3",
                       team_id="acme", usage_key=record.usage_key(), first_version=3),
            OutcomeRow(partition=PARTITION, offset=7, outcome="rejected", reason="malformed_json", detail="at byte 3"),
        ]  # fmt: skip
        batch.dead_letters = [
            DeadLetter(partition=PARTITION, offset=7, arrived_at=at, outcome="rejected", reason="malformed_json",
                       detail="at byte 3", key=None, value=b"\x00{", headers=[("a", b"\xff"), ("a", None)]),
        ]  # fmt: skip
        batch.holes = [Hole(PARTITION, 8, 10)]
        batch.contexts = [
            ContextRow("acme", record.usage_key(), None, b"salt", b'{"prompt":"\xc3\xa4"}'),
        ]
        transaction.write(batch)

    home = PARTITION.partition % shards.count
    assert rows(
        database_url,
        "SELECT shard, kafka_offset, outcome, reason, team_id, first_version FROM usage_outcome ORDER BY 2",
    ) == [(home, 6, "duplicate", "", "acme", 3), (home, 7, "rejected", "malformed_json", None, None)]
    assert rows(
        database_url,
        "SELECT kafka_offset, record_key, record_value, record_headers, arrived_at FROM dead_letter",
    ) == [(7, None, b"\x00{", [["a", "ff"], ["a", None]], at)]
    assert rows(database_url, "SELECT first_offset, next_offset, status FROM stream_hole") == [
        (8, 10, "open")
    ]
    assert rows(database_url, "SELECT shard, team_id, member, salt, context FROM usage_context") == [
        (shards.shard_of("acme"), "acme", None, b"salt", b'{"prompt":"\xc3\xa4"}')
    ]


def test_a_halted_partition_takes_no_batch_until_it_is_released(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    opened(shards, "acme")
    store.register(PARTITION, 0)
    store.register(PARTITION, 99)  # known already: it stays
    store.halt(PARTITION, "the topic was made anew")

    assert store.halted(PARTITION) == "the topic was made anew"
    with pytest.raises(Fenced):
        charge(store, [usage("acme", "u1")], advances=[advance(0, 1)])
    store.release(PARTITION)
    charge(store, [usage("acme", "u1")], advances=[advance(0, 1)])

    assert store.next_offset(PARTITION) == 1


def test_a_claim_made_by_another_writer_is_found_not_charged_twice_i4(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    opened(shards, "acme")
    other = PostgresBatchStore(shards)
    record = usage("acme", "u1")

    def overtaken() -> None:
        with store.transaction() as transaction:
            batch = decided(transaction, [record])
            charge(other, [record])
            transaction.write(batch)

    with pytest.raises(MovedHeads):
        overtaken()
    charge(store, [record])

    assert rows(database_url, "SELECT count(*) FROM ledger_events WHERE usage_key IS NOT NULL") == [(1,)]
    other.close()


def test_two_workers_on_the_same_teams_lose_and_double_nothing_i4_i15(
    database_url: str, shards: ShardMap
) -> None:
    teams = [f"team-{n}" for n in range(12)]
    opened(shards, *teams)

    def work(worker: int) -> None:
        store = PostgresBatchStore(shards)
        for batch in range(15):
            # Each worker brings its own records and half of the other's.
            records = [usage(team, f"w{(worker + n) % 2}-{batch}-{n}") for n, team in enumerate(teams)]
            for _ in range(50):
                try:
                    charge(store, records)
                except (MovedHeads, Busy):
                    continue
                break
            else:
                raise AssertionError("moved for ever")
        store.close()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(work, range(2)))

    charged = rows(
        database_url,
        "SELECT count(*), count(DISTINCT usage_key) FROM ledger_events WHERE usage_key IS NOT NULL",
    )
    assert charged == [(360, 360)]
    wrong = rows(
        database_url,
        "SELECT h.team_id FROM account_head h JOIN (SELECT shard, originator_id, max(originator_version) AS version,"
        " count(*) AS events FROM ledger_events GROUP BY 1, 2) e ON (h.shard, h.account_id) = (e.shard, e.originator_id)"
        " WHERE h.version <> e.version OR e.events <> e.version",
    )
    assert wrong == []


def test_a_batch_and_commands_on_the_same_accounts_never_wait_in_a_circle_p8(
    database_url: str, shards: ShardMap
) -> None:
    teams = [f"team-{n}" for n in range(6)]
    opened(shards, *teams)
    granted = len(teams) * 1_000 * 1_000_000
    ends = monotonic() + 3
    done: dict[str, int] = {"batches": 0, "commands": 0}

    def consume() -> None:
        store = PostgresBatchStore(shards)
        while monotonic() < ends:
            records = [usage(team, f"{done['batches']}-{team}") for team in reversed(teams)]
            try:
                charge(store, records)
            except MovedHeads:
                continue
            done["batches"] += 1
        store.close()

    def command() -> None:
        while monotonic() < ends:
            execute(shards, GrantCredits(team_id=teams[done["commands"] % 6], amount_micros=1_000_000))
            done["commands"] += 1

    with ThreadPoolExecutor(2) as pool:
        for each in (pool.submit(consume), pool.submit(command)):
            each.result()

    assert done["batches"] > 5, "commands starved the batches"
    assert done["commands"] > 5, "batches starved the commands"
    expected = granted + done["commands"] * 1_000_000 - done["batches"] * 6 * 1_000_000
    assert rows(database_url, "SELECT sum(settled_micros)::bigint FROM account_balance") == [(expected,)]
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
    assert rows(database_url, deadlocks) == [(0,)]


def test_a_batch_that_waits_for_a_held_account_is_busy_within_its_bound_p7(
    database_url: str, shards: ShardMap
) -> None:
    opened(shards, "acme")
    bounded = ShardMap(database_url, timeouts=Timeouts(lock_milliseconds=500))
    store = PostgresBatchStore(bounded)
    with psycopg.connect(database_url) as holder:
        holder.execute("SELECT 1 FROM account_head WHERE team_id = 'acme' FOR UPDATE")
        started = monotonic()

        with pytest.raises(Busy):
            charge(store, [usage("acme", "u1")])

        assert monotonic() - started < 3
    charge(store, [usage("acme", "u1")])
    store.close()
    bounded.close()


def test_a_batch_refolds_a_head_of_another_schema(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    opened(shards, "acme")
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE account_head SET state_schema = 0, state = 'of another time'")

    charge(store, [usage("acme", "u1")])

    assert rows(database_url, "SELECT version, settled_micros FROM account_balance") == [(3, 999_000_000)]


def test_a_server_that_restarts_is_found_again(own_postgres: LocalPostgres) -> None:
    migrate(own_postgres.url)
    shards = ShardMap(own_postgres.url)
    opened(shards, "acme")
    store = PostgresBatchStore(shards)
    store.register(PARTITION, 0)
    charge(store, [usage("acme", "u0")], advances=[advance(0, 1)])

    own_postgres.kill()
    with pytest.raises(Busy):
        charge(store, [usage("acme", "u1")], advances=[advance(1, 2)])
    own_postgres.start()
    charge(store, [usage("acme", "u1")], advances=[advance(1, 2)])

    execute(shards, GrantCredits(team_id="acme", amount_micros=1_000_000))
    assert rows(own_postgres.url, "SELECT version, settled_micros FROM account_balance") == [(5, 999_000_000)]
    store.close()
    shards.close()


def test_a_large_batch_goes_through_without_hanging(shards: ShardMap, database_url: str) -> None:
    """The library's pipeline hangs on about two megabytes; this batch has more than eight."""
    opened(shards, "acme")
    store = PostgresBatchStore(shards)

    with store.transaction() as transaction:
        records = [usage("acme", f"u{n}", dimensions={"note": "x" * 8_000}) for n in range(1_000)]
        batch = decided(transaction, records)
        batch.contexts = [
            ContextRow("acme", each.usage_key(), "mira", b"s" * 16, b"y" * 8_192) for each in records
        ]
        transaction.write(batch)

    assert rows(database_url, "SELECT count(*), sum(length(state)) > 8000000 FROM ledger_events") == [
        (1_002, True)
    ]
    assert rows(database_url, "SELECT count(*) FROM usage_context WHERE length(context) = 8192") == [(1_000,)]
    store.close()


def test_a_correction_on_an_account_kept_from_before_another_worker_charged_it_is_decided_again_i18(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    opened(shards, "acme", granted=1)
    charge(store, [usage("acme", "u1")])  # the account is kept, without debt
    other = PostgresBatchStore(shards)
    charge(other, [usage("acme", "u2", units=5)])  # 5 of debt, which the account kept does not know
    other.close()
    correction = usage("acme", "u3", status="failed", corrects="u2")

    with pytest.raises(MovedHeads):
        charge(store, [correction])
    charge(store, [correction])

    assert rows(database_url, "SELECT settled_micros, debt_micros FROM account_balance") == [(0, 0)]


def test_a_header_whose_name_holds_nul_is_kept_and_halts_nobody_m11(
    database_url: str, shards: ShardMap, store: PostgresBatchStore
) -> None:
    headers: list[tuple[str, bytes | None]] = [("a\0b", b"\xff"), ("plain", None)]
    letter = DeadLetter(
        partition=PARTITION,
        offset=0,
        arrived_at=when("2026-11-20 09:00"),
        outcome="rejected",
        reason="not_json",
        detail="at byte 3",
        key=None,
        value=b"{",
        headers=headers,
    )

    with store.transaction() as transaction:
        transaction.write(UsageBatch(recorded_at=transaction.now, dead_letters=[letter]))

    (stored,) = DeadLetters(shards).find(LetterFilter())
    assert stored.letter.headers == headers
