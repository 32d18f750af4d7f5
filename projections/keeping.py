"""What is kept of an account at some of its versions, so that a question about its past need not begin at the first event.

What is kept is a cache of folds: it says nothing that the events do not say, nothing is decided on it, and all of it may go.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Literal, NamedTuple

import msgspec

from domain.account.events import RecordedEvent
from domain.account.index import IndexChange, IndexKind
from domain.account.state import STATE_SCHEMA, TeamAccount
from projections.explain_balance import LotStory, take_lots
from projections.movements import Counted, Months, add_to_months, is_movement
from projections.moves import NOTHING, sums_after, sums_of

KEEP_EVERY = 1_000
"""An account is kept at every version that this divides."""

_TOLD_SCHEMA = 1
KEPT_SCHEMA = STATE_SCHEMA * 1_000 + _TOLD_SCHEMA
"""Counts up with every change of what is kept; rows of another schema are ignored and made again."""

KeptKind = IndexKind | Literal["told_lot", "told_month"]
"""An entry of the account's index. told_lot: how a lot came, and what each kind of event changed in it. told_month: the movements
of one kind in one month."""

TOLD_KINDS = frozenset({"told_lot", "told_month"})

OnFile = Callable[[Collection[tuple[KeptKind, str]]], Mapping[tuple[KeptKind, str], bytes]]
"""The entries of these kinds and keys as they were last kept; one without is absent."""

_encode = msgspec.json.encode


class KeptEntry(NamedTuple):
    """An entry as it is at a kept version, changed since the kept version before; None when it is gone."""

    kind: KeptKind
    key: str
    entry: bytes | None


class Kept(NamedTuple):
    """All that is kept of an account at one version."""

    version: int
    recorded_at: datetime
    state: bytes
    entries: list[KeptEntry]


class KeptRow(NamedTuple):
    """An account as it is on file at a kept version, to be compared with what should be."""

    position: int
    chain_hash: bytes
    recorded_at: datetime
    state: bytes


class KeptOnFile(NamedTuple):
    """All that is kept of one account, by version; entries by kind and key."""

    heads: Mapping[int, KeptRow]
    entries: Mapping[int, Mapping[tuple[str, str], bytes | None]]


class KeptAccount(NamedTuple):
    """An account as it was kept, which is the reader's own: it may be changed. ``position`` is that of its last event."""

    version: int
    position: int
    account: TeamAccount


class Keeping:
    """Watches the events of one account as they are applied, and says what is to be kept at the versions that ``keeps`` names.

    ``account`` is the one that was kept last, None before the first event; ``on_file`` gives entries as they were then.
    """

    def __init__(self, account: TeamAccount | None, on_file: OnFile, keeps: Callable[[int], bool]) -> None:
        self._on_file = on_file
        self._keeps = keeps
        self._sums = NOTHING if account is None else sums_of(account)
        self._entries: dict[tuple[KeptKind, str], bytes | None] = {}
        self._lots: dict[str, LotStory] = {}
        self._months: Months = {}

    def take(
        self, recorded: RecordedEvent, account: TeamAccount, changes: Iterable[IndexChange]
    ) -> Kept | None:
        """The event has led to this account and changed these entries of its index. Returns what is kept now, if anything is."""
        event, version = recorded.event, recorded.originator_version
        for change in changes:
            self._entries[change.kind, change.key] = change.entry
        after = sums_after(event, self._sums)
        if is_movement(event):
            add_to_months(self._months, event, after.less(self._sums))
        take_lots(self._lots, event, version)
        self._sums = after
        return self._kept(version, account) if self._keeps(version) else None

    def _kept(self, version: int, account: TeamAccount) -> Kept:
        self._tell_what_happened()
        entries = [KeptEntry(kind, key, entry) for (kind, key), entry in sorted(self._entries.items())]
        self._entries, self._lots, self._months = {}, {}, {}
        return Kept(version, account.recorded_at, _encode(account), entries)

    def _tell_what_happened(self) -> None:
        """What happened since the last time is added to what had happened by then."""
        lots: dict[tuple[KeptKind, str], LotStory] = {("told_lot", key): s for key, s in self._lots.items()}
        months: dict[tuple[KeptKind, str], Counted] = {
            ("told_month", f"{month} {kind}"): counted for (month, kind), counted in self._months.items()
        }
        before = self._on_file([*lots, *months])
        for place, story in lots.items():
            entry = before.get(place)
            self._entries[place] = _encode(lot_story(entry).followed_by(story) if entry else story)
        for place, counted in months.items():
            entry = before.get(place)
            self._entries[place] = _encode(_counted(entry).plus(counted) if entry else counted)


def lot_story(entry: bytes) -> LotStory:
    """The story that a kept entry tells of a lot."""
    return msgspec.json.decode(entry, type=LotStory)


def months_of(entries: Iterable[tuple[str, bytes]]) -> Months:
    """The movements that kept entries tell of, by month and kind."""
    months: Months = {}
    for key, entry in entries:
        month, _, kind = key.partition(" ")
        months[month, kind] = _counted(entry)
    return months


def _counted(entry: bytes) -> Counted:
    return msgspec.json.decode(entry, type=Counted)
