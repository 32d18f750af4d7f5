"""Questions that are answered by replay: explanations, the account step by step, and what changed between two moments."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta

import msgspec

from api.answers_audits import ReplayAnswer, ReplayLine
from api.cursors import Cursors
from api.errors import UnknownDenial
from api.index_reads import (
    begun_at,
    computed,
    kept_entries,
    recorded,
    replayed,
    stream,
)
from api.moments import NOW, Moment, Moments, not_reached
from api.ports import AccountOnFile, AccountReads, StoredEvent
from domain.account import lots
from domain.account.events import CHARGES, ChargeRefunded, HoldDenied, LotTerms
from domain.errors import Malformed, UnknownCharge, UnknownTeam
from domain.times import instant_text
from projections.diff import AccountDiff, DiffStory
from projections.diff import Moment as DiffMoment
from projections.explain import UsageExplained, explain_usage, with_invoice
from projections.explain_balance import BalanceExplained, BalanceStory
from projections.explain_denial import DenialExplained, DenialStory, UseStory
from projections.keeping import KEEP_EVERY, lot_story, months_of
from projections.movements import NEWEST_DEFAULT
from projections.replay import EQUAL_FIELDS, Replay, ReplayFilter, ReplayStep

FURTHER_BACK = 4
"""How many times further back a story begins that had begun too late."""


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
        explained = explain_usage(team_id, recorded(stored), map(recorded, refunds), terms.get)
        over = await replayed(self._accounts, team_id, last) if moment.is_past else None
        account = found.account if over is None else over.replay.account
        assert account is not None, "a charge is an account's"
        told = await computed(
            self._accounts,
            team_id,
            lambda index: with_invoice(explained, recorded(stored), account, index),
            over=over,
        )
        return found, told

    async def balance(
        self, team_id: str, moment: Moment = NOW, newest: int = NEWEST_DEFAULT
    ) -> BalanceExplained:
        """Why the team has what it has at the moment: every lot, hold and movement, summing exactly."""
        found, last = await self._known(team_id, moment)
        back = newest
        while True:
            told = await self._explained(team_id, moment, newest, found, last, max(0, last - back))
            if told is not None:
                return told
            back = FURTHER_BACK * max(back, KEEP_EVERY)

    async def denial(
        self, team_id: str, version: int, moment: Moment = NOW, newest: int = NEWEST_DEFAULT
    ) -> tuple[DenialExplained, int]:
        """Why the hold of that denial was not given, and how it would fare at the moment. Raises: UnknownDenial."""
        found, last = await self._known(team_id, moment)
        denial = await self._denial(team_id, version, last)
        over = await replayed(self._accounts, team_id, version - 1)
        story = DenialStory(version, over.replay)
        await computed(self._accounts, team_id, lambda index: story.meet(denial, index), over=over)
        use = story.use()
        if use is not None:
            await self._play_use(team_id, use, version)
        over = await replayed(self._accounts, team_id, last)
        story.go_on(over.replay)
        at = _instant(moment, found)
        told = await computed(
            self._accounts, team_id, lambda index: story.told(use, at, newest, index), over=over
        )
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
        kept = await self._accounts.kept(team_id, min(after, until))
        replay = Replay(kept.account if kept else None, keeps_index=False)
        async for stored in stream(self._accounts, team_id, kept.version if kept else 0, until):
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
        over = await replayed(self._accounts, team_id, first)
        story, position = DiffStory(before, after, found.now, over.replay), over.position
        await computed(self._accounts, team_id, story.begin, over=over)
        async for stored in stream(self._accounts, team_id, first, last):
            story.play(recorded(stored))
            position = stored.position
        return await computed(self._accounts, team_id, lambda index: story.told(position, index), over=over)

    async def _explained(
        self, team_id: str, moment: Moment, newest: int, found: AccountOnFile, last: int, begin: int
    ) -> BalanceExplained | None:
        """The balance explained from where the account was kept, at the version ``begin`` or before.

        None when fewer movements follow than are told one by one, or what was kept is gone: begin further back.
        """
        kept = await self._accounts.kept(team_id, begin)
        over = begun_at(kept)
        begun = kept.version if kept else 0
        months = await kept_entries(self._accounts, team_id, begun, "told_month") if begun else []
        if months is None:
            return None
        story, position = BalanceStory(newest, over.replay, months_of(months)), over.position
        async for stored in stream(self._accounts, team_id, begun, last):
            story.play(recorded(stored))
            position = stored.position
        lots = await self._accounts.kept_entries(team_id, begun, "told_lot", story.told_lots) if begun else {}
        if lots is None or (begun and not story.is_full):
            return None
        before = {lot_id: lot_story(entry) for lot_id, entry in lots.items()}
        place = position if moment.is_past else found.position
        at = _instant(moment, found)
        return await computed(
            self._accounts, team_id, lambda index: story.told(at, place, index, before), over=over
        )

    async def _denial(self, team_id: str, version: int, last: int) -> HoldDenied:
        stored = await self._accounts.events(team_id, after=version - 1, until=min(version, last), limit=1)
        event = stored[0].event if stored else None
        if not isinstance(event, HoldDenied):
            raise UnknownDenial(
                f"version {version} of team {team_id!r} is no denial up to version {last}: list them with a replay of "
                "kind HoldDenied",
                version=version,
            )
        return event

    async def _play_use(self, team_id: str, use: UseStory, version: int) -> None:
        """The charges before that version are played, from the first that may count in the window."""
        begin = await self._accounts.version_as_of(team_id, use.recorded_from - timedelta(microseconds=1))
        async for stored in stream(self._accounts, team_id, begin, version - 1):
            use.play(recorded(stored))

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
