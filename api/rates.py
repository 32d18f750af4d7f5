"""How often a principal may ask: a bucket of requests that refills with time, in this process."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

_BUCKETS_MAX = 10_000


class Policy(NamedTuple):
    """How many requests a second a principal may send on average, and how many at once."""

    per_second: float
    burst: int


class Left(NamedTuple):
    """What is left in a bucket: whole requests, and how long to wait for the next (0: it may be sent now)."""

    policy: Policy
    requests: int
    wait_seconds: int

    def headers(self) -> list[tuple[bytes, bytes]]:
        """The fields of the IETF draft on rate limits: the policy, and what is left of it."""
        window = max(1, math.ceil(self.policy.burst / self.policy.per_second))
        return [
            (b"ratelimit-policy", f'"default";q={self.policy.burst};w={window}'.encode()),
            (b"ratelimit", f'"default";r={self.requests};t={max(1, self.wait_seconds)}'.encode()),
        ]


class Rates:
    """A bucket per principal. Each process has its own, so that several servers together allow as many times more."""

    def __init__(self, policy: Policy, elapsed: Callable[[], float] = time.monotonic) -> None:
        self._policy = policy
        self._elapsed = elapsed
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def spend(self, principal: str) -> Left:
        """One request is taken from the bucket, if there is one."""
        now = self._elapsed()
        level, at = self._buckets.get(principal, (float(self._policy.burst), now))
        level = min(float(self._policy.burst), level + (now - at) * self._policy.per_second)
        taken = level >= 1
        level -= taken
        self._buckets[principal] = (level, now)
        self._buckets.move_to_end(principal)
        while len(self._buckets) > _BUCKETS_MAX:
            self._buckets.popitem(last=False)
        wait = 0 if taken else max(1, math.ceil((1 - level) / self._policy.per_second))
        return Left(self._policy, int(level), wait)
