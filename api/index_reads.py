"""An account's index for questions: what an answer turns out to need is fetched, and the answer is computed again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import datetime
from typing import NamedTuple, TypeVar

from typing_extensions import override

from api.ports import AccountReads, StoredEvent
from domain.account.events import CHARGES, Charge, RecordedEvent
from domain.account.index import AccountIndex, EmptyIndex, IndexKind
from projections.keeping import KeptAccount, KeptKind
from projections.replay import Replay

_PAGE = 500

T = TypeVar("T")


class _NotFetched(Exception):
    """An index entry is needed that was not read yet."""

    def __init__(self, kind: IndexKind, key: str) -> None:
        super().__init__(kind, key)
        self.kind = kind
        self.key = key


class _ChargesNotFetched(Exception):
    """The charges recorded since an instant are needed and were not read yet."""

    def __init__(self, since: datetime) -> None:
        super().__init__(since)
        self.since = since


class _LatestNotFetched(Exception):
    """The entries of a kind are needed in order and were not read yet."""

    def __init__(self, kind: IndexKind, prefix: str) -> None:
        super().__init__(kind, prefix)
        self.kind = kind
        self.prefix = prefix


class FetchedIndex(EmptyIndex):
    """The parts of an index that were fetched; asks for others by raising. None of an account that had no event yet is missing.

    ``kept`` is the kept version as of which entries are, None for the entries on file now. ``refolded`` has them all once what
    was kept turned out to be gone.
    """

    def __init__(self, kept: int | None = None) -> None:
        self.kept = kept
        self.refolded: AccountIndex | None = EmptyIndex() if kept == 0 else None
        self.fetched: dict[tuple[IndexKind, str], bytes | None] = {}
        self.listed: dict[tuple[IndexKind, str], list[tuple[str, bytes]]] = {}
        self.charges: dict[datetime, list[Charge]] = {}

    @override
    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """The entry, if it was fetched."""
        if self.refolded is not None:
            return self.refolded.entry(kind, key)
        try:
            return self.fetched[kind, key]
        except KeyError:
            raise _NotFetched(kind, key) from None

    @override
    def latest(self, kind: IndexKind, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """The entries of the kind, if they were fetched."""
        if self.refolded is not None:
            return self.refolded.latest(kind, prefix)
        try:
            return iter(self.listed[kind, prefix])
        except KeyError:
            raise _LatestNotFetched(kind, prefix) from None

    @override
    def charges_since(self, recorded_since: datetime) -> Iterator[Charge]:
        """The charges, if they were fetched."""
        try:
            return iter(self.charges[recorded_since])
        except KeyError:
            raise _ChargesNotFetched(recorded_since) from None


class Replayed(NamedTuple):
    """An account by replay up to a version: its index is that of the replay, over what is fetched of the one it began with."""

    replay: Replay
    fetched: FetchedIndex
    position: int


async def replayed(accounts: AccountReads, team_id: str, version: int) -> Replayed:
    """The account right after a version, from the newest one kept by then; nothing is played yet at version 0."""
    return await played_on(accounts, team_id, begun_at(await accounts.kept(team_id, version)), version)


def begun_at(kept: KeptAccount | None) -> Replayed:
    """A replay that begins after what was kept, or (None) at the first event."""
    fetched = FetchedIndex(kept.version if kept else 0)
    replay = Replay(kept.account if kept else None, fetched)
    return Replayed(replay, fetched, kept.position if kept else 0)


async def played_on(accounts: AccountReads, team_id: str, begun: Replayed, version: int) -> Replayed:
    """The same replay, played on up to a version."""
    replay, position = begun.replay, begun.position
    after = replay.account.version if replay.account else 0
    async for stored in stream(accounts, team_id, after, version):
        replay.play(recorded(stored))
        position = stored.position
    return begun._replace(position=position)


async def stream(accounts: AccountReads, team_id: str, after: int, until: int) -> AsyncIterator[StoredEvent]:
    """The team's events beyond a version and up to another, read page by page."""
    while after < until and (page := await accounts.events(team_id, after=after, until=until, limit=_PAGE)):
        for stored in page:
            yield stored
        after = page[-1].version


def recorded(stored: StoredEvent) -> RecordedEvent:
    """The event at its place in the team's stream."""
    return RecordedEvent(None, stored.version, stored.event)


async def computed(
    accounts: AccountReads,
    team_id: str,
    compute: Callable[[AccountIndex], T],
    *,
    over: Replayed | None = None,
    apart: bool = False,
) -> T:
    """What ``compute`` makes of the team's index; it is called again for each part that it turns out to need.

    Most answers need none, so nothing is read ahead. ``compute`` must not change what it is given before it has asked for
    all that it needs. With ``over`` the index is that of the replay at its version; ``apart``, what
    takes long is worked out in a thread.
    """
    fetched = over.fetched if over else FetchedIndex()
    index = over.replay.index if over else fetched
    version = over.replay.account.version if over and over.replay.account else None
    # The charges are those up to the version, and the replay may have been played on.
    fetched.charges.clear()
    while True:
        try:
            return await asyncio.to_thread(compute, index) if apart else compute(index)
        except _NotFetched as missing:
            await _fetch_entry(accounts, team_id, fetched, missing.kind, missing.key)
        except _LatestNotFetched as listing:
            await _fetch_latest(accounts, team_id, fetched, listing.kind, listing.prefix)
        except _ChargesNotFetched as missing_charges:
            fetched.charges[missing_charges.since] = await _charges(
                accounts, team_id, missing_charges.since, version
            )


async def kept_entries(
    accounts: AccountReads, team_id: str, version: int, kind: KeptKind, prefix: str = ""
) -> list[tuple[str, bytes]] | None:
    """All entries of a kind as they were at a kept version, greatest key first; None when nothing is kept there any more."""
    found: list[tuple[str, bytes]] = []
    before: str | None = None
    while True:
        page = await accounts.kept_latest(team_id, version, kind, prefix=prefix, before=before, limit=_PAGE)
        if page is None:
            return None
        if not page:
            return found
        found += page
        before = page[-1][0]


async def _fetch_entry(
    accounts: AccountReads, team_id: str, fetched: FetchedIndex, kind: IndexKind, key: str
) -> None:
    if fetched.kept is None:
        found: dict[str, bytes] | None = await accounts.entries(team_id, kind, [key])
    else:
        found = await accounts.kept_entries(team_id, fetched.kept, kind, [key])
    if found is None:
        fetched.refolded = await _refolded(accounts, team_id, fetched.kept)
    else:
        fetched.fetched[kind, key] = found.get(key)


async def _fetch_latest(
    accounts: AccountReads, team_id: str, fetched: FetchedIndex, kind: IndexKind, prefix: str
) -> None:
    if fetched.kept is None:
        found: list[tuple[str, bytes]] | None = await _entries(accounts, team_id, kind, prefix)
    else:
        found = await kept_entries(accounts, team_id, fetched.kept, kind, prefix)
    if found is None:
        fetched.refolded = await _refolded(accounts, team_id, fetched.kept)
    else:
        fetched.listed[kind, prefix] = found


async def _refolded(accounts: AccountReads, team_id: str, version: int | None) -> AccountIndex:
    """What was kept is gone: the index as it was, from the first event."""
    assert version is not None, "what is on file now is never gone"
    return (await played_on(accounts, team_id, begun_at(None), version)).replay.index


async def _entries(
    accounts: AccountReads, team_id: str, kind: IndexKind, prefix: str
) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    before: str | None = None
    while page := await accounts.latest(team_id, kind, prefix=prefix, before=before, limit=_PAGE):
        found += page
        before = page[-1][0]
    return found


async def _charges(
    accounts: AccountReads, team_id: str, since: datetime, version: int | None
) -> list[Charge]:
    """Read from the newest event backwards, or that of a version, as far as the instant."""
    found: list[Charge] = []
    after = None if version is None else version + 1
    while page := await accounts.events(team_id, after=after, limit=_PAGE, newest_first=True):
        for stored in page:
            if stored.event.recorded_at < since:
                return found
            if isinstance(stored.event, CHARGES):
                found.append(stored.event)
        after = page[-1].version
    return found
