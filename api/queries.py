"""Every question that may be asked, answered once for HTTP and for the command line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import NamedTuple

import msgspec
from typing_extensions import override

from api.answers import (
    AccountAnswer,
    BalanceAnswer,
    ChargeAnswer,
    ChargesAnswer,
    EstimateAnswer,
    HistoryAnswer,
    HistoryEntry,
    LotsAnswer,
    RateCardAnswer,
    RateCardDocument,
    RateCardsAnswer,
    StatementAnswer,
    StatementLine,
)
from api.cursors import Cursors
from api.errors import UnknownRateCard, VersionNotReached
from api.ports import AccountOnFile, AccountReads, CatalogueReads, StatementReads, StoredEvent
from domain.account import lots
from domain.account.decision import account_id
from domain.account.estimating import Estimate, estimate
from domain.account.events import ChargeRefunded, CreditsCharged, LotTerms, RecordedEvent
from domain.account.index import EmptyIndex, IndexKind, RefundsOfCharge
from domain.catalogue import Catalogue
from domain.errors import UnknownCharge, UnknownTeam
from domain.times import instant_text
from domain.usage import usage_key
from projections.balance import Balance, balance_of
from projections.explain import UsageExplained, explain_usage
from projections.replay import Replay
from projections.statement import StatementFilter

MIN_VERSION_WAIT_SECONDS = 2.0
_FIRST_WAIT_SECONDS = 0.02
_REPLAY_PAGE = 500


class Page(NamedTuple):
    """Which part of a list: how many rows, after which cursor, in which direction."""

    limit: int
    after: str | None = None
    newest_first: bool = False


class Use(NamedTuple):
    """A use that is planned."""

    action: str
    meters: Mapping[str, str]
    dimensions: Mapping[str, str]
    project: str | None = None


class Moment(NamedTuple):
    """Which state of an account is asked for: now, as of a time, or at a version; now, but not before ``min_version``."""

    min_version: int | None = None
    at_version: int | None = None
    as_of: datetime | None = None


NOW = Moment()


class Queries:
    """Reads accounts, statements and prices. Raises, everywhere: UnknownTeam, VersionNotReached, Busy."""

    def __init__(
        self,
        accounts: AccountReads,
        statements: StatementReads,
        catalogue: CatalogueReads,
        cursors: Cursors,
        wait_seconds: float = MIN_VERSION_WAIT_SECONDS,
    ) -> None:
        self._accounts = accounts
        self._statements = statements
        self._catalogue = catalogue
        self._cursors = cursors
        self._wait_seconds = wait_seconds

    async def account(self, team_id: str, min_version: int | None = None) -> AccountAnswer:
        """The account and its terms."""
        return AccountAnswer.of(await self._found(team_id, min_version))

    async def balance(self, team_id: str, moment: Moment = NOW) -> BalanceAnswer:
        """The balance now; as of a time, as the ledger knew it then; or at a version."""
        return BalanceAnswer.of(await self._balance(team_id, moment))

    async def lots(self, team_id: str, moment: Moment = NOW) -> LotsAnswer:
        """Every lot with a remainder, in burn order."""
        return LotsAnswer.of(await self._balance(team_id, moment))

    async def statement(
        self, team_id: str, page: Page, asked: StatementFilter, min_version: int | None = None
    ) -> StatementAnswer:
        """A page of the statement. It is projected: ``min_version`` waits for the projection, too."""
        found = await self._found(team_id, min_version)
        filters = _filters(asked, page)
        place = self._cursors.read(page.after, team_id, "statement", filters) if page.after else None
        wait = _Wait(self._wait_seconds)
        while True:
            read = await asyncio.to_thread(
                self._statements.page,
                team_id,
                asked=asked,
                after=place,
                limit=page.limit,
                newest_first=page.newest_first,
            )
            version = await self._version_at(team_id, read.position, found)
            if min_version is None or version >= min_version:
                break
            await wait.again(min_version, version, "the statement")
        lines = [StatementLine.of(row) for row in read.rows]
        following = (
            self._cursors.write(lines[-1].version, team_id, "statement", filters) if read.more else None
        )
        return StatementAnswer(
            version=version,
            position=read.position,
            as_of=found.now,
            team_id=team_id,
            data=lines,
            next=following,
        )

    async def history(self, team_id: str, page: Page, min_version: int | None = None) -> HistoryAnswer:
        """A page of the team's events as recorded."""
        found = await self._found(team_id, min_version)
        filters = {"newest_first": str(page.newest_first)}
        place = self._cursors.read(page.after, team_id, "history", filters) if page.after else None
        stored = await self._accounts.events(
            team_id,
            after=place,
            until=found.account.version,
            limit=page.limit + 1,
            newest_first=page.newest_first,
        )
        shown = stored[: page.limit]
        more = len(stored) > page.limit
        return HistoryAnswer(
            version=found.account.version,
            position=found.position,
            as_of=found.now,
            team_id=team_id,
            account_id=str(account_id(team_id)),
            data=[HistoryEntry.of(each) for each in shown],
            next=self._cursors.write(shown[-1].version, team_id, "history", filters) if more else None,
        )

    async def charge(self, team_id: str, charge_id: str, min_version: int | None = None) -> ChargeAnswer:
        """What became of one usage record. Raises: UnknownCharge."""
        found = await self._found(team_id, min_version)
        stored = await self._usage(team_id, charge_id)
        return ChargeAnswer.of(found, stored, await self._refunded(team_id, charge_id))

    async def charges(
        self, team_id: str, source: str, record_id: str, min_version: int | None = None
    ) -> ChargesAnswer:
        """The charge of a usage record, found by the record's own identity; nothing, when it was never seen."""
        found = await self._found(team_id, min_version)
        charge_id = usage_key(team_id, source, record_id)
        stored = await self._accounts.usage(team_id, charge_id)
        return ChargesAnswer(
            version=found.account.version,
            position=found.position,
            as_of=found.now,
            team_id=team_id,
            data=[ChargeAnswer.of(found, stored, await self._refunded(team_id, charge_id))] if stored else [],
        )

    async def explanation(
        self, team_id: str, charge_id: str, min_version: int | None = None
    ) -> tuple[AccountOnFile, UsageExplained]:
        """Why a usage record cost what it did. Raises: UnknownCharge."""
        found = await self._found(team_id, min_version)
        stored = await self._usage(team_id, charge_id)
        refunds = (
            await self._accounts.refunds(team_id, charge_id, stored.version)
            if await self._refunded(team_id, charge_id)
            else []
        )
        terms = await self._terms(found, stored, refunds)
        explained = explain_usage(team_id, _recorded(stored), map(_recorded, refunds), terms.get)
        return found, explained

    async def estimate(self, team_id: str, use: Use, min_version: int | None = None) -> EstimateAnswer:
        """What a use would cost if it occurred now. Raises: UnknownAction, UnknownPrice, PriceOutOfRange, AccountClosed."""
        found = await self._found(team_id, min_version)
        catalogue = await asyncio.to_thread(self._catalogue.current)
        index = _FetchedIndex()
        while True:
            try:
                told = _estimate(found, catalogue, index, use)
                return EstimateAnswer.of(found, use.action, told)
            except _NotFetched as missing:
                # Counters of older periods are rare, so they are fetched once the price turns out to need one.
                read = await self._accounts.entries(team_id, missing.kind, [missing.key])
                index.fetched[missing.kind, missing.key] = read.get(missing.key)

    async def rate_cards(self) -> RateCardsAnswer:
        """Every standing version of every rate card."""
        catalogue = await asyncio.to_thread(self._catalogue.current)
        return RateCardsAnswer(data=[RateCardAnswer.of(card) for card in catalogue.cards()])

    async def rate_card(self, card_id: str, version: int) -> RateCardDocument:
        """A version of a rate card with its document. Raises: UnknownRateCard."""
        catalogue = await asyncio.to_thread(self._catalogue.current)
        card = catalogue.card(card_id, version)
        if card is None:
            raise UnknownRateCard(
                f"rate card {card_id!r} has no version {version}: list the published ones at /v1/rate-cards",
                card_id=card_id,
            )
        return RateCardDocument.whole(card)

    async def _balance(self, team_id: str, moment: Moment) -> Balance:
        found = await self._found(team_id, moment.min_version)
        if moment.at_version is None and moment.as_of is None:
            return balance_of(found.account, found.now, found.position, found.account.version)
        return await self._past_balance(team_id, moment, found)

    async def _past_balance(self, team_id: str, moment: Moment, found: AccountOnFile) -> Balance:
        """The balance by replay: of the events up to a version, or of those recorded by a time."""
        replay, position = Replay(), 0
        until = found.account.version if moment.at_version is None else moment.at_version
        if until > found.account.version:
            raise _not_reached(until, found.account.version, "the account")
        async for stored in self._stream(team_id, until):
            if moment.as_of is not None and stored.event.recorded_at > moment.as_of:
                break
            replay.play(_recorded(stored))
            position = stored.position
        account = replay.account
        if account is None:
            raise UnknownTeam(
                f"team {team_id!r} had no account yet at {instant_text(moment.as_of or found.now)}",
                team_id=team_id,
            )
        at = moment.as_of or account.recorded_at
        return balance_of(account, min(at, found.now), position, account.version)

    async def _stream(self, team_id: str, until: int) -> AsyncIterator[StoredEvent]:
        """The team's events up to a version, read page by page."""
        after: int | None = None
        while page := await self._accounts.events(team_id, after=after, until=until, limit=_REPLAY_PAGE):
            for stored in page:
                yield stored
            after = page[-1].version

    async def _found(self, team_id: str, min_version: int | None) -> AccountOnFile:
        """The account, once it has reached the version asked for."""
        wait = _Wait(self._wait_seconds)
        while True:
            found = await self._accounts.account(team_id)
            if found is None:
                raise UnknownTeam(f"team {team_id!r} has no account: open one first", team_id=team_id)
            if min_version is None or found.account.version >= min_version:
                return found
            await wait.again(min_version, found.account.version, "the account")

    async def _version_at(self, team_id: str, position: int, found: AccountOnFile) -> int:
        """The team's version at a position of its shard, which may be behind the head."""
        if position >= found.position:
            return found.account.version
        return await self._accounts.version_at(team_id, position)

    async def _usage(self, team_id: str, charge_id: str) -> StoredEvent:
        stored = await self._accounts.usage(team_id, charge_id)
        if stored is None:
            raise UnknownCharge(f"charge {charge_id!r} is not one of this team's", charge_id=charge_id)
        return stored

    async def _refunded(self, team_id: str, charge_id: str) -> int:
        entry = (await self._accounts.entries(team_id, "refund", [charge_id])).get(charge_id)
        return msgspec.json.decode(entry, type=RefundsOfCharge).refunded_micros if entry else 0

    async def _terms(
        self, found: AccountOnFile, stored: StoredEvent, refunds: list[StoredEvent]
    ) -> dict[str, LotTerms]:
        """The terms of every lot that the charge and its refunds name."""
        named = (
            {line.lot_id for line in stored.event.lines}
            if isinstance(stored.event, CreditsCharged)
            else set()
        )
        for refund in refunds:
            assert isinstance(refund.event, ChargeRefunded)
            named |= {lot_id for line in refund.event.lines for lot_id in (line.lot_id, line.drawn_lot_id)}
        named.discard("")
        entries = await self._accounts.entries(team_id=found.account.team_id, kind="lot", keys=sorted(named))
        terms = {key: msgspec.json.decode(entry, type=LotTerms) for key, entry in entries.items()}
        standing = {lot_id: lot.terms for lot_id in named if (lot := lots.find(found.account, lot_id))}
        return terms | standing


class _Wait:
    """Waits for a version, a little longer each time, up to a bound."""

    def __init__(self, seconds: float) -> None:
        self._until = time.monotonic() + seconds
        self._next = _FIRST_WAIT_SECONDS

    async def again(self, wanted: int, reached: int, what: str) -> None:
        """Time has passed. Raises: VersionNotReached at the bound."""
        if time.monotonic() + self._next > self._until:
            raise _not_reached(wanted, reached, what)
        await asyncio.sleep(self._next)
        self._next = min(self._next * 2, 0.25)


def _not_reached(wanted: int, reached: int, what: str) -> VersionNotReached:
    return VersionNotReached(
        f"version {wanted} was asked for, {what} is at {reached}: ask again later, or for at most {reached}",
        version=reached,
    )


class _NotFetched(Exception):
    """An index entry is needed that was not read yet."""

    def __init__(self, kind: IndexKind, key: str) -> None:
        super().__init__(kind, key)
        self.kind = kind
        self.key = key


class _FetchedIndex(EmptyIndex):
    """The index entries that were fetched; asks for others by raising."""

    def __init__(self) -> None:
        self.fetched: dict[tuple[IndexKind, str], bytes | None] = {}

    @override
    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """The entry, if it was fetched. Raises: _NotFetched."""
        try:
            return self.fetched[kind, key]
        except KeyError:
            raise _NotFetched(kind, key) from None


def _estimate(found: AccountOnFile, catalogue: Catalogue, index: _FetchedIndex, use: Use) -> Estimate:
    return estimate(
        found.account,
        catalogue,
        index,
        max(found.now, found.account.recorded_at),
        use.action,
        dict(use.meters),
        dict(use.dimensions),
        use.project,
    )


def _recorded(stored: StoredEvent) -> RecordedEvent:
    return RecordedEvent(None, stored.version, stored.event)


def _filters(asked: StatementFilter, page: Page) -> dict[str, str | None]:
    """What a cursor of the statement is bound to."""
    filters: dict[str, str | None] = {"newest_first": str(page.newest_first), **asked.equal()}
    filters["kinds"] = ",".join(sorted(asked.kinds)) if asked.kinds is not None else None
    for name in ("recorded_from", "recorded_until", "occurred_from", "occurred_until"):
        at: datetime | None = getattr(asked, name)
        filters[name] = instant_text(at) if at else None
    return filters
