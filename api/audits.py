"""Questions that are answered by replay: explanations, the account step by step, and what changed between two moments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from datetime import datetime
from typing import TypeVar

import msgspec

from api.answers_audits import ReplayAnswer, ReplayLine
from api.cursors import Cursors
from api.errors import UnknownDenial
from api.index_reads import computed
from api.moments import NOW, Moment, Moments, not_reached, recorded
from api.ports import AccountOnFile, AccountReads, StoredEvent
from domain.account import lots
from domain.account.events import CHARGES, ChargeRefunded, LotTerms
from domain.account.index import AccountIndex
from domain.errors import Malformed, UnknownCharge, UnknownTeam
from domain.times import instant_text
from projections.diff import AccountDiff, DiffStory
from projections.diff import Moment as DiffMoment
from projections.explain import UsageExplained, explain_usage
from projections.explain_balance import BalanceExplained, BalanceStory
from projections.explain_denial import DenialExplained, DenialStory
from projections.movements import NEWEST_DEFAULT
from projections.replay import EQUAL_FIELDS, Replay, ReplayFilter, ReplayStep

Story = BalanceStory | DenialStory | DiffStory
T = TypeVar("T")


class Audits:
    """Reads histories. Raises, everywhere: UnknownTeam, VersionNotReached, Busy."""

    def __init__(self, accounts: AccountReads, moments: Moments, cursors: Cursors) -> None:
        self._accounts = accounts
        self._moments = moments
        self._cursors = cursors

    async def charge(
        self, team_id: str, charge_id: str, moment: Moment = NOW
    ) -> tuple[AccountOnFile, UsageExplained]:
        """Why usage or a capture cost what it did, with the refunds known at the moment. Raises: UnknownCharge."""
        found = await self._moments.found(team_id, moment.min_version)
        last = await self._moments.last_version(team_id, moment, found)
        stored = await self._accounts.usage(team_id, charge_id)
        if stored is None or stored.version > last:
            then = "" if stored is None else f" at version {last}: it came at version {stored.version}"
            raise UnknownCharge(f"charge {charge_id!r} is not one of this team's{then}", charge_id=charge_id)
        refunds = [each for each in await self._refunds(team_id, stored) if each.version <= last]
        terms = await self._terms(found, stored, refunds)
        return found, explain_usage(team_id, recorded(stored), map(recorded, refunds), terms.get)

    async def balance(
        self, team_id: str, moment: Moment = NOW, newest: int = NEWEST_DEFAULT
    ) -> BalanceExplained:
        """Why the team has what it has at the moment: every lot, hold and movement, summing exactly."""
        found, last = await self._known(team_id, moment)
        story, position = BalanceStory(newest), 0
        async for stored in self._moments.stream(team_id, last):
            story.play(recorded(stored))
            position = stored.position
        place = position if moment.is_past else found.position
        at = _instant(moment, found)
        return await self._computed(team_id, story, last, lambda index: story.told(at, place, index))

    async def denial(
        self, team_id: str, version: int, moment: Moment = NOW, newest: int = NEWEST_DEFAULT
    ) -> tuple[DenialExplained, int]:
        """Why the hold of that denial was not given, and how it would fare at the moment. Raises: UnknownDenial."""
        found, last = await self._known(team_id, moment)
        story = DenialStory(version)
        async for stored in self._moments.stream(team_id, last):
            story.play(recorded(stored))
        if story.denial is None:
            raise UnknownDenial(
                f"version {version} of team {team_id!r} is no denial up to version {last}: list them with a replay of "
                "kind HoldDenied",
                version=version,
            )
        use = story.use()
        if use is not None:
            async for stored in self._moments.stream(team_id, version - 1):
                use.play(recorded(stored))
        at = _instant(moment, found)
        told = await self._computed(team_id, story, last, lambda index: story.told(use, at, newest, index))
        return told, found.position

    async def replay(
        self, team_id: str, asked: ReplayFilter, limit: int, after: str | None, moment: Moment = NOW
    ) -> ReplayAnswer:
        """A page of the account step by step; the balances of each step are those of the whole account."""
        found, last = await self._known(team_id, moment)
        filters = _filters(asked) | {"last": str(last) if moment.is_past else None}
        place = self._cursors.read(after, team_id, "replay", filters) if after else 0
        shown: list[ReplayStep] = []
        async for step in self.steps(team_id, asked, after=place, until=last):
            shown.append(step)
            if len(shown) > limit:
                break
        more = len(shown) > limit
        data = shown[:limit]
        return ReplayAnswer(
            version=last,
            position=found.position,
            as_of=_instant(moment, found) or found.now,
            team_id=team_id,
            data=[ReplayLine.of(step) for step in data],
            next=self._cursors.write(data[-1].version, team_id, "replay", filters) if more else None,
        )

    async def steps(
        self, team_id: str, asked: ReplayFilter, *, after: int = 0, until: int | None = None
    ) -> AsyncIterator[ReplayStep]:
        """Every step asked for beyond a version, as it is folded: memory is bounded by what is open on the account."""
        if until is None:
            until = (await self._moments.found(team_id)).account.version
        replay = Replay(keeps_index=False)
        async for stored in self._moments.stream(team_id, until):
            if stored.version <= after:
                replay.play(recorded(stored))
                continue
            step = replay.step(recorded(stored))
            if asked.is_past(step):
                return
            if asked.shows(step):
                yield step

    async def diff(
        self, team_id: str, before: DiffMoment, after: DiffMoment, min_version: int | None = None
    ) -> AccountDiff:
        """What changed between two moments. Raises: Malformed when the first is the later one."""
        found = await self._moments.found(team_id, min_version)
        first, last = [await self._version_of(team_id, moment, found) for moment in (before, after)]
        if last == 0:
            raise UnknownTeam(f"team {team_id!r} had no account yet at the later moment", team_id=team_id)
        if first > last or (before.at and after.at and before.at > after.at):
            raise Malformed("from is later than to: give the earlier moment first", field="from")
        story, position = DiffStory(before, after, found.now), 0
        is_begun = False
        async for stored in self._moments.stream(team_id, last):
            if not is_begun and stored.version > first:
                await self._computed(team_id, story, first, story.begin)
                is_begun = True
            story.play(recorded(stored))
            position = stored.position
        if not is_begun:
            await self._computed(team_id, story, first, story.begin)
        return await self._computed(team_id, story, last, lambda index: story.told(position, index))

    async def _computed(
        self, team_id: str, story: Story, version: int, compute: Callable[[AccountIndex], T]
    ) -> T:
        """What ``compute`` makes of the index as it was at the version; it may be called again before it has changed anything."""
        return await computed(self._accounts, team_id, compute, replayed=story.index, version=version)

    async def _version_of(self, team_id: str, moment: DiffMoment, found: AccountOnFile) -> int:
        """The last version that the moment knows of; 0 before the account was opened."""
        newest = found.account.version
        if moment.version is not None:
            if moment.version > newest:
                raise not_reached(moment.version, newest, "the account")
            return moment.version
        if moment.at is None or moment.at >= found.now:
            return newest
        return await self._accounts.version_as_of(team_id, moment.at)

    async def _known(self, team_id: str, moment: Moment) -> tuple[AccountOnFile, int]:
        found = await self._moments.found(team_id, moment.min_version)
        return found, await self._moments.last_version(team_id, moment, found)

    async def _refunds(self, team_id: str, charge: StoredEvent) -> list[StoredEvent]:
        if not isinstance(charge.event, CHARGES):
            return []
        charge_id = charge.event.charge_id
        if charge_id not in await self._accounts.entries(team_id, "refund", [charge_id]):
            return []
        return await self._accounts.refunds(team_id, charge_id, charge.version)

    async def _terms(
        self, found: AccountOnFile, stored: StoredEvent, refunds: Sequence[StoredEvent]
    ) -> dict[str, LotTerms]:
        """The terms of every lot that the charge and its refunds name."""
        named = {line.lot_id for line in stored.event.lines} if isinstance(stored.event, CHARGES) else set()
        for refund in refunds:
            assert isinstance(refund.event, ChargeRefunded)
            named |= {lot_id for line in refund.event.lines for lot_id in (line.lot_id, line.drawn_lot_id)}
        named.discard("")
        entries = await self._accounts.entries(team_id=found.account.team_id, kind="lot", keys=sorted(named))
        terms = {key: msgspec.json.decode(entry, type=LotTerms) for key, entry in entries.items()}
        standing = {lot_id: lot.terms for lot_id in named if (lot := lots.find(found.account, lot_id))}
        return terms | standing


def _instant(moment: Moment, found: AccountOnFile) -> datetime | None:
    """The instant that an answer is for: now, the time asked for, or (None) that of the version asked for."""
    if moment.at_version is not None:
        return None
    return min(moment.as_of or found.now, found.now)


def _filters(asked: ReplayFilter) -> dict[str, str | None]:
    """What a cursor of a replay is bound to."""
    filters: dict[str, str | None] = {name: getattr(asked, name) for name in EQUAL_FIELDS}
    filters["kinds"] = ",".join(sorted(asked.kinds)) if asked.kinds is not None else None
    for name in ("recorded_from", "recorded_until", "occurred_from", "occurred_until"):
        at: datetime | None = getattr(asked, name)
        filters[name] = instant_text(at) if at else None
    return filters
