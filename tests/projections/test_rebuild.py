"""A rebuild gives the same rows, survives being killed, and nobody who reads or projects meanwhile notices."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from infra.postgres.read_models import StatementModel
from infra.postgres.rebuilding import Rebuild, RebuildHalted, RebuildRunning, rebuild
from infra.postgres.shards import ShardMap
from infra.project import ProjectorLoop
from tests.projections.ledgers import a_ledger, more_life, tamper
from tests.projections.test_projector import folded_rows, viewed_rows

REPOSITORY = Path(__file__).resolve().parents[2]


def leftovers(shards: ShardMap) -> list[tuple[object, ...]]:
    """What a finished rebuild must not leave: tables beside and their positions."""
    with shards.own_connection_for(0) as connection:
        return connection.execute(
            "SELECT relname::text FROM pg_class WHERE relname = 'statement_entry_beside'"
            " UNION ALL SELECT projection FROM tracking WHERE projection NOT IN ('statement', 'invoice', 'spending')"
        ).fetchall()


def test_rebuilding_the_statement_gives_the_same_rows(shards: ShardMap) -> None:
    teams = a_ledger(shards)
    ProjectorLoop(shards).catch_up()
    before = {team_id: viewed_rows(shards, team_id) for team_id in teams}

    told = rebuild(shards, StatementModel())

    assert {team_id: viewed_rows(shards, team_id) for team_id in teams} == before
    assert (told.swapped, told.resumed, told.events) == (True, False, told.events_in_log)
    assert leftovers(shards) == []


def test_a_row_edited_by_hand_is_gone_after_a_rebuild(shards: ShardMap) -> None:
    a_ledger(shards)
    ProjectorLoop(shards).catch_up()
    tamper(shards, 0, "UPDATE statement_entry SET amount_micros = 1 WHERE team_id = 'acme' AND version = 2")

    rebuild(shards, StatementModel())

    assert viewed_rows(shards, "acme") == folded_rows(shards, "acme")


def test_the_rebuilt_table_has_the_indexes_of_the_old_and_can_be_rebuilt_again(shards: ShardMap) -> None:
    a_ledger(shards, steps=5)

    def indexes() -> list[tuple[object, ...]]:
        with shards.own_connection_for(0) as connection:
            return connection.execute(
                "SELECT regexp_replace(indexdef, '.* USING', '') FROM pg_indexes"
                " WHERE tablename = 'statement_entry' ORDER BY 1"
            ).fetchall()

    before = indexes()
    for _ in range(3):
        rebuild(shards, StatementModel())

    assert indexes() == before
    assert len(before) == 4


def test_the_projector_goes_on_from_the_rebuilt_table(shards: ShardMap) -> None:
    teams = a_ledger(shards, steps=10)
    rebuild(shards, StatementModel())
    more_life(teams, steps=10, seed=3)

    ProjectorLoop(shards).catch_up()

    for team_id in teams:
        assert viewed_rows(shards, team_id) == folded_rows(shards, team_id)


def test_j2_a_rebuild_killed_in_the_middle_is_taken_further(shards: ShardMap, database_url: str) -> None:
    teams = a_ledger(shards, steps=60)
    ProjectorLoop(shards).catch_up()
    before = {team_id: viewed_rows(shards, team_id) for team_id in teams}
    command = [sys.executable, "-m", "tests.projections.rebuilder", database_url]
    reached: list[int] = []
    for kills_after in (3, 4):
        with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            reached += [int(process.stdout.readline()) for _ in range(kills_after)]
            process.kill()
        assert {team_id: viewed_rows(shards, team_id) for team_id in teams} == before

    told = _rebuilt_once_the_dead_one_is_gone(shards)

    assert told.resumed
    assert reached == sorted(reached), "each run began where the one before was killed"
    assert 0 < reached[-1] < told.events
    assert {team_id: viewed_rows(shards, team_id) for team_id in teams} == before
    assert leftovers(shards) == []


def _rebuilt_once_the_dead_one_is_gone(shards: ShardMap) -> Rebuild:
    """The server notices a killed client when it next writes to it."""
    for _ in range(100):
        try:
            return rebuild(shards, StatementModel())
        except RebuildRunning:
            Event().wait(0.05)
    raise AssertionError("the killed rebuild still holds its lock")


def test_j2_a_rebuild_interrupted_after_every_batch_ends_with_the_same_rows(shards: ShardMap) -> None:
    teams = a_ledger(shards, steps=20)
    ProjectorLoop(shards).catch_up()
    before = {team_id: viewed_rows(shards, team_id) for team_id in teams}
    interruptions = 0
    while True:
        try:
            told = rebuild(shards, StatementModel(), progress=_interrupt, batch_events_max=4)
        except KeyboardInterrupt:
            interruptions += 1
            assert {team_id: viewed_rows(shards, team_id) for team_id in teams} == before
        else:
            break

    assert interruptions >= 20
    assert told.resumed
    assert {team_id: viewed_rows(shards, team_id) for team_id in teams} == before


def test_j2_of_two_rebuilders_one_is_told_to_wait(shards: ShardMap) -> None:
    a_ledger(shards, steps=5)
    refused: list[RebuildRunning] = []

    def another(_: Rebuild) -> None:
        with pytest.raises(RebuildRunning) as raised:
            rebuild(shards, StatementModel())
        refused.append(raised.value)

    rebuild(shards, StatementModel(), progress=another)

    assert refused
    assert viewed_rows(shards, "acme") == folded_rows(shards, "acme")


def test_what_was_begun_for_rows_of_another_shape_is_made_anew(shards: ShardMap) -> None:
    a_ledger(shards, steps=10)

    class NextShape(StatementModel):
        shape = StatementModel.shape + 1

    with pytest.raises(KeyboardInterrupt):
        rebuild(shards, StatementModel(), progress=_interrupt, batch_events_max=3)

    told = rebuild(shards, NextShape())

    assert not told.resumed
    assert leftovers(shards) == []


def _interrupt(told: Rebuild) -> None:
    raise KeyboardInterrupt


def test_a_rebuild_that_meets_a_bad_event_leaves_the_live_rows_alone(shards: ShardMap) -> None:
    a_ledger(shards, teams=["acme"], steps=10)
    ProjectorLoop(shards).catch_up()
    before = viewed_rows(shards, "acme")
    tamper(shards, 0, "UPDATE ledger_events SET topic = 'Unheard.1' WHERE originator_version = 7")

    with pytest.raises(RebuildHalted, match=r"version 7: UnknownEventShape"):
        rebuild(shards, StatementModel())

    assert viewed_rows(shards, "acme") == before


def test_j1_readers_and_the_projector_never_stop_while_it_is_rebuilt(shards: ShardMap) -> None:
    teams = a_ledger(shards, steps=30)
    loop = ProjectorLoop(shards, poll_seconds=0.1)
    ProjectorLoop(shards).catch_up()
    seen: list[int] = []
    failures: list[BaseException] = []
    done = Event()

    def read() -> None:
        try:
            while not done.is_set():
                seen.append(len(viewed_rows(shards, "acme")))
        except BaseException as error:  # noqa: BLE001 - a thread's failure is the test's
            failures.append(error)

    threads = [Thread(target=read), Thread(target=loop.run)]
    for thread in threads:
        thread.start()
    for seed in range(2, 5):
        more_life(teams, steps=6, seed=seed)
        rebuild(shards, StatementModel(), batch_events_max=20)
    ProjectorLoop(shards).catch_up()
    done.set()
    loop.stop()
    for thread in threads:
        thread.join(timeout=10)

    assert not failures
    assert seen == sorted(seen), "no reader saw the statement go back"
    for team_id in teams:
        assert viewed_rows(shards, team_id) == folded_rows(shards, team_id)


def test_a_long_reader_postpones_the_swap_and_other_readers_go_on(
    shards: ShardMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.postgres.rebuilding.SWAP_LOCK_MILLISECONDS", 20)
    a_ledger(shards, steps=5)
    ProjectorLoop(shards).catch_up()
    told: list[Rebuild] = []
    with shards.own_connection_for(0) as reader:
        reader.execute("SELECT count(*) FROM statement_entry").fetchone()
        thread = Thread(target=lambda: told.append(rebuild(shards, StatementModel())))
        thread.start()
        for _ in range(10):
            assert viewed_rows(shards, "acme") == folded_rows(shards, "acme")
        assert not told
        reader.rollback()
        thread.join(timeout=20)

    assert told
    assert told[0].swapped
