"""A head that somebody edited, swapped or set back is never trusted: the account is folded from its events (J5, I7)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psycopg
import pytest

from domain.account.decision import account_id
from domain.account.state import TeamAccount
from domain.chain import GENESIS
from domain.commands import GrantCredits
from infra.postgres import sealing
from infra.postgres.account_reads import AsyncShards, PostgresAccountReads
from infra.postgres.application import LedgerApplication
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.sealing import HEADS_REFUSED, is_sealed, sealed
from infra.postgres.shards import ShardMap
from infra.postgres.verification import verify
from tests.infra.stored import charge, execute, opened, rows, usage

TEAMS = ("acme", "zebra")
Tampering = Callable[[psycopg.Connection], object]

READ = "SELECT state, version, chain_hash FROM account_head WHERE team_id = %s"
WRITE = "UPDATE account_head SET state = %b WHERE team_id = %s"


def flip_a_byte(connection: psycopg.Connection) -> None:
    """One digit of what is settled is another one."""
    state = _state(connection, "acme")
    at = state.index(b'"settled_micros":') + len(b'"settled_micros":')
    connection.execute(WRITE, (state[:at] + b"9" + state[at + 1 :], "acme"))


def give_more_and_no_seal(connection: psycopg.Connection) -> None:
    """The state is written anew without its seal."""
    account = json.loads(_state(connection, "acme"))
    del account["mac"]
    account["debt_micros"] = 7
    connection.execute(WRITE, (json.dumps(account).encode(), "acme"))


def put_the_state_of_another_team(connection: psycopg.Connection) -> None:
    """Zebra's state, seal and all, under acme's name."""
    state = _state(connection, "zebra").replace(b'"team_id":"zebra"', b'"team_id":"acme"')
    connection.execute(WRITE, (state, "acme"))


def set_it_back(connection: psycopg.Connection) -> None:
    """A state that was sealed once, of an earlier version."""
    connection.execute(
        "UPDATE account_head SET state = %b WHERE team_id = 'acme'",
        (sealed(_bare(_state(connection, "acme")), account_id("acme"), 1, GENESIS),),
    )


def break_the_chain(connection: psycopg.Connection) -> None:
    """What the next event would be chained to is something else."""
    connection.execute("UPDATE account_head SET chain_hash = %b WHERE team_id = 'acme'", (bytes(32),))


TAMPERINGS: list[Tampering] = [
    flip_a_byte,
    give_more_and_no_seal,
    put_the_state_of_another_team,
    set_it_back,
    break_the_chain,
]


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    shards = ShardMap(database_url)
    opened(shards, *TEAMS)
    yield shards
    shards.close()


@pytest.mark.parametrize("tamper", TAMPERINGS)
def test_j5_a_command_decides_on_the_events_and_makes_the_head_right_again(
    tamper: Tampering, database_url: str, shards: ShardMap
) -> None:
    _tampered(database_url, tamper)

    with refused(1):
        answer = execute(shards, GrantCredits(team_id="acme", amount_micros=5_000_000))

    assert (answer.settled_micros, answer.debt_micros) == (1_005_000_000, 0)
    _is_right(database_url, shards)


@pytest.mark.parametrize("tamper", TAMPERINGS)
def test_j5_a_batch_decides_on_the_events(tamper: Tampering, database_url: str, shards: ShardMap) -> None:
    _tampered(database_url, tamper)
    store = PostgresBatchStore(shards)

    charge(store, [usage("acme", "u1"), usage("zebra", "u2")])
    store.close()

    assert [_account(shards, team).settled_micros for team in TEAMS] == [999_000_000] * 2
    _is_right(database_url, shards)


@pytest.mark.parametrize("tamper", TAMPERINGS)
def test_j5_a_read_tells_what_the_events_say(tamper: Tampering, database_url: str, shards: ShardMap) -> None:
    _tampered(database_url, tamper)

    async def read() -> TeamAccount:
        homes = AsyncShards(database_url, shards.count)
        try:
            found = await PostgresAccountReads(homes).account("acme")
        finally:
            await homes.close()
        assert found is not None
        return found.account

    account = asyncio.run(read())

    assert (account.settled_micros, account.debt_micros) == (1_000_000_000, 0)
    assert _account(shards, "acme") == account


def test_a_head_sealed_under_an_older_key_is_still_ours_and_under_a_foreign_one_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = (account_id("acme"), 3, bytes(32))
    seal_with(monkeypatch, "a" * 32)
    state = sealed(b'{"team_id":"acme"}', *place)

    seal_with(monkeypatch, f"{'b' * 32},{'a' * 32}")
    assert is_sealed(state, *place)
    assert sealed(b'{"team_id":"acme"}', *place) != state

    seal_with(monkeypatch, "b" * 32)
    assert not is_sealed(state, *place)


def seal_with(monkeypatch: pytest.MonkeyPatch, keys: str) -> None:
    monkeypatch.setattr(sealing, "_keys", lambda: [key.encode() for key in keys.split(",")])


@contextmanager
def refused(heads: int) -> Iterator[None]:
    """So many heads are refused while the block runs."""
    before = HEADS_REFUSED._value.get()
    yield
    assert HEADS_REFUSED._value.get() - before == heads


def _tampered(database_url: str, tamper: Tampering) -> None:
    with psycopg.connect(database_url) as connection:
        before = connection.execute(READ, ("acme",)).fetchone()
        tamper(connection)
        assert connection.execute(READ, ("acme",)).fetchone() != before


def _state(connection: psycopg.Connection, team_id: str) -> bytes:
    row = connection.execute(READ, (team_id,)).fetchone()
    assert row is not None
    return bytes(row[0])


def _bare(state: bytes) -> bytes:
    return state[: state.index(b',"mac":')] + b"}"


def _account(shards: ShardMap, team_id: str) -> TeamAccount:
    with LedgerApplication(shards, shards.shard_of(team_id)) as application:
        return application.account(team_id)


def _is_right(database_url: str, shards: ShardMap) -> None:
    """Every head is as a replay of its events, and the chain goes on where it was."""
    for state, version, chain_hash, account in rows(
        database_url, "SELECT state, version, chain_hash, account_id FROM account_head"
    ):
        assert is_sealed(state, account, version, chain_hash)
    assert [finding for finding in verify(shards).findings if finding.table != "statement_entry"] == []
