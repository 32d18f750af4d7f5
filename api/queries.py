"""Every question that may be asked, answered once for HTTP and for the command line."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import uuid4

import msgspec

from api.account_queries import AccountQueries
from api.answers import (
    ChargeAnswer,
    ChargesAnswer,
    EstimateAnswer,
    HistoryAnswer,
    HistoryEntry,
    RateCardAnswer,
    RateCardDocument,
    RateCardsAnswer,
    StatementAnswer,
    StatementLine,
)
from api.answers_holds import QuoteAnswer
from api.answers_plans import PlansAnswer, PlanTermsAnswer
from api.audits import Audits
from api.cursors import Cursors
from api.errors import UnknownRateCard
from api.index_reads import computed
from api.moments import NOW, Moment, Moments
from api.ports import AccountOnFile, AccountReads, CatalogueReads, StatementReads, StoredEvent
from api.quoting import quote_answer
from api.spending_queries import SpendingQueries
from api.team_queries import TeamQueries
from domain.account.decision import account_id
from domain.account.estimating import Estimate, estimate
from domain.account.index import AccountIndex, RefundsOfCharge
from domain.account.quoting import quote_usage
from domain.account.state import TeamAccount
from domain.catalogue import Catalogue
from domain.errors import UnknownCharge
from domain.times import instant_text
from domain.usage import usage_key
from projections.statement import StatementFilter, StatementPage

MIN_VERSION_WAIT_SECONDS = 2.0


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


class Queries:
    """Reads accounts, statements and prices. Raises, everywhere: UnknownTeam, VersionNotReached, Busy."""

    def __init__(
        self,
        accounts: AccountReads,
        statements: StatementReads,
        catalogue: CatalogueReads,
        cursors: Cursors,
        quote_keys: Sequence[bytes],
        wait_seconds: float = MIN_VERSION_WAIT_SECONDS,
        *,
        spending: SpendingQueries | None = None,
    ) -> None:
        self._spending = spending
        self._accounts = accounts
        self._statements = statements
        self._catalogue = catalogue
        self._cursors = cursors
        self._quote_keys = quote_keys
        self._moments = Moments(accounts, wait_seconds)
        self.accounts = AccountQueries(accounts, self._moments)
        self.teams = TeamQueries(accounts, cursors)
        self.audits = Audits(accounts, self._moments, cursors)

    @property
    def spending(self) -> SpendingQueries:
        """Questions about planned and past spending."""
        assert self._spending is not None, "asked of who was given no spending to read"
        return self._spending

    async def statement(
        self, team_id: str, page: Page, asked: StatementFilter, moment: Moment = NOW
    ) -> StatementAnswer:
        """A page of the statement, now or as it read then. It is projected: a version asked for waits for the projection, too."""
        found = await self._moments.found(team_id, moment.min_version)
        last = await self._moments.last_version(team_id, moment, found) if moment.is_past else None
        filters = _filters(asked, page) | {"last": str(last)}
        place = self._cursors.read(page.after, team_id, "statement", filters) if page.after else None
        if page.newest_first and last is not None:
            place = last + 1 if place is None else place
        wanted, wait = last or moment.min_version, self._moments.wait()
        while True:
            read = await self._page(team_id, page, asked, place)
            reached = await self._reached(team_id, read.position, found)
            if wanted is None or reached >= wanted:
                break
            await wait.again(wanted, reached, "the statement")
        rows = [row for row in read.rows if last is None or row.version <= last]
        more = read.more and len(rows) == len(read.rows)
        return StatementAnswer(
            version=reached if last is None else last,
            position=read.position,
            as_of=min(moment.as_of or found.now, found.now),
            team_id=team_id,
            data=[StatementLine.of(row) for row in rows],
            next=self._cursors.write(rows[-1].version, team_id, "statement", filters) if more else None,
        )

    async def history(self, team_id: str, page: Page, min_version: int | None = None) -> HistoryAnswer:
        """A page of the team's events as recorded."""
        found = await self._moments.found(team_id, min_version)
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
        found = await self._moments.found(team_id, min_version)
        stored = await self._usage(team_id, charge_id)
        return ChargeAnswer.of(found, stored, await self._refunded(team_id, charge_id))

    async def charges(
        self, team_id: str, source: str, record_id: str, min_version: int | None = None
    ) -> ChargesAnswer:
        """The charge of a usage record, found by the record's own identity; nothing, when it was never seen."""
        found = await self._moments.found(team_id, min_version)
        charge_id = usage_key(team_id, source, record_id)
        stored = await self._accounts.usage(team_id, charge_id)
        return ChargesAnswer(
            version=found.account.version,
            position=found.position,
            as_of=found.now,
            team_id=team_id,
            data=[ChargeAnswer.of(found, stored, await self._refunded(team_id, charge_id))] if stored else [],
        )

    async def estimate(self, team_id: str, use: Use, min_version: int | None = None) -> EstimateAnswer:
        """What a use would cost if it occurred now. Raises: UnknownAction, UnknownPrice, PriceOutOfRange, AccountClosed."""
        found = await self._moments.found(team_id, min_version)
        catalogue = await asyncio.to_thread(self._catalogue.current)
        # Counters of older periods are rare, so they are fetched once the price turns out to need one.
        at = max(found.now, found.account.recorded_at)
        told = await computed(
            self._accounts, team_id, lambda index: _estimate(found.account, at, catalogue, index, use)
        )
        return EstimateAnswer.of(found, use.action, told)

    async def quote(self, team_id: str, use: Use, lasts_seconds: int) -> QuoteAnswer:
        """A price that the ledger honours for so long.

        Raises: UnknownAction, UnknownPrice, PriceOutOfRange, Malformed when there is nothing to price, AccountSuspended,
        AccountClosed.
        """
        standing = await self._moments.standing(team_id)
        catalogue = await asyncio.to_thread(self._catalogue.current)
        quote = await self._moments.booked(
            standing,
            lambda account, index: quote_usage(
                account,
                catalogue,
                index,
                standing.at,
                f"quote-{uuid4().hex}",
                action=use.action,
                meters=dict(use.meters),
                dimensions=dict(use.dimensions),
                project=use.project,
                lasts_seconds=lasts_seconds,
            ),
        )
        return quote_answer(quote, self._quote_keys[0], standing.place())

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

    async def plans(self) -> PlansAnswer:
        """The newest version of every plan."""
        catalogue = await asyncio.to_thread(self._catalogue.current)
        return PlansAnswer(data=[PlanTermsAnswer.of(plan) for plan in catalogue.plans()])

    async def _page(
        self, team_id: str, page: Page, asked: StatementFilter, after: int | None
    ) -> StatementPage:
        return await asyncio.to_thread(
            self._statements.page,
            team_id,
            asked=asked,
            after=after,
            limit=page.limit,
            newest_first=page.newest_first,
        )

    async def _reached(self, team_id: str, position: int, found: AccountOnFile) -> int:
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


def _estimate(
    account: TeamAccount, at: datetime, catalogue: Catalogue, index: AccountIndex, use: Use
) -> Estimate:
    return estimate(
        account, catalogue, index, at, use.action, dict(use.meters), dict(use.dimensions), use.project
    )


def _filters(asked: StatementFilter, page: Page) -> dict[str, str | None]:
    """What a cursor of the statement is bound to."""
    filters: dict[str, str | None] = {"newest_first": str(page.newest_first), **asked.equal()}
    filters["kinds"] = ",".join(sorted(asked.kinds)) if asked.kinds is not None else None
    for name in ("recorded_from", "recorded_until", "occurred_from", "occurred_until"):
        at: datetime | None = getattr(asked, name)
        filters[name] = instant_text(at) if at else None
    return filters
