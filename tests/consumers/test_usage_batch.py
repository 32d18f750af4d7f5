"""A batch of records ends in one outcome each, decided in order of arrival; told on a store in memory."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from consumers.batches import Fenced, UsageBatch
from consumers.stream_record import StreamRecord
from consumers.usage import PartitionRead, Progress, in_arrival_order, settle_reads
from domain.account.charging import charge_usage
from domain.account.due import pass_time
from domain.account.events import CreditsCharged, UsageWaived
from domain.account.funding import grant_credits
from domain.errors import Busy, Refused
from domain.usage import usage_key
from tests.builders import SOURCE
from tests.consumers.batch_stories import NOW, PARTITIONS, a_card, a_read, a_record, seconds
from tests.memory_batches import MemoryBatchStore


@pytest.fixture
def store() -> MemoryBatchStore:
    store = MemoryBatchStore(NOW)
    store.open("acme", 100_000_000)
    for partition in PARTITIONS:
        store.register(partition, 0)
    return store


def settle(store: MemoryBatchStore, *reads: PartitionRead, **more: Any) -> UsageBatch:
    return settle_reads(store, reads, a_card(), **more)


def outcomes(batch: UsageBatch) -> dict[str, dict[str, int]]:
    (advance,) = batch.advances
    return advance.outcomes


def test_each_record_of_a_batch_ends_in_exactly_one_outcome(store: MemoryBatchStore) -> None:
    """I5: the counts of a partition sum to its records."""
    batch = settle(
        store,
        a_read(
            a_record(0, "a", 3),
            a_record(1, "a", 3),
            a_record(2, "a", 4),
            a_record(3, "b", status="failed"),
            a_record(4, "c", team="nobody"),
            StreamRecord("credits.usage.v1", 0, 5, None, b"{", [], NOW),
            a_record(6, "d", action="video.dream"),
            a_record(7, "e", 0),
        ),
    )

    assert outcomes(batch) == {
        "charged": {"": 1},
        "duplicate": {"": 1},
        "conflict": {"": 1},
        "waived": {"failed": 1, "nothing_to_price": 1},
        "parked": {"unknown_team": 1, "unknown_action": 1},
        "rejected": {"content_type": 1},
    }
    assert store.offsets[PARTITIONS[0]] == 8
    assert [letter.offset for letter in batch.dead_letters] == [4, 5, 6]
    assert [row.offset for row in batch.outcomes] == [1, 2, 4, 5, 6]


def test_a_duplicate_names_the_version_that_holds_the_claim_in_this_batch_or_the_log(
    store: MemoryBatchStore,
) -> None:
    """I4, E18."""
    settle(store, a_read(a_record(0, "a", 3)))
    batch = settle(store, a_read(a_record(1, "a", 3), a_record(2, "b", 1), a_record(3, "b", 1)))

    first, second = batch.outcomes
    assert (first.outcome, first.first_version) == ("duplicate", 3)
    assert (second.outcome, second.first_version) == ("duplicate", 4)
    assert first.usage_key == usage_key("acme", SOURCE, "a")


def test_a_correction_finds_the_record_charged_before_it_in_the_same_batch(store: MemoryBatchStore) -> None:
    """E12: one index over the whole batch."""
    settle(
        store,
        a_read(a_record(0, "7", 20), a_record(1, "8", 20, status="failed", corrects="7")),
    )

    assert store.accounts["acme"].settled_micros == 100_000_000
    waived = store.events["acme"][-1]
    assert isinstance(waived, UsageWaived)
    assert waived.refund_id == usage_key("acme", SOURCE, "8")


def test_records_of_all_partitions_are_decided_as_they_arrived(store: MemoryBatchStore) -> None:
    """The record that reached its broker first is charged first, whatever its partition."""
    settle(
        store,
        a_read(a_record(0, "late", arrived=NOW + seconds(3)), a_record(1, "last", arrived=NOW + seconds(4))),
        a_read(
            a_record(0, "early", partition=1),
            a_record(1, "middle", partition=1, arrived=NOW + seconds(2)),
            partition=1,
        ),
    )

    charged = [event.id for event in store.events["acme"] if isinstance(event, CreditsCharged)]
    assert charged == ["early", "middle", "late", "last"]


def test_within_a_partition_offsets_decide_even_where_the_brokers_clock_went_back() -> None:
    read = a_read(a_record(0, "a", arrived=NOW + seconds(9)), a_record(1, "b"), partition=0)
    other = a_read(a_record(0, "c", partition=1, arrived=NOW + seconds(1)), partition=1)

    order = [(place.partition.partition, place.offset) for place, _ in in_arrival_order([read, other])]

    assert order.index((0, 0)) < order.index((0, 1))


@pytest.mark.parametrize(
    ("occurred", "fate"),
    [
        (NOW - seconds(400 * 86_400), "charged"),
        (NOW - seconds(400 * 86_400 + 0.001), "too_old"),
        (NOW + seconds(300), "charged"),
        (NOW + seconds(300.001), "in_the_future"),
    ],
)
def test_the_time_window_includes_its_edges(store: MemoryBatchStore, occurred: Any, fate: str) -> None:
    """I20: arrived - 400 d <= occurred_at <= arrived + 5 min, by the broker's time."""
    batch = settle(store, a_read(a_record(0, "a", occurred=occurred)))

    assert outcomes(batch) == ({"charged": {"": 1}} if fate == "charged" else {"parked": {fate: 1}})


def test_a_charged_record_stays_a_duplicate_when_its_copy_is_too_old(store: MemoryBatchStore) -> None:
    """D1: dedupe has no window."""
    settle(store, a_read(a_record(0, "a", 3)))
    copy = a_record(1, "a", 3, arrived=NOW + seconds(500 * 86_400))

    assert outcomes(settle(store, a_read(copy))) == {"duplicate": {"": 1}}


def test_a_batch_decided_again_after_another_writer_was_first_charges_once(store: MemoryBatchStore) -> None:
    """I4, I17: the second decision starts from what is stored, not from what the first one changed."""
    store.moves = 3
    settle(store, a_read(a_record(0, "a", 3)))

    assert store.accounts["acme"].settled_micros == 97_000_000
    assert store.accounts["acme"].version == 3


def test_a_batch_whose_accounts_never_stand_still_is_given_up_without_a_trace(
    store: MemoryBatchStore,
) -> None:
    """I15."""
    store.moves = 1_000
    with pytest.raises(Busy):
        settle(store, a_read(a_record(0, "a", 3)))

    assert store.batches == []


def test_a_partition_that_moved_on_fences_the_batch(store: MemoryBatchStore) -> None:
    """I17: compare-and-set on the stored offset."""
    settle(store, a_read(a_record(0, "a")))
    with pytest.raises(Fenced):
        settle(store, a_read(a_record(0, "b")))

    assert len(store.batches) == 1


def test_the_context_is_kept_apart_and_the_event_holds_its_salted_digest(store: MemoryBatchStore) -> None:
    """The same context twice has two digests: nobody can guess one from the other."""
    context = b'{"prompt": "a cat"}'
    batch = settle(store, a_read(a_record(0, "a", context=context), a_record(1, "b", context=context)))

    first, second = batch.contexts
    charges = [event for event in store.events["acme"] if isinstance(event, CreditsCharged)]
    assert len(first.salt) == 16
    assert first.context == second.context == context
    assert charges[0].context_digest == hashlib.sha256(first.salt + context).hexdigest()
    assert charges[0].context_digest != charges[1].context_digest


def test_a_duplicate_leaves_no_second_context(store: MemoryBatchStore) -> None:
    batch = settle(store, a_read(a_record(0, "a", context=b"{}"), a_record(1, "a", context=b"{}")))

    assert len(batch.contexts) == 1


def test_a_closed_account_parks_new_usage_and_still_knows_what_it_charged(store: MemoryBatchStore) -> None:
    settle(store, a_read(a_record(0, "a")))
    store.close("acme")
    batch = settle(store, a_read(a_record(1, "a"), a_record(2, "b")))

    assert outcomes(batch) == {"duplicate": {"": 1}, "parked": {"account_closed": 1}}


def test_a_rule_that_says_no_after_it_recorded_costs_only_its_own_record(
    store: MemoryBatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """I15: the batch is decided again, and that record is parked."""

    def half(decision: Any, record: Any, *rest: Any) -> None:
        if record.id == "half":
            pass_time(decision)
            grant_credits(decision, 1)
            raise Refused("half way")
        charge_usage(decision, record, *rest)

    monkeypatch.setattr("consumers.usage.charge_usage", half)
    batch = settle(store, a_read(a_record(0, "a"), a_record(1, "half"), a_record(2, "b")))

    assert outcomes(batch) == {"charged": {"": 2}, "parked": {"refused": 1}}
    assert store.accounts["acme"].version == 4


def test_a_bug_is_not_swallowed_and_the_record_is_named(
    store: MemoryBatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crashes(decision: Any, record: Any, *rest: Any) -> None:
        if record.id == "b":
            raise ZeroDivisionError
        charge_usage(decision, record, *rest)

    monkeypatch.setattr("consumers.usage.charge_usage", crashes)
    progress = Progress()
    with pytest.raises(ZeroDivisionError):
        settle(store, a_read(a_record(0, "a"), a_record(1, "b")), progress=progress)

    assert progress.place == (PARTITIONS[0], 1)
    assert store.batches == []


def test_a_crash_of_reading_records_together_is_not_swallowed(
    store: MemoryBatchStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where each of them alone can be read: nothing of the batch is written."""

    def crashes(records: object) -> None:
        raise ZeroDivisionError("a bug in reading many at once")

    monkeypatch.setattr("consumers.usage.read_usages", crashes)

    with pytest.raises(ZeroDivisionError, match="many at once"):
        settle(store, a_read(a_record(0, "a"), a_record(1, "b")))

    assert store.offsets[PARTITIONS[0]] == 0


def test_a_record_under_a_foreign_key_is_counted(store: MemoryBatchStore) -> None:
    """K17."""
    record = a_record(0, "a")
    foreign = StreamRecord(
        "credits.usage.v1", 0, 0, b"globex", record.value, record.headers, record.arrived_at
    )
    progress = Progress()
    settle(store, a_read(foreign), progress=progress)

    assert progress.foreign_keys == 1
    assert store.accounts["acme"].version == 3


def test_all_events_of_a_batch_bear_one_instant(store: MemoryBatchStore) -> None:
    """I20: the database's, not that of the arrival."""
    batch = settle(store, a_read(a_record(0, "a"), a_record(1, "b", arrived=NOW + seconds(5))))

    assert [event.recorded_at for event in batch.appends["acme"].events] == [batch.recorded_at] * 2
