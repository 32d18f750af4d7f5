"""However records are cut into batches and spread over partitions, the ledger ends the same."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from consumers.usage import settle_reads
from tests.consumers.batch_stories import NOW, PARTITIONS, a_card, a_read, a_record, seconds
from tests.memory_batches import MemoryBatchStore

records = st.lists(
    st.tuples(st.integers(0, 12), st.sampled_from([1, 2]), st.sampled_from(["succeeded", "failed"])),
    min_size=1,
    max_size=40,
)


def end_of(sent: list[tuple[int, int, str]], cuts: list[int]) -> tuple[int, int, dict[str, dict[str, int]]]:
    """Settled and debt, and outcomes, after the records were settled in batches of these sizes."""
    store = MemoryBatchStore(NOW)
    store.open("acme", 10_000_000)
    store.register(PARTITIONS[0], 0)
    stream = [
        a_record(offset, f"r{number}", units, status=status, arrived=NOW + seconds(offset))
        for offset, (number, units, status) in enumerate(sent)
    ]
    totals: dict[str, dict[str, int]] = {}
    while stream:
        size = cuts.pop() if cuts else len(stream)
        part, stream = stream[:size], stream[size:]
        batch = settle_reads(store, [a_read(*part)], a_card())
        for outcome, reasons in batch.advances[0].outcomes.items():
            for reason, count in reasons.items():
                kept = totals.setdefault(outcome, {})
                kept[reason] = kept.get(reason, 0) + count
    account = store.accounts["acme"]
    return account.settled_micros, account.debt_micros, totals


@settings(max_examples=60, deadline=None)
@given(records, st.lists(st.integers(1, 10)))
def test_the_cut_into_batches_changes_nothing(sent: list[tuple[int, int, str]], cuts: list[int]) -> None:
    """I4, I9, I10: one batch, or many, or one per record."""
    whole = end_of(sent, [])

    assert end_of(sent, list(cuts)) == whole
    assert end_of(sent, [1] * len(sent)) == whole
