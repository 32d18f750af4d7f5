"""A worker that decides ahead of the server: whatever the server says in the end, each record is charged once."""

from __future__ import annotations

import signal

import psycopg
import pytest

from tests.infra.test_batch_overlap import REFUSE_COMMIT
from tests.streams_on_kafka import Stream

RECORDS = 3_000


@pytest.fixture
def backlog(stream: Stream) -> Stream:
    """More than one batch waits in both partitions."""
    stream.settings = stream.settings.model_copy(update={"batch_records_max": 250})
    stream.open("globex", granted=10_000)
    stream.open("acme2", granted=10_000)
    stream.use_many([f"r{number}" for number in range(RECORDS)], teams=["acme2", "globex"], partitions=2)
    return stream


def charged_once(stream: Stream) -> bool:
    positions = stream.rows(
        "SELECT shard FROM ledger_events GROUP BY shard HAVING max(position) <> count(*) OR min(position) <> 1"
    )
    counted = stream.charges("acme2") + stream.charges("globex")
    return positions == [] and counted == RECORDS and stream.totals() == {"charged": {"": RECORDS}}


def refuse_the_commit_of_event(stream: Stream, number: int) -> None:
    """The COMMIT behind that event is refused, once."""
    with psycopg.connect(stream.database_url) as connection:
        connection.execute(REFUSE_COMMIT.replace("= 1", f"= {number}").encode())


@pytest.mark.parametrize("event", [1, 700, 1_400])
def test_a_refused_commit_is_decided_again_with_the_batch_decided_on_it_i4_i5(
    backlog: Stream, event: int
) -> None:
    refuse_the_commit_of_event(backlog, event)

    backlog.work()

    refusals = backlog.rows("SELECT last_value FROM refusals")[0][0]
    assert refusals > RECORDS, "some event was decided twice"
    assert charged_once(backlog)


def test_with_and_without_overlap_the_ledger_ends_the_same(backlog: Stream) -> None:
    backlog.settings = backlog.settings.model_copy(update={"batch_overlap": False})

    backlog.work()

    assert charged_once(backlog)


@pytest.mark.parametrize("batch", [3, 4, 5])
@pytest.mark.parametrize("place", ["batch.before_commit", "batch.under_way", "batch.after_commit"])
def test_a_worker_killed_in_the_middle_of_a_backlog_leaves_it_to_the_next_i4_i5(
    backlog: Stream, monkeypatch: pytest.MonkeyPatch, place: str, batch: int
) -> None:
    monkeypatch.setenv("COFFER_BATCH_RECORDS_MAX", "250")
    killed = backlog.spawn(failpoint=f"{place}:{batch}").wait(60)
    assert killed == -signal.SIGKILL

    backlog.work()

    assert charged_once(backlog)
