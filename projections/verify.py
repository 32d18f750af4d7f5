"""Heads, index, positions and read models against a replay of the stored bytes: the first difference of each, by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Generic, NamedTuple, TypeVar
from uuid import UUID

import msgspec

from domain.account.applying import apply, opened
from domain.account.claims import claim_of
from domain.account.decision import account_id
from domain.account.due import next_due_at
from domain.account.events import (
    AccountEvent,
    AccountOpened,
    CreditsCharged,
    MovingEvent,
    RecordedEvent,
    UsageWaived,
)
from domain.account.index import IndexChange
from domain.account.state import STATE_SCHEMA, TeamAccount
from domain.chain import GENESIS, event_hash
from domain.errors import UnknownEventShape
from domain.issuer.applying import apply as apply_to_issuer
from domain.issuer.applying import count
from domain.issuer.events import InvoiceNumbered, IssuerEvent
from domain.issuer.state import ISSUER_SCHEMA, Issuer, Series, issuer_stream_id, series_stream_id
from domain.team.applying import apply as apply_to_team
from domain.team.events import TeamEvent
from domain.team.state import TEAM_SCHEMA, Team, team_stream_id
from domain.times import instant_text
from domain.usage import usage_key
from domain.work.applying import apply as apply_to_work
from domain.work.events import WorkEvent
from domain.work.state import WORK_SCHEMA, Work, work_stream_id
from projections.invoices import InvoiceRow
from projections.invoices import rows_of as invoice_rows_of
from projections.keeping import TOLD_KINDS, Keeping, Kept, KeptKind, KeptOnFile
from projections.moves import NOTHING, sums_after
from projections.statement import StatementRow, rows_of

Decode = Callable[[str, bytes], AccountEvent]
"""Makes an event of a stored topic and state. Raises: UnknownEventShape."""

DecodeTeam = Callable[[str, bytes], TeamEvent]
"""Makes an event of a team's own stream of a stored topic and state. Raises: UnknownEventShape."""

DecodeWork = Callable[[str, bytes], WorkEvent]
"""Makes an event of a work of a stored topic and state. Raises: UnknownEventShape."""

DecodeIssuer = Callable[[str, bytes], IssuerEvent]
"""Makes an event of an issuer of a stored topic and state. Raises: UnknownEventShape."""

Coordinates = tuple[str, int]
"""A topic and a partition of it."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One difference: where it is, what should be there and what is.

    ``table`` and, as far as they apply, ``team_id`` and ``version``, or ``topic``, ``partition`` and ``offset`` name the place.
    """

    table: str
    what: str
    expected: str
    found: str
    shard: int | None = None
    team_id: str | None = None
    version: int | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None

    def text(self) -> str:
        """The finding as one line."""
        places = {
            "shard": self.shard,
            "team": self.team_id,
            "version": self.version,
            "topic": self.topic,
            "partition": self.partition,
            "offset": self.offset,
        }
        where = ", ".join(f"{name} {place}" for name, place in places.items() if place is not None)
        return f"{self.table}: {where}: {self.what}: expected {self.expected}, found {self.found}"


class StoredEvent(NamedTuple):
    """A row of the log, identities as bytes."""

    version: int
    position: int
    topic: str
    state: bytes
    claim: bytes | None
    previous_hash: bytes
    hash: bytes


class StoredHead(NamedTuple):
    """A row of ``account_head``."""

    team_id: str
    account_id: UUID
    version: int
    chain_hash: bytes
    state: bytes
    state_schema: int
    recorded_at: datetime
    next_due_at: datetime | None


class StoredTeamHead(NamedTuple):
    """A row of ``team_head``."""

    team_id: str
    stream_id: UUID
    version: int
    chain_hash: bytes
    state: bytes
    state_schema: int
    recorded_at: datetime


class StoredWorkHead(NamedTuple):
    """A row of ``work_head``."""

    team_id: str
    work_id: str
    stream_id: UUID
    version: int
    chain_hash: bytes
    state: bytes
    state_schema: int
    recorded_at: datetime


class StoredIssuerHead(NamedTuple):
    """A row of ``issuer_head``: of the issuer's details, ``year`` 0, or of its numbers of a year."""

    issuer_id: str
    year: int
    stream_id: UUID
    version: int
    chain_hash: bytes
    state: bytes
    state_schema: int
    recorded_at: datetime


class OriginCounts:
    """How many charges and waivers came from each partition, by outcome and reason, below a position of each shard."""

    def __init__(self, below: Mapping[int, int]) -> None:
        self._below = below
        self.counts: dict[Coordinates, dict[tuple[str, str], int]] = {}

    def add(self, shard: int, position: int, event: CreditsCharged | UsageWaived) -> None:
        """The event counts, if it has coordinates and was in the log at the positions that are compared with."""
        origin = event.origin
        if origin is None or position > self._below.get(shard, 0):
            return
        outcome = ("charged", "") if isinstance(event, CreditsCharged) else ("waived", event.waiver)
        counted = self.counts.setdefault((origin.topic, origin.partition), {})
        counted[outcome] = counted.get(outcome, 0) + 1


class AccountOnFile(NamedTuple):
    """All that is stored of one account; the streams are read once, in version order."""

    shard: int
    head: StoredHead
    events: Iterable[StoredEvent]
    entries: Mapping[tuple[str, str], bytes]
    statement: Iterator[StatementRow]
    statement_position: int
    kept: KeptOnFile | None = None
    invoices: Iterator[InvoiceRow] = iter(())
    invoices_position: int = 0


class PaperworkOnFile(NamedTuple):
    """All that is stored of one team's people and paperwork; the stream is read once, in version order."""

    shard: int
    team_id: str
    head: StoredTeamHead | None
    events: Iterable[StoredEvent]


class WorkOnFile(NamedTuple):
    """All that is stored of one work; the stream is read once, in version order. ``texts``: digests of those kept, by version."""

    shard: int
    head: StoredWorkHead
    events: Iterable[StoredEvent]
    texts: Mapping[int, str]


class IssuerOnFile(NamedTuple):
    """All that is stored of one stream of an issuer; the stream is read once, in version order."""

    shard: int
    head: StoredIssuerHead
    events: Iterable[StoredEvent]


def check_account(stored: AccountOnFile, decode: Decode, origins: OriginCounts) -> Iterator[Finding]:
    """The first difference of each table for one account; none for a sound one. Holds no more than one event at a time.

    A stream that cannot be folded ends the check of what depends on the fold; the chain is checked to its end all the same.
    """
    check = _AccountCheck(stored, decode, origins)
    for event in stored.events:
        check.take(event)
    check.end()
    yield from check.findings.values()


def check_team(stored: PaperworkOnFile, decode: DecodeTeam) -> Iterator[Finding]:
    """The first difference in a team's own stream, and between it and its head; none for a sound one, or one not begun."""
    check = _TeamCheck(stored, decode)
    for event in stored.events:
        check.take(event)
    check.end()
    yield from check.findings.values()


def check_work(stored: WorkOnFile, decode: DecodeWork) -> Iterator[Finding]:
    """The first difference in one work's stream, its head, and the texts that are kept; a text that was erased is none."""
    check = _WorkCheck(stored, decode)
    for event in stored.events:
        check.take(event)
    check.end()
    yield from check.findings.values()


def check_issuer(stored: IssuerOnFile, decode: DecodeIssuer) -> Iterator[Finding]:
    """The first difference in one stream of an issuer, and between it and its head; a number without its claim is one."""
    check = _IssuerCheck(stored, decode)
    for event in stored.events:
        check.take(event)
    check.end()
    yield from check.findings.values()


class _StreamCheck:
    """One stream of a team, event by event along its chain; ``findings`` keeps the first difference of each table."""

    IN_LOG = ""
    """What a difference in the log says first, so that it tells the streams of a team apart."""

    def __init__(self, shard: int, team_id: str, stream_id: UUID) -> None:
        self._shard = shard
        self._team_id = team_id
        self._originator = stream_id.bytes
        self._version = 0
        self._hash = GENESIS
        self._folds = True
        self.findings: dict[str, Finding] = {}

    def _follow(self, stored: StoredEvent) -> None:
        """The event is the next of its stream and chained to the one before."""
        self._version += 1
        if stored.version != self._version:
            self._find("ledger_events", self._version, "event", "one", f"none, the next is {stored.version}")
            self._version = stored.version
            self._folds = False
        self._check_chain(stored)

    def _find(self, table: str, version: int | None, what: str, expected: object, found: object) -> None:
        if table not in self.findings:
            self.findings[table] = Finding(
                table=table,
                shard=self._shard,
                team_id=self._team_id,
                version=version,
                what=f"{self.IN_LOG}{what}" if table == "ledger_events" else what,
                expected=_shown(expected),
                found=_shown(found),
            )

    def _check_chain(self, stored: StoredEvent) -> None:
        version, topic, state = stored.version, stored.topic, stored.state
        if stored.previous_hash != self._hash:
            self._find("ledger_events", version, "previous_hash", self._hash, stored.previous_hash)
        own = event_hash(stored.previous_hash, self._originator, version, topic, state)
        if stored.hash != own:
            self._find("ledger_events", version, "hash of the stored bytes", stored.hash, own)
        self._hash = stored.hash

    def _check_end(self, table: str, version: int, chain_hash: bytes) -> None:
        """The head is where the chain ends."""
        if version > self._version:
            self._find("ledger_events", self._version + 1, "event", f"one: the head is at {version}", "none")
        if version != self._version:
            self._find(table, version, "version", self._version, version)
        if chain_hash != self._hash:
            self._find(table, version, "chain_hash", self._hash, chain_hash)


class _TeamCheck(_StreamCheck):
    """Folds one team's people and paperwork while comparing."""

    IN_LOG = "paperwork: "

    def __init__(self, stored: PaperworkOnFile, decode: DecodeTeam) -> None:
        super().__init__(stored.shard, stored.team_id, team_stream_id(stored.team_id))
        self._head = stored.head
        self._decode = decode
        self._team = Team(team_id=stored.team_id)

    def take(self, stored: StoredEvent) -> None:
        """The event is checked against its predecessor and folded; it claims nothing."""
        self._follow(stored)
        if stored.claim is not None:
            self._find("ledger_events", stored.version, "usage_key", None, stored.claim.hex())
        try:
            event = self._decode(stored.topic, stored.state)
            if self._folds:
                apply_to_team(self._team, event)
        except UnknownEventShape as error:
            self._find("ledger_events", stored.version, "event", "a shape this code knows", error.detail)
            self._folds = False
        except (AssertionError, KeyError, ValueError, TypeError) as error:
            self._find(
                "ledger_events", stored.version, "fold", "an event that follows from those before", error
            )
            self._folds = False

    def end(self) -> None:
        """The head is compared with what the events led to."""
        head = self._head
        if head is None:
            if self._version:
                self._find("team_head", self._version, "head", "one: the team has events", None)
            return
        if head.stream_id != team_stream_id(self._team_id):
            self._find("team_head", head.version, "stream_id", team_stream_id(self._team_id), head.stream_id)
        self._check_end("team_head", head.version, head.chain_hash)
        if self._folds:
            self._check_state(head)

    def _check_state(self, head: StoredTeamHead) -> None:
        if head.recorded_at != self._team.recorded_at:
            self._find("team_head", head.version, "recorded_at", self._team.recorded_at, head.recorded_at)
        # A head of another schema is discarded when it is next read, so its state says nothing.
        if head.state_schema != TEAM_SCHEMA or head.state == msgspec.json.encode(self._team):
            return
        try:
            found = msgspec.json.decode(head.state, type=Team)
        except msgspec.MsgspecError as error:
            self._find("team_head", head.version, "state", "a team", error)
            return
        for field in Team.__struct_fields__:
            expected, stated = getattr(self._team, field), getattr(found, field)
            if _json(expected) != _json(stated):
                self._find("team_head", head.version, f"state.{field}", _json(expected), _json(stated))


class _WorkCheck(_StreamCheck):
    """Folds one work while comparing, and compares the texts that are kept of it with their digests."""

    def __init__(self, stored: WorkOnFile, decode: DecodeWork) -> None:
        head = stored.head
        self._stream_id = work_stream_id(head.team_id, head.work_id)
        self.IN_LOG = f"work {head.work_id}: "
        super().__init__(stored.shard, head.team_id, self._stream_id)
        self._head = head
        self._texts = dict(stored.texts)
        self._decode = decode
        self._work = Work(team_id=head.team_id, work_id=head.work_id)

    def take(self, stored: StoredEvent) -> None:
        """The event is checked against its predecessor and folded; it claims nothing."""
        self._follow(stored)
        if stored.claim is not None:
            self._find("ledger_events", stored.version, "usage_key", None, stored.claim.hex())
        try:
            event = self._decode(stored.topic, stored.state)
            self._check_text(stored.version, getattr(event, "context_digest", None))
            if self._folds:
                apply_to_work(self._work, event)
        except UnknownEventShape as error:
            self._find("ledger_events", stored.version, "event", "a shape this code knows", error.detail)
            self._folds = False
        except (AssertionError, KeyError, ValueError, TypeError) as error:
            self._find(
                "ledger_events", stored.version, "fold", "an event that follows from those before", error
            )
            self._folds = False

    def _check_text(self, version: int, digest: str | None) -> None:
        """A text may be erased; one that is there is the one that was saved."""
        kept = self._texts.pop(version, None)
        if kept is not None and kept != digest:
            self._find("work_context", version, "digest of salt and text", digest, kept)

    def end(self) -> None:
        """The head is compared with what the events led to; no text is left over."""
        head = self._head
        if head.stream_id != self._stream_id:
            self._find("work_head", head.version, "stream_id", self._stream_id, head.stream_id)
        self._check_end("work_head", head.version, head.chain_hash)
        for version in sorted(self._texts):
            self._find("work_context", version, "event", "one that the text belongs to", None)
        if not self._folds or head.state_schema != WORK_SCHEMA:
            return
        if head.recorded_at != self._work.recorded_at:
            self._find("work_head", head.version, "recorded_at", self._work.recorded_at, head.recorded_at)
        if head.state != msgspec.json.encode(self._work):
            self._find("work_head", head.version, "state", _json(self._work), head.state)


class _IssuerCheck(_StreamCheck):
    """Folds one stream of an issuer while comparing."""

    def __init__(self, stored: IssuerOnFile, decode: DecodeIssuer) -> None:
        head = stored.head
        own = series_stream_id(head.issuer_id, head.year) if head.year else issuer_stream_id(head.issuer_id)
        super().__init__(
            stored.shard, f"issuer {head.issuer_id}" + (f" {head.year}" if head.year else ""), own
        )
        self._head = head
        self._stream_id = own
        self._decode = decode
        self._state: Issuer | Series = (
            Series(issuer_id=head.issuer_id, year=head.year)
            if head.year
            else Issuer(issuer_id=head.issuer_id)
        )

    def take(self, stored: StoredEvent) -> None:
        """The event is checked against its predecessor and folded; a number claims its document."""
        self._follow(stored)
        try:
            event = self._decode(stored.topic, stored.state)
            claim = event.claim if isinstance(event, InvoiceNumbered) else None
            if (stored.claim.hex() if stored.claim else None) != claim:
                self._find("ledger_events", stored.version, "usage_key", claim, stored.claim)
            if self._folds and isinstance(self._state, Series):
                count(self._state, event)
            elif self._folds and isinstance(self._state, Issuer):
                apply_to_issuer(self._state, event)
        except UnknownEventShape as error:
            self._find("ledger_events", stored.version, "event", "a shape this code knows", error.detail)
            self._folds = False
        except (AssertionError, KeyError, ValueError, TypeError) as error:
            self._find(
                "ledger_events", stored.version, "fold", "an event that follows from those before", error
            )
            self._folds = False

    def end(self) -> None:
        """The head is compared with what the events led to."""
        head = self._head
        if head.stream_id != self._stream_id:
            self._find("issuer_head", head.version, "stream_id", self._stream_id, head.stream_id)
        self._check_end("issuer_head", head.version, head.chain_hash)
        # A year whose first number is being drawn has a head without events; one of another schema is folded again.
        if not self._folds or not self._version or head.state_schema != ISSUER_SCHEMA:
            return
        if head.recorded_at != self._state.recorded_at:
            self._find("issuer_head", head.version, "recorded_at", self._state.recorded_at, head.recorded_at)
        if head.state != msgspec.json.encode(self._state):
            self._find("issuer_head", head.version, "state", _json(self._state), head.state)


class _AccountCheck(_StreamCheck):
    """Folds one account while comparing with all that is stored of it."""

    def __init__(self, stored: AccountOnFile, decode: Decode, origins: OriginCounts) -> None:
        super().__init__(stored.shard, stored.head.team_id, stored.head.account_id)
        self._stored = stored
        self._head = stored.head
        self._decode = decode
        self._origins = origins
        self._account: TeamAccount | None = None
        self._index: dict[tuple[str, str], bytes] = {}
        self._sums = NOTHING
        self._statement = _RowsCheck("statement_entry", stored.statement, self._find)
        self._invoices = _RowsCheck("invoice_entry", stored.invoices, self._find)
        self._kept = _KeptCheck(stored.kept, self._find) if stored.kept is not None else None

    def take(self, stored: StoredEvent) -> None:
        """The event is checked against its predecessor, folded, and its rows of read models compared."""
        self._follow(stored)
        event = self._decoded(stored)
        if event is None:
            return
        self._check_claim(stored, event)
        if self._folds:
            self._fold(stored, event)
        self._check_rows(stored, event)

    def end(self) -> None:
        """Head, index and the ends of the read models are compared with what the events led to."""
        self._statement.end()
        self._invoices.end()
        self._check_head()
        if self._folds:
            self._check_index()
        if self._folds and self._kept is not None:
            self._kept.end()

    def _decoded(self, stored: StoredEvent) -> AccountEvent | None:
        try:
            return self._decode(stored.topic, stored.state)
        except UnknownEventShape as error:
            self._find("ledger_events", stored.version, "event", "a shape this code knows", error.detail)
            self._folds = False
            return None

    def _check_claim(self, stored: StoredEvent, event: AccountEvent) -> None:
        claim = claim_of(event)
        if isinstance(event, CreditsCharged | UsageWaived):
            right = usage_key(self._head.team_id, event.source, event.id)
            if claim != right:
                self._find("ledger_events", stored.version, "charge_id", right, claim)
            self._origins.add(self._shard, stored.position, event)
        found = stored.claim.hex() if stored.claim is not None else None
        if found != claim:
            self._find("ledger_events", stored.version, "usage_key", claim, found)

    def _fold(self, stored: StoredEvent, event: AccountEvent) -> None:
        try:
            self._apply(stored, event)
        except (AssertionError, KeyError, ValueError, TypeError) as error:
            self._find(
                "ledger_events", stored.version, "fold", "an event that follows from those before", error
            )
            self._folds = False
            return
        account = self._account
        assert account is not None
        if isinstance(event, MovingEvent):
            said = (event.settled_after_micros, event.debt_after_micros)
            if said != (account.settled_micros, account.debt_micros):
                self._find("ledger_events", stored.version, "settled and debt after it", account, said)
        if account.recorded_at != event.recorded_at or account.version != stored.version:
            self._find(
                "ledger_events", stored.version, "place in time", account.recorded_at, event.recorded_at
            )

    def _apply(self, stored: StoredEvent, event: AccountEvent) -> None:
        if self._account is None:
            if not isinstance(event, AccountOpened):
                raise ValueError(f"{type(event).__name__} comes first, not AccountOpened")
            if event.team_id != self._head.team_id:
                raise ValueError(f"the account was opened for team {event.team_id!r}")
            self._account = opened(event)
            changes: Sequence[IndexChange] = ()
        else:
            changes = apply(self._account, event)
        for change in changes:
            self._change(change)
        if self._kept is not None:
            self._kept.take(stored, event, self._account, changes)

    def _change(self, change: IndexChange) -> None:
        if change.entry is None:
            self._index.pop((change.kind, change.key), None)
        else:
            self._index[change.kind, change.key] = change.entry

    def _check_rows(self, stored: StoredEvent, event: AccountEvent) -> None:
        recorded = RecordedEvent(None, stored.version, event)
        if stored.position <= self._stored.invoices_position:
            for entry in invoice_rows_of(recorded, self._shard, self._head.team_id):
                self._invoices.compare(entry)
        if stored.position > self._stored.statement_position:
            return
        for row in rows_of(recorded, self._shard, self._head.team_id, self._sums):
            self._statement.compare(row)
        self._sums = sums_after(event, self._sums)

    def _check_head(self) -> None:
        head = self._head
        if head.account_id != account_id(head.team_id):
            self._find("account_head", head.version, "account_id", account_id(head.team_id), head.account_id)
        self._check_end("account_head", head.version, head.chain_hash)
        if self._folds and self._account is not None:
            self._check_state(self._account)

    def _check_state(self, account: TeamAccount) -> None:
        head = self._head
        if head.recorded_at != account.recorded_at:
            self._find("account_head", head.version, "recorded_at", account.recorded_at, head.recorded_at)
        due_at = next_due_at(account)
        if head.next_due_at != due_at:
            self._find("account_head", head.version, "next_due_at", due_at, head.next_due_at)
        # A head of another schema is discarded when it is next read, so its state says nothing.
        if head.state_schema != STATE_SCHEMA:
            return
        for what, expected, stated in _different_fields(account, msgspec.json.encode(account), head.state):
            self._find("account_head", head.version, what, expected, stated)

    def _check_index(self) -> None:
        found = self._stored.entries
        for kind, key in sorted(self._index.keys() | found.keys()):
            expected, stated = self._index.get((kind, key)), found.get((kind, key))
            if expected != stated:
                self._find("account_index", self._head.version, f"{kind} {key}", expected, stated)
                return


_Row = TypeVar("_Row", StatementRow, InvoiceRow)


class _RowsCheck(Generic[_Row]):
    """Compares the rows of one account in a read model with what its events say, in version order."""

    def __init__(
        self,
        table: str,
        stored: Iterator[_Row],
        find: Callable[[str, int | None, str, object, object], None],
    ) -> None:
        self._table = table
        self._stored: Iterator[_Row] = stored
        self._find = find
        self._next: _Row | None = next(stored, None)

    def compare(self, row: _Row) -> None:
        """The next stored row is this one."""
        found = self._next
        while found is not None and found.version < row.version:
            self._find(self._table, found.version, "row", "none: no event explains it", found.kind)
            found = next(self._stored, None)
        if found is None or found.version > row.version:
            self._next = found
            self._find(self._table, row.version, "row", row.kind, "none")
            return
        if found != row:
            column = next(name for name in row._fields if getattr(row, name) != getattr(found, name))
            self._find(self._table, row.version, column, getattr(row, column), getattr(found, column))
        self._next = next(self._stored, None)

    def end(self) -> None:
        """No stored row is left."""
        if self._next is not None:
            self._find(self._table, self._next.version, "row", "none: no event explains it", self._next.kind)


class _KeptCheck:
    """Compares what is kept of one account with what should be, version by version."""

    def __init__(
        self, stored: KeptOnFile, find: Callable[[str, int | None, str, object, object], None]
    ) -> None:
        self._stored = stored
        self._find = find
        self._left = stored.heads.keys() | stored.entries.keys()
        self._told: dict[tuple[KeptKind, str], bytes] = {}
        self._keeping = Keeping(None, self._last_told, set(self._left).__contains__)

    def take(
        self, stored: StoredEvent, event: AccountEvent, account: TeamAccount, changes: Iterable[IndexChange]
    ) -> None:
        """The event was applied."""
        kept = self._keeping.take(RecordedEvent(None, stored.version, event), account, changes)
        if kept is None:
            return
        self._left.discard(kept.version)
        self._told |= {
            (kind, key): entry
            for kind, key, entry in kept.entries
            if kind in TOLD_KINDS and entry is not None
        }
        self._check_head(kept, stored, account)
        self._check_entries(kept)

    def end(self) -> None:
        """Nothing is kept of versions that the account has not come to."""
        if self._left:
            version = min(self._left)
            self._find("kept_head", version, "version", "none: the account has not come so far", version)

    def _last_told(self, places: Collection[tuple[KeptKind, str]]) -> dict[tuple[KeptKind, str], bytes]:
        return {place: self._told[place] for place in places if place in self._told}

    def _check_head(self, kept: Kept, stored: StoredEvent, account: TeamAccount) -> None:
        found = self._stored.heads.get(kept.version)
        if found is None:
            return
        right = (stored.position, stored.hash, kept.recorded_at)
        for name, due, there in zip(("position", "chain_hash", "recorded_at"), right, found, strict=False):
            if due != there:
                self._find("kept_head", kept.version, name, due, there)
        for what, expected, stated in _different_fields(account, kept.state, found.state):
            self._find("kept_head", kept.version, what, expected, stated)

    def _check_entries(self, kept: Kept) -> None:
        expected: dict[tuple[str, str], bytes | None] = {
            (kind, key): entry for kind, key, entry in kept.entries
        }
        found = self._stored.entries.get(kept.version, {})
        for kind, key in sorted(expected.keys() | found.keys()):
            right, stated = expected.get((kind, key)), found.get((kind, key))
            if right != stated or ((kind, key) in expected) != ((kind, key) in found):
                self._find("kept_entry", kept.version, f"{kind} {key}", right, stated)
                return


def _different_fields(account: TeamAccount, state: bytes, found: bytes) -> Iterator[tuple[str, str, str]]:
    """The fields of an account, whose bytes are ``state``, in which stored bytes of another differ."""
    if found == state:
        return
    try:
        stated = msgspec.json.decode(found, type=TeamAccount)
    except msgspec.MsgspecError as error:
        yield "state", "an account", _shown(error)
        return
    for field in TeamAccount.__struct_fields__:
        if getattr(account, field) != getattr(stated, field):
            yield f"state.{field}", _json(getattr(account, field)), _json(getattr(stated, field))


class Outcomes:
    """What a partition's batches, holes and dead letters say became of its records, by outcome and reason."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], int] = {}

    def add(self, outcome: str, reason: str, count: int) -> None:
        """So many records ended so."""
        key = (outcome, reason)
        self.counts[key] = self.counts.get(key, 0) + count

    def of_events(self) -> dict[tuple[str, str], int]:
        """Those that are events: charged and waived."""
        return {key: count for key, count in self.counts.items() if key[0] in ("charged", "waived") and count}


def check_origins(
    accounted: Mapping[Coordinates, Outcomes], found: Mapping[Coordinates, Mapping[tuple[str, str], int]]
) -> Iterator[Finding]:
    """The partitions whose records do not match the events that name them as their origin."""
    for topic, partition in sorted(accounted.keys() | found.keys()):
        outcomes = accounted.get((topic, partition))
        expected = outcomes.of_events() if outcomes else {}
        events = found.get((topic, partition), {})
        for outcome, reason in sorted(expected.keys() | events.keys()):
            recorded, in_log = expected.get((outcome, reason), 0), events.get((outcome, reason), 0)
            if recorded != in_log:
                yield Finding(
                    table="consumed_batch",
                    topic=topic,
                    partition=partition,
                    what=f"records {outcome} {reason}".strip(),
                    expected=f"{in_log} events in the log",
                    found=f"{recorded} counted",
                )


def _shown(value: object) -> str:
    if isinstance(value, bytes):
        return value.hex() if len(value) == 32 else value.decode(errors="replace")
    if isinstance(value, datetime):
        return instant_text(value)
    if isinstance(value, TeamAccount):
        return str((value.settled_micros, value.debt_micros))
    if isinstance(value, Exception):
        return f"{type(value).__name__}: {value}"
    return "none" if value is None else str(value)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
