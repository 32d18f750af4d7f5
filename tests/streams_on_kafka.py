"""A ledger, a topic and a worker for one test: usage goes in as bytes, outcomes come out as rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from consumers.batches import PartitionKey
from consumers.payment_encoding import encode_payment, encode_payment_structured
from consumers.payment_wire import PaymentKind
from domain.account.decision import account_id
from domain.account.state import TeamAccount
from domain.actors import Actor
from domain.amounts import format_credits, parse_credits
from domain.catalogue import publish_rate_card, register_source
from domain.commands import CloseAccount, Command, GrantCredits, OpenAccount
from domain.ledger import Answer, Caller, Ledger
from infra.consume import WorkerOptions, run_worker
from infra.kafka.broker import describe_partitions
from infra.kafka.sink import _Serializer, _Value
from infra.postgres.application import CatalogueApplication, LedgerApplication
from infra.postgres.batch_writer import PostgresBatchStore
from infra.postgres.dead_letters import DeadLetters, LetterFilter, RetryReport
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.shards import ShardMap
from infra.postgres.stream_state import Fate, Outcomes, StreamState
from infra.settings import Settings
from infra.topics import dead_letter_topic
from tests.builders import unit_card
from tests.consumers.payment_stories import a_payment

REPOSITORY = Path(__file__).resolve().parent.parent
SOURCE = "urn:test:usage"
HISTORIC = "urn:test:historic"
OPERATOR = Actor("tester", "operator")
CALLER = Caller("tester", "operator")

Headers = list[tuple[str, bytes | None]]


def usage_headers(record_id: str, team: str, occurred: datetime, **changes: Any) -> Headers:
    """Binary-mode headers of a usage record; a change of None leaves the attribute out."""
    attributes: dict[str, Any] = {
        "content-type": "application/json",
        "ce_specversion": "1.0",
        "ce_type": "com.coffer.usage.recorded.v1",
        "ce_id": record_id,
        "ce_source": SOURCE,
        "ce_subject": team,
        "ce_time": occurred.isoformat().replace("+00:00", "Z"),
    }
    attributes |= {f"ce_{name}": value for name, value in changes.items()}
    return [(name, str(value).encode()) for name, value in attributes.items() if value is not None]


def usage_value(units: str | int = 1, **changes: Any) -> bytes:
    """The data of a usage record: units of image.generate."""
    data: dict[str, Any] = {
        "action": "image.generate",
        "status": "succeeded",
        "meters": {"units": str(units)},
    }
    return json.dumps({name: each for name, each in (data | changes).items() if each is not None}).encode()


class Stream:
    """One topic and one ledger, with short words for what tests do to them."""

    def __init__(self, database_url: str, bootstrap: str, topic: str) -> None:
        self.database_url = database_url
        self.bootstrap = bootstrap
        self.topic = topic
        self.settings = Settings(database_url=database_url, kafka_bootstrap=bootstrap)
        self.shards = ShardMap(database_url, application_name="test")
        self.state = StreamState(self.shards)
        self.letters = DeadLetters(self.shards)
        self.ledger = Ledger(PostgresLedgerStore(self.shards))
        self.catalogue = CatalogueApplication(self.shards)
        self._producer: KafkaProducer | None = None
        self._commands = 0

    def close(self) -> None:
        self.close_producer()
        self.catalogue.close()
        self.shards.close()

    # --- what is there before ---

    def publish(self, **changes: Any) -> None:
        """A rate card, by default one credit per unit."""
        now = datetime.now(UTC)
        catalogue = self.catalogue.catalogue()
        self.catalogue.record(catalogue, publish_rate_card(catalogue, unit_card(**changes), now, OPERATOR))

    def register(self, source: str = HISTORIC, *, historic: bool = True) -> None:
        """The source is registered, as historic or not."""
        catalogue, now = self.catalogue.catalogue(), datetime.now(UTC)
        self.catalogue.record(catalogue, register_source(catalogue, source, historic, now, OPERATOR))

    def open(self, *teams: str, granted: str | int = 0) -> None:
        for team in teams:
            self.command(OpenAccount(team_id=team))
            if granted:
                self.grant(team, granted)

    def grant(self, team: str, amount: str | int) -> None:
        self.command(GrantCredits(team_id=team, amount_micros=parse_credits(str(amount), "amount")))

    def shut(self, team: str) -> None:
        self.command(CloseAccount(team_id=team))

    def command(self, command: Command) -> Answer:
        self._commands += 1
        return self.ledger.execute(command, CALLER, f"key-{self._commands}")

    def beside(self, topic: str) -> Stream:
        """Another topic of the same ledger."""
        return Stream(self.database_url, self.bootstrap, topic)

    # --- usage ---

    @property
    def producer(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = KafkaProducer(
                bootstrap_servers=self.bootstrap, acks="all", linger_ms=5, value_serializer=_Serializer()
            )
        return self._producer

    def send(
        self,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        *,
        key: bytes | None = b"acme",
        partition: int = 0,
    ) -> int:
        """The record is in the topic; returns its offset."""
        sent = self.producer.send(
            self.topic, value=_Value(value), key=key, headers=list(headers), partition=partition
        )
        self.producer.flush(10)
        return int(sent.get(10).offset)

    def use(
        self,
        record_id: str,
        units: str | int = 1,
        *,
        team: str = "acme",
        partition: int = 0,
        occurred: datetime | None = None,
        source: str = SOURCE,
        **changes: Any,
    ) -> int:
        """A usage record is in the topic; returns its offset."""
        headers = usage_headers(record_id, team, occurred or datetime.now(UTC), source=source)
        return self.send(usage_value(units, **changes), headers, key=team.encode(), partition=partition)

    def pay(
        self,
        kind: PaymentKind,
        record_id: str,
        reference: str = "pay-1",
        amount: int = 100,
        *,
        partition: int = 0,
        **changes: Any,
    ) -> int:
        """A fact of a payment provider is in the topic; returns its offset."""
        payment = a_payment(kind, record_id, reference, amount, at=datetime.now(UTC), **changes)
        encode = encode_payment if len(record_id) % 2 else encode_payment_structured
        sent = encode(payment)
        return self.send(sent.value, sent.headers, key=sent.key, partition=partition)

    def use_many(
        self,
        record_ids: Iterable[str],
        *,
        teams: Sequence[str] = ("acme",),
        partitions: int = 1,
        units: int = 1,
    ) -> None:
        """Many usage records, one unit each, spread over teams and partitions by their number."""
        occurred = datetime.now(UTC) - timedelta(seconds=1)
        for number, record_id in enumerate(record_ids):
            team = teams[number % len(teams)]
            self.producer.send(
                self.topic,
                value=_Value(usage_value(units)),
                key=team.encode(),
                headers=usage_headers(record_id, team, occurred),
                partition=number % partitions,
            )
        self.producer.flush(30)

    def close_producer(self) -> None:
        """The next record is sent by a new client, which knows nothing of the topic."""
        if self._producer is not None:
            self._producer.close()
        self._producer = None

    # --- working through it ---

    def work(self, **options: Any) -> Outcomes:
        """A worker reads all that is there, in this process."""
        return run_worker(self.settings, self._options(until_drained=True, **options))

    def start(self, **options: Any) -> BackgroundWorker:
        """A worker that reads until stopped, in a thread."""
        return BackgroundWorker(self.settings, self._options(**options))

    def _options(self, **options: Any) -> WorkerOptions:
        return WorkerOptions(**({"topics": (self.topic,)} | options))

    def spawn(
        self, *, drained: bool = True, failpoint: str = "", dies_on: str = "", **options: Any
    ) -> subprocess.Popen[bytes]:
        """A worker in a process of its own; with ``dies_on`` it is killed whenever it decides that record."""
        arguments = {
            "database_url": self.database_url,
            "bootstrap": self.bootstrap,
            "dies_on": dies_on,
            "options": {"topics": [self.topic], "until_drained": drained, **options},
        }
        return subprocess.Popen(
            [sys.executable, "-m", "tests.worker_process", json.dumps(arguments)],
            cwd=REPOSITORY,
            env=os.environ | {"COFFER_FAILPOINT": failpoint},
        )

    def retry(self, **wanted: Any) -> list[RetryReport]:
        """The dead letters meant were tried again."""
        store = PostgresBatchStore(self.shards)
        try:
            return self.letters.retry(
                store, self.catalogue.catalogue, LetterFilter(topic=self.topic, **wanted)
            )
        finally:
            store.close()

    # --- what became of it ---

    def dead_letter_records(self) -> list[ConsumerRecord]:
        """All that is in the dead-letter topic."""
        consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=None, enable_auto_commit=False)
        try:
            partition = TopicPartition(dead_letter_topic(self.topic), 0)
            consumer.assign([partition])
            consumer.seek(partition, 0)
            end = consumer.end_offsets([partition])[partition]
            found: list[ConsumerRecord] = []
            while consumer.position(partition) < end:
                found += consumer.poll(timeout_ms=500).get(partition, [])
            return found
        finally:
            consumer.close()

    def letter_counts(self) -> dict[tuple[str, str], int]:
        return self.letters.count(LetterFilter(topic=self.topic, status=None))

    def totals(self) -> Outcomes:
        return self.state.totals([self.topic])

    def partition(self, number: int = 0) -> PartitionKey:
        return next(
            key for key in describe_partitions(self.bootstrap, [self.topic]) if key.partition == number
        )

    def fate(self, offset: int, partition: int = 0) -> Fate:
        return self.state.outcome_of(self.partition(partition), offset)

    def fates(self, partition: int = 0) -> list[str]:
        """What became of each offset of a partition: "charged", "parked unknown_team", ..."""
        key = self.partition(partition)
        position = self.next_offset(partition)
        fates = [self.state.outcome_of(key, offset) for offset in range(position)]
        return [f"{fate.kind} {fate.reason}".strip() for fate in fates]

    def next_offset(self, partition: int = 0) -> int:
        key = self.partition(partition)
        return next(
            (each.next_offset for each in self.state.positions([self.topic]) if each.partition == key), 0
        )

    def halted(self, partition: int = 0) -> str | None:
        key = self.partition(partition)
        return next(
            (each.halted for each in self.state.positions([self.topic]) if each.partition == key), None
        )

    def account(self, team: str = "acme") -> TeamAccount:
        with LedgerApplication(self.shards, self.shards.shard_of(team)) as application:
            return application.account(team)

    def used(self, team: str = "acme") -> str:
        """All that was ever charged to the team, in credits."""
        rows = self.rows(
            "SELECT coalesce(sum((convert_from(state, 'UTF8')::jsonb->>'amount_micros')::bigint), 0)"
            " FROM ledger_events WHERE originator_id = %s AND topic LIKE 'CreditsCharged%%'",
            account_id(team),
        )
        return format_credits(int(rows[0][0]))

    def charges(self, team: str = "acme") -> int:
        rows = self.rows(
            "SELECT count(*) FROM ledger_events WHERE originator_id = %s AND topic LIKE 'CreditsCharged%%'",
            account_id(team),
        )
        return int(rows[0][0])

    def rows(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.database_url) as connection:
            return connection.execute(statement.encode(), values).fetchall()

    def execute(self, statement: str, *values: object) -> None:
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(statement.encode(), values)


class BackgroundWorker:
    """A worker in a thread, stopped and joined at the end of the block; what it raised is raised again there."""

    def __init__(self, settings: Settings, options: WorkerOptions) -> None:
        self._stop = threading.Event()
        self._settings, self._options = settings, options
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error: BaseException | None = None
        self.outcomes: Outcomes = {}

    def _run(self) -> None:
        try:
            self.outcomes = run_worker(self._settings, self._options, self._stop)
        except BaseException as error:  # noqa: BLE001 - handed over to the test
            self.error = error

    def __enter__(self) -> BackgroundWorker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert not self._thread.is_alive(), "the worker did not stop"
        if self.error is not None:
            raise self.error
