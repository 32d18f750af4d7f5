"""The projector follows the log exactly: it resumes, never doubles, and one bad event stops one projection on one shard."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import psycopg
import pytest
from psycopg import Cursor
from psycopg.rows import TupleRow
from typing_extensions import override

from domain.account.applying import fold
from infra.postgres.mapper import ACCOUNT_SHAPES
from infra.postgres.read_models import (
    CannotProject,
    Moved,
    PostgresStatement,
    Projector,
    StatementModel,
    StoredEvent,
    Taking,
    Target,
    read_events,
)
from infra.postgres.shards import ShardMap
from infra.project import ProjectorLoop, read_models
from projections.statement import PAGE_ROWS_MAX, StatementRow
from tests.projections.ledgers import a_ledger, more_life, tamper
from tests.projections.streams import rows_of_stream

REPOSITORY = Path(__file__).resolve().parents[2]


def folded_rows(shards: ShardMap, team_id: str) -> list[StatementRow]:
    """The team's statement worked out from its stored events by the pure function."""
    shard = shards.shard_of(team_id)
    with shards.own_connection_for(shard) as connection:
        stored = connection.execute(
            "SELECT e.topic, e.state FROM ledger_events e JOIN account_head h"
            " ON h.shard = e.shard AND h.account_id = e.originator_id"
            " WHERE h.shard = %s AND h.team_id = %s ORDER BY e.originator_version",
            (shard, team_id),
        ).fetchall()
    events = [ACCOUNT_SHAPES.decode(topic, state) for topic, state in stored]
    account, _ = fold(None, events)
    assert account is not None
    return rows_of_stream(events, team_id, shard)


def viewed_rows(shards: ShardMap, team_id: str) -> list[StatementRow]:
    return PostgresStatement(shards).page(team_id, limit=PAGE_ROWS_MAX, newest_first=False).rows


def one(connection: psycopg.Connection[TupleRow], query: str, *values: object) -> TupleRow:
    row = connection.execute(query.encode(), values).fetchone()
    assert row is not None
    return row


def test_i7_the_statement_equals_the_fold_of_the_events(shards: ShardMap) -> None:
    teams = a_ledger(shards)

    ProjectorLoop(shards).catch_up()

    for team_id in teams:
        assert viewed_rows(shards, team_id) == folded_rows(shards, team_id)
        assert len(folded_rows(shards, team_id)) > 20


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_batches_of_any_size_give_the_same_rows(shards: ShardMap, limit: int) -> None:
    teams = a_ledger(shards, steps=25)
    projector = Projector(StatementModel())

    with shards.own_connection_for(0) as connection:
        connection.autocommit = True
        for shard in range(shards.count):
            while projector.advance(connection, shard, limit=limit):
                pass

    for team_id in teams:
        assert viewed_rows(shards, team_id) == folded_rows(shards, team_id)


def test_models_at_one_position_read_the_log_once(shards: ShardMap, monkeypatch: pytest.MonkeyPatch) -> None:
    teams = a_ledger(shards, steps=15)
    asked: list[tuple[int, int]] = []

    def read(
        cursor: Cursor[TupleRow], shard: int, after: int, until: int | None, limit: int
    ) -> list[StoredEvent]:
        asked.append((shard, after))
        return read_events(cursor, shard, after, until, limit)

    monkeypatch.setattr("infra.postgres.read_models.read_events", read)

    ProjectorLoop(shards).catch_up()

    assert asked
    assert len(asked) == len(set(asked))
    for team_id in teams:
        assert viewed_rows(shards, team_id) == folded_rows(shards, team_id)


def test_a_model_that_is_behind_the_others_reads_for_itself(shards: ShardMap) -> None:
    teams = a_ledger(shards, steps=15)
    ProjectorLoop(shards, lambda: [model for model in read_models() if model.name != "statement"]).catch_up()
    more_life(teams, steps=10, seed=3)

    ProjectorLoop(shards).catch_up()

    for team_id in teams:
        assert viewed_rows(shards, team_id) == folded_rows(shards, team_id)


def test_a_projector_resumes_where_another_stopped(shards: ShardMap) -> None:
    teams = a_ledger(shards, steps=15)
    ProjectorLoop(shards).catch_up()
    more_life(teams, steps=10, seed=2)

    taken = ProjectorLoop(shards).catch_up()

    assert 0 < taken < len(read_models()) * sum(team.version for team in teams.values())
    for team_id in teams:
        assert viewed_rows(shards, team_id) == folded_rows(shards, team_id)


def test_two_projectors_on_one_shard_do_not_double(shards: ShardMap) -> None:
    teams = a_ledger(shards, teams=[f"team-{n}" for n in range(6)], steps=20)
    failures: list[BaseException] = []

    def follow() -> None:
        projector = Projector(StatementModel())
        try:
            with shards.own_connection_for(0) as connection:
                connection.autocommit = True
                for _ in range(400):
                    for shard in projector.behind(connection, range(shards.count)):
                        try:
                            projector.advance(connection, shard, limit=3)
                        except Moved:
                            continue
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
            failures.append(error)

    threads = [Thread(target=follow) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not failures
    for team_id in teams:
        assert viewed_rows(shards, team_id) == folded_rows(shards, team_id)


def test_a_shard_that_one_projector_has_in_hand_is_left_out_by_others(shards: ShardMap) -> None:
    teams = a_ledger(shards, teams=["acme", "beta", "gamma"], steps=5)
    assert len({shards.shard_of(team) for team in teams}) > 1
    taken_beside: list[int] = []

    class Slow(StatementModel):
        @override
        def rows(self, cursor: Cursor[TupleRow], taking: Taking) -> Sequence[tuple[object, ...]]:
            taken_beside.append(ProjectorLoop(shards, lambda: [StatementModel()]).catch_up())
            return super().rows(cursor, taking)

    shard = shards.shard_of("acme")
    with shards.own_connection_for(shard) as connection:
        connection.autocommit = True
        batch = Projector(Slow()).advance(connection, shard)

    assert batch is not None
    assert taken_beside == [
        sum(team.version for name, team in teams.items() if shards.shard_of(name) != shard)
    ]
    for team_id in teams:
        assert viewed_rows(shards, team_id) == folded_rows(shards, team_id)


class Picky(StatementModel):
    """A second projection that cannot take one version of one team."""

    name = "picky"

    def __init__(self, team_id: str, version: int) -> None:
        super().__init__()
        self._refused = team_id, version

    @override
    def rows(self, cursor: Cursor[TupleRow], taking: Taking) -> Sequence[tuple[object, ...]]:
        events = taking.events
        teams = self._teams.of(cursor, taking.shard, [event.stream for event in events])
        for place, event in enumerate(events):
            if (teams[event.stream], event.version) == self._refused:
                before = taking._replace(events=events[:place], until=event.position - 1)
                raise CannotProject(event, super().rows(cursor, before), ValueError("cannot take this"))
        return super().rows(cursor, taking)


def test_j3_an_event_that_raises_halts_that_projection_there_and_the_others_go_on(
    shards: ShardMap, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    teams = a_ledger(shards, teams=["acme", "beta", "gamma", "delta"], steps=15)
    bad = shards.shard_of("acme")
    with shards.own_connection_for(0) as connection:
        connection.execute("CREATE TABLE picky_entry (LIKE statement_entry INCLUDING ALL)")
        connection.commit()
    picky = Picky("acme", 9)
    picky.table = "picky_entry"

    ProjectorLoop(shards, lambda: [picky, StatementModel()]).catch_up()

    with shards.own_connection_for(0) as connection:
        position, halted_position, halted = one(
            connection,
            "SELECT position, halted_position, halted FROM tracking WHERE projection = 'picky' AND shard = %s",
            bad,
        )
        (refused,) = one(
            connection,
            "SELECT position FROM ledger_events e JOIN account_head h"
            " ON h.shard = e.shard AND h.account_id = e.originator_id"
            " WHERE h.team_id = 'acme' AND originator_version = 9",
        )
        assert (position, halted_position) == (refused - 1, refused)
        assert "version 9: ValueError: cannot take this" in halted
        (others,) = one(
            connection,
            "SELECT count(*) FROM tracking WHERE projection = 'picky' AND halted IS NULL"
            " AND position = (SELECT position FROM shard_log l WHERE l.shard = tracking.shard)",
        )
        assert others == len({shards.shard_of(team) for team in teams} - {bad})
    for team_id in teams:
        assert viewed_rows(shards, team_id) == folded_rows(shards, team_id)
    # Printed, or logged once a test before this one has configured the logs.
    assert "projection_halted" in capsys.readouterr().out + caplog.text


def test_j7_an_event_newer_than_the_code_halts_and_a_newer_program_goes_on(shards: ShardMap) -> None:
    a_ledger(shards, teams=["acme"], steps=8)
    shard = shards.shard_of("acme")
    with shards.own_connection_for(shard) as connection:
        (topic,) = one(connection, "SELECT topic FROM ledger_events WHERE originator_version = 6")
    tamper(shards, shard, "UPDATE ledger_events SET topic = 'CreditsLent.1' WHERE originator_version = 6")

    ProjectorLoop(shards).catch_up()

    with shards.own_connection_for(shard) as connection:
        (halted,) = one(connection, "SELECT halted FROM tracking WHERE shard = %s", shard)
    assert "version 6: UnknownEventShape: stored topic 'CreditsLent.1'" in halted
    assert viewed_rows(shards, "acme")[-1].version == 5

    tamper(shards, shard, "UPDATE ledger_events SET topic = %s WHERE originator_version = 6", topic)
    loop = ProjectorLoop(shards)
    thread = Thread(target=loop.run)
    thread.start()
    until = time.monotonic() + 5.0
    while time.monotonic() < until and viewed_rows(shards, "acme") != folded_rows(shards, "acme"):
        time.sleep(0.05)
    loop.stop()
    thread.join(timeout=5)
    assert viewed_rows(shards, "acme") == folded_rows(shards, "acme")


def test_j3_a_row_that_the_table_refuses_halts_at_its_event(shards: ShardMap) -> None:
    a_ledger(shards, teams=["acme"], steps=30)
    shard = shards.shard_of("acme")
    expected = folded_rows(shards, "acme")
    bad = expected[-4]
    tamper(
        shards, shard,
        "INSERT INTO statement_entry VALUES (%s, 'acme', %s, 'x', now(), now(), 0, 0, 0, NULL, NULL, NULL, NULL, NULL,"
        " NULL, NULL, 'x', 'x', NULL, NULL, 0)", shard, bad.version,
    )  # fmt: skip

    ProjectorLoop(shards).catch_up()

    with shards.own_connection_for(shard) as connection:
        halted, position = one(connection, "SELECT halted, position FROM tracking WHERE shard = %s", shard)
        (refused,) = one(
            connection, "SELECT position FROM ledger_events WHERE originator_version = %s", bad.version
        )
    assert halted.startswith("UniqueViolation")
    assert position == refused - 1
    assert viewed_rows(shards, "acme")[:-1] == expected[:-4]


def test_new_events_are_projected_within_two_seconds_and_the_loop_stops_cleanly(shards: ShardMap) -> None:
    loop = ProjectorLoop(shards)
    thread = Thread(target=loop.run)
    thread.start()
    try:
        teams = a_ledger(shards, steps=10)
        until = time.monotonic() + 2.0
        while time.monotonic() < until and len(viewed_rows(shards, "gamma")) < len(
            folded_rows(shards, "gamma")
        ):
            time.sleep(0.02)
        for team_id in teams:
            assert viewed_rows(shards, team_id) == folded_rows(shards, team_id)
    finally:
        loop.stop()
        thread.join(timeout=5)
    assert not thread.is_alive()


def test_the_loop_outlives_a_connection_that_is_cut(shards: ShardMap) -> None:
    loop = ProjectorLoop(shards, poll_seconds=0.2)
    thread = Thread(target=loop.run)
    thread.start()
    try:
        teams = a_ledger(shards, teams=["acme"], steps=5)
        with shards.own_connection_for(0) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        more_life(teams, steps=5, seed=9)
        until = time.monotonic() + 5.0
        while time.monotonic() < until and viewed_rows(shards, "acme") != folded_rows(shards, "acme"):
            time.sleep(0.05)
        assert viewed_rows(shards, "acme") == folded_rows(shards, "acme")
    finally:
        loop.stop()
        thread.join(timeout=5)
    assert not thread.is_alive()


def test_a_log_said_to_be_longer_than_it_is_does_not_keep_the_loop_busy(shards: ShardMap) -> None:
    a_ledger(shards, teams=["acme"], steps=5)
    with shards.own_connection_for(0) as connection:
        connection.execute("UPDATE shard_log SET position = position + 10")
        connection.commit()

    assert ProjectorLoop(shards).catch_up() > 0
    assert ProjectorLoop(shards).catch_up() == 0


def test_a_missing_position_halts_instead_of_being_passed_over(shards: ShardMap) -> None:
    a_ledger(shards, teams=["acme"], steps=5)
    shard = shards.shard_of("acme")
    tamper(shards, shard, "DELETE FROM ledger_events WHERE position = 4 AND shard = %s", shard)

    ProjectorLoop(shards).catch_up()

    with shards.own_connection_for(shard) as connection:
        (halted,) = one(connection, "SELECT halted FROM tracking WHERE shard = %s", shard)
    assert "no position 4" in halted


def test_a_target_of_its_own_leaves_the_live_rows_alone() -> None:
    assert Projector(StatementModel()).target == Target("statement", "statement_entry")


def test_i18_a_projector_killed_again_and_again_goes_on_where_it_was(
    shards: ShardMap, database_url: str
) -> None:
    teams = a_ledger(shards, steps=5)
    command = [sys.executable, "-m", "tests.projections.projecting", database_url]
    for seed in range(2, 5):
        with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as process:
            more_life(teams, steps=8, seed=seed)
            process.kill()
    with subprocess.Popen(command, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as process:
        until = time.monotonic() + 20.0
        while time.monotonic() < until and any(
            viewed_rows(shards, t) != folded_rows(shards, t) for t in teams
        ):
            time.sleep(0.05)
        process.terminate()
        assert process.wait(timeout=5) == 0

    for team_id in teams:
        assert viewed_rows(shards, team_id) == folded_rows(shards, team_id)
