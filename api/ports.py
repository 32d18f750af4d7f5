"""What the API asks of the machines behind it; infra offers it over PostgreSQL, tests over plain dicts."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Literal, NamedTuple, Protocol

import msgspec

from domain.account.events import AccountEvent
from domain.account.index import EndedHold, IndexKind
from domain.account.state import TeamAccount
from domain.catalogue import Catalogue
from domain.invoices.document import Invoice
from domain.invoices.tracing import OnLine
from domain.issuer.details import IssuerDetails
from domain.issuer.state import Issuer
from domain.ledger import Caller
from domain.team.events import TeamEvent
from domain.team.state import Team
from domain.work.costs import WorkCost
from domain.work.events import HandoverChecked, WorkStarted
from domain.work.state import Work
from domain.work.texts import WorkText
from projections.contexts import ContextField
from projections.invoices import Summary
from projections.keeping import KeptAccount, KeptKind
from projections.revenue import RollForward
from projections.statement import StatementFilter, StatementPage

InvoiceForm = Literal["csv", "html", "pdf"]


class AccountOnFile(msgspec.Struct, frozen=True):
    """An account as its head holds it, the position of its shard and the database's clock, all of one instant.

    The account is the reader's own: it may be changed.
    """

    account: TeamAccount
    position: int
    now: datetime


class StoredEvent(msgspec.Struct, frozen=True):
    """One event as stored, at its place in the team's stream and the shard's log."""

    version: int
    position: int
    topic: str
    state: bytes
    previous_hash: bytes
    hash: bytes
    event: AccountEvent


class DenialRepeats(msgspec.Struct, frozen=True):
    """Equal denials that followed one on file within its minute: how many, and when the last."""

    repeats: int
    last_at: datetime


class TeamOnFile(msgspec.Struct, frozen=True):
    """A team's people and paperwork as their head holds them, the position of the shard and the clock, all of one instant.

    ``team.version`` counts the events of the team's own stream, 0 before the first; it is not the account's version. The team is
    the reader's own: it may be changed.
    """

    team: Team
    position: int
    now: datetime


class StoredTeamEvent(msgspec.Struct, frozen=True):
    """One event of a team's people and paperwork as stored, at its place in their own stream and the shard's log."""

    version: int
    position: int
    topic: str
    state: bytes
    previous_hash: bytes
    hash: bytes
    event: TeamEvent


class AccountReads(Protocol):
    """Reads of one team's account and events. Raises: Busy when the database does not answer within its bounds."""

    async def account(self, team_id: str) -> AccountOnFile | None:
        """The account as its head holds it now."""
        ...

    async def events(
        self,
        team_id: str,
        *,
        after: int | None = None,
        until: int | None = None,
        limit: int,
        newest_first: bool = False,
    ) -> list[StoredEvent]:
        """At most ``limit`` events beyond the version ``after`` in the direction asked for, none above ``until``."""
        ...

    async def team(self, team_id: str) -> TeamOnFile | None:
        """The team's people and paperwork now: empty at version 0 before their first event, None without an account."""
        ...

    async def paperwork(
        self,
        team_id: str,
        *,
        after: int | None = None,
        until: int | None = None,
        limit: int,
        newest_first: bool = False,
    ) -> list[StoredTeamEvent]:
        """The events of the team's people and paperwork, as ``events`` gives those of the account."""
        ...

    async def version_at(self, team_id: str, position: int) -> int:
        """The team's newest version at a position of its shard; 0 before its first event."""
        ...

    async def version_as_of(self, team_id: str, at: datetime) -> int:
        """The version of the newest event recorded at or before the instant; 0 before the team's first."""
        ...

    async def usage(self, team_id: str, usage_key: str) -> StoredEvent | None:
        """The event of this team that holds the claim of a usage record."""
        ...

    async def refunds(self, team_id: str, charge_id: str, after: int) -> list[StoredEvent]:
        """Every refund event of a charge, in version order; ``after`` is the version of the charge."""
        ...

    async def entries(self, team_id: str, kind: IndexKind, keys: Collection[str]) -> dict[str, bytes]:
        """The index entries of these keys; a key without one is absent."""
        ...

    async def latest(
        self, team_id: str, kind: IndexKind, *, prefix: str = "", before: str | None = None, limit: int
    ) -> list[tuple[str, bytes]]:
        """At most ``limit`` index entries of a kind whose keys begin so and come before ``before``, greatest key first."""
        ...

    async def kept(self, team_id: str, version: int) -> KeptAccount | None:
        """The account at the newest version up to this one at which it was kept; None when it was at none."""
        ...

    async def kept_entries(
        self, team_id: str, version: int, kind: KeptKind, keys: Collection[str]
    ) -> dict[str, bytes] | None:
        """The entries of these keys as they were at a kept version; a key without one is absent. None: nothing is kept there."""
        ...

    async def kept_latest(
        self,
        team_id: str,
        version: int,
        kind: KeptKind,
        *,
        prefix: str = "",
        before: str | None = None,
        limit: int,
    ) -> list[tuple[str, bytes]] | None:
        """As ``latest``, of the entries as they were at a kept version. None: nothing is kept there."""
        ...

    async def ended_holds(
        self, team_id: str, *, before: str | None = None, limit: int
    ) -> list[tuple[str, EndedHold]]:
        """At most ``limit`` holds that have ended, the newest made first; only those made before the hold ``before``."""
        ...

    async def denial_repeats(self, team_id: str, versions: Collection[int]) -> dict[int, DenialRepeats]:
        """How often each denial appended at these versions was met again; one that was not is absent."""
        ...


class StatementReads(Protocol):
    """Reads of the statement; called in a thread."""

    def page(
        self,
        team_id: str,
        *,
        asked: StatementFilter,
        after: int | None,
        limit: int,
        newest_first: bool,
    ) -> StatementPage:
        """As ``projections.statement.StatementView`` says."""
        ...


class InvoicesOnFile(NamedTuple):
    """A team's documents, newest first, of the read model at a position of its shard; whether there are more."""

    documents: list[Summary]
    position: int
    more: bool


class InvoiceReads(Protocol):
    """Reads of documents and of what they are made of; called in a thread.

    Raises, where a team or document is named: UnknownTeam, UnknownInvoice, EventsArchived.
    """

    def page(self, team_id: str, *, before: int | None, limit: int) -> InvoicesOnFile:
        """The team's documents, newest first, from the one before a version on."""
        ...

    def summary(self, team_id: str, invoice: str) -> Summary:
        """One document and what became of it, by its number."""
        ...

    def document(self, team_id: str, invoice: str) -> Invoice:
        """The document as it was issued, derived from the events."""
        ...

    def drafts(self, team_id: str) -> list[Invoice]:
        """Drafts of the periods that are not closed, oldest first."""
        ...

    def charges(
        self, team_id: str, invoice: str | None, line: int, *, skip: int = 0, limit: int | None = None
    ) -> list[OnLine]:
        """What a line of a document, or (None) of the oldest draft, is made of: at most so many after the first ``skip``.

        Raises: UnknownInvoiceLine.
        """
        ...

    def form(self, document: Invoice, form: InvoiceForm) -> bytes:
        """The document in another form; the PDF of one that was issued is as it was stored."""
        ...

    def statement(self, team_id: str, since: datetime, until: datetime, form: InvoiceForm) -> bytes:
        """The statement of account of what was recorded from ``since`` (included) to ``until`` (excluded).

        Raises: Malformed for an empty range, or one of too many rows to print.
        """
        ...

    def revenue(self, team_id: str) -> list[RollForward]:
        """The team's deferred revenue rolled forward, by issuer, currency and period."""
        ...


class TextOnFile(NamedTuple):
    """What was saved in one version of a work and is not erased; without a step it is the brief or the result."""

    version: int
    step: str | None
    member: str
    text: WorkText


class WorkOnFile(NamedTuple):
    """A work with its brief, its cost up to the account's head, and the newest of its texts in the order of saving."""

    work: Work
    started: WorkStarted
    cost: WorkCost
    texts: list[TextOnFile]
    account_version: int
    position: int


class CostOnFile(NamedTuple):
    """What a work cost up to this version of the account."""

    work: Work
    cost: WorkCost
    account_version: int
    position: int


class WorksOnFile(NamedTuple):
    """Some of a team's works, by id; whether there are more."""

    works: list[Work]
    account_version: int
    position: int
    more: bool


class ContextQuery(NamedTuple):
    """Words that are sought, in one kind of text or in any, of one member or of all."""

    text: str
    field: ContextField | None = None
    member: str | None = None


class ContextFound(NamedTuple):
    """A context in which words were found: of a version of a work, or of a usage record by its charge."""

    work_id: str | None
    work_version: int | None
    step: str | None
    charge_id: str | None
    member: str | None
    context: bytes


class ContextsOnFile(NamedTuple):
    """Contexts in a fixed order, and the place from which the search goes on; no place, when all were looked at."""

    found: list[ContextFound]
    account_version: int
    position: int
    place: str | None


class WorkReads(Protocol):
    """Reads of a team's works and contexts; called in a thread. Raises, everywhere: UnknownTeam, Busy."""

    def works(self, team_id: str, *, after: str = "", limit: int = 100) -> WorksOnFile:
        """The team's works by id, from the one after ``after``."""
        ...

    def work(self, team_id: str, work_id: str) -> WorkOnFile:
        """The work with its cost and its texts. Raises: UnknownWork; EventsArchived."""
        ...

    def cost(self, team_id: str, work_id: str) -> CostOnFile:
        """What the work cost; also of one that was never started, when usage names it. Raises: UnknownWork."""
        ...

    def handover(self, team_id: str, work_id: str, version: int | None = None) -> HandoverChecked:
        """A check of the handover as it was signed, the newest by default. Raises: UnknownWork; EventsArchived."""
        ...

    def search(
        self,
        team_id: str,
        asked: ContextQuery,
        *,
        after: str | None = None,
        limit: int = 100,
        looked_max: int | None = None,
    ) -> ContextsOnFile:
        """Contexts in which the words are found, beyond a place that was told before; in no other team's.

        At most so many contexts are looked at, all of the team's by default: what was found by then is the answer.
        """
        ...

    def context(self, team_id: str, charge_id: str) -> bytes | None:
        """The context of a usage record as it was received; None when there is none, or no more."""
        ...


class PublicKey(Protocol):
    """What verifies the signatures of this ledger: an Ed25519 public key in hex, and its name."""

    @property
    def key_id(self) -> str:
        """The first 16 hex digits of the SHA-256 of the key."""
        ...

    @property
    def public_key(self) -> str:
        """32 bytes in hex."""
        ...


class IssuerStore(Protocol):
    """Who sells; called in a thread."""

    def issuer(self, issuer_id: str) -> Issuer:
        """The issuer as it stands; at version 0 before it has details."""
        ...

    def set_details(self, details: IssuerDetails, caller: Caller, reason: str | None) -> Issuer:
        """The issuer with the details; those that it has already change nothing. Raises: Malformed; Busy."""
        ...


class CatalogueReads(Protocol):
    """Reads of the catalogue; called in a thread."""

    def current(self) -> Catalogue:
        """The catalogue as published by now; not to be changed."""
        ...


class Readiness(Protocol):
    """Tells what is missing before requests can be answered; nothing, when all is there."""

    async def missing(self) -> list[str]:
        """What is missing, in words."""
        ...
