"""Workers killed, stopped and starved at every place: each record ends once. Codes as in the catalogue of failures."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from consumers.batches import UsageBatch
from domain.account.charging import charge_usage
from domain.account.due import pass_time
from domain.account.funding import grant_credits
from domain.errors import Refused
from infra.consume import ClockOff
from infra.failpoints import OF_WORKERS
from infra.local.kafka import LocalKafka
from infra.local.postgres import LocalPostgres
from infra.postgres.batch_writer import PostgresBatchTransaction
from infra.postgres.migrations import migrate
from infra.postgres.stream_state import StreamState
from infra.topics import Topic, create_topics, dead_letter_topic
from tests.infra.proxy import proxied
from tests.streams_on_kafka import Stream

NOW = datetime.now(UTC).replace(microsecond=0)
KILLED = -int(signal.SIGKILL)


def wait_until(true: Callable[[], object], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def a_mixed_day(stream: Stream) -> None:
    """A charge, a waiver, a duplicate, a conflict, a parked and a rejected record, over both partitions."""
    stream.use("a", 3, occurred=NOW)
    stream.use("b", 3, status="failed", occurred=NOW)
    stream.use("a", 3, occurred=NOW, partition=1)
    stream.use("b", 4, occurred=NOW, partition=1)
    stream.use("c", 1, team="nobody", occurred=NOW)
    stream.send(b"{", [("x", b"1")], partition=1)
    stream.use("d", 2, occurred=NOW, context={"prompt": "a cat"})


EXPECTED = {
    "charged": {"": 2},
    "conflict": {"": 1},
    "duplicate": {"": 1},
    "parked": {"unknown_team": 1},
    "rejected": {"content_type": 1},
    "waived": {"failed": 1},
}


@pytest.mark.parametrize("place", OF_WORKERS)
def test_w1_to_w6_a_worker_killed_anywhere_leaves_nothing_half_done(stream: Stream, place: str) -> None:
    """W1, W2, W3, W5, W6, I4, I5, I17: at every failpoint there is, then once more without."""
    a_mixed_day(stream)
    assert stream.spawn(failpoint=place).wait(60) == KILLED
    written = place in {"batch.after_commit", "dead_letters.before_mark"}
    under_way = place == "batch.under_way"
    assert stream.charges() in ({0, 1, 2} if under_way else {1, 2} if written else {0})

    stream.work()

    assert stream.totals() == EXPECTED
    assert stream.used() == "5"
    counts = {
        table: stream.rows(f"SELECT count(*) FROM {table}")[0][0]
        for table in ("dead_letter", "usage_context")
    }
    assert counts == {"dead_letter": 2, "usage_context": 1}
    published = len(stream.dead_letter_records())
    assert published == 2 if place != "dead_letters.before_mark" else published >= 2
    assert stream.letters.unpublished() == []


def test_w4_a_lost_answer_to_commit_is_settled_by_reading_back(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W4, P2, I4: the batch was written, the worker never heard so."""
    a_mixed_day(stream)
    write = PostgresBatchTransaction.write
    with proxied(stream.database_url) as (proxy, url):

        def writes(self: PostgresBatchTransaction, batch: UsageBatch) -> None:
            write(self, batch)
            if not proxy.cuts:
                proxy.cut_after()

        monkeypatch.setattr(PostgresBatchTransaction, "write", writes)
        stream.settings = stream.settings.model_copy(update={"database_url": url})
        stream.work()
        assert proxy.cuts == 1

    assert stream.totals() == EXPECTED
    assert stream.used() == "5"


def test_w8_sigterm_finishes_the_batch_in_hand_and_ends_with_zero(stream: Stream) -> None:
    """W8, I18."""
    stream.open("globex", granted=10_000)
    stream.use_many([f"r{number}" for number in range(4_000)], teams=["acme", "globex"], partitions=2)
    worker = stream.spawn(drained=False)
    wait_until(stream.totals)
    worker.send_signal(signal.SIGTERM)

    assert worker.wait(20) == 0
    read = sum(stream.next_offset(partition) for partition in (0, 1))
    assert stream.totals() == {"charged": {"": read}}

    stream.work()
    assert stream.totals() == {"charged": {"": 4_000}}


def test_z1_a_worker_that_was_frozen_until_its_partitions_moved_is_fenced(stream: Stream) -> None:
    """Z1, I4, I17: SIGSTOP beyond the session's end, then SIGCONT."""
    stream.open("globex", granted=10_000)
    frozen = stream.spawn(drained=False, session_timeout_milliseconds=6_000)
    try:
        stream.use_many([f"a{number}" for number in range(500)], teams=["acme", "globex"], partitions=2)
        wait_until(lambda: stream.totals() == {"charged": {"": 500}})
        stream.use_many([f"b{number}" for number in range(500)], teams=["acme", "globex"], partitions=2)
        frozen.send_signal(signal.SIGSTOP)
        with stream.start(session_timeout_milliseconds=6_000):
            wait_until(lambda: stream.totals() == {"charged": {"": 1_000}}, 40)
            frozen.send_signal(signal.SIGCONT)
            stream.use_many([f"c{number}" for number in range(500)], teams=["acme", "globex"], partitions=2)
            wait_until(lambda: stream.totals() == {"charged": {"": 1_500}}, 40)
    finally:
        frozen.send_signal(signal.SIGCONT)
        frozen.terminate()
        assert frozen.wait(30) == 0

    assert stream.charges("acme") + stream.charges("globex") == 1_500


@pytest.mark.parametrize("place", ["batch.before_commit", "batch.after_events"])
def test_z1_a_worker_that_freezes_inside_a_transaction_gives_its_accounts_back(
    stream: Stream, place: str
) -> None:
    """Z1, I4: the server alone would wait for ever for the next byte of a COPY."""
    frozen = stream.spawn(drained=False, failpoint=f"{place}:1:freeze", session_timeout_milliseconds=6_000)
    try:
        for number in range(20):
            stream.use(f"r{number}", 1, partition=number % 2)
        os.waitid(os.P_PID, frozen.pid, os.WSTOPPED)
        with stream.start(session_timeout_milliseconds=6_000):
            wait_until(lambda: stream.totals() == {"charged": {"": 20}}, 40)
    finally:
        frozen.send_signal(signal.SIGCONT)
        frozen.terminate()
        assert frozen.wait(30) == 0

    assert stream.charges() == 20


def test_z3_workers_that_come_and_go_cost_no_record_and_no_rest(stream: Stream) -> None:
    """Z3, I4, I18: a second worker joins and ends, or dies, six times; half a minute later nothing is left to read."""
    stream.open("globex", granted=10_000)
    with stream.start(session_timeout_milliseconds=6_000):
        for storm in range(6):
            names = [f"{storm}-{number}" for number in range(200)]
            stream.use_many(names, teams=["acme", "globex"], partitions=2)
            guest = stream.spawn(drained=False, session_timeout_milliseconds=6_000)
            time.sleep(2)
            guest.send_signal(signal.SIGTERM if storm % 2 else signal.SIGKILL)
            assert guest.wait(20) == (0 if storm % 2 else KILLED)
        wait_until(lambda: stream.totals() == {"charged": {"": 1_200}}, 30)

    assert stream.charges("acme") + stream.charges("globex") == 1_200


def reachable(asked: Callable[[], object]) -> object:
    """The answer, or None while the database is away."""
    try:
        return asked()
    except psycopg.OperationalError:
        return None


def a_record_that_crashes(monkeypatch: pytest.MonkeyPatch, record_id: str) -> None:
    def crashes(decision: Any, record: Any, *rest: Any) -> None:
        if record.id == record_id:
            raise ZeroDivisionError("a bug")
        charge_usage(decision, record, *rest)

    monkeypatch.setattr("consumers.usage.charge_usage", crashes)


def test_w10_a_record_that_crashes_the_worker_three_times_stops_its_partition_alone(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W10, I18: nothing is skipped by itself; the operator's command is named."""
    stream.use("before", 1)
    stream.use("poison", 1)
    stream.use("after", 1)
    stream.use("elsewhere", 2, partition=1)
    a_record_that_crashes(monkeypatch, "poison")
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            stream.work()

    stream.work()

    assert (stream.halted() or "").startswith("poison_record: 3 workers died on offset 1 (ZeroDivisionError)")
    assert stream.next_offset() == 1
    assert stream.fates(1) == ["charged"]
    assert stream.used() == "3"

    monkeypatch.undo()
    assert stream.state.release(stream.partition())
    stream.work()
    assert stream.used() == "5"
    assert stream.rows("SELECT count(*) FROM crash_attempt") == [(0,)]


def test_w10_a_record_on_which_workers_are_killed_stops_its_partition(stream: Stream) -> None:
    """W9, W10: a death without a word is narrowed down to the record."""
    for record_id in ("one", "poison", "three"):
        stream.use(record_id, 1)
    deaths = 0
    while stream.halted() is None:
        worker = stream.spawn(dies_on="poison")
        deaths += worker.wait(60) == KILLED
        assert deaths <= 6, "the partition never stopped"

    assert (stream.halted() or "").startswith("poison_record: 3 workers died on offset 1")
    assert stream.fates() == ["charged"]


def test_k15_and_p1_servers_that_are_away_are_waited_for(
    own_postgres: LocalPostgres, own_kafka: LocalKafka
) -> None:
    """K1, K15, P1, I4, I5, I18: each is killed while the worker runs."""
    migrate(own_postgres.url)
    create_topics(own_kafka.bootstrap, [Topic("usage", 2), Topic(dead_letter_topic("usage"), 1)])
    other = Stream(own_postgres.url, own_kafka.bootstrap, "usage")
    other.publish()
    other.open("acme", granted=10_000)
    # In a process of its own, since the client leaves sockets open whose connection was refused.
    worker = other.spawn(drained=False, alone=True)
    other.use_many([f"a{number}" for number in range(500)], partitions=2)
    other.close_producer()
    own_postgres.kill()
    time.sleep(1)
    own_postgres.start()
    wait_until(lambda: reachable(other.totals) == {"charged": {"": 500}}, 40)
    own_kafka.kill()
    time.sleep(1)
    own_kafka.start()
    other.use_many([f"b{number}" for number in range(500)], partitions=2)
    wait_until(lambda: other.totals() == {"charged": {"": 1_000}}, 60)
    worker.terminate()
    assert worker.wait(20) == 0

    assert other.charges() == 1_000
    other.close()


def test_a_worker_whose_clock_is_wrong_does_not_start(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I20: more than a second off the database's."""
    monkeypatch.setattr(StreamState, "clock_offset_seconds", lambda _self: -1.5)

    with pytest.raises(ClockOff, match=r"-1\.500 s off the database's"):
        stream.work()


def test_a_rule_that_says_no_half_way_parks_its_record_and_costs_the_batch_nothing(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I15: what it had recorded by then is not written."""

    def half(decision: Any, record: Any, *rest: Any) -> None:
        if record.id == "half":
            pass_time(decision)
            grant_credits(decision, 1)
            raise Refused("half way")
        charge_usage(decision, record, *rest)

    monkeypatch.setattr("consumers.usage.charge_usage", half)
    for record_id in ("a", "half", "b"):
        stream.use(record_id, 1)
    before = stream.account().version
    stream.work()

    assert stream.fates() == ["charged", "parked refused", "charged"]
    assert stream.account().version == before + 2
