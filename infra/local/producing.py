"""What is sent to the usage topic: the bytes of a record, and what should become of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from domain.usage import OutcomeKind, UsageRecord

Headers = list[tuple[str, bytes]]
Tally = dict[str, dict[str, int]]
"""Records by outcome and reason; the reason of a charge is empty."""


class Sent(NamedTuple):
    """One record as it goes to Kafka; its key is the team, so all of one team stays in order in one partition.

    ``outcome`` and ``reason`` say what its maker expects; ``usage`` is what it says, None when it cannot be read.
    """

    key: bytes
    value: bytes
    headers: Headers
    outcome: OutcomeKind
    reason: str
    usage: UsageRecord | None


def tally(pairs: Iterable[tuple[str, str]]) -> Tally:
    """How many there are of each outcome and reason, both in the order of their names."""
    counted: Tally = {}
    for (outcome, reason), count in sorted(Counter(pairs).items()):
        counted.setdefault(outcome, {})[reason] = count
    return counted
