"""What deciding a batch of records needs from a store, and what one transaction of it writes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Literal, NamedTuple, Protocol, TypeAlias

import msgspec

from domain.account.events import AccountEvent
from domain.account.index import AccountIndex, IndexChange
from domain.account.state import TeamAccount
from domain.errors import UnknownEventShape
from domain.usage import OutcomeKind

RecordOutcome: TypeAlias = OutcomeKind | Literal["applied"]
"""What a record of any topic may end in: a usage record as ``OutcomeKind`` says, a payment applied instead of charged."""


class PartitionKey(NamedTuple):
    """One partition for ever: a recreated topic has another ``topic_id``, so its offsets start anew."""

    cluster_id: str
    topic_id: str
    topic: str
    partition: int


class OutcomeRow(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one offset whose event, if any, does not name it: duplicate, conflict, parked, rejected, or applied.

    ``first_version`` is the version that holds the claim (duplicate, conflict) or applied the payment; ``usage_key`` the
    record's claim.
    """

    partition: PartitionKey
    offset: int
    outcome: RecordOutcome
    reason: str
    detail: str
    team_id: str | None = None
    usage_key: str | None = None
    first_version: int | None = None


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A rejected or parked record exactly as it was read, headers in order and with their duplicates."""

    partition: PartitionKey
    offset: int
    arrived_at: datetime
    outcome: Literal["rejected", "parked"]
    reason: str
    detail: str
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]]


class Hole(NamedTuple):
    """Offsets ``first_offset`` to ``next_offset`` (excluded) that the broker did not give us."""

    partition: PartitionKey
    first_offset: int
    next_offset: int


class AccountAppend(msgspec.Struct, kw_only=True):
    """One team's part of a batch.

    ``account`` is the state after ``events``, which have the versions ``expected_version`` + 1 and following;
    ``expected_version`` is the version of the head that was decided on.
    """

    account: TeamAccount
    expected_version: int
    events: list[AccountEvent]
    index_changes: list[IndexChange]


class ContextRow(NamedTuple):
    """The erasable context of one usage record, with the salt of the digest that its event holds."""

    team_id: str
    usage_key: str
    member: str | None
    salt: bytes
    context: bytes


class PartitionAdvance(NamedTuple):
    """A partition moves from ``expected_offset`` to ``next_offset``.

    ``outcomes`` counts records by outcome and reason.
    """

    partition: PartitionKey
    expected_offset: int
    next_offset: int
    records: int
    outcomes: dict[str, dict[str, int]]


DecideAgain: TypeAlias = Callable[[Mapping[str, TeamAccount]], Mapping[str, AccountAppend] | None]
"""The parts of these teams in a batch, decided anew on their accounts as they are now.

None when anything but their events would differ: then the whole batch must be decided again.
"""


class UsageBatch(msgspec.Struct, kw_only=True):
    """Everything that one transaction writes, of usage or of payments; ``appends`` are by team.

    ``again`` decides anew for teams whose heads had moved when the batch came to be written; without it all of it is.
    """

    recorded_at: datetime
    appends: dict[str, AccountAppend] = {}
    contexts: list[ContextRow] = []
    outcomes: list[OutcomeRow] = []
    dead_letters: list[DeadLetter] = []
    holes: list[Hole] = []
    advances: list[PartitionAdvance] = []
    again: DecideAgain | None = None


class Claim(NamedTuple):
    """The event in the log that holds a record's identity, and its version; None for usage whose event is archived.

    ``content_digest`` is that of a usage record, of an archived one its first half; a payment's event holds all its terms and
    has none ("").
    """

    content_digest: str
    version: int
    event: AccountEvent | None


class MovedHeads(Exception):
    """Another writer changed an account that the batch was decided on: nothing was written, decide again."""


class Fenced(Exception):
    """Another worker advanced the partition: nothing was written, and these records are no longer ours."""


class BatchTransaction(Protocol):
    """One transaction of the store while a batch is decided in it."""

    @property
    def now(self) -> datetime:
        """The database's clock, read in this transaction."""
        ...

    @property
    def unreadable(self) -> Mapping[str, UnknownEventShape]:
        """Teams asked for whose stored shape is newer than this code: they wait for newer code, nobody guesses."""
        ...

    def accounts(self, team_ids: Collection[str]) -> dict[str, TeamAccount]:
        """The accounts of these teams, ours to change; a team without an account, or unreadable, is absent."""
        ...

    def claims(self, keys: Collection[tuple[str, str]]) -> dict[str, Claim]:
        """The claims already in the log among these (team id, claim), by claim: of usage, and of payments."""
        ...

    def index(self, team_id: str) -> AccountIndex:
        """The team's index, read lazily inside this transaction."""
        ...

    def write(self, batch: UsageBatch) -> None:
        """The batch is written, heads and offsets by compare-and-set.

        Raises: MovedHeads, Fenced.
        """
        ...


class BatchStore(Protocol):
    """Where batches go; one transaction each."""

    def transaction(self) -> AbstractContextManager[BatchTransaction]:
        """One transaction, committed when the block ends well.

        Raises: MovedHeads, Fenced. A lost answer to COMMIT is settled inside, by reading the offsets back.
        """
        ...

    def next_offset(self, partition: PartitionKey) -> int | None:
        """The next offset to read; None for a partition never registered."""
        ...

    def register(self, partition: PartitionKey, start: int) -> None:
        """The partition is known and read from ``start``; one that is known already stays as it is."""
        ...

    def halt(self, partition: PartitionKey, why: str) -> None:
        """The partition is stopped until an operator releases it; ``why`` is the message."""
        ...
