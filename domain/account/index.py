"""What has closed on an account and may still be asked for: claims, closed lots, refunds, repayments, old counters.

State holds what is open; a refund or late usage finds the rest here. Entries change in the transaction of the event that
changed them, and a fold of the events gives the same entries again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, Protocol

import msgspec

from domain.account.events import CreditsCharged, UsageWaived

IndexKind = Literal["lot", "refund", "repayment", "counter"]
"""lot: terms of a closed lot. refund: what was refunded of a charge. repayment: what of a debt repayment may come back.
counter: a tier counter of a period older than the two kept in the state."""


class IndexChange(NamedTuple):
    """One entry as it is from now on; ``entry`` None says it is gone."""

    kind: IndexKind
    key: str
    entry: bytes | None


class RefundsOfCharge(msgspec.Struct, frozen=True):
    """How much of one charge was refunded so far."""

    refunded_micros: int


class Repayment(msgspec.Struct, frozen=True):
    """One lot line of a debt repayment and how much of it refunds have not yet given back."""

    lot_id: str
    left_micros: int


class UsageOnFile(msgspec.Struct, frozen=True, gc=False):
    """The event that holds a usage claim, and its version in the team's stream."""

    version: int
    event: CreditsCharged | UsageWaived


class AccountIndex(Protocol):
    """Reads of one account's index. ``latest`` gives the entries of a kind, greatest key first."""

    def usage(self, usage_key: str) -> UsageOnFile | None:
        """The event that holds the claim, None when the record was never seen."""

    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """The entry of that kind and key, None when there is none."""

    def latest(self, kind: IndexKind) -> Iterator[tuple[str, bytes]]:
        """The entries of a kind with their keys, greatest key first."""
        ...


class EmptyIndex:
    """The index of an account that nothing has happened on."""

    def usage(self, usage_key: str) -> UsageOnFile | None:
        """None: nothing was used."""
        return None

    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """None: nothing has closed."""
        return None

    def latest(self, kind: IndexKind) -> Iterator[tuple[str, bytes]]:
        """No entries."""
        return iter(())


class IndexOverlay:
    """An index with changes that are decided but not yet written; over an empty one, a whole index in memory."""

    def __init__(self, base: AccountIndex | None = None) -> None:
        self._base: AccountIndex = base or EmptyIndex()
        self.usages: dict[str, UsageOnFile] = {}
        self.entries: dict[IndexKind, dict[str, bytes | None]] = {}

    def put(self, change: IndexChange) -> None:
        """The entry reads as the change says from now on."""
        self.entries.setdefault(change.kind, {})[change.key] = change.entry

    def usage(self, usage_key: str) -> UsageOnFile | None:
        """The claim made here, else the one beneath."""
        return self.usages.get(usage_key) or self._base.usage(usage_key)

    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """The entry as changed here, else the one beneath."""
        changed = self.entries.get(kind, {})
        return changed[key] if key in changed else self._base.entry(kind, key)

    def latest(self, kind: IndexKind) -> Iterator[tuple[str, bytes]]:
        """Entries of both layers, greatest key first, without those deleted here."""
        changed = self.entries.get(kind, {})
        pending = sorted(changed, reverse=True)
        for key, entry in self._base.latest(kind):
            while pending and pending[0] > key:
                yield from self._present(changed, pending.pop(0))
            if key not in changed:
                yield key, entry
        for key in pending:
            yield from self._present(changed, key)

    @staticmethod
    def _present(changed: dict[str, bytes | None], key: str) -> Iterator[tuple[str, bytes]]:
        entry = changed[key]
        if entry is not None:
            yield key, entry
