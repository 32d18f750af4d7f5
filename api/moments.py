"""Which state of an account a question is about, and that state: now, as of a time, or at a version."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from api.errors import VersionNotReached
from api.index_reads import Replayed, computed, replayed
from api.ports import AccountOnFile, AccountReads
from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.estimating import NOBODY
from domain.account.index import AccountIndex, IndexOverlay
from domain.account.state import TeamAccount
from domain.errors import UnknownTeam
from domain.times import instant_text

_FIRST_WAIT_SECONDS = 0.02

T = TypeVar("T")


class Moment(NamedTuple):
    """Which state of an account is asked for: now, as of a time, or at a version; now, but not before ``min_version``."""

    min_version: int | None = None
    at_version: int | None = None
    as_of: datetime | None = None

    @property
    def is_past(self) -> bool:
        """Whether another state than that of now is asked for."""
        return self.at_version is not None or self.as_of is not None


NOW = Moment()


@dataclass(frozen=True)
class Standing:
    """An account at the instant ``at``, as known at ``version`` and ``position``; ``over`` is None for the one on file.

    ``is_version``: the account right after that version. It may lie within a decision, where what is due is half written.
    """

    account: TeamAccount
    at: datetime
    position: int
    version: int
    over: Replayed | None = None
    is_version: bool = False

    @property
    def team_id(self) -> str:
        """The team."""
        return self.account.team_id

    def place(self) -> dict[str, Any]:
        """What an answer says about where it is true."""
        return {"version": self.version, "position": self.position, "as_of": self.at, "team_id": self.team_id}


class Moments:
    """Finds accounts as they are and as they were. Raises, everywhere: UnknownTeam, VersionNotReached, Busy."""

    def __init__(self, accounts: AccountReads, wait_seconds: float) -> None:
        self._accounts = accounts
        self._wait_seconds = wait_seconds

    async def found(self, team_id: str, min_version: int | None = None) -> AccountOnFile:
        """The account on file, once it has reached the version asked for."""
        wait = self.wait()
        while True:
            found = await self._accounts.account(team_id)
            if found is None:
                raise unknown_team(team_id)
            if min_version is None or found.account.version >= min_version:
                return found
            await wait.again(min_version, found.account.version, "the account")

    async def standing(self, team_id: str, moment: Moment = NOW) -> Standing:
        """The account at the moment asked for."""
        found = await self.found(team_id, moment.min_version)
        if moment.is_past:
            return await self._then(team_id, moment, found)
        account = found.account
        return Standing(account, max(found.now, account.recorded_at), found.position, account.version)

    async def booked(self, standing: Standing, tell: Callable[[TeamAccount, AccountIndex], T]) -> T:
        """What ``tell`` makes of the account and its index once all that is due at the instant is booked; nothing is written."""

        def compute(index: AccountIndex) -> T:
            if standing.is_version:
                return tell(copy_of(standing.account), index)
            decision = Decision(copy_of(standing.account), standing.at, NOBODY, IndexOverlay(index))
            pass_time(decision)
            return tell(decision.account, decision.index)

        return await self.computed(standing, compute)

    async def computed(self, standing: Standing, compute: Callable[[AccountIndex], T]) -> T:
        """What ``compute`` makes of the index as it was at the moment."""
        return await computed(self._accounts, standing.team_id, compute, over=standing.over)

    def wait(self) -> Wait:
        """Waits for versions, within the bound."""
        return Wait(self._wait_seconds)

    async def last_version(self, team_id: str, moment: Moment, found: AccountOnFile) -> int:
        """The last version that the moment knows of; at least 1."""
        if moment.at_version is not None:
            if moment.at_version > found.account.version:
                raise not_reached(moment.at_version, found.account.version, "the account")
            return moment.at_version
        if moment.as_of is None or moment.as_of >= found.now:
            return found.account.version
        version = await self._accounts.version_as_of(team_id, moment.as_of)
        if version == 0:
            raise UnknownTeam(
                f"team {team_id!r} had no account yet at {instant_text(moment.as_of)}", team_id=team_id
            )
        return version

    async def _then(self, team_id: str, moment: Moment, found: AccountOnFile) -> Standing:
        """The account by replay of its events up to the last that the moment knows of, from where it was kept."""
        last = await self.last_version(team_id, moment, found)
        over = await replayed(self._accounts, team_id, last)
        account = over.replay.account
        assert account is not None, "a version of the account was found, and no event"
        at = max(min(moment.as_of or account.recorded_at, found.now), account.recorded_at)
        is_version = moment.at_version is not None
        return Standing(account, at, over.position, account.version, over, is_version)


class Wait:
    """Waits for a version, a little longer each time, up to a bound."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._next = _FIRST_WAIT_SECONDS

    async def again(self, wanted: int, reached: int, what: str) -> None:
        """Time has passed. Raises: VersionNotReached at the bound."""
        if time.monotonic() + self._next > self._until:
            raise not_reached(wanted, reached, what)
        await asyncio.sleep(self._next)
        self._next = min(self._next * 2, 0.25)


def not_reached(wanted: int, reached: int, what: str) -> VersionNotReached:
    """The refusal of a version that is not there yet."""
    return VersionNotReached(
        f"version {wanted} was asked for, {what} is at {reached}: ask again later, or for at most {reached}",
        version=reached,
    )


def unknown_team(team_id: str) -> UnknownTeam:
    """The refusal of a team that no account was opened for."""
    return UnknownTeam(f"team {team_id!r} has no account: open one first", team_id=team_id)
