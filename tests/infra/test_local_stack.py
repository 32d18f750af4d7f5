"""The local stack: durable, killable, restartable, and gone when its owner is gone."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, KafkaAdminClient
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaTimeoutError

from infra.local import kafka_jars
from infra.local.kafka import LocalKafka, find_java, java_version, running_bootstrap
from infra.local.kafka_jars import JarMismatch, locked_jars
from infra.local.postgres import LocalPostgres, running_url
from infra.local.processes import LocalServerError
from infra.topics import DAY_MILLISECONDS, TOPICS, USAGE, Topic, create_topics, dead_letter_topic

CACHE = Path(__file__).resolve().parents[2] / ".coffer" / "cache"
LOG_APPEND_TIME = 1


@pytest.fixture
def state(run_directory: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    directory = run_directory / request.node.name[:40]
    yield directory
    shutil.rmtree(directory, ignore_errors=True)


# --- PostgreSQL ---


def test_postgres_is_durable_and_listens_on_loopback_only(own_postgres: LocalPostgres) -> None:
    expected = {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "jit": "off",
        "shared_buffers": "1GB",
        "wal_buffers": "64MB",
        "max_wal_size": "4GB",
        "TimeZone": "UTC",
        "listen_addresses": "127.0.0.1",
        "unix_socket_directories": "",
        "data_checksums": "on",
    }

    with psycopg.connect(own_postgres.url) as connection:
        told = {name: connection.execute(f"SHOW {name}").fetchone() for name in expected}

    assert told == {name: (value,) for name, value in expected.items()}
    assert own_postgres.pid is not None
    assert psutil.Process(own_postgres.pid).uids().real != 0


def test_postgres_wants_its_password(own_postgres: LocalPostgres) -> None:
    user, _, place = own_postgres.url.rpartition("@")
    without = f"{user.rpartition(':')[0]}:wrong@{place}"

    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(without).close()


@pytest.mark.parametrize("how", ["stop", "stop_at_once", "kill"])
def test_what_postgres_committed_survives_every_end(own_postgres: LocalPostgres, how: str) -> None:
    url = own_postgres.url
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 1 AS n")

    getattr(own_postgres, how)()
    assert running_url(_state_of(own_postgres)) is None
    assert own_postgres.start() == url

    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM kept").fetchone() == (1,)


def test_one_process_owns_the_data(own_postgres: LocalPostgres) -> None:
    second = LocalPostgres(_state_of(own_postgres))

    with pytest.raises(LocalServerError, match="already runs the server"):
        second.start()

    assert running_url(_state_of(own_postgres)) == own_postgres.url


def test_postgres_ends_with_the_process_that_started_it(state: Path) -> None:
    making = f"from infra.local.postgres import LocalPostgres; server = LocalPostgres(Path({str(state)!r}))"

    with _owner(making) as owner:
        server = psutil.Process(_pid_told(owner))
        owner.kill()

    _is_gone(server)
    assert running_url(state) is None


def test_a_wanted_port_that_is_taken_is_named(own_postgres: LocalPostgres, state: Path) -> None:
    taken = int(own_postgres.url.rpartition("/")[0].rpartition(":")[2])

    with pytest.raises(LocalServerError, match=f"port {taken} is taken"):
        LocalPostgres(state, port=taken).start()


# --- Kafka ---


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_what_kafka_acknowledged_survives_every_end(own_kafka: LocalKafka, how: str) -> None:
    own_kafka.create_topics([Topic(USAGE, 2)])
    _produce(own_kafka.bootstrap, USAGE, 500)
    before = own_kafka.bootstrap

    getattr(own_kafka, how)()
    assert own_kafka.pid is None
    assert own_kafka.start() == before

    assert own_kafka.create_topics([Topic(USAGE, 2)]) == []
    assert _consume(before, USAGE, 2) == [f"{n}".encode() for n in range(500)]


def test_kafka_ends_with_the_process_that_started_it(state: Path) -> None:
    place = f"Path({str(state)!r}), cache=Path({str(CACHE)!r})"

    with _owner(f"from infra.local.kafka import LocalKafka; server = LocalKafka({place})") as owner:
        server = psutil.Process(_pid_told(owner))
        assert running_bootstrap(state) is not None
        owner.kill()

    _is_gone(server)
    assert running_bootstrap(state) is None


def test_every_topic_is_stamped_by_the_broker_and_dead_letters_are_kept_thirty_days(
    kafka_bootstrap: str,
) -> None:
    create_topics(kafka_bootstrap)

    assert create_topics(kafka_bootstrap) == []
    for topic in TOPICS:
        told = _configuration(kafka_bootstrap, topic.name)
        assert told["message.timestamp.type"] == "LogAppendTime"
        assert told["retention.ms"] == str(30 * DAY_MILLISECONDS if topic.name.endswith(".dlq") else -1)
    assert {dead_letter_topic(USAGE), "credits.payments.v1.dlq"} < {topic.name for topic in TOPICS}


def test_a_topic_that_nobody_made_is_not_made_by_accident(kafka_bootstrap: str) -> None:
    producer = KafkaProducer(bootstrap_servers=kafka_bootstrap, max_block_ms=1_500)

    with pytest.raises(KafkaTimeoutError, match="Failed to update metadata") as refused:
        producer.send("nobody-made-this", b"x").get(timeout=3)
    producer.close()

    assert "nobody-made-this" not in _topics(kafka_bootstrap), refused.value


def test_java_is_new_enough() -> None:
    assert java_version(find_java()) >= 17


def test_a_java_that_does_not_run_counts_as_none(tmp_path: Path) -> None:
    assert java_version(tmp_path / "java") == 0


@pytest.fixture
def one_jar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of one jar, and that jar alone in the cache `tmp_path / "cache"`."""
    head, *parts = kafka_jars.LOCK_PATH.read_text().split("[[dependencies]]")
    slf4j = next(part for part in parts if 'artifactId = "slf4j-simple"' in part)
    lock = tmp_path / "jgo.lock.toml"
    lock.write_text(f"{head}[[dependencies]]{slf4j}")
    monkeypatch.setattr(kafka_jars, "LOCK_PATH", lock)
    (jar,) = locked_jars(CACHE / "maven")
    copy = tmp_path / "cache" / jar.relative_to(CACHE / "maven")
    shutil.copytree(jar.parent, copy.parent)
    return copy


def test_a_jar_that_was_cut_short_is_fetched_again(one_jar: Path, tmp_path: Path) -> None:
    whole = one_jar.read_bytes()
    one_jar.write_bytes(whole[:1_000])

    assert locked_jars(tmp_path / "cache") == [one_jar]

    assert one_jar.read_bytes() == whole


def test_a_jar_that_is_not_the_locked_one_is_refused_and_removed(one_jar: Path, tmp_path: Path) -> None:
    lock = kafka_jars.LOCK_PATH.read_text()
    kafka_jars.LOCK_PATH.write_text(lock.replace('sha256 = "', 'sha256 = "0'))

    with pytest.raises(JarMismatch, match=r"slf4j-simple.*SHA-256"):
        locked_jars(tmp_path / "cache")

    assert not one_jar.exists()


def test_a_jar_that_cannot_be_fetched_says_what_is_needed(
    one_jar: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    shutil.rmtree(one_jar.parent)

    with pytest.raises(LocalServerError, match=r"slf4j-simple.*needs the network once"):
        locked_jars(tmp_path / "cache")


def test_the_lock_pins_every_jar_and_names_no_host() -> None:
    text = kafka_jars.LOCK_PATH.read_text()

    assert text.count("[[dependencies]]") == text.count("sha256 = ")
    assert "http" not in text


# --- given, when, then in other words ---


def _state_of(server: LocalPostgres) -> Path:
    return server._home.parent


def _owner(making: str) -> subprocess.Popen[str]:
    program = f"from pathlib import Path; {making}; server.start(); print(server.pid, flush=True); input()"
    return subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def _pid_told(owner: subprocess.Popen[str]) -> int:
    assert owner.stdout is not None
    return int(owner.stdout.readline())


def _is_gone(server: psutil.Process) -> None:
    try:
        gone, alive = psutil.wait_procs([server], timeout=20)
    except psutil.NoSuchProcess:
        return
    assert not [each for each in alive if each.status() != psutil.STATUS_ZOMBIE], gone


def _produce(bootstrap: str, topic: str, count: int) -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap, acks="all", compression_type="lz4")
    for n in range(count):
        producer.send(topic, key=f"team-{n % 7}".encode(), value=f"{n}".encode())
    producer.flush()
    producer.close()


def _consume(bootstrap: str, topic: str, partitions: int) -> list[bytes]:
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap, isolation_level="read_committed", enable_auto_commit=False
    )
    assigned = [TopicPartition(topic, n) for n in range(partitions)]
    consumer.assign(assigned)
    wanted = sum(consumer.end_offsets(assigned).values())
    consumer.seek_to_beginning(*assigned)
    records: list[ConsumerRecord] = []
    while len(records) < wanted:
        records += [record for batch in consumer.poll(500).values() for record in batch]
    consumer.close()
    assert {record.timestamp_type for record in records} == {LOG_APPEND_TIME}
    return sorted((record.value for record in records), key=int)


def _configuration(bootstrap: str, topic: str) -> dict[str, str]:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    told = admin.describe_configs([ConfigResource("TOPIC", topic)], config_filter="all")
    admin.close()
    return {name: value["value"] for name, value in told["topic"][topic].items()}


def _topics(bootstrap: str) -> list[str]:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    names: list[str] = admin.list_topics()
    admin.close()
    return names
