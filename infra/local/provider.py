"""A payment provider for trying things out: it knows the ledger by its topics alone, and charges each payment once.

It reads top-ups that were asked for from the ledger's topic and answers on the payments topic. Its memory is what it told
before, read from there when it starts: so it may be killed at any moment, and read a request as often as it likes.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from heapq import heappop, heappush
from threading import Event
from typing import Literal, NamedTuple, TypeAlias

import msgspec
import structlog
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

from consumers.payment_encoding import encode_payment
from consumers.payment_wire import PaymentKind, PaymentRecord, read_payment
from consumers.stream_record import StreamRecord, append_time
from domain.account.events import CostBasis
from infra.kafka.broker import describe_partitions
from infra.kafka.ledger_events import topic_of_type
from infra.kafka.source import reader_configuration
from infra.local.producing import DELIVERY_SECONDS_MAX, usage_producer
from infra.topics import LEDGER, PAYMENTS

SOURCE = "urn:coffer:demo:payment-provider"
DECLINED = "card_declined"
DECLINED_TOKEN = "declined"  # noqa: S105 - a word looked for in made-up tokens
"""A payment method whose token holds this word never pays."""

POLL_MILLISECONDS = 200

ChargebackEnd: TypeAlias = Literal["open", "won", "lost"]

_log = structlog.get_logger("provider")


class ProviderTerms(msgspec.Struct, frozen=True, kw_only=True):
    """How the provider behaves.

    Payments of ``fail_teams`` fail, the first ``fail_times`` of each team or (None) all of them. The first payment that it
    settles for a team in ``chargebacks`` is taken back by the bank, and the chargeback ends as said there.
    """

    delay_seconds: float = 1.0
    fail_teams: frozenset[str] = frozenset()
    fail_times: int | None = None
    chargebacks: dict[str, ChargebackEnd] = {}


class Asked(msgspec.Struct, frozen=True):
    """A top-up that the ledger asked for."""

    payment_reference: str
    amount_micros: int
    cost_basis: CostBasis


class PaymentName(NamedTuple):
    """What names a payment: its reference is unique in its team."""

    team_id: str
    reference: str


class Due(NamedTuple):
    """A fact that the provider tells once its time has come."""

    at: float
    name: PaymentName
    kind: PaymentKind


class FakeProvider:
    """Decides what becomes of each payment, from what it was asked and what it told before. Times are seconds of any clock."""

    def __init__(self, terms: ProviderTerms) -> None:
        self._terms = terms
        self._asked: dict[PaymentName, Asked] = {}
        self._told: dict[PaymentName, list[PaymentKind]] = defaultdict(list)
        self._failed: dict[str, int] = defaultdict(int)
        self._bank_takes_back: dict[str, PaymentName] = {}
        self._declined: set[str] = set()
        self._due: list[Due] = []

    def remember(self, team_id: str, reference: str, kind: PaymentKind) -> None:
        """The provider told this fact, now or in an earlier life."""
        name = PaymentName(team_id, reference)
        self._told[name].append(kind)
        if kind == "topup.failed":
            self._failed[team_id] += 1
        if kind == "topup.settled":
            self._bank_takes_back.setdefault(team_id, name)

    def set_method(self, team_id: str, token: str) -> None:
        """The team pays with this from now on."""
        (self._declined.add if DECLINED_TOKEN in token else self._declined.discard)(team_id)

    def ask(self, team_id: str, asked: Asked, now: float) -> None:
        """The ledger asked for this payment, for the first time or once more."""
        name = PaymentName(team_id, asked.payment_reference)
        if name not in self._asked:
            self._asked[name] = asked
            self._plan(name, now)

    def due(self, now: float) -> Iterator[PaymentRecord]:
        """The facts to tell by now, in order; each is told once, and what follows from it is planned."""
        while self._due and self._due[0].at <= now:
            _, name, kind = heappop(self._due)
            payment = self._fact(name, kind)
            yield payment
            self.remember(name.team_id, name.reference, kind)
            self._plan(name, now)

    @property
    def next_at(self) -> float | None:
        """When the next fact is due, None when there is none."""
        return self._due[0].at if self._due else None

    def charges(self, team_id: str) -> int:
        """How often the team's payment method was charged."""
        return sum(
            kinds.count("topup.settled") for name, kinds in self._told.items() if name.team_id == team_id
        )

    def _plan(self, name: PaymentName, now: float) -> None:
        kind = self._next(name)
        if kind is not None:
            heappush(self._due, Due(now + self._terms.delay_seconds, name, kind))

    def _next(self, name: PaymentName) -> PaymentKind | None:
        """What the provider will tell of a payment after all it told before; None once it is done with it."""
        told = self._told[name]
        if not told:
            return "topup.failed" if self._fails(name.team_id) else "topup.settled"
        end = self._terms.chargebacks.get(name.team_id)
        if "topup.settled" not in told or end is None or self._bank_takes_back.get(name.team_id) != name:
            return None
        if "chargeback.opened" not in told:
            return "chargeback.opened"
        if end == "open" or {"chargeback.won", "chargeback.lost"} & set(told):
            return None
        return "chargeback.won" if end == "won" else "chargeback.lost"

    def _fails(self, team_id: str) -> bool:
        if team_id in self._declined:
            return True
        times = self._terms.fail_times
        return team_id in self._terms.fail_teams and (times is None or self._failed[team_id] < times)

    def _fact(self, name: PaymentName, kind: PaymentKind) -> PaymentRecord:
        asked = self._asked[name]
        is_bought = kind == "topup.settled"
        return fact(
            name,
            kind,
            asked.amount_micros if is_bought else 0,
            asked.cost_basis if is_bought else None,
        )


def fact(
    name: PaymentName, kind: PaymentKind, amount_micros: int = 0, cost_basis: CostBasis | None = None
) -> PaymentRecord:
    """A fact about a payment, happening now; its id is made of what it says, so told twice it is a duplicate."""
    now = datetime.now(UTC)
    digest = sha256(f"{name.team_id}\n{name.reference}".encode()).hexdigest()[:24]
    return PaymentRecord(
        kind=kind,
        team_id=name.team_id,
        source=SOURCE,
        id=f"{kind}/{digest}",
        occurred_at=now,
        arrived_at=now,
        payment_reference=name.reference,
        amount_micros=amount_micros,
        cost_basis=cost_basis,
        failure=DECLINED if kind == "topup.failed" else "",
    )


class _Set(msgspec.Struct):
    method: _Method


class _Method(msgspec.Struct):
    token: str


_asked = msgspec.json.Decoder(Asked).decode
_set = msgspec.json.Decoder(_Set).decode


def run_provider(
    bootstrap: str,
    terms: ProviderTerms,
    stop: Event,
    *,
    ledger_topic: str = LEDGER,
    payments_topic: str = PAYMENTS,
) -> None:
    """The provider answers until ``stop``. Raises: KafkaError when no broker answers; start it again, it forgets nothing."""
    provider = FakeProvider(terms)
    remembered = _remember(bootstrap, provider, payments_topic)
    _log.info("provider_started", remembered=remembered, terms=msgspec.to_builtins(terms))
    consumer = _reader(bootstrap, ledger_topic)
    producer = usage_producer(bootstrap)
    try:
        while not stop.is_set():
            for records in consumer.poll(timeout_ms=POLL_MILLISECONDS).values():
                for record in records:
                    _take(provider, record)
            for payment in provider.due(time.monotonic()):
                sent = encode_payment(payment)
                told = producer.send(payments_topic, key=sent.key, value=sent.value, headers=sent.headers)
                told.get(timeout=DELIVERY_SECONDS_MAX)
                _log.info(
                    "told", kind=payment.kind, team=payment.team_id, reference=payment.payment_reference
                )
    finally:
        consumer.close(autocommit=False)
        producer.close(timeout=5)
    _log.info("provider_stopped")


def tell(bootstrap: str, payment: PaymentRecord, payments_topic: str = PAYMENTS) -> None:
    """The broker has this fact. Raises: KafkaError."""
    producer = usage_producer(bootstrap)
    try:
        sent = encode_payment(payment)
        answer = producer.send(payments_topic, key=sent.key, value=sent.value, headers=sent.headers)
        answer.get(timeout=DELIVERY_SECONDS_MAX)
    finally:
        producer.close(timeout=5)


def _take(provider: FakeProvider, record: ConsumerRecord) -> None:
    headers = dict(record.headers)
    topic = topic_of_type((headers.get("ce_type") or b"").decode())
    team_id = (headers.get("ce_subject") or b"").decode()
    if topic in ("AutoTopUpRequested.1", "TopUpRequested.1"):
        provider.ask(team_id, _asked(record.value), time.monotonic())
    elif topic == "PaymentMethodSet.1":
        provider.set_method(team_id, _set(record.value).method.token)


def _remember(bootstrap: str, provider: FakeProvider, payments_topic: str) -> int:
    """The provider knows all that it told before; returns how many facts that is."""
    consumer = _reader(bootstrap, payments_topic)
    try:
        partitions = list(consumer.assignment())
        ends = consumer.end_offsets(partitions)
        remembered = 0
        while any(consumer.position(each) < ends[each] for each in partitions):
            for records in consumer.poll(timeout_ms=POLL_MILLISECONDS).values():
                for payment in _own(records):
                    provider.remember(payment.team_id, payment.payment_reference, payment.kind)
                    remembered += 1
        return remembered
    finally:
        consumer.close(autocommit=False)


def _own(records: Sequence[ConsumerRecord]) -> Iterator[PaymentRecord]:
    for each in records:
        record = StreamRecord(
            each.topic,
            each.partition,
            each.offset,
            each.key,
            each.value,
            each.headers or (),
            append_time(each.timestamp),
        )
        payment = read_payment(record)
        if isinstance(payment, PaymentRecord) and payment.source == SOURCE:
            yield payment


def _reader(bootstrap: str, topic: str) -> KafkaConsumer:
    """A reader of all partitions of the topic, from the beginning."""
    consumer = KafkaConsumer(**reader_configuration(bootstrap))
    partitions = [TopicPartition(topic, each.partition) for each in describe_partitions(bootstrap, [topic])]
    consumer.assign(partitions)
    consumer.seek_to_beginning(*partitions)
    return consumer
