"""Which claims this worker made lately: a record among them is asked for at once, any other is expected to be new."""

from __future__ import annotations

from collections.abc import Collection, Iterable

CLAIMS_KEPT_MAX = 20_000
"""Two such portions are kept; the older one goes when the newer is full."""


class RecentClaims:
    """The latest claims, bounded in number: at least ``kept_max`` of them, at most twice as many."""

    def __init__(self, kept_max: int = CLAIMS_KEPT_MAX) -> None:
        self._kept_max = kept_max
        self._newer: set[str] = set()
        self._older: set[str] = set()

    def __len__(self) -> int:
        return len(self._newer) + len(self._older)

    def add(self, claims: Iterable[str]) -> None:
        """These were made just now."""
        self._newer.update(claims)
        if len(self._newer) >= self._kept_max:
            self._older, self._newer = self._newer, set()

    def among(self, keys: Collection[tuple[str, str]]) -> list[tuple[str, str]]:
        """Those of the (team id, claim) whose claim is one of the latest."""
        newer, older = self._newer, self._older
        return [each for each in keys if each[1] in newer or each[1] in older]

    def knows(self, claims: Iterable[str]) -> bool:
        """Whether all of these are among the latest."""
        newer, older = self._newer, self._older
        return all(each in newer or each in older for each in claims)
