"""Between events and stored rows: JSON bytes by msgspec, and a list of known topics instead of imports."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar
from uuid import UUID

import msgspec
from eventsourcing.domain import DomainEventProtocol
from eventsourcing.persistence import JSONTranscoder, Mapper, StoredEvent
from typing_extensions import override

from domain.account.applying import apply, opened
from domain.account.events import (
    ACCOUNT_EVENTS,
    AccountEvent,
    AccountOpened,
    RecordedEvent,
)
from domain.account.state import STATE_SCHEMA, TeamAccount
from domain.catalogue import CATALOGUE_EVENTS, CatalogueEvent
from domain.errors import UnknownEventShape
from domain.issuer.events import ISSUER_EVENTS, IssuerEvent
from domain.team.applying import apply as apply_to_team
from domain.team.events import TEAM_EVENTS, RecordedTeamEvent, TeamEvent
from domain.team.state import TEAM_SCHEMA, Team
from domain.work.events import WORK_EVENTS, RecordedWorkEvent, WorkEvent
from domain.work.state import WORK_SCHEMA, Work

HEAD_TOPIC = f"TeamAccount.{STATE_SCHEMA}"
"""The topic of a head read as a snapshot; no event has it."""

E = TypeVar("E")

_encoder = msgspec.json.Encoder()
encode_json = _encoder.encode
encode_json_into = _encoder.encode_into
_decode_account = msgspec.json.Decoder(TeamAccount).decode
_decode_team = msgspec.json.Decoder(Team).decode
_decode_work = msgspec.json.Decoder(Work).decode


class Shapes(Generic[E]):
    """The event classes that a log may hold, by topic. A topic outside is refused; it never names code to import.

    Bytes of an earlier topic read as the class of today: what they did not say has its default.
    """

    def __init__(self, classes: Iterable[type[E]]) -> None:
        self._decoders: dict[str, msgspec.json.Decoder[E]] = {}
        for each in classes:
            for topic in (topic_of(each), *old_topics_of(each)):
                assert topic not in self._decoders, f"two classes claim the topic {topic}"
                self._decoders[topic] = msgspec.json.Decoder(each)

    def __contains__(self, topic: str) -> bool:
        """Whether the topic is one of these."""
        return topic in self._decoders

    def decode(self, topic: str, state: bytes) -> E:
        """The event that the stored bytes are.

        Raises: UnknownEventShape for a topic that is not listed, or bytes that are not of its shape.
        """
        decoder = self._decoders.get(topic)
        if decoder is None:
            raise UnknownEventShape(
                f"stored topic {topic[:80]!r} is not one this code knows: it is newer than the code, or was tampered with",
                topic=topic[:80],
            )
        try:
            return decoder.decode(state)
        except msgspec.MsgspecError as error:
            raise UnknownEventShape(f"a stored {topic} is not of its shape: {error}", topic=topic) from error

    def check(self, event: E) -> str:
        """The topic of an event that may be stored.

        Raises: UnknownEventShape.
        """
        topic = topic_of(type(event))
        if topic not in self._decoders:
            raise UnknownEventShape(f"{type(event).__name__} is not an event of this log", topic=topic)
        return topic


def topic_of(event_class: type[object]) -> str:
    """The stable topic that the class declares."""
    topic = getattr(event_class, "TOPIC", "")
    assert topic, f"{event_class.__name__} declares no TOPIC"
    return str(topic)


def old_topics_of(event_class: type[object]) -> tuple[str, ...]:
    """The earlier topics that read as the class."""
    old: tuple[str, ...] = getattr(event_class, "OLD_TOPICS", ())
    return old


ACCOUNT_SHAPES = Shapes[AccountEvent](ACCOUNT_EVENTS)
TEAM_SHAPES = Shapes[TeamEvent](TEAM_EVENTS)
WORK_SHAPES = Shapes[WorkEvent](WORK_EVENTS)
ISSUER_SHAPES = Shapes[IssuerEvent](ISSUER_EVENTS)
CATALOGUE_SHAPES = Shapes[CatalogueEvent](CATALOGUE_EVENTS)


def is_of_account(topic: str) -> bool:
    """Whether the topic may be of an account's event: paperwork, works and issuers share the log and are not."""
    return topic not in TEAM_SHAPES and topic not in WORK_SHAPES and topic not in ISSUER_SHAPES


class AccountEventOnFile(RecordedEvent, frozen=True):
    """An account's event at its place, in the form that the library's repository folds."""

    originator_id: UUID

    def mutate(self, account: TeamAccount | None) -> TeamAccount:
        """The account after this event; the same apply as everywhere."""
        if account is None:
            assert isinstance(self.event, AccountOpened), "the first event opens the account"
            return opened(self.event)
        apply(account, self.event)
        return account


class AccountSnapshot(msgspec.Struct, frozen=True):
    """A head read as the newest snapshot of its account."""

    originator_id: UUID
    originator_version: int
    account: TeamAccount

    def mutate(self, nothing: TeamAccount | None) -> TeamAccount:
        """The account as the head holds it."""
        assert nothing is None, "a snapshot comes first"
        return self.account


def decode_account(state: bytes) -> TeamAccount:
    """The account that a head's stored bytes of the current schema are.

    Raises: UnknownEventShape.
    """
    try:
        return _decode_account(state)
    except msgspec.MsgspecError as error:
        raise UnknownEventShape(f"a stored head is not of schema {STATE_SCHEMA}: {error}") from error


class TeamEventOnFile(RecordedTeamEvent, frozen=True):
    """An event of a team's people and paperwork at its place, in the form that the library's repository folds."""

    originator_id: UUID

    def mutate(self, team: Team | None) -> Team:
        """The team after this event; the same apply as everywhere."""
        after = Team(team_id=self.event.team_id) if team is None else team
        apply_to_team(after, self.event)
        return after


def decode_team(state: bytes) -> Team:
    """The team that a head's stored bytes of the current schema are.

    Raises: UnknownEventShape.
    """
    try:
        return _decode_team(state)
    except msgspec.MsgspecError as error:
        raise UnknownEventShape(f"a stored head of a team is not of schema {TEAM_SCHEMA}: {error}") from error


def decode_work(state: bytes) -> Work:
    """The work that a head's stored bytes of the current schema are.

    Raises: UnknownEventShape.
    """
    try:
        return _decode_work(state)
    except msgspec.MsgspecError as error:
        raise UnknownEventShape(f"a stored head of a work is not of schema {WORK_SCHEMA}: {error}") from error


class WorkEventOnFile(RecordedWorkEvent, frozen=True):
    """An event of a work at its place."""

    originator_id: UUID


class IssuerEventOnFile(msgspec.Struct, frozen=True):
    """An event of an issuer at its place: its details, or a number of a year."""

    originator_id: UUID
    originator_version: int
    event: IssuerEvent


class LedgerMapper(Mapper[UUID]):
    """The library's mapper for the log: no transcoder, no import by topic, heads of accounts as snapshots."""

    def __init__(self) -> None:
        super().__init__(JSONTranscoder())

    @override
    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """The row of an event. Raises: UnknownEventShape."""
        assert isinstance(domain_event, RecordedEvent), "only events of accounts are stored this way"
        topic = ACCOUNT_SHAPES.check(domain_event.event)
        return StoredEvent(
            domain_event.originator_id,
            domain_event.originator_version,
            topic,
            encode_json(domain_event.event),
        )

    @override
    def to_domain_event(self, stored_event: StoredEvent) -> DomainEventProtocol[UUID]:
        """The event of a row, of an account, team, work or issuer, or the snapshot of a head. Raises: UnknownEventShape."""
        originator_id = stored_event.originator_id
        assert isinstance(originator_id, UUID)
        version, topic, state = stored_event.originator_version, stored_event.topic, stored_event.state
        if topic == HEAD_TOPIC:
            return AccountSnapshot(originator_id, version, decode_account(state))
        if topic in TEAM_SHAPES:
            return TeamEventOnFile(originator_id, version, TEAM_SHAPES.decode(topic, state))
        if topic in WORK_SHAPES:
            return WorkEventOnFile(originator_id, version, WORK_SHAPES.decode(topic, state))
        if topic in ISSUER_SHAPES:
            return IssuerEventOnFile(originator_id, version, ISSUER_SHAPES.decode(topic, state))
        return AccountEventOnFile(originator_id, version, ACCOUNT_SHAPES.decode(topic, state))


class CatalogueEventOnFile(msgspec.Struct, frozen=True):
    """An event of the catalogue at its place."""

    originator_id: UUID
    originator_version: int
    event: CatalogueEvent


class CatalogueMapper(Mapper[UUID]):
    """The library's mapper for the catalogue: the same JSON and the same list of known topics as for accounts."""

    def __init__(self) -> None:
        super().__init__(JSONTranscoder())

    @override
    def to_stored_event(self, domain_event: DomainEventProtocol[UUID]) -> StoredEvent:
        """The row of an event. Raises: UnknownEventShape."""
        assert isinstance(domain_event, CatalogueEventOnFile), "the catalogue stores CatalogueEventOnFile"
        topic = CATALOGUE_SHAPES.check(domain_event.event)
        state = encode_json(domain_event.event)
        return StoredEvent(domain_event.originator_id, domain_event.originator_version, topic, state)

    @override
    def to_domain_event(self, stored_event: StoredEvent) -> CatalogueEventOnFile:
        """The event of a row. Raises: UnknownEventShape."""
        assert isinstance(stored_event.originator_id, UUID)
        event = CATALOGUE_SHAPES.decode(stored_event.topic, stored_event.state)
        return CatalogueEventOnFile(stored_event.originator_id, stored_event.originator_version, event)
