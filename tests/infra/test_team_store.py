"""People and paperwork in a real database: one log and one transaction with the account, and nobody edits them unseen."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import sha256
from itertools import count
from threading import Barrier

import psycopg
import pytest
from eventsourcing.persistence import DataError, StoredEvent

from api.ports import StoredTeamEvent, TeamOnFile
from domain.account.adjusting import raise_balance
from domain.account.decision import Decision, copy_of
from domain.account.funding import grant_credits
from domain.account.opening import open_account
from domain.actors import Actor
from domain.commands import BillingDetails, PaymentMethod
from domain.errors import Busy, CardNumberRefused, MemberRefused, SecondPersonNeeded, UnknownAdjustment
from domain.team.deciding import (
    ADJUSTMENT_CAP_MICROS,
    add_member,
    approve_adjustment,
    change_member_role,
    propose_adjustment,
    remove_member,
    set_billing_details,
    set_payment_method,
)
from domain.team.decision import TeamDecision
from domain.team.state import TEAM_SCHEMA, Team, team_stream_id
from infra.postgres.account_reads import AsyncShards, PostgresAccountReads
from infra.postgres.application import LedgerApplication
from infra.postgres.histories import PostgresEvents
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.mapper import HEAD_TOPIC
from infra.postgres.read_models import Projector, StatementModel
from infra.postgres.shards import ShardMap
from infra.postgres.verification import Verified, verify
from tests.infra.stored import rows
from tests.infra.test_chain_in_sql import documented_query

SUE, TIM = Actor("sue", "support"), Actor("tim", "support")
BIG = ADJUSTMENT_CAP_MICROS + 1
DETAILS = BillingDetails(name="Acme GmbH", address_lines=["Weg 1"], country="DE")
METHOD = PaymentMethod(token="pm_abc", brand="visa", last_four="1111", expires_month=12, expires_year=2050)
_keys = count(1)

Decide = Callable[[TeamDecision, Decision], object]


@pytest.fixture
def shards(database_url: str) -> Iterator[ShardMap]:
    """A ledger in which acme and globex have accounts, and acme has people and paperwork."""
    shards = ShardMap(database_url, connections_max=16)
    for team_id in ("acme", "globex"):
        open_one(shards, team_id)
    done(shards, "acme", lambda team, _: add_member(team, "ann", "owner"))
    done(shards, "acme", lambda team, _: add_member(team, "bob", "member"))
    done(shards, "acme", lambda team, _: set_billing_details(team, DETAILS))
    yield shards
    shards.close()


def open_one(shards: ShardMap, team_id: str) -> None:
    """The team has an account with a grant."""
    with PostgresLedgerStore(shards).session(team_id) as session:
        decision = Decision(None, session.now, SUE, session.index)
        open_account(decision, team_id)
        grant_credits(decision, 5_000_000)
        key = f"open-{team_id}"
        session.save(
            decision.account,
            decision,
            0,
            principal="sue",
            key=key,
            body_digest=sha256(b"").digest(),
            answer=b"{}",
        )


def done(shards: ShardMap, team_id: str, decide: Decide, actor: Actor = SUE, reason: str = "why") -> object:
    """What was decided on the team, and on its account, in one session; returns what deciding returned."""
    with PostgresLedgerStore(shards).session(team_id) as session:
        assert session.account is not None
        expected = session.account.version
        decision = Decision(copy_of(session.account), session.now, actor, session.index, None, reason)
        team = TeamDecision(session.load_team(), decision.at, actor, None, reason)
        answer = decide(team, decision)
        session.save(
            decision.account,
            decision,
            expected,
            principal=actor.id,
            key=f"key-{next(_keys)}",
            body_digest=sha256(b"").digest(),
            answer=b"{}",
            team=team,
        )
    return answer


def propose(team: TeamDecision, _: Decision) -> str:
    """An adjustment above the cap waits."""
    return propose_adjustment(team, "raise", BIG)


def approve(adjustment_id: str) -> Decide:
    """The adjustment is approved, and the account adjusted with it."""

    def decide(team: TeamDecision, account: Decision) -> None:
        proposed = approve_adjustment(team, adjustment_id)
        raise_balance(account, proposed.amount_micros, adjustment_id)

    return decide


def now(shards: ShardMap, team_id: str = "acme") -> Team:
    """The team as its head says."""
    with PostgresLedgerStore(shards).session(team_id) as session:
        return session.load_team()


async def reading(
    database_url: str, team_id: str
) -> tuple[TeamOnFile | None, list[StoredTeamEvent], list[str], int]:
    """What the API reads: the team, its events, the topics of its account's, and the account's version at the end of the log."""
    async_shards = AsyncShards(database_url, 8)
    reads = PostgresAccountReads(async_shards)
    try:
        team = await reads.team(team_id)
        paperwork = await reads.paperwork(team_id, limit=100)
        events = [stored.topic for stored in await reads.events(team_id, limit=100)]
        return team, paperwork, events, await reads.version_at(team_id, 2**40)
    finally:
        await async_shards.close()


def read(
    database_url: str, team_id: str = "acme"
) -> tuple[TeamOnFile | None, list[StoredTeamEvent], list[str], int]:
    """As ``reading``."""
    return asyncio.run(reading(database_url, team_id))


def edited(database_url: str, statement: str, *values: object) -> None:
    """Somebody with all rights changed one row that was written."""
    with psycopg.connect(database_url) as connection:
        connection.execute("SET session_replication_role = replica")
        assert connection.execute(statement.encode(), values).rowcount == 1


# --- one log, one transaction ---


def test_what_was_decided_is_read_back_by_the_next_session(shards: ShardMap) -> None:
    team = now(shards)

    assert team.version == 3
    assert {member: at.role for member, at in team.members.items()} == {"ann": "owner", "bob": "member"}
    assert team.billing_details == DETAILS
    assert now(shards, "globex") == Team(team_id="globex")


def test_an_approval_and_the_adjustment_are_one_transaction_one_instant_and_neighbours_in_the_log(
    database_url: str, shards: ShardMap
) -> None:
    done(shards, "acme", propose)

    done(shards, "acme", approve("adjustment-4"), TIM)

    log = rows(
        database_url,
        "SELECT topic, convert_from(state, 'UTF8')::jsonb ->> 'recorded_at', position, xmin::text FROM ledger_events"
        " WHERE shard = %s ORDER BY position DESC LIMIT 2",
        shards.shard_of("acme"),
    )
    assert [topic for topic, *_ in log] == ["BalanceRaised.1", "AdjustmentApproved.1"]
    assert log[0][1] == log[1][1]
    assert log[0][2] == log[1][2] + 1
    assert log[0][3] == log[1][3]
    assert now(shards).adjustments == {}
    assert rows(
        database_url, "SELECT settled_micros, version FROM account_balance WHERE team_id = 'acme'"
    ) == [(5_000_000 + BIG, 3)]


def test_when_the_account_refuses_the_approval_did_not_happen_i15(
    database_url: str, shards: ShardMap
) -> None:
    done(shards, "acme", propose)
    before = rows(database_url, "SELECT team_id, version, chain_hash FROM team_head")

    def refuse(team: TeamDecision, _: Decision) -> None:
        approve_adjustment(team, "adjustment-4")
        raise MemberRefused("the account said no")

    with pytest.raises(MemberRefused):
        done(shards, "acme", refuse, TIM)

    assert rows(database_url, "SELECT team_id, version, chain_hash FROM team_head") == before
    assert list(now(shards).adjustments) == ["adjustment-4"]


def test_paperwork_leaves_the_account_and_its_version_alone(database_url: str, shards: ShardMap) -> None:
    before = rows(database_url, "SELECT * FROM account_head ORDER BY team_id")

    done(shards, "acme", lambda team, _: set_payment_method(team, METHOD))

    assert rows(database_url, "SELECT * FROM account_head ORDER BY team_id") == before


def test_positions_of_a_shard_have_no_gap_whoever_wrote_i3(database_url: str, shards: ShardMap) -> None:
    done(shards, "acme", propose)
    done(shards, "acme", approve("adjustment-4"), TIM)
    with pytest.raises(SecondPersonNeeded):
        done(
            shards,
            "acme",
            lambda team, account: (propose(team, account), approve_adjustment(team, "adjustment-6")),
        )

    for shard, positions, last in rows(
        database_url,
        "SELECT shard, array_agg(e.position ORDER BY e.position), max(l.position) FROM ledger_events e"
        " JOIN shard_log l USING (shard) GROUP BY 1",
    ):
        assert positions == list(range(1, last + 1)), shard


def test_a_refused_card_number_is_nowhere_in_the_database_i23(database_url: str, shards: ShardMap) -> None:
    number = "4111111111111111"
    with pytest.raises(CardNumberRefused):
        done(
            shards,
            "acme",
            lambda team, _: set_payment_method(
                team,
                PaymentMethod(
                    token=number, brand="visa", last_four="1111", expires_month=12, expires_year=2050
                ),
            ),
        )

    found = rows(
        database_url,
        "SELECT count(*) FROM ledger_events WHERE position(%s::bytea IN state) > 0",
        number.encode(),
    )
    assert found == [(0,)]


# --- one at a time ---


def test_of_two_approvers_at_once_one_approves_and_the_other_is_told_h3(
    database_url: str, shards: ShardMap
) -> None:
    done(shards, "acme", propose)
    start = Barrier(6)

    def attempt(number: int) -> object:
        start.wait()
        try:
            return done(shards, "acme", approve("adjustment-4"), Actor(f"approver-{number}", "support"))
        except (UnknownAdjustment, Busy) as error:
            return error

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(attempt, range(6)))

    assert outcomes.count(None) == 1, outcomes
    assert sum(isinstance(each, UnknownAdjustment) for each in outcomes) == 5, outcomes
    assert rows(database_url, "SELECT settled_micros FROM account_balance WHERE team_id = 'acme'") == [
        (5_000_000 + BIG,)
    ]


def test_of_two_owners_who_leave_at_once_one_stays(shards: ShardMap) -> None:
    done(shards, "acme", lambda team, _: change_member_role(team, "bob", "owner"))
    start = Barrier(2)

    def attempt(member: str) -> object:
        start.wait()
        try:
            return done(shards, "acme", lambda team, _: remove_member(team, member))
        except MemberRefused as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        outcomes = list(pool.map(attempt, ["ann", "bob"]))

    assert sum(isinstance(each, MemberRefused) for each in outcomes) == 1
    assert len(now(shards).owners()) == 1


def test_a_decision_on_a_team_that_moved_is_not_written(database_url: str, shards: ShardMap) -> None:
    stale = TeamDecision(now(shards), datetime.now(UTC), SUE)
    add_member(stale, "cyd", "viewer")
    done(shards, "acme", lambda team, _: add_member(team, "dan", "viewer"))

    with pytest.raises(Busy, match="at version 4, decided on 3"):
        save(shards, stale, "stale")

    assert "cyd" not in now(shards).members
    assert rows(database_url, "SELECT count(*) FROM idempotency WHERE key = 'stale'") == [(0,)]


def save(shards: ShardMap, team: TeamDecision, key: str) -> None:
    """The decision on the team is written, and nothing on its account."""
    with PostgresLedgerStore(shards).session(team.team.team_id) as session:
        assert session.account is not None
        session.save(
            session.account,
            Decision(session.account, session.now, SUE, session.index),
            session.account.version,
            principal="sue",
            key=key,
            body_digest=sha256(b"").digest(),
            answer=b"{}",
            team=team,
        )


# --- whoever reads the log ---


def test_a_head_of_another_schema_is_folded_again_and_written_anew(
    database_url: str, shards: ShardMap
) -> None:
    before = now(shards)
    edited(database_url, "UPDATE team_head SET state = '{}', state_schema = 0 WHERE team_id = 'acme'")
    told, *_ = read(database_url)

    assert now(shards) == before
    assert told is not None
    assert told.team == before
    done(shards, "acme", lambda team, _: add_member(team, "cyd", "viewer"))
    assert rows(database_url, "SELECT state_schema, version FROM team_head WHERE team_id = 'acme'") == [
        (TEAM_SCHEMA, 4)
    ]


def test_an_accounts_history_and_a_teams_are_each_their_own(database_url: str, shards: ShardMap) -> None:
    done(shards, "acme", propose)
    done(shards, "acme", approve("adjustment-4"), TIM)

    told, paperwork, account_topics, version = read(database_url)

    assert account_topics == ["AccountOpened.1", "CreditsGranted.1", "BalanceRaised.1"]
    assert version == 3
    assert [stored.version for stored in paperwork] == [1, 2, 3, 4, 5]
    assert [type(stored.event).__name__ for stored in paperwork][-2:] == [
        "AdjustmentProposed",
        "AdjustmentApproved",
    ]
    assert told is not None
    assert told.team == now(shards)
    assert (
        told.position
        == rows(database_url, "SELECT position FROM shard_log WHERE shard = %s", shards.shard_of("acme"))[0][
            0
        ]
    )
    histories = PostgresEvents(shards)
    assert [type(each.event).TOPIC for each in histories.events("acme")] == account_topics
    assert [each.event for each in histories.paperwork("acme", after=3)] == [
        stored.event for stored in paperwork[3:]
    ]
    assert [each.originator_id for each in histories.paperwork("acme", until=1)] == [team_stream_id("acme")]


def test_a_team_without_paperwork_is_empty_and_one_without_an_account_is_none(
    database_url: str, shards: ShardMap
) -> None:
    assert shards.count == 8
    told, paperwork, *_ = read(database_url, "globex")

    assert told is not None
    assert told.team == Team(team_id="globex")
    assert paperwork == []
    assert read(database_url, "nobody")[0] is None


def test_the_library_reads_both_streams_of_the_log(shards: ShardMap) -> None:
    application = LedgerApplication(shards, shards.shard_of("acme"))

    log = [note.topic for note in application.notification_log.select(start=1, limit=10)]

    assert {"AccountOpened.1", "MemberJoined.1", "BillingDetailsChanged.1"} <= set(log)
    assert HEAD_TOPIC not in log
    assert application.team("acme") == now(shards)
    assert application.team("acme", version=1).version == 1
    assert application.account("acme").version == 2
    application.close()


def test_the_library_does_not_write_paperwork_past_the_accounts_lock(
    database_url: str, shards: ShardMap
) -> None:
    _, paperwork, *_ = read(database_url)
    recorder = LedgerApplication(shards, shards.shard_of("acme")).recorder
    last = paperwork[-1]

    with pytest.raises(DataError, match="is written with the head of its own stream"):
        recorder.insert_events([StoredEvent(team_stream_id("acme"), 4, last.topic, last.state)])

    assert now(shards).version == 3


def test_the_statement_passes_over_paperwork_and_moves_on(database_url: str, shards: ShardMap) -> None:
    done(shards, "acme", propose)
    done(shards, "acme", approve("adjustment-4"), TIM)
    done(shards, "acme", lambda team, _: set_payment_method(team, METHOD))
    shard = shards.shard_of("acme")
    with shards.own_connection_for(shard) as connection:
        connection.autocommit = True
        batches = [Projector(StatementModel()).advance(connection, shard, limit=2) for _ in range(10)]

    last = rows(database_url, "SELECT position FROM shard_log WHERE shard = %s", shard)
    assert rows(database_url, "SELECT position, halted FROM tracking WHERE shard = %s", shard) == [
        (last[0][0], None)
    ]
    assert batches[-1] is None
    assert rows(database_url, "SELECT kind FROM statement_entry WHERE team_id = 'acme' ORDER BY version") == [
        ("CreditsGranted",),
        ("BalanceRaised",),
    ]


# --- nobody edits it unseen ---


def checked(shards: ShardMap, **what: str) -> Verified:
    """What verify says."""
    return verify(shards, **what)  # type: ignore[arg-type]


def places(told: Verified) -> list[tuple[str, str | None, int | None, str]]:
    """Where verify found differences."""
    return [(each.table, each.team_id, each.version, each.what) for each in told.findings]


def test_a_sound_ledger_with_paperwork_is_sound_and_every_event_is_counted(shards: ShardMap) -> None:
    done(shards, "acme", propose)
    done(shards, "acme", approve("adjustment-4"), TIM)

    told = checked(shards)

    assert told.is_sound, places(told)
    assert (told.teams, told.events, told.events_in_log) == (2, 10, 10)
    assert checked(shards, team_id="acme").events == 8


OF_ACME = f"originator_id = '{team_stream_id('acme')}'"
RENAMED = "convert_to(replace(convert_from(state, 'UTF8'), 'bob', 'eve'), 'UTF8')"
EDITS = {
    "an event edited": (
        f"UPDATE ledger_events SET state = {RENAMED} WHERE originator_version = 2 AND {OF_ACME}",
        [
            ("ledger_events", "acme", 2, "paperwork: hash of the stored bytes"),
            ("team_head", "acme", 3, "state.members"),
        ],
    ),
    "an event dropped": (
        f"DELETE FROM ledger_events WHERE originator_version = 2 AND {OF_ACME}",
        [("ledger_events", "acme", 2, "paperwork: event")],
    ),
    "the last event dropped": (
        f"DELETE FROM ledger_events WHERE originator_version = 3 AND {OF_ACME}",
        [("ledger_events", "acme", 3, "paperwork: event"), ("team_head", "acme", 3, "version")],
    ),
    "a claim made": (
        f"UPDATE ledger_events SET usage_key = gen_random_uuid() WHERE originator_version = 1 AND {OF_ACME}",
        [("ledger_events", "acme", 1, "paperwork: usage_key")],
    ),
    "another topic": (
        f"UPDATE ledger_events SET topic = 'AccountClosed.1' WHERE originator_version = 3 AND {OF_ACME}",
        [("ledger_events", "acme", 3, "paperwork: hash of the stored bytes")],
    ),
    "a member in the head": (
        f"UPDATE team_head SET state = {RENAMED} WHERE team_id = 'acme'",
        [("team_head", "acme", 3, "state.members")],
    ),
    "the head's hash": (
        "UPDATE team_head SET chain_hash = sha256('') WHERE team_id = 'acme'",
        [("team_head", "acme", 3, "chain_hash")],
    ),
    "the head's instant": (
        "UPDATE team_head SET recorded_at = recorded_at + interval '1 second' WHERE team_id = 'acme'",
        [("team_head", "acme", 3, "recorded_at")],
    ),
    "the head gone": (
        "DELETE FROM team_head WHERE team_id = 'acme'",
        [("team_head", "acme", 3, "head")],
    ),
}


@pytest.mark.parametrize("edit", sorted(EDITS))
def test_verify_names_team_and_version_of_what_was_edited_i11(
    database_url: str, shards: ShardMap, edit: str
) -> None:
    statement, expected = EDITS[edit]
    edited(database_url, statement)

    assert places(checked(shards, team_id="acme")) == expected
    assert set(expected) <= set(places(checked(shards)))


def test_a_head_without_an_account_is_found(database_url: str, shards: ShardMap) -> None:
    edited(database_url, "UPDATE team_head SET team_id = 'zoe' WHERE team_id = 'acme'")

    assert ("team_head", "zoe", 3, "head of the account") in places(checked(shards))


@pytest.mark.usefixtures("shards")
def test_the_documented_query_tells_the_streams_of_a_team_apart_i11(database_url: str) -> None:
    assert rows(database_url, documented_query()) == []
    edited(
        database_url, f"UPDATE ledger_events SET state = {RENAMED} WHERE originator_version = 2 AND {OF_ACME}"
    )
    edited(database_url, "UPDATE team_head SET chain_hash = sha256('') WHERE team_id = 'acme'")

    assert rows(database_url, documented_query()) == [
        ("acme", "team", 2, "hash"),
        ("acme", "team", 3, "head"),
    ]
