"""An account's index for questions: what an answer turns out to need is fetched, and the answer is computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from typing import TypeVar

from typing_extensions import override

from api.ports import AccountReads
from domain.account.events import CHARGES, Charge
from domain.account.index import AccountIndex, EmptyIndex, IndexKind

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
    """The parts of an index that were fetched; asks for others by raising."""

    def __init__(self) -> None:
        self.fetched: dict[tuple[IndexKind, str], bytes | None] = {}
        self.listed: dict[tuple[IndexKind, str], list[tuple[str, bytes]]] = {}
        self.charges: dict[datetime, list[Charge]] = {}

    @override
    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """The entry, if it was fetched."""
        try:
            return self.fetched[kind, key]
        except KeyError:
            raise _NotFetched(kind, key) from None

    @override
    def latest(self, kind: IndexKind, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """The entries of the kind, if they were fetched."""
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


class ReplayedIndex(FetchedIndex):
    """The index as a replay left it; only charges, which a replay does not keep, are fetched, those up to its version."""

    def __init__(self, replayed: AccountIndex) -> None:
        super().__init__()
        self._replayed = replayed

    @override
    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """The entry as it was."""
        return self._replayed.entry(kind, key)

    @override
    def latest(self, kind: IndexKind, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """The entries as they were."""
        return self._replayed.latest(kind, prefix)


async def computed(
    accounts: AccountReads,
    team_id: str,
    compute: Callable[[FetchedIndex], T],
    *,
    replayed: AccountIndex | None = None,
    version: int | None = None,
) -> T:
    """What ``compute`` makes of the team's index; it is called again for each part that it turns out to need.

    Most answers need none, so nothing is read ahead. ``compute`` must not change what it is given. With ``replayed`` the index is
    that of a replay up to ``version``.
    """
    index = FetchedIndex() if replayed is None else ReplayedIndex(replayed)
    while True:
        try:
            return compute(index)
        except _NotFetched as missing:
            read = await accounts.entries(team_id, missing.kind, [missing.key])
            index.fetched[missing.kind, missing.key] = read.get(missing.key)
        except _LatestNotFetched as listing:
            index.listed[listing.kind, listing.prefix] = await _entries(
                accounts, team_id, listing.kind, listing.prefix
            )
        except _ChargesNotFetched as missing_charges:
            index.charges[missing_charges.since] = await _charges(
                accounts, team_id, missing_charges.since, version
            )


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
