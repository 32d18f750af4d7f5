"""An account's index as rows answers what the index in memory answers, and reads no more than it must."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

import psycopg
import pytest
from typing_extensions import override

from api.ports import DenialRepeats
from domain.account.chargebacks import open_chargeback
from domain.account.decision import Decision, account_id
from domain.account.events import CostBasis, CreditsHeld, LimitTerms
from domain.account.funding import grant_credits, top_up_credits
from domain.account.holding import Use, capture_hold, place_hold, release_hold
from domain.account.index import IndexChange, IndexKind, IndexOverlay
from domain.account.limit_terms import set_limit
from domain.account.opening import open_account
from domain.account.refunding import refund_charge
from infra.postgres import heads
from infra.postgres.account_reads import AsyncShards, PostgresAccountReads
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.heads import StoredIndex, key_beyond, last_version_before, load_claims
from infra.postgres.index_rows import change_index
from infra.postgres.ledger_store import Clock
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from tests.builders import micros, when
from tests.infra.stored import charge, rows, told, usage

START = when("2026-11-20 09:00")


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url)
    yield shards
    shards.close()


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url) as connection:
        yield connection


def at(now: datetime) -> Clock:
    """A clock that stands."""
    return lambda _: now


def asked(database_url: str, shards: ShardMap, question: Any) -> Any:
    """What the API's reads answer."""

    async def answer() -> Any:
        pool = AsyncShards(database_url, shards.count)
        try:
            return await question(PostgresAccountReads(pool))
        finally:
            await pool.close()

    return asyncio.run(answer())


# --- entries by the beginning of their key ---


def test_entries_come_as_from_the_index_in_memory_page_by_page(
    connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "INDEX_PAGE_ROWS", 3)
    random.seed(7)
    alphabet = ["a", "b", "é", "\ud7ff", "\ue000", "\U0010ffff", " ", "1"]
    keys = {"".join(random.choices(alphabet, k=random.randint(1, 4))) for _ in range(120)}
    changes = [IndexChange("window", key, key.encode()) for key in sorted(keys)]
    memory = IndexOverlay()
    for change in changes:
        memory.put(change)
    others = [IndexChange("counter", key, b"other") for key in keys]
    cursor = connection.cursor()
    change_index(cursor, 0, [("acme", changes), ("acme", others), ("zebra", changes[:5])])
    stored = StoredIndex(cursor, 0, "acme")

    for prefix in ["", "a", "ab", "é", "\ud7ff", "\ue000", "\U0010ffff", "b\U0010ffff", "nothing"]:
        assert list(stored.latest("window", prefix)) == list(memory.latest("window", prefix)), prefix


def test_the_key_beyond_a_beginning_is_the_least_that_is_greater() -> None:
    assert key_beyond("hold-1") == "hold-2"
    assert key_beyond("\ud7ff") == "\ue000"
    assert key_beyond("a\U0010ffff") == "b"
    assert key_beyond("\U0010ffff") is None
    assert key_beyond("") is None


def test_entries_are_read_by_a_range_of_the_primary_key(connection: psycopg.Connection[Any]) -> None:
    kinds: list[IndexKind] = ["window", "hold"]
    for kind in kinds:
        entries = [IndexChange(kind, f"key-{n:06}", b"x") for n in range(2_000)]
        change_index(connection.cursor(), 0, [("acme", entries)])
    connection.execute("ANALYZE account_index")

    plan = connection.execute(
        "EXPLAIN SELECT key, entry FROM account_index WHERE shard = 0 AND team_id = 'acme' AND kind = 'window'"
        " AND key >= 'key-0001' AND key < 'key-0002' ORDER BY key DESC LIMIT 200"
    ).fetchall()

    lines = " ".join(line for (line,) in plan)
    assert "account_index_pkey" in lines
    assert "AND (key >= 'key-0001'::text) AND (key < 'key-0002'::text))" in lines
    assert "Filter" not in lines


# --- charges since an instant ---


def test_charges_since_an_instant_are_those_recorded_then_or_later(
    database_url: str, shards: ShardMap, connection: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "CHARGES_PAGE_ROWS", 2)
    _opened(shards, "acme")
    expected: list[tuple[datetime, str]] = []
    for hour in range(1, 8):
        now = START + timedelta(hours=hour)
        store = PostgresBatchStore(shards, clock=at(now))
        for record in [usage("acme", f"u{hour}-{n}") for n in range(hour % 3)]:
            charge(store, [record])
            expected.append((now, record.usage_key()))
        store.close()
        if hour % 2:
            held = _held(told(shards, "acme", now, lambda d: place_hold(d, micros(5), _USE, 600)))
            made = told(shards, "acme", now, _capturing(held))
            expected += [(now, each.charge_id) for each in made.events if hasattr(each, "charge_id")]
    index = StoredIndex(connection.cursor(), shards.shard_of("acme"), "acme")

    for minutes in range(0, 8 * 60, 30):
        since = START + timedelta(minutes=minutes)
        found = [(each.recorded_at, each.charge_id) for each in index.charges_since(since)]
        assert sorted(found) == sorted(each for each in expected if each[0] >= since), since


def test_finding_the_first_version_since_an_instant_takes_few_looks(
    shards: ShardMap, connection: psycopg.Connection[Any]
) -> None:
    _opened(shards, "acme")
    for hour in range(100):
        now = START + timedelta(hours=hour)
        told(shards, "acme", now, lambda d: grant_credits(d, micros(1)))
    looks = 0

    class Counting(psycopg.Cursor[Any]):
        @override
        def execute(self, *arguments: Any, **more: Any) -> Any:
            nonlocal looks
            looks += 1
            return super().execute(*arguments, **more)

    cursor = Counting(connection)
    shard = shards.shard_of("acme")
    before = last_version_before(cursor, shard, account_id("acme"), START + timedelta(hours=50))

    assert before == 2 + 50  # opened and granted at the start, then one grant an hour
    assert looks <= 9


# --- claims ---


def test_a_capture_can_be_refunded_and_is_no_claim_of_usage(
    database_url: str, shards: ShardMap, connection: psycopg.Connection[Any]
) -> None:
    _opened(shards, "acme")
    held = _held(told(shards, "acme", START, lambda d: place_hold(d, micros(5), _USE, 600)))
    captured = told(shards, "acme", START, _capturing(held))
    charge_id = next(each.charge_id for each in captured.events if hasattr(each, "charge_id"))
    shard = shards.shard_of("acme")

    on_file = StoredIndex(connection.cursor(), shard, "acme").usage(charge_id)
    told(shards, "acme", START, lambda d: refund_charge(d, charge_id, None, "0" * 32))

    assert on_file is not None
    assert on_file.version == 4
    assert load_claims(connection.cursor(), {shard: [charge_id]}) == {}
    assert StoredIndex(connection.cursor(), shard, "zebra").usage(charge_id) is None
    assert rows(database_url, "SELECT settled_micros FROM account_balance") == [(micros(100),)]


# --- reads ---


def test_ended_holds_come_newest_first_however_many_digits_their_ids_have(
    database_url: str, shards: ShardMap
) -> None:
    _opened(shards, "acme")
    made = []
    for minute in range(12):
        now = START + timedelta(minutes=minute)
        held = _held(told(shards, "acme", now, lambda d: place_hold(d, micros(1), _USE, 600)))
        told(shards, "acme", now, _releasing(held))
        made.append(held)

    async def pages(reads: PostgresAccountReads) -> list[str]:
        found: list[str] = []
        while page := await reads.ended_holds("acme", before=found[-1] if found else None, limit=5):
            assert all(hold.how == "released" for _, hold in page)
            found += [hold_id for hold_id, _ in page]
        return found

    assert asked(database_url, shards, pages) == made[::-1]


def test_the_version_of_an_instant_is_the_newest_recorded_by_then(
    database_url: str, shards: ShardMap
) -> None:
    _opened(shards, "acme")
    for hour in (1, 2, 2, 5):
        told(shards, "acme", START + timedelta(hours=hour), lambda d: grant_credits(d, micros(1)))

    async def versions(reads: PostgresAccountReads) -> list[int]:
        return [await reads.version_as_of("acme", START + timedelta(hours=hour)) for hour in range(-1, 7)]

    assert asked(database_url, shards, versions) == [0, 2, 3, 5, 5, 5, 6, 6]


def test_a_repeated_denial_is_counted_beside_its_event_and_not_appended(
    database_url: str, shards: ShardMap
) -> None:
    _opened(shards, "acme")
    denials = [
        told(
            shards,
            "acme",
            START + timedelta(seconds=n),
            lambda d: place_hold(d, micros(1_000), _USE, 600),
        )
        for n in range(4)
    ]

    assert [len(each.events) for each in denials] == [1, 0, 0, 0]
    assert [each.repeated_denial for each in denials] == [None, 3, 3, 3]
    repeats = asked(database_url, shards, lambda reads: reads.denial_repeats("acme", [1, 2, 3]))
    assert repeats == {3: DenialRepeats(3, START + timedelta(seconds=3))}
    assert verify(shards).findings == []


def test_views_show_limits_with_the_use_of_the_window_that_runs_now_and_what_is_withheld(
    database_url: str, shards: ShardMap
) -> None:
    _opened(shards, "acme")
    basis = CostBasis(500, "EUR")
    told(
        shards,
        "acme",
        START,
        lambda d: top_up_credits(d, micros(50), payment_reference="p", cost_basis=basis),
    )
    ever = LimitTerms(limit_id="ever", window="lifetime", cap_micros=micros(40), hard=False, member="mira")
    for terms in (ever, LimitTerms(limit_id="hourly", window="hour", cap_micros=micros(200))):
        told(shards, "acme", START, _setting(terms))
    store = PostgresBatchStore(shards, clock=at(START))
    charge(store, [usage("acme", "u1", 8, member="mira")])
    store.close()
    told(shards, "acme", START, lambda d: place_hold(d, micros(100), _USE, 86_400))
    told(shards, "acme", START, lambda d: open_chargeback(d, "p"))

    assert rows(
        database_url,
        "SELECT limit_id, limit_window, cap_micros, is_hard, member, used_micros, window_start, window_end"
        " FROM account_limit ORDER BY 1",
    ) == [
        ("ever", "lifetime", micros(40), False, "mira", micros(8), when("1970-01-01 00:00"), None),
        # The hour of the story is over, so nothing was used in the one that runs now.
        ("hourly", "hour", micros(200), True, None, 0, None, None),
    ]
    ((settled, held, withheld),) = rows(
        database_url, "SELECT settled_micros, held_micros, withheld_micros FROM account_balance"
    )
    by_lot = rows(
        database_url, "SELECT sum(held_micros)::bigint, sum(withheld_micros)::bigint FROM account_lot"
    )
    # The hold took what was left of the grant and 8 of what was bought: those stay held, the rest of it is withheld.
    assert (settled, held, withheld) == (micros(142), micros(100), micros(42))
    assert by_lot == [(held, withheld)]
    assert verify(shards).findings == []


def test_repeats_of_a_denial_that_is_not_on_file_are_found_i7(database_url: str, shards: ShardMap) -> None:
    _opened(shards, "acme")
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO denial_repeat (shard, team_id, version, repeats, last_at) VALUES (%s, 'acme', 2, 1, now())",
            (shards.shard_of("acme"),),
        )

    findings = verify(shards).findings

    assert [(each.table, each.team_id, each.version) for each in findings] == [("denial_repeat", "acme", 2)]


def test_views_show_what_is_held_and_verification_agrees_with_every_kind_of_entry_i7(
    database_url: str, shards: ShardMap
) -> None:
    _opened(shards, "acme")
    first = _held(told(shards, "acme", START, lambda d: place_hold(d, micros(5), _USE, 600)))
    told(shards, "acme", START, lambda d: place_hold(d, micros(7), _USE, 900))
    told(shards, "acme", START, lambda d: release_hold(d, first))

    assert rows(
        database_url,
        "SELECT settled_micros, held_micros, withheld_micros, zone, card_id FROM account_balance",
    ) == [(micros(100), micros(7), 0, "UTC", "standard")]
    assert rows(database_url, "SELECT hold_id, held_micros, action, expires_at FROM account_hold") == [
        ("hold-4", micros(7), "image.generate", START + timedelta(seconds=900))
    ]
    assert rows(database_url, "SELECT remaining_micros, held_micros, withheld_micros FROM account_lot") == [
        (micros(100), micros(7), 0)
    ]
    assert verify(shards).findings == []


_USE = Use("image.generate")


def _opened(shards: ShardMap, team: str) -> None:
    told(shards, team, START, lambda d: open_account(d, team, "UTC", 1, "standard"))
    told(shards, team, START, lambda d: grant_credits(d, micros(100)))


def _held(decision: Decision) -> str:
    return next(each.hold_id for each in decision.events if isinstance(each, CreditsHeld))


def _capturing(hold_id: str) -> Callable[[Decision], None]:
    def capture(decision: Decision) -> None:
        charge_id = f"{decision.account.version:032x}"
        capture_hold(decision, hold_id, micros(5), None, charge_id)

    return capture


def _setting(terms: LimitTerms) -> Callable[[Decision], None]:
    return lambda decision: set_limit(decision, terms)


def _releasing(hold_id: str) -> Callable[[Decision], object]:
    return lambda decision: release_hold(decision, hold_id)
