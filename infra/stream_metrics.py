"""What the usage worker counts for those who watch it."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

RECORDS = Counter("coffer_usage_records", "Usage records by what became of them", ["outcome", "reason"])
HOLES = Counter("coffer_stream_holes", "Jumps in the offsets of a partition", ["status"])
FENCED_WRITES = Counter("coffer_fenced_writes", "Batches refused because another worker had the partition")
HALTED = Counter(
    "coffer_partitions_halted", "Partitions stopped until an operator decides", ["topic", "partition"]
)
FOREIGN_KEYS = Counter("coffer_foreign_keys", "Records whose Kafka key names another team than the record")
LAG = Gauge("coffer_stream_lag_records", "Records between the ledger and the end", ["topic", "partition"])
LETTERS_PUBLISHED = Counter("coffer_dead_letters_published", "Dead letters the broker has acknowledged")
