"""What the ledger tells the world: every event once or more, in order, whatever was killed; and never what a user wrote."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from cloudevents.core.bindings import kafka as sdk
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from domain.account.decision import account_id
from domain.commands import AddMember, PlaceHold, ReleaseHold
from infra.kafka.ledger_events import topic_of_type, type_of_topic
from infra.relay import Relay, RelayTopics
from infra.topics import Topic, create_topics
from tests.flows.test_consumer_crashes import wait_until
from tests.streams_on_kafka import REPOSITORY, Stream

KILLED = -int(signal.SIGKILL)
PARTITIONS = 3
TEAMS = ("acme", "globex", "initech", "umbrella", "hooli")


class Outgoing:
    """The two topics that a relay of one ledger writes."""

    def __init__(self, stream: Stream, topics: RelayTopics) -> None:
        self.stream = stream
        self.topics = topics

    def relay(self, **options: Any) -> Relay:
        return Relay(self.stream.shards, self.stream.bootstrap, self.topics, **options)

    def spawn(self, failpoint: str = "", batch_events_max: int = 7) -> subprocess.Popen[bytes]:
        arguments = {
            "database_url": self.stream.database_url,
            "bootstrap": self.stream.bootstrap,
            "topics": list(self.topics),
            "batch_events_max": batch_events_max,
        }
        return subprocess.Popen(
            [sys.executable, "-m", "tests.relay_process", json.dumps(arguments)],
            cwd=REPOSITORY,
            env=os.environ | {"COFFER_FAILPOINT": failpoint},
        )

    def sent(self, topic: str | None = None) -> list[ConsumerRecord]:
        """All that is in a topic, partition by partition."""
        consumer = KafkaConsumer(
            bootstrap_servers=self.stream.bootstrap, group_id=None, enable_auto_commit=False
        )
        try:
            partitions = [TopicPartition(topic or self.topics.ledger, number) for number in range(PARTITIONS)]
            consumer.assign(partitions)
            ends = consumer.end_offsets(partitions)
            found: list[ConsumerRecord] = []
            for each in partitions:
                consumer.seek(each, 0)
            while any(consumer.position(each) < ends[each] for each in partitions):
                for records in consumer.poll(timeout_ms=500).values():
                    found += records
            return found
        finally:
            consumer.close()

    def events_in_log(self) -> set[tuple[int, int]]:
        return set(self.stream.rows("SELECT shard, position FROM ledger_events"))


@pytest.fixture
def outgoing(stream: Stream, topic: Callable[..., str]) -> Outgoing:
    return Outgoing(stream, RelayTopics(topic(PARTITIONS, "ledger"), topic(PARTITIONS, "alerts")))


def headers_of(record: ConsumerRecord) -> dict[str, str]:
    return {name: value.decode() for name, value in record.headers}


def place_of(record: ConsumerRecord) -> tuple[int, int]:
    headers = headers_of(record)
    return int(headers["ce_source"].rpartition(":")[2]), int(headers["ce_id"])


def require_all_in_order(outgoing: Outgoing) -> int:
    """Nothing is missing, and each team's events come first in the order of their positions; returns the repetitions."""
    records = outgoing.sent()
    assert {place_of(record) for record in records} == outgoing.events_in_log()
    seen: dict[bytes, list[int]] = defaultdict(list)
    repeated = 0
    for record in records:
        _, position = place_of(record)
        if position in seen[record.key]:
            repeated += 1
        else:
            seen[record.key].append(position)
    for positions in seen.values():
        assert positions == sorted(positions)
    assert {record.key: record.partition for record in records}.keys() == seen.keys()
    assert all(len({r.partition for r in records if r.key == key}) == 1 for key in seen)
    return repeated


def a_busy_hour(stream: Stream, records: int = 200) -> None:
    stream.open(*TEAMS[1:], granted=10)
    stream.use_many([f"r{number}" for number in range(records)], teams=TEAMS, partitions=2)
    stream.work()


def test_every_event_goes_out_as_a_cloud_event_with_the_bytes_of_the_log(outgoing: Outgoing) -> None:
    stream = outgoing.stream
    stream.use("one", 3, context={"prompt": "a secret fox"})
    stream.work()
    stream.command(AddMember(team_id="acme", member="kim", role="owner"))

    assert outgoing.relay().catch_up() == len(outgoing.events_in_log())
    assert require_all_in_order(outgoing) == 0

    stored = {
        f"{topic} {version}": bytes(state)
        for topic, version, state in stream.rows("SELECT topic, originator_version, state FROM ledger_events")
    }
    for record in outgoing.sent():
        event = sdk.from_binary_event(
            sdk.KafkaMessage(headers=dict(record.headers), key=record.key, value=record.value)
        )
        assert event.get_subject() == "acme" == record.key.decode()
        headers = headers_of(record)
        assert record.value == stored[f"{topic_of_type(headers['ce_type'])} {headers['ce_version']}"]
        assert b"a secret fox" not in record.value
    types = {headers_of(record)["ce_type"] for record in outgoing.sent()}
    assert {"com.coffer.ledger.CreditsCharged.v2", "com.coffer.ledger.MemberJoined.v1"} <= types


def test_a_relay_killed_between_sending_and_marking_leaves_nothing_out(outgoing: Outgoing) -> None:
    """W-codes for the way out: at least once, in order, repeats told by source and id."""
    a_busy_hour(outgoing.stream)
    deaths = 0
    for count in (1, 2, 3):
        deaths += outgoing.spawn(f"relay.before_mark:{count}").wait(60) == KILLED
    assert deaths == 3
    assert outgoing.spawn().wait(60) == 0

    assert require_all_in_order(outgoing) > 0
    assert outgoing.relay().catch_up() == 0


def test_a_relay_killed_at_any_moment_leaves_nothing_out(outgoing: Outgoing) -> None:
    a_busy_hour(outgoing.stream, 600)
    for seconds in (1.0, 1.2, 1.4):
        relay = outgoing.spawn(batch_events_max=3)
        try:
            relay.wait(seconds)
        except subprocess.TimeoutExpired:
            relay.kill()
            relay.wait(10)
    assert outgoing.spawn().wait(60) == 0

    require_all_in_order(outgoing)


def test_a_running_relay_sends_what_happens_and_another_takes_over(outgoing: Outgoing) -> None:
    """Live: woken by the log itself. One sends each shard; a second one waits until the first is gone."""
    stream = outgoing.stream
    first, second = outgoing.relay(poll_seconds=0.3), outgoing.relay(poll_seconds=0.3)
    threads = [threading.Thread(target=relay.run, daemon=True) for relay in (first, second)]
    for thread in threads:
        thread.start()
    try:
        stream.grant("acme", 5)
        wait_until(lambda: {place_of(r) for r in outgoing.sent()} == outgoing.events_in_log())
        first.stop()
        threads[0].join(20)
        stream.grant("acme", 6)
        wait_until(lambda: {place_of(r) for r in outgoing.sent()} == outgoing.events_in_log())
    finally:
        for relay in (first, second):
            relay.stop()
        for thread in threads:
            thread.join(20)
    assert not any(thread.is_alive() for thread in threads)
    assert require_all_in_order(outgoing) == 0


def test_denials_go_to_the_topic_of_alerts_too(outgoing: Outgoing) -> None:
    stream = outgoing.stream
    held = stream.command(PlaceHold(team_id="acme", action="image.generate", amount_micros=900_000_000))
    stream.command(PlaceHold(team_id="acme", action="image.generate", amount_micros=900_000_000))
    assert held.hold_id is not None
    stream.command(ReleaseHold(team_id="acme", hold_id=held.hold_id))
    outgoing.relay().catch_up()

    (alert,) = outgoing.sent(outgoing.topics.alerts)
    assert headers_of(alert)["ce_type"] == "com.coffer.ledger.HoldDenied.v1"
    (same,) = [r for r in outgoing.sent() if headers_of(r)["ce_type"] == headers_of(alert)["ce_type"]]
    assert (alert.value, alert.headers) == (same.value, same.headers)


def test_a_topic_made_anew_gets_everything_from_the_beginning(outgoing: Outgoing) -> None:
    """The position belongs to the topic's identity, not to its name."""
    outgoing.relay().catch_up()
    create_topics(outgoing.stream.bootstrap, [Topic(f"{outgoing.topics.ledger}.b", PARTITIONS)])
    anew = Outgoing(outgoing.stream, outgoing.topics._replace(ledger=f"{outgoing.topics.ledger}.b"))
    anew.relay().catch_up()

    assert require_all_in_order(anew) == 0
    assert outgoing.events_in_log()


def test_a_gap_in_the_log_stops_the_shard_and_says_so(outgoing: Outgoing) -> None:
    """Somebody took an event out of the log by hand: what follows is not told as if nothing had been."""
    stream = outgoing.stream
    shard = stream.shards.shard_of("acme")
    stream.execute("ALTER TABLE ledger_events DISABLE TRIGGER USER")
    stream.execute(
        "DELETE FROM ledger_events WHERE originator_id = %s AND originator_version = 1", account_id("acme")
    )
    outgoing.relay().catch_up()

    assert outgoing.sent() == []
    ((position, halted),) = stream.rows(
        "SELECT halted_position, halted FROM tracking WHERE shard = %s AND projection LIKE 'relay to %%'",
        shard,
    )
    assert position == 1
    assert "has no position 1" in halted


def test_types_and_topics_name_each_other() -> None:
    assert type_of_topic("CreditsCharged.2") == "com.coffer.ledger.CreditsCharged.v2"
    assert topic_of_type("com.coffer.ledger.CreditsCharged.v2") == "CreditsCharged.2"
    assert topic_of_type("com.coffer.usage.recorded.v1") is None
