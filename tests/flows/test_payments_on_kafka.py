"""Payments through a real Kafka and a real PostgreSQL: each fact once, whatever crashed, beside usage of the same team."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from infra.failpoints import OF_WORKERS
from infra.kafka.source import KafkaSource
from infra.postgres.verification import verify
from tests.streams_on_kafka import Stream

KILLED = -int(signal.SIGKILL)


def a_mixed_week(payments: Stream) -> None:
    """Facts of every outcome over both partitions."""
    payments.pay("topup.requested", "e1")
    payments.pay("topup.settled", "e2")
    payments.pay("topup.settled", "e2")
    payments.pay("topup.settled", "e2", amount=99)
    payments.pay("chargeback.opened", "e5", "pay-9")
    payments.pay("topup.settled", "e6", team_id="nobody")
    payments.send(b"{", [("x", b"1")])
    payments.pay("topup.requested", "f1", "pay-2", partition=1)
    payments.pay("topup.failed", "f2", "pay-2", partition=1)


EXPECTED = {
    "applied": {"topup.requested": 2, "topup.settled": 1, "topup.failed": 1},
    "conflict": {"": 1},
    "duplicate": {"": 1},
    "parked": {"unknown_payment": 1, "unknown_team": 1},
    "rejected": {"content_type": 1},
}


def nothing_differs(stream: Stream) -> None:
    """The ledger agrees with a replay, and every offset read with its one outcome."""
    assert [each for each in verify(stream.shards).findings if each.table != "statement_entry"] == []


def test_every_fact_of_the_stream_ends_in_one_outcome_that_can_be_asked_for(
    stream: Stream, payments: Stream
) -> None:
    """I5, I26."""
    a_mixed_week(payments)
    payments.work()

    assert payments.totals() == EXPECTED
    assert payments.fates() == [
        "applied topup.requested",
        "applied topup.settled",
        "duplicate",
        "conflict",
        "parked unknown_payment",
        "parked unknown_team",
        "rejected content_type",
    ]
    applied = payments.fate(1)
    assert (applied.team_id, applied.version) == ("acme", 4)
    assert payments.account().settled_micros == 1_100_000_000
    assert {record.headers[-1][0] for record in payments.dead_letter_records()} == {
        "kafka_dlt-exception-message"
    }
    assert len(payments.dead_letter_records()) == 3
    nothing_differs(stream)


@pytest.mark.parametrize("place", OF_WORKERS)
def test_a_worker_killed_anywhere_applies_each_fact_once(
    stream: Stream, payments: Stream, place: str
) -> None:
    """W1 to W6, I4, I5, I17."""
    a_mixed_week(payments)
    assert payments.spawn(failpoint=place).wait(60) == KILLED

    payments.work()

    assert payments.totals() == EXPECTED
    assert payments.account().settled_micros == 1_100_000_000
    nothing_differs(stream)


def test_a_fact_without_its_event_and_an_event_without_its_fact_are_named(
    stream: Stream, payments: Stream
) -> None:
    """I26: planted in the rows."""
    a_mixed_week(payments)
    payments.work()
    nothing_differs(stream)

    stream.execute(
        "UPDATE usage_outcome SET first_version = first_version + 90 WHERE (part, kafka_offset) = (0, 1)"
    )
    found = [each for each in verify(stream.shards).findings if "claim" in each.what + each.expected]

    assert [(each.table, each.offset) for each in found] == [("usage_outcome", 1), ("ledger_events", None)]
    assert (found[0].topic, found[0].expected.endswith("at version 94")) == (payments.topic, True)
    assert (found[1].version, found[1].what.split()[0]) == (4, "CreditsToppedUp.1")


def test_one_worker_reads_both_streams(stream: Stream, payments: Stream) -> None:
    """Bought by one stream and spent by the other, in the batches of one process."""
    stream.open("globex")
    payments.pay("topup.settled", "e1", amount=7, team_id="globex")
    stream.use("a", 3, team="globex")
    stream.use("b", 3, team="globex")

    outcomes = stream.work(topics=(stream.topic, payments.topic))

    assert outcomes == {"charged": {"": 2}, "applied": {"topup.settled": 1}}
    account = stream.account("globex")
    assert (account.settled_micros, account.debt_micros) == (1_000_000, 0)


def test_a_parked_fact_is_applied_by_a_retry_and_the_offset_says_so(stream: Stream, payments: Stream) -> None:
    """The bank spoke before the provider."""
    payments.pay("chargeback.opened", "e1")
    payments.pay("chargeback.lost", "e2")
    payments.pay("topup.settled", "e3")
    payments.work()
    assert payments.fates()[:2] == ["parked unknown_payment", "parked unknown_payment"]

    reports = [*payments.retry(), *payments.retry()]

    assert [(each.outcome, each.reason) for each in reports] == [
        ("applied", "chargeback.opened"),
        ("applied", "chargeback.lost"),
    ]
    assert payments.fates() == [
        "applied chargeback.opened",
        "applied chargeback.lost",
        "applied topup.settled",
    ]
    assert payments.totals() == {
        "applied": {"chargeback.lost": 1, "chargeback.opened": 1, "topup.settled": 1}
    }
    assert payments.account().settled_micros == 1_000_000_000
    nothing_differs(stream)


def test_a_fact_that_the_client_never_gave_us_is_found_and_applied(
    stream: Stream, payments: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """K9, I5: planted in the client's answers."""
    polled = KafkaSource._poll_client

    def drops(self: KafkaSource, timeout_milliseconds: int) -> Any:
        return {
            partition: kept
            for partition, records in polled(self, timeout_milliseconds).items()
            if (kept := [each for each in records if each.offset != 1])
        }

    monkeypatch.setattr(KafkaSource, "_poll_client", drops)
    payments.pay("topup.requested", "e1")
    payments.pay("topup.settled", "e2")
    payments.pay("topup.requested", "e3", "pay-2")
    payments.work()

    assert payments.fates() == ["applied topup.requested", "applied topup.settled", "applied topup.requested"]
    assert payments.rows("SELECT first_offset, status FROM stream_hole") == [(1, "filled")]
    assert payments.account().settled_micros == 1_100_000_000
    nothing_differs(stream)
