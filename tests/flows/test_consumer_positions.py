"""Positions, holes and halts of the usage worker, against a real broker. Codes as in the catalogue of failures."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError, UnsupportedCodecError
from structlog.testing import capture_logs

import infra.kafka.source
from consumers.batches import Hole
from consumers.usage import PartitionRead
from infra import stream_metrics as metrics
from infra.consume import WorkerOptions, run_worker
from infra.kafka.broker import TopicRefused, administration
from infra.kafka.record_batches import BatchwiseRecords
from infra.kafka.source import KafkaSource, PartitionBroken
from infra.topics import Topic, create_topics
from tests.streams_on_kafka import Stream, usage_headers, usage_value

NOW = datetime.now(UTC).replace(microsecond=0)


def wait_until(true: Any, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.05)


def transactional(stream: Stream, name: str) -> KafkaProducer:
    producer = KafkaProducer(bootstrap_servers=stream.bootstrap, transactional_id=f"{stream.topic}.{name}")
    producer.init_transactions()
    return producer


def send_in_transaction(stream: Stream, producer: KafkaProducer, ids: list[str], *, commit: bool) -> None:
    producer.begin_transaction()
    for record_id in ids:
        producer.send(
            stream.topic,
            value=usage_value(),
            key=b"acme",
            headers=[
                (name, value) for name, value in usage_headers(record_id, "acme", NOW) if value is not None
            ],
            partition=0,
        )
    producer.flush(10)
    if commit:
        producer.commit_transaction()
    else:
        producer.abort_transaction()


def holes(stream: Stream) -> list[tuple[int, int, str]]:
    return [
        (row[0], row[1], row[2])
        for row in stream.rows(
            "SELECT first_offset, next_offset, status FROM stream_hole ORDER BY first_offset"
        )
    ]


def test_k4_a_recreated_topic_halts_before_its_first_charge(stream: Stream) -> None:
    """K4, I5, I17: the offsets of a topic made anew mean other records."""
    stream.use("a", 1)
    stream.use("b", 1)
    stream.work()
    with administration(stream.bootstrap) as admin:
        admin.delete_topics([stream.topic])
        wait_until(lambda: stream.topic not in admin.list_topics())
    create_topics(stream.bootstrap, [Topic(stream.topic, 2)])
    stream.use("c", 1)
    stream.work()

    assert stream.used() == "2"
    why = stream.halted() or ""
    assert why.startswith("topic_recreated: ")
    assert "was read to offset 2" in why

    for partition in (0, 1):
        assert stream.state.release(stream.partition(partition))
    stream.work()

    assert stream.used() == "3"


def test_k4_a_topic_recreated_under_a_running_worker_halts(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K4: even where the new topic has records at the very offset that is next."""
    monkeypatch.setattr(infra.kafka.source, "METADATA_MAX_AGE_MILLISECONDS", 300)
    stream.use("a", 1)
    with stream.start():
        wait_until(lambda: stream.charges() == 1)
        with administration(stream.bootstrap) as admin:
            admin.delete_topics([stream.topic])
            wait_until(lambda: stream.topic not in admin.list_topics())
        create_topics(stream.bootstrap, [Topic(stream.topic, 2)])
        stream.close_producer()
        for record_id in ("b", "c", "d"):
            stream.use(record_id, 1)
        wait_until(lambda: stream.halted() is not None)

    assert stream.used() == "1"


def test_k3_records_deleted_before_they_were_read_halt_their_partition_alone(stream: Stream) -> None:
    """K3, I5: never a silent jump to what is left."""
    stream.use("a", 1)
    stream.work()
    for record_id in ("b", "c", "d"):
        stream.use(record_id, 1)
    with administration(stream.bootstrap) as admin:
        admin.delete_records({TopicPartition(stream.topic, 0): 3})
    stream.use("other", 1, partition=1)
    stream.work()

    assert (stream.halted() or "").startswith("offset_out_of_range: ")
    assert stream.used() == "2"

    assert stream.state.skip_to(stream.partition(), 3, "deleted by retention, see the incident of today")
    stream.work()

    assert stream.fates() == [
        "charged",
        *["hole skipped: deleted by retention, see the incident of today"] * 2,
        "charged",
    ]


def test_k7_aborted_transactions_leave_confirmed_holes_and_committed_ones_are_charged(stream: Stream) -> None:
    """K7, I4, I5: markers and aborted records are offsets without a record, written down and read again."""
    producer = transactional(stream, "one")
    send_in_transaction(stream, producer, ["a", "b"], commit=True)
    send_in_transaction(stream, producer, ["c", "d"], commit=False)
    send_in_transaction(stream, producer, ["e"], commit=True)
    producer.close()
    stream.work()

    assert stream.totals() == {"charged": {"": 3}}
    assert stream.next_offset() == 8
    assert holes(stream) == [(2, 6, "confirmed"), (7, 8, "confirmed")]
    assert stream.fates() == ["charged", "charged", *["hole confirmed"] * 4, "charged", "hole confirmed"]


def test_k8_a_transaction_that_stays_open_raises_an_alarm_and_nothing_overtakes_it(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K8, I18."""
    monkeypatch.setattr("infra.consume.HELD_BACK_SECONDS", 0.3)
    monkeypatch.setattr("infra.consume.LAG_SECONDS", 0.2)
    producer = transactional(stream, "hanging")
    producer.begin_transaction()
    producer.send(stream.topic, value=usage_value(), key=b"acme", partition=0).get(10)
    stream.use("behind", 1)
    with capture_logs() as logs, stream.start():
        wait_until(lambda: any(each["event"] == "open_transaction_holds_back" for each in logs))
        assert stream.charges() == 0
        producer.abort_transaction()
        wait_until(lambda: stream.charges() == 1)
    producer.close()

    alarm = next(each for each in logs if each["event"] == "open_transaction_holds_back")
    assert (alarm["topic"], alarm["partition"], alarm["offsets"]) == (stream.topic, 0, 2)


def test_k9_a_record_in_a_hole_that_breaks_its_partition_halts_it_and_not_the_worker(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K9, I5, I18: what the second reader finds may be unreadable too, such as a record under its producer's clock."""

    def breaks(_bootstrap: str, holes: Sequence[Hole]) -> Iterator[Any]:
        for hole in holes:
            raise PartitionBroken(hole.partition, "producer_clock: a record in the hole")
        return iter(())

    monkeypatch.setattr("infra.consume.read_again", breaks)
    producer = transactional(stream, "aborting")
    send_in_transaction(stream, producer, ["a"], commit=False)
    producer.close()
    stream.use("b", 1)

    with stream.start():
        wait_until(lambda: stream.halted() is not None)
        assert stream.charges() == 1

    assert "a record in the hole" in str(stream.halted())
    assert [status for _, _, status in holes(stream)] == ["open"]


def test_k9_a_record_that_the_client_never_gave_us_is_found_and_charged(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K9, I5: planted in the client's answers, in the middle, at the end, and a malformed one among them."""
    polled = KafkaSource._poll_client
    dropped = {3, 7, 9}

    def drops(self: KafkaSource, timeout_milliseconds: int) -> Any:
        return {
            partition: kept
            for partition, records in polled(self, timeout_milliseconds).items()
            if (kept := [each for each in records if each.offset not in dropped])
        }

    monkeypatch.setattr(KafkaSource, "_poll_client", drops)
    for number in range(7):
        stream.use(f"r{number}", 1)
    stream.send(b"{", [])
    stream.use("r8", 1)
    stream.use("r9", 1)
    stream.work()

    assert holes(stream) == [(3, 4, "filled"), (7, 8, "filled"), (9, 10, "filled")]
    assert stream.used() == "9"
    assert stream.fates() == [*["charged"] * 7, "rejected content_type", "charged", "charged"]
    assert stream.totals() == {"charged": {"": 9}, "rejected": {"content_type": 1}}
    assert stream.letter_counts() == {("rejected", "content_type"): 1}


@pytest.mark.parametrize(
    "error",
    [
        CorruptRecordError("failed crc check"),
        UnsupportedCodecError("zstd"),
        UnicodeDecodeError("utf-8", b"", 0, 1, ""),
    ],
)
def test_k11_and_k12_a_partition_that_cannot_be_read_halts_and_the_others_go_on(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """K11, K12, I5: broken CRC, a codec without its library, a header name that is no text."""

    def breaks(parser: type[Any]) -> None:
        unpack = parser._unpack_records

        def unpacks(self: Any, partition: TopicPartition, *rest: Any) -> Any:
            if partition.partition == 0:
                raise error
            yield from unpack(self, partition, *rest)

        monkeypatch.setattr(parser, "_unpack_records", unpacks)

    # The worker's own, and the client's, with which a fresh reader finds out which partition it is.
    breaks(BatchwiseRecords)
    breaks(Fetcher.PartitionRecords)
    stream.use("broken", 1)
    stream.use("fine", 2, partition=1)
    stream.work()

    assert (stream.halted() or "").startswith(f"unreadable: at offset 0: {type(error).__name__}")
    assert stream.fates(1) == ["charged"]
    assert stream.used() == "2"


def bears_the_producers_time(stream: Stream) -> None:
    with administration(stream.bootstrap) as admin:
        resource = ConfigResource(
            ConfigResourceType.TOPIC, stream.topic, configs={"message.timestamp.type": "CreateTime"}
        )
        admin.alter_configs([resource])


def test_k13_a_topic_that_bears_the_producers_time_is_refused_at_the_start(stream: Stream) -> None:
    """K13: arrival must be the broker's clock."""
    bears_the_producers_time(stream)

    with pytest.raises(TopicRefused, match="CreateTime: set it to LogAppendTime"):
        stream.work()


def test_k13_a_record_that_bears_its_producers_time_halts_its_partition(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K13: also where the topic was changed after the worker had started."""
    bears_the_producers_time(stream)
    monkeypatch.setattr("infra.kafka.broker._require_append_time", lambda *_: None)
    stream.use("a", 1)
    stream.work()

    assert (stream.halted() or "").startswith("producer_time: offset 0 ")
    assert stream.charges() == 0


def test_a_missing_topic_is_refused_and_never_made(stream: Stream) -> None:
    with pytest.raises(TopicRefused, match="does not exist"):
        run_worker(stream.settings, WorkerOptions(topics=("no.such.topic",), until_drained=True))
    with administration(stream.bootstrap) as admin:
        assert "no.such.topic" not in admin.list_topics()


def test_k6_partitions_that_are_added_are_read_from_their_first_record(stream: Stream) -> None:
    """K6, I4: "latest" would miss them."""
    stream.use("a", 1)
    stream.work()
    with administration(stream.bootstrap) as admin:
        admin.create_partitions({stream.topic: 3})
    stream.close_producer()
    stream.use("b", 1, partition=2)
    stream.use("a", 1, partition=2)
    stream.work()

    assert stream.fates(2)[0] == "charged"
    assert stream.used() == "2"


def test_z1_a_stale_worker_is_fenced_and_goes_on_where_the_ledger_stands(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Z1, Z7, I4, I17: between its poll and its write another worker wrote the same records."""
    for number in range(5):
        stream.use(f"r{number}", 1)
    polled = KafkaSource.poll
    others: list[Any] = []

    def paused(self: KafkaSource, timeout_milliseconds: int) -> list[PartitionRead]:
        reads = polled(self, timeout_milliseconds)
        if reads and not others:
            others.append(None)
            others.append(stream.work())
            stream.use("late", 1)
        return reads

    monkeypatch.setattr(KafkaSource, "poll", paused)
    fenced_before = metrics.FENCED_WRITES._value.get()
    mine = stream.work()

    assert others[1] == {"charged": {"": 5}}
    assert mine == {"charged": {"": 1}}
    assert metrics.FENCED_WRITES._value.get() == fenced_before + 1
    assert stream.totals() == {"charged": {"": 6}}
    assert stream.used() == "6"


def test_a_batch_of_which_one_partition_was_lost_is_decided_again_without_it(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Z1, I17: what is still ours is kept."""
    stream.use("mine", 1, partition=0)
    stream.use("theirs", 2, partition=1)
    polled = KafkaSource.poll
    others: list[Any] = []

    def paused(self: KafkaSource, timeout_milliseconds: int) -> list[PartitionRead]:
        reads = polled(self, timeout_milliseconds)
        if len(reads) == 2 and not others:
            others.append(None)
            others.append(stream.work(partitions=(1,)))
        return reads

    monkeypatch.setattr(KafkaSource, "poll", paused)
    mine = stream.work()

    if others:
        assert (others[1], mine) == ({"charged": {"": 1}}, {"charged": {"": 1}})
    assert stream.totals() == {"charged": {"": 2}}


def test_workers_of_one_group_share_the_partitions_and_hand_them_over(stream: Stream) -> None:
    """K1, Z3, I4: nothing is lost or doubled when a worker joins and another leaves."""
    stream.open("globex", granted=1_000)
    with stream.start():
        stream.use_many([f"a{number}" for number in range(300)], teams=["acme", "globex"], partitions=2)
        wait_until(lambda: stream.totals() == {"charged": {"": 300}})
        with stream.start():
            stream.use_many([f"b{number}" for number in range(300)], teams=["acme", "globex"], partitions=2)
            wait_until(lambda: stream.totals() == {"charged": {"": 600}}, 40)
        stream.use_many([f"c{number}" for number in range(300)], teams=["acme", "globex"], partitions=2)
        wait_until(lambda: stream.totals() == {"charged": {"": 900}}, 40)

    assert stream.charges("acme") + stream.charges("globex") == 900


def test_the_groups_committed_offset_says_the_same_and_is_never_read(stream: Stream) -> None:
    stream.use("a", 1)
    stream.use("b", 1)
    group = f"group.{stream.topic}"
    with stream.start(group_id=group), administration(stream.bootstrap) as admin:
        wait_until(lambda: stream.charges() == 2)
        partition = TopicPartition(stream.topic, 0)
        wait_until(lambda: committed(admin, group, partition) == 2)


def committed(admin: Any, group: str, partition: TopicPartition) -> int | None:
    answer = admin.list_group_offsets([group])[group]
    return answer[partition].offset if partition in answer else None


def test_a_released_partition_goes_on_and_outcomes_before_are_kept(stream: Stream) -> None:
    stream.use("a", 1)
    stream.work()
    stream.execute("UPDATE consumed SET halted = 'by hand' WHERE topic = %s AND part = 0", stream.topic)
    stream.use("b", 1)
    stream.work()
    assert stream.next_offset() == 1
    assert stream.state.release(stream.partition())
    assert not stream.state.release(stream.partition())
    stream.work()

    assert stream.fates() == ["charged", "charged"]


def test_an_offset_that_was_not_read_yet_says_so(stream: Stream) -> None:
    stream.use("a", 1)

    assert stream.fate(0).kind == "not_read"


def test_the_dead_letter_topic_holds_the_record_untouched_with_its_coordinates(stream: Stream) -> None:
    """Spring's header names; numbers big-endian; our reason where the exception would be."""
    value = b"\xff\x00{"
    offset = stream.send(value, [("x", b"1"), ("x", b""), ("y", b"2")], key=b"\x00key")
    stream.work()

    (record,) = stream.dead_letter_records()
    headers = list(record.headers)
    assert (record.key, record.value) == (b"\x00key", value)
    assert headers[:3] == [("x", b"1"), ("x", b""), ("y", b"2")]
    told = dict(headers[3:])
    assert told["kafka_dlt-original-topic"] == stream.topic.encode()
    assert int.from_bytes(told["kafka_dlt-original-partition"], "big") == 0
    assert int.from_bytes(told["kafka_dlt-original-offset"], "big") == offset
    assert len(told["kafka_dlt-original-offset"]) == 8
    arrived = datetime.fromtimestamp(int.from_bytes(told["kafka_dlt-original-timestamp"], "big") / 1_000, UTC)
    assert abs(arrived - datetime.now(UTC)) < timedelta(minutes=1)
    assert told["kafka_dlt-exception-fqcn"] == b"coffer.rejected.content_type"
    assert stream.letters.unpublished() == []


def test_letters_that_could_not_be_published_are_published_later(stream: Stream) -> None:
    """The table is the store; the topic is at least once."""
    with administration(stream.bootstrap) as admin:
        admin.delete_topics([f"{stream.topic}.dlq"])
    stream.send(b"{", [("x", b"1")])
    stream.settings = stream.settings.model_copy()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("infra.kafka.sink.BLOCKED_MILLISECONDS_MAX", 500)
        stream.work()
    assert stream.fates() == ["rejected content_type"]
    assert len(stream.letters.unpublished()) == 1

    create_topics(stream.bootstrap, [Topic(f"{stream.topic}.dlq", 1)])
    stream.work()

    assert len(stream.dead_letter_records()) == 1
    assert stream.letters.unpublished() == []
