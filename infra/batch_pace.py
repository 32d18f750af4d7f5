"""How many records a batch has, so that whoever else writes to its shards does not wait for long."""

from __future__ import annotations

RECORDS_MIN = 250
"""A batch may always have so many: what fewer cost is mostly the COMMIT, and that is the same for all."""

GROWTH = 1.25
SHRINKING = 0.5


class BatchPace:
    """The bound of batches in records, found by what the last ones took.

    A batch holds the counters of its shards from the drawing of its positions until its COMMIT, and everybody else who writes
    there waits. The bound follows what full batches took, by at most a half down and a quarter up.
    """

    def __init__(self, records_max: int, hold_milliseconds: int) -> None:
        self._records_max = records_max
        self._hold_seconds = hold_milliseconds / 1_000
        self.records = min(records_max, max(RECORDS_MIN, records_max // 2))

    def held(self, records: int, seconds: float | None) -> None:
        """A batch of so many records held its shards for so long; None when nobody measured it."""
        # A small one says little: a stall of the disk would make the next one smaller still.
        if seconds is None or records * 2 < self.records:
            return
        factor = self._hold_seconds / max(seconds, 1e-6)
        wanted = self.records * min(GROWTH, max(SHRINKING, factor))
        self.records = min(self._records_max, max(RECORDS_MIN, int(wanted)))
