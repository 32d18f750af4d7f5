"""Accounts that an older version wrote: migrated, or written to before that, they are as if folded by today's rules."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import msgspec
import psycopg
import pytest

from domain.account.decision import account_id
from domain.account.events import CostBasis
from domain.account.index import TopUp
from domain.account.state import STATE_SCHEMA
from domain.chain import GENESIS, event_hash
from domain.commands import GrantCredits, TopUpCredits
from domain.errors import PaymentReferenceUsed
from domain.shards import shard_of
from domain.usage import usage_key
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.connections import Timeouts
from infra.postgres.migrations import migrate
from infra.postgres.refolding import Refolded
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from tests.infra.stored import charge, execute, opened, rows, usage

EmptyDatabase = Callable[[], AbstractContextManager[str]]
SHARDS = 4
_IMPATIENT = Timeouts(lock_milliseconds=300)
TEAMS = ("acme", "zebra", "mira", "otto", "nils")


@pytest.fixture
def older(empty_database: EmptyDatabase) -> Iterator[str]:
    """A database as the release before left it: tables, rows and bytes of that time."""
    with empty_database() as url:
        migrate(url, SHARDS, revision="0004")
        with psycopg.connect(url) as connection:
            for team in TEAMS:
                _write_as_then(connection, team)
        yield url


def test_migrating_folds_every_older_head_again_with_its_whole_index_i9(older: str) -> None:
    told = migrate(older, SHARDS)

    assert told == Refolded(accounts=len(TEAMS))
    assert rows(older, "SELECT DISTINCT state_schema FROM account_head") == [(STATE_SCHEMA,)]
    balances = rows(older, "SELECT team_id, version, settled_micros FROM account_balance ORDER BY 1")
    assert balances == [(team, 4, 0) for team in sorted(TEAMS)]
    kinds = rows(older, "SELECT kind, count(*) FROM account_index GROUP BY 1 ORDER BY 1")
    assert kinds == [("breakage", len(TEAMS)), ("lot", len(TEAMS)), ("top_up", len(TEAMS))]


def test_a_reference_that_bought_before_the_migration_buys_no_more(older: str) -> None:
    migrate(older, SHARDS)
    shards = ShardMap(older)

    with pytest.raises(PaymentReferenceUsed):
        execute(shards, _top_up("acme", "pay-acme"))

    shards.close()


def test_verification_finds_nothing_after_the_migration_i7(older: str) -> None:
    migrate(older, SHARDS)
    shards = ShardMap(older)

    assert verify(shards).findings == []

    shards.close()


def test_an_account_that_somebody_holds_is_left_for_the_next_run(
    older: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.postgres.migrations.Timeouts", lambda: _IMPATIENT)
    migrate(older, SHARDS, revision="0011")
    with psycopg.connect(older) as holder:
        holder.execute("SELECT FROM account_head WHERE team_id = 'mira' FOR UPDATE")

        first = migrate(older, SHARDS)

    assert (first.accounts, first.busy) == (len(TEAMS) - 1, ["mira"])
    assert migrate(older, SHARDS) == Refolded(accounts=1)
    assert migrate(older, SHARDS) == Refolded()


def test_an_account_of_a_newer_shape_is_named_and_the_others_are_folded(older: str) -> None:
    with psycopg.connect(older) as connection:
        _append(connection, "otto", [("CreditsLent.1", {}, None)])

    told = migrate(older, SHARDS)

    assert (told.accounts, told.unreadable) == (len(TEAMS) - 1, ["otto"])


def test_progress_is_told(older: str) -> None:
    told: list[int] = []

    migrate(older, SHARDS, progress=lambda so_far: told.append(so_far.accounts))

    assert told[-1] == len(TEAMS)


def test_whoever_writes_first_makes_the_index_of_an_older_account_whole(
    database_url: str,
) -> None:
    shards = ShardMap(database_url)
    opened(shards, "acme", "zebra", granted=0)
    for team in ("acme", "zebra"):
        execute(shards, _top_up(team, f"pay-{team}"))
    with psycopg.connect(database_url) as connection:
        before = connection.execute("SELECT * FROM account_index ORDER BY team_id, kind, key").fetchall()
        connection.execute("DELETE FROM account_index")
        connection.execute(
            "UPDATE account_head SET state_schema = 2, state = 'of another time', next_due_at = NULL"
        )
    store = PostgresBatchStore(shards)

    charge(store, [usage("acme", "u1")])  # the stream writes to one of them
    store.close()
    execute(shards, GrantCredits(team_id="zebra", amount_micros=1))  # a command to the other

    assert rows(database_url, "SELECT * FROM account_index ORDER BY team_id, kind, key") == before
    for team in ("acme", "zebra"):
        with pytest.raises(PaymentReferenceUsed):
            execute(shards, _top_up(team, f"pay-{team}"))
    shards.close()


def test_what_the_index_says_of_a_top_up_is_read_from_its_event(older: str) -> None:
    migrate(older, SHARDS)

    ((entry,),) = rows(older, "SELECT entry FROM account_index WHERE team_id = 'acme' AND kind = 'top_up'")

    top_up = msgspec.json.decode(entry, type=TopUp)
    assert (top_up.status, top_up.amount_micros, top_up.lot_id) == ("settled", 30_000_000, "lot-2")
    assert top_up.cost_basis == CostBasis(300, "EUR")


def _top_up(team: str, reference: str) -> TopUpCredits:
    return TopUpCredits(
        team_id=team, amount_micros=30_000_000, payment_reference=reference, cost_basis=CostBasis(300, "EUR")
    )


def _write_as_then(connection: psycopg.Connection[tuple[object, ...]], team: str) -> None:
    """Opened, topped up with 30, charged 10, the rest expired: the bytes of the first release, and a head of schema 2."""
    charge_id = usage_key(team, "urn:test:usage", "u")
    actor = {"actor": {"id": "tester", "role": "operator"}}
    first = {"recorded_at": "2026-11-01T00:00:00Z", **actor}
    lot = {
        "lot_id": "lot-2",
        "number": 2,
        "source": "purchased",
        "origin_lot_id": "lot-2",
        "granted_at": "2026-11-01T00:00:00Z",
        "effective_at": "2026-11-01T00:00:00Z",
        "expires_at": "2026-11-02T00:00:00Z",
        "cost_basis": {"price_minor": 300, "currency": "EUR", "tax_minor": 0},
    }
    connection.execute(
        "INSERT INTO account_head (shard, team_id, account_id, version, chain_hash, state, state_schema, recorded_at)"
        " VALUES (%s, %s, %s, 0, %s, '{}', 2, '2026-11-01')",
        (shard_of(team, SHARDS), team, account_id(team), GENESIS),
    )
    events: list[tuple[str, dict[str, object], str | None]] = [
        (
            "AccountOpened.1",
            {**first, "team_id": team, "zone": "UTC", "anchor_day": 1, "card_id": "standard"},
            None,
        ),
        (
            "CreditsToppedUp.1",
            {
                **first,
                "settled_after_micros": 30_000_000,
                "debt_after_micros": 0,
                "lot": lot,
                "amount_micros": 30_000_000,
                "payment_reference": f"pay-{team}",
            },
            None,
        ),
        (
            "CreditsCharged.1",
            {
                "recorded_at": "2026-11-01T10:00:00Z",
                **actor,
                "settled_after_micros": 20_000_000,
                "debt_after_micros": 0,
                "charge_id": charge_id,
                "source": "urn:test:usage",
                "id": "u",
                "occurred_at": "2026-11-01T10:00:00Z",
                "action": "image.generate",
                "meters": {"units": "10"},
                "content_digest": "55418ef70e7a629cd402754dd420ff7cf80429f2f388a3d157e96443bf89195a",
                "card": {"card_id": "standard", "version": 1, "digest": "5d06a531fb27f159"},
                "computation": {"amount": "10"},
                "amount_micros": 10_000_000,
                "lines": [["lot-2", 10_000_000]],
            },
            charge_id,
        ),
        (
            "CreditsExpired.1",
            {
                "recorded_at": "2026-11-05T10:00:00Z",
                **actor,
                "settled_after_micros": 0,
                "debt_after_micros": 0,
                "due_id": usage_key(team, "urn:due", "lot-2"),
                "effective_at": "2026-11-03T00:00:00Z",
                "lot_id": "lot-2",
                "amount_micros": 20_000_000,
            },
            usage_key(team, "urn:due", "lot-2"),
        ),
    ]
    _append(connection, team, events)
    connection.execute(
        "UPDATE account_head SET recorded_at = '2026-11-05 10:00+00' WHERE team_id = %s", (team,)
    )
    connection.execute(
        "INSERT INTO account_index (shard, team_id, kind, key, entry) VALUES (%s, %s, 'lot', 'lot-2', %b)",
        (shard_of(team, SHARDS), team, json.dumps(lot, separators=(",", ":")).encode()),
    )
    connection.execute(
        "INSERT INTO payment_reference (shard, team_id, reference, version) VALUES (%s, %s, %s, 2)",
        (shard_of(team, SHARDS), team, f"pay-{team}"),
    )


def _append(
    connection: psycopg.Connection[tuple[object, ...]],
    team: str,
    events: list[tuple[str, dict[str, object], str | None]],
) -> None:
    shard, originator = shard_of(team, SHARDS), account_id(team)
    for topic, said, claim in events:
        state = json.dumps(said, separators=(",", ":")).encode()
        head = connection.execute(
            "UPDATE account_head SET version = version + 1 WHERE team_id = %s RETURNING version, chain_hash",
            (team,),
        ).fetchone()
        position = connection.execute(
            "UPDATE shard_log SET position = position + 1 WHERE shard = %s RETURNING position", (shard,)
        ).fetchone()
        assert head is not None
        assert position is not None
        version, previous = head
        assert isinstance(version, int)
        assert isinstance(previous, bytes)
        own = event_hash(previous, originator.bytes, version, topic, state)
        connection.execute(
            "INSERT INTO ledger_events (shard, originator_id, originator_version, position, topic, state, usage_key,"
            " previous_hash, hash) VALUES (%s, %s, %s, %s, %s, %b, %s, %b, %b)",
            (shard, originator, version, position[0], topic, state, claim, previous, own),
        )
        connection.execute("UPDATE account_head SET chain_hash = %b WHERE team_id = %s", (own, team))
