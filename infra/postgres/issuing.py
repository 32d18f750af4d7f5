"""Closed periods get their invoices: drafted without any lock, then issued for many accounts of a shard in one transaction.

What was recorded before a close never changes, so the document is folded beforehand; under the locks it only gets its number, its
instant, and the details of issuer and customer as they are then. Locks: heads by team, the numbers of the year, the counters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import NamedTuple

import msgspec
import structlog
from psycopg import Cursor, errors
from psycopg.rows import TupleRow, tuple_row

from api.errors import EventsArchived
from domain.account.decision import Decision, copy_of
from domain.account.due import pass_time
from domain.account.events import CardPin, Charge
from domain.account.index import (
    AccountIndex,
    IndexChange,
    IndexKind,
    IndexOverlay,
    InvoicedPeriod,
    UsageOnFile,
)
from domain.account.invoicing import issue_invoice, omit_invoice, require_waiting
from domain.account.standing import Uninvoiced, oldest_uninvoiced
from domain.errors import Busy, LedgerError, NothingToInvoice, UnknownEventShape, UnknownIssuer
from domain.invoices.document import SHAPE, invoice_digest
from domain.invoices.drafting import Draft, money_due
from domain.invoices.sorting import NotTied
from domain.ledger import OutcomeUnknown
from domain.periods import period_text
from infra.failpoints import hit
from infra.postgres.appending import AccountWrite, HeadMoved, append, new_events
from infra.postgres.connections import NOT_REACHED
from infra.postgres.documents import file_documents
from infra.postgres.heads import Head, StoredIndex, load_heads
from infra.postgres.invoice_reading import InvoiceReading
from infra.postgres.issuer_heads import CLOSER, PostgresNumbers
from infra.postgres.ledger_store import Clock, database_clock
from infra.postgres.shards import ShardMap
from infra.postgres.team_heads import load_team_head

PORTION_TEAMS = 200
BATCH_TEAMS = 25
"""So many accounts are locked at a time, for some tens of milliseconds."""

PERIODS_MAX = 24
"""So many periods of one account are invoiced at a time; more of them, after history was brought in, by the next pass."""

_KINDS: tuple[IndexKind, ...] = ("uninvoiced", "period", "invoiced")

# Somebody else was at it: nothing was written, and each account by itself may well go.
_OTHERS = (
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.UniqueViolation,
    HeadMoved,
)

log = structlog.get_logger("issuing")


class Issued(msgspec.Struct, frozen=True, kw_only=True):
    """What a pass did: invoices issued, periods without content, accounts that wait for their issuer's details, that failed."""

    invoices: int = 0
    omitted: int = 0
    waiting: int = 0
    failed: int = 0

    def plus(self, other: Issued) -> Issued:
        """Both together."""
        return Issued(
            invoices=self.invoices + other.invoices,
            omitted=self.omitted + other.omitted,
            waiting=self.waiting + other.waiting,
            failed=self.failed + other.failed,
        )


class _Drafted(NamedTuple):
    """What is to be issued for one account: its oldest periods that wait, in order, with what is on their invoices."""

    team_id: str
    periods: list[tuple[Uninvoiced, Draft]]


class Issuing:
    """Issues invoices of closed periods. Several may do it at once, on several machines: each period has one invoice.

    Told no other clock, the database's decides.
    """

    def __init__(self, shards: ShardMap, *, clock: Clock | None = None) -> None:
        self._shards = shards
        self._clock = clock or database_clock

    def teams(self, shard: int) -> Iterator[list[str]]:
        """Teams of the shard with closed periods that wait for their invoice, each once; found by an index, never by a scan."""
        after = ""
        while portion := self._portion(shard, after):
            yield portion
            after = portion[-1]

    def _portion(self, shard: int, after: str) -> list[str]:
        with self._shards.connection_for(shard) as connection:
            rows = connection.execute(
                "SELECT DISTINCT team_id FROM account_index WHERE shard = %s AND kind = 'uninvoiced' AND team_id > %s"
                " ORDER BY team_id LIMIT %s",
                (shard, after, PORTION_TEAMS),
            ).fetchall()
        return [team_id for (team_id,) in rows]

    def issue(self, shard: int, teams: Sequence[str]) -> Issued:
        """The closed periods of these teams have their invoices, but for what could not be, which is counted and logged.

        Raises: psycopg.OperationalError when the database is away: what was not issued waits for the next pass.
        """
        told = Issued()
        for start in range(0, len(teams), BATCH_TEAMS):
            told = told.plus(self._batch(shard, teams[start : start + BATCH_TEAMS]))
        return told

    def _batch(self, shard: int, teams: Sequence[str]) -> Issued:
        try:
            drafted, told = self._drafted(shard, teams)
            hit("close.after_draft")
            return told.plus(self._written(shard, drafted)) if drafted else told
        except _Trouble as error:
            if len(teams) == 1:
                log.warning("invoice_not_issued", team=teams[0], why=repr(error.__cause__))
                return Issued(failed=1)
        # Somewhere among them: each by itself, so that the others get theirs.
        told = Issued()
        for team_id in teams:
            told = told.plus(self._batch(shard, [team_id]))
        return told

    # --- without locks ---

    def _drafted(self, shard: int, teams: Sequence[str]) -> tuple[list[_Drafted], Issued]:
        drafted: list[_Drafted] = []
        told = Issued()
        with self._trouble(), self._shards.connection_for(shard) as connection, connection.transaction():
            cursor = connection.cursor(row_factory=tuple_row)
            # Head, entries and events are of one instant.
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            heads = load_heads(cursor, shard, teams, lock=False)
            entries = _entries(cursor, shard, teams)
            numbers = PostgresNumbers(cursor, self._shards, self._shards.home_of(shard))
            nameless = _nameless(numbers, {head.account.issuer_id for head in heads.values()})
            for team_id, head in heads.items():
                if head.account.issuer_id in nameless:
                    told = told.plus(Issued(waiting=1))
                    continue
                index = Preloaded(cursor, shard, team_id, entries.get(team_id, {}))
                try:
                    periods = list(_periods(cursor, shard, head, index))
                except (NotTied, EventsArchived, UnknownEventShape, AssertionError) as error:
                    log.exception("invoice_not_drafted", team=team_id, error=str(error))
                    told = told.plus(Issued(failed=1))
                    continue
                if periods:
                    drafted.append(_Drafted(team_id, periods))
        return drafted, told

    # --- under the locks ---

    def _written(self, shard: int, drafted: Sequence[_Drafted]) -> Issued:
        """Raises: _Trouble when nothing was written and one of the accounts may be why."""
        with self._trouble(), self._shards.connection_for(shard) as connection, connection.transaction():
            cursor = connection.cursor(row_factory=tuple_row)
            told = self._issue(cursor, shard, {each.team_id: each for each in drafted})
            hit("close.before_commit")
        hit("close.after_commit")
        return told

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        try:
            yield
        except _OTHERS as error:
            raise _Trouble from error
        except NOT_REACHED:
            raise
        except (LedgerError, Busy, OutcomeUnknown, AssertionError) as error:
            raise _Trouble from error

    def _issue(self, cursor: Cursor[TupleRow], shard: int, drafted: Mapping[str, _Drafted]) -> Issued:
        heads = load_heads(cursor, shard, list(drafted), lock=True)
        now = self._clock(cursor)
        hit("close.after_locks")
        numbers = PostgresNumbers(cursor, self._shards, self._shards.home_of(shard))
        entries = _entries(cursor, shard, list(heads))
        told = Issued()
        writes: list[AccountWrite] = []
        for team_id, head in heads.items():
            index = Preloaded(cursor, shard, team_id, entries.get(team_id, {}))
            decision = Decision(copy_of(head.account), now, CLOSER, index)
            told = told.plus(_decide(cursor, shard, decision, drafted[team_id].periods, numbers))
            if decision.events:
                writes.append(_write(head, decision))
                versions = enumerate(decision.events, head.account.version + 1)
                file_documents(cursor, shard, [(team_id, *versioned) for versioned in versions])
        hit("close.after_decided")
        if writes:
            append(cursor, shard, writes, None, numbers.write())
            hit("close.after_events")
        return told


class _Trouble(Exception):
    """Nothing was written: an account was in others' hands for too long, or cannot be decided on."""


def _nameless(numbers: PostgresNumbers, issuers: Collection[str]) -> set[str]:
    """Those without details: their invoices wait, and nothing is lost."""
    found = {each for each in issuers if numbers.issuer(each).details is None}
    for issuer_id in sorted(found):
        log.error(
            "issuer_has_no_details",
            issuer=issuer_id,
            hint=f"closed periods wait for their invoices: coffer issuer set --issuer {issuer_id} --name ...",
        )
    return found


def _decide(
    cursor: Cursor[TupleRow],
    shard: int,
    decision: Decision,
    periods: Sequence[tuple[Uninvoiced, Draft]],
    numbers: PostgresNumbers,
) -> Issued:
    """The periods are issued or left out, as far as they still wait. Whatever may refuse does so before a number is drawn."""
    pass_time(decision)
    told = Issued()
    paperwork = load_team_head(cursor, shard, decision.account.team_id).team
    for waiting, drafted in periods:
        try:
            require_waiting(decision, waiting)
        except NothingToInvoice:
            # Another closer was first.
            break
        if drafted.is_empty:
            omit_invoice(decision, waiting)
            told = told.plus(Issued(omitted=1))
            continue
        team_id, issuer_id = decision.account.team_id, decision.account.issuer_id
        subject = subject_of(waiting)
        try:
            drawn = numbers.draw(issuer_id, "invoice", team_id, subject, decision.at)
        except UnknownIssuer:
            return told.plus(Issued(waiting=1))
        hit("close.after_number")
        customer = paperwork.billing_details
        document = drafted.document(drawn.details, customer, number=drawn.invoice, issued_at=decision.at)
        issue_invoice(
            decision,
            waiting,
            drawn,
            closing_micros=drafted.closing_micros,
            cards=[CardPin(card.card_id, card.version, card.digest) for card in drafted.cards],
            shape=SHAPE,
            digest=invoice_digest(document),
            due=money_due(document),
            customer=customer,
            team_version=paperwork.version,
        )
        told = told.plus(Issued(invoices=1))
    return told


def subject_of(waiting: Uninvoiced) -> str:
    """Which invoice of its team it is: by the start of its period, and how often that was voided."""
    return f"{period_text(waiting.start)} {waiting.attempt}"


def _periods(
    cursor: Cursor[TupleRow], shard: int, head: Head, stored: AccountIndex
) -> Iterator[tuple[Uninvoiced, Draft]]:
    """The periods of the account that wait, oldest first, with what is on their invoices."""
    index = IndexOverlay(stored)
    reading = InvoiceReading(cursor, shard, head.account, index)
    for _ in range(PERIODS_MAX):
        waiting = oldest_uninvoiced(index)
        if waiting is None:
            return
        drafted = reading.draft_of(waiting)
        yield waiting, drafted
        start = period_text(waiting.start)
        closing = msgspec.json.encode(InvoicedPeriod(drafted.closing_micros))
        index.put(IndexChange("uninvoiced", start, None))
        index.put(IndexChange("invoiced", start, closing))


def _write(head: Head, decision: Decision) -> AccountWrite:
    return AccountWrite(
        team_id=decision.account.team_id,
        account_id=head.account_id,
        expected_version=head.account.version,
        previous_hash=head.chain_hash,
        account=decision.account,
        events=new_events(decision.events),
        index_changes=decision.index_changes,
    )


def _entries(
    cursor: Cursor[TupleRow], shard: int, teams: Sequence[str]
) -> dict[str, dict[tuple[str, str], bytes]]:
    """The entries of closed periods, by team."""
    cursor.execute(
        "SELECT team_id, kind, key, entry FROM account_index WHERE shard = %s AND team_id = ANY(%s) AND kind = ANY(%s)",
        (shard, list(teams), list(_KINDS)),
        binary=True,
    )
    found: dict[str, dict[tuple[str, str], bytes]] = {}
    for team_id, kind, key, entry in cursor.fetchall():
        found.setdefault(team_id, {})[kind, key] = entry
    return found


class Preloaded:
    """An account's index of which the entries of closed periods were read beforehand, for many accounts at once."""

    def __init__(
        self, cursor: Cursor[TupleRow], shard: int, team_id: str, entries: Mapping[tuple[str, str], bytes]
    ) -> None:
        self._stored = StoredIndex(cursor, shard, team_id)
        self._entries = entries

    def usage(self, usage_key: str) -> UsageOnFile | None:
        """As stored."""
        return self._stored.usage(usage_key)

    def entry(self, kind: IndexKind, key: str) -> bytes | None:
        """The entry of the key."""
        return self._entries.get((kind, key)) if kind in _KINDS else self._stored.entry(kind, key)

    def latest(self, kind: IndexKind, prefix: str = "") -> Iterator[tuple[str, bytes]]:
        """The entries of a kind whose keys begin so, greatest key first."""
        if kind not in _KINDS:
            return self._stored.latest(kind, prefix)
        found = (
            (key, entry)
            for (own, key), entry in self._entries.items()
            if own == kind and key.startswith(prefix)
        )
        return iter(sorted(found, reverse=True))

    def charges_since(self, recorded_since: datetime) -> Iterator[Charge]:
        """As stored."""
        return self._stored.charges_since(recorded_since)
