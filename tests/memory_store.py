"""A whole ledger in plain dicts behind the ports of the real one, with a clock that a test may set."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Lock

import msgspec

from api.keys import StoredKey
from api.ports import AccountOnFile, DenialRepeats, StoredEvent, StoredTeamEvent, TeamOnFile
from domain.account.charging import charge_usage
from domain.account.decision import Decision, account_id, copy_of
from domain.account.events import AccountEvent, ChargeRefunded, RecordedEvent
from domain.account.index import AccountIndex, EndedHold, IndexKind, IndexOverlay
from domain.account.state import TeamAccount
from domain.actors import Actor
from domain.catalogue import Catalogue, apply, publish_plan, publish_rate_card
from domain.chain import GENESIS, event_hash
from domain.issuer.deciding import require_details, year_of
from domain.issuer.details import IssuerDetails, number_text
from domain.issuer.events import DocumentKind
from domain.issuer.numbering import Drawn
from domain.issuer.state import Issuer
from domain.shards import shard_of
from domain.team import state as team_state
from domain.team.decision import TeamDecision
from domain.team.events import TeamEvent
from domain.team.state import Team, team_stream_id
from domain.usage import UsageRecord
from domain.work.costs import WorkMove
from domain.work.decision import KeptText, WorkDecision
from domain.work.events import WorkEvent
from domain.work.state import Work
from projections.keeping import KeptAccount, KeptKind
from projections.moves import NOTHING, Sums, sums_after
from projections.statement import StatementFilter, StatementPage, StatementRows, rows_of
from projections.works import cost_row, moves_of

SHARDS = 8
TEST_ACTOR = Actor("test", "operator")
START = datetime(2026, 11, 1, 12, tzinfo=UTC)
STREAM = Actor("usage", "ingest")


@dataclass
class Kept:
    """All that is kept of one team."""

    account: TeamAccount
    paperwork: Team
    index: IndexOverlay = field(default_factory=IndexOverlay)
    events: list[StoredEvent] = field(default_factory=list)
    paperwork_events: list[StoredTeamEvent] = field(default_factory=list)
    answers: dict[tuple[str, str], tuple[bytes, bytes]] = field(default_factory=dict)
    denial_repeats: dict[int, DenialRepeats] = field(default_factory=dict)
    works: dict[str, Work] = field(default_factory=dict)
    work_events: dict[str, list[WorkEvent]] = field(default_factory=dict)
    texts: dict[tuple[str, int], KeptText] = field(default_factory=dict)
    sums: Sums = NOTHING


class MemoryLedger:
    """The store of commands, and every read that the API needs, over the same dicts."""

    def __init__(self, now: datetime = START) -> None:
        self.when_cleared: Callable[[], None] = lambda: None
        self.clear(now)

    def clear(self, now: datetime = START) -> None:
        """Nothing has happened yet."""
        self.now = now
        self.teams: dict[str, Kept] = {}
        self.positions: dict[int, int] = {}
        self.keys: dict[str, StoredKey] = {}
        self.issuers: dict[str, IssuerDetails] = {}
        self.numbers: dict[tuple[str, DocumentKind, str, str], Drawn] = {}
        self.catalogue = Catalogue()
        self.statement = StatementRows()
        self.gone: list[str] = []
        self._lock = Lock()
        self.when_cleared()

    # --- commands ---

    @contextmanager
    def session(self, team_id: str, *, wait: bool = True) -> Iterator[MemorySession]:
        """One transaction at a time."""
        with self._lock:
            session = MemorySession(self, team_id)
            yield session
            if session.saved is not None:
                self._commit(team_id, session.saved)
                for place in session.erased:
                    del self.teams[team_id].texts[place]
                self.numbers |= session.numbers.drawn

    def _commit(self, team_id: str, saved: Saved) -> None:
        self.write(team_id, saved.decision, saved.team)
        if saved.work is not None:
            self._write_work(self.teams[team_id], shard_of(team_id, SHARDS), saved.work)
        team = self.teams[team_id]
        if saved.answered is not None:
            key, answer = saved.answered
            team.answers[key] = answer
        repeated = saved.decision.repeated_denial
        if repeated is not None:
            met = team.denial_repeats.get(repeated)
            team.denial_repeats[repeated] = DenialRepeats((met.repeats if met else 0) + 1, saved.decision.at)

    def use(self, record: UsageRecord) -> None:
        """The record is charged or waived as the stream would."""
        with self._lock:
            team = self.teams[record.team_id]
            decision = Decision(copy_of(team.account), self.now, STREAM, IndexOverlay(team.index))
            charge_usage(decision, record, self.catalogue)
            self.write(record.team_id, decision)

    def publish(self, document: Mapping[str, object]) -> None:
        """The rate card is published."""
        for event in publish_rate_card(self.catalogue, document, self.now, TEST_ACTOR):
            apply(self.catalogue, event)

    def publish_plan(self, document: Mapping[str, object]) -> None:
        """The plan is published."""
        for event in publish_plan(self.catalogue, document, self.now, TEST_ACTOR):
            apply(self.catalogue, event)

    def write(self, team_id: str, decision: Decision, paperwork: TeamDecision | None = None) -> None:
        """Events, heads and index of a decision stand, those of the team's paperwork first, and are projected at once."""
        shard = shard_of(team_id, SHARDS)
        team = self.teams.get(team_id)
        if team is None:
            team = self.teams[team_id] = Kept(decision.account, Team(team_id=team_id))
        if paperwork is not None:
            for filed in paperwork.events:
                self._append_paperwork(team, team_id, shard, filed)
            team.paperwork = paperwork.team
        for event in decision.events:
            self._append(team, team_id, shard, event)
        for change in decision.index_changes:
            team.index.put(change)
        team.index.usages.update(decision.index.usages)
        team.account = decision.account

    def _write_work(self, team: Kept, shard: int, decision: WorkDecision) -> None:
        """Events and texts of the work stand; the log is so much longer."""
        work = team.works[decision.work.work_id] = decision.work
        team.work_events.setdefault(work.work_id, []).extend(decision.events)
        team.texts |= {(work.work_id, kept.version): kept for kept in decision.texts}
        position = self.positions[shard] = self.positions.get(shard, 0) + len(decision.events)
        self.statement.write(shard, [], position)

    def work_moves(self, team_id: str, work_id: str) -> list[WorkMove]:
        """What was charged for a work, from the statement."""
        told = self.statement.page(team_id, limit=1_000, newest_first=False)
        return moves_of((cost_row(row) for row in told.rows), work_id)

    def _append_paperwork(self, team: Kept, team_id: str, shard: int, event: TeamEvent) -> None:
        stored = team.paperwork_events
        version = len(stored) + 1
        position = self.positions[shard] = self.positions.get(shard, 0) + 1
        previous = stored[-1].hash if stored else GENESIS
        state = msgspec.json.encode(event)
        digest = event_hash(previous, team_stream_id(team_id).bytes, version, event.TOPIC, state)
        stored.append(StoredTeamEvent(version, position, event.TOPIC, state, previous, digest, event))
        self.statement.write(shard, [], position)

    def _append(self, team: Kept, team_id: str, shard: int, event: AccountEvent) -> None:
        version = len(team.events) + 1
        position = self.positions[shard] = self.positions.get(shard, 0) + 1
        previous = team.events[-1].hash if team.events else GENESIS
        state = msgspec.json.encode(event)
        digest = event_hash(previous, account_id(team_id).bytes, version, event.TOPIC, state)
        team.events.append(StoredEvent(version, position, event.TOPIC, state, previous, digest, event))
        rows = rows_of(RecordedEvent(None, version, event), shard, team_id, team.sums)
        team.sums = sums_after(event, team.sums)
        self.statement.write(shard, rows, position)

    # --- reads ---

    async def account(self, team_id: str) -> AccountOnFile | None:
        """The head."""
        team = self.teams.get(team_id)
        if team is None:
            return None
        return AccountOnFile(copy_of(team.account), self.positions[shard_of(team_id, SHARDS)], self.now)

    async def team(self, team_id: str) -> TeamOnFile | None:
        """The head of the team's people and paperwork."""
        team = self.teams.get(team_id)
        if team is None:
            return None
        position = self.positions[shard_of(team_id, SHARDS)]
        return TeamOnFile(team_state.copy_of(team.paperwork), position, self.now)

    async def paperwork(
        self,
        team_id: str,
        *,
        after: int | None = None,
        until: int | None = None,
        limit: int,
        newest_first: bool = False,
    ) -> list[StoredTeamEvent]:
        """A part of the stream of the team's people and paperwork."""
        team = self.teams.get(team_id)
        stored = list(team.paperwork_events) if team else []
        if newest_first:
            stored.reverse()
        return [
            each
            for each in stored
            if (until is None or each.version <= until)
            and (after is None or (each.version < after if newest_first else each.version > after))
        ][:limit]

    async def events(
        self,
        team_id: str,
        *,
        after: int | None = None,
        until: int | None = None,
        limit: int,
        newest_first: bool = False,
    ) -> list[StoredEvent]:
        """A part of the stream."""
        team = self.teams.get(team_id)
        stored = list(team.events) if team else []
        if newest_first:
            stored.reverse()
        return [
            each
            for each in stored
            if (until is None or each.version <= until)
            and (after is None or (each.version < after if newest_first else each.version > after))
        ][:limit]

    async def version_at(self, team_id: str, position: int) -> int:
        """The newest version up to the position."""
        team = self.teams.get(team_id)
        reached = [each.version for each in team.events if each.position <= position] if team else []
        return max(reached, default=0)

    async def version_as_of(self, team_id: str, at: datetime) -> int:
        """The newest version recorded by the instant."""
        team = self.teams.get(team_id)
        return max(
            (each.version for each in (team.events if team else []) if each.event.recorded_at <= at),
            default=0,
        )

    async def usage(self, team_id: str, usage_key: str) -> StoredEvent | None:
        """The event with the claim."""
        team = self.teams.get(team_id)
        on_file = team.index.usage(usage_key) if team else None
        return team.events[on_file.version - 1] if team and on_file else None

    async def refunds(self, team_id: str, charge_id: str, after: int) -> list[StoredEvent]:
        """The refunds of a charge."""
        return [
            each
            for each in self.teams[team_id].events
            if isinstance(each.event, ChargeRefunded)
            and each.event.charge_id == charge_id
            and each.version > after
        ]

    async def entries(self, team_id: str, kind: IndexKind, keys: Collection[str]) -> dict[str, bytes]:
        """Index entries."""
        index = self.teams[team_id].index
        return {key: entry for key in keys if (entry := index.entry(kind, key)) is not None}

    async def latest(
        self, team_id: str, kind: IndexKind, *, prefix: str = "", before: str | None = None, limit: int
    ) -> list[tuple[str, bytes]]:
        """Index entries of a kind, greatest key first."""
        found = self.teams[team_id].index.latest(kind, prefix)
        return [(key, entry) for key, entry in found if before is None or key < before][:limit]

    async def kept(self, team_id: str, version: int) -> KeptAccount | None:
        """Nothing is kept: every question is answered from the first event."""
        return None

    async def kept_entries(
        self, team_id: str, version: int, kind: KeptKind, keys: Collection[str]
    ) -> dict[str, bytes] | None:
        """Nothing is kept."""
        return None

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
        """Nothing is kept."""
        return None

    async def ended_holds(
        self, team_id: str, *, before: str | None = None, limit: int
    ) -> list[tuple[str, EndedHold]]:
        """Ended holds, newest first."""
        keys = {
            (len(key), key): msgspec.json.decode(entry, type=EndedHold)
            for key, entry in self.teams[team_id].index.latest("hold")
        }
        below = (len(before), before) if before else None
        return [(key[1], keys[key]) for key in sorted(keys, reverse=True) if below is None or key < below][
            :limit
        ]

    async def denial_repeats(self, team_id: str, versions: Collection[int]) -> dict[int, DenialRepeats]:
        """Denials met again."""
        met = self.teams[team_id].denial_repeats
        return {version: met[version] for version in versions if version in met}

    def page(
        self, team_id: str, *, asked: StatementFilter, after: int | None, limit: int, newest_first: bool
    ) -> StatementPage:
        """A page of the statement, projected up to the shard's position."""
        shown = self.statement.page(team_id, asked=asked, after=after, limit=limit, newest_first=newest_first)
        return StatementPage(shown.rows, self.positions.get(shard_of(team_id, SHARDS), 0), shown.more)

    def current(self) -> Catalogue:
        """The catalogue."""
        return self.catalogue

    async def key(self, key_id: str) -> StoredKey | None:
        """A stored key."""
        return self.keys.get(key_id)

    async def add_key(self, key: StoredKey) -> bool:
        """A key, unless there is one of its id."""
        return self.keys.setdefault(key.key_id, key) is key

    async def keys_of(self, team_id: str) -> list[StoredKey]:
        """The keys of a team."""
        return [key for key in self.keys.values() if key.team_id == team_id]

    async def note_used(self, key_id: str, at: datetime) -> None:
        """When a key was used last."""
        self.keys[key_id] = msgspec.structs.replace(self.keys[key_id], last_used_at=at)

    async def missing(self) -> list[str]:
        """What a test declared gone."""
        return self.gone


class MemoryNumbers:
    """Numbers of issuers; what a refused command drew is given out again."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger
        self.drawn: dict[tuple[str, DocumentKind, str, str], Drawn] = {}

    def draw(self, issuer_id: str, kind: DocumentKind, team_id: str, subject: str, at: datetime) -> Drawn:
        """The number of the document."""
        details = require_details(Issuer(issuer_id=issuer_id, details=self._ledger.issuers.get(issuer_id)))
        key, given = (issuer_id, kind, team_id, subject), self._ledger.numbers | self.drawn
        year = year_of(details, at)
        number = sum(other[0] == issuer_id and drawn.year == year for other, drawn in given.items()) + 1
        fresh = Drawn(details, 1, year, number, number_text(details.prefix, year, number))
        self.drawn[key] = given.get(key, fresh)
        return self.drawn[key]


class MemorySession:
    """One transaction: nothing stands before its clean end."""

    def __init__(self, ledger: MemoryLedger, team_id: str) -> None:
        self._team_id = team_id
        self._ledger = ledger
        self._team = ledger.teams.get(team_id)
        self.account: TeamAccount | None = self._team.account if self._team else None
        self.now = ledger.now
        # A layer of its own, so that a refusal leaves nothing in the one beneath.
        self.index: AccountIndex = IndexOverlay(self._team.index if self._team else None)
        self.numbers = MemoryNumbers(ledger)
        self.saved: Saved | None = None
        self._salts = 0
        self.erased: list[tuple[str, int]] = []

    def event_at(self, version: int) -> AccountEvent:
        """The event of that version."""
        assert self._team is not None, f"team {self._team_id!r} has no account"
        return self._team.events[version - 1].event

    def load_team(self) -> Team:
        """The team's people and paperwork; empty at version 0 before their first event."""
        return self._team.paperwork if self._team else Team(team_id=self._team_id)

    def load_work(self, work_id: str) -> Work:
        """The team's work of that id; a new one before its first event."""
        found = self._team.works.get(work_id) if self._team else None
        return found or Work(team_id=self._team_id, work_id=work_id)

    def salt(self) -> bytes:
        """Bytes that differ each time."""
        self._salts += 1
        return self._salts.to_bytes(16, "big")

    def erase_contexts(self, member: str, version: int) -> tuple[int, int]:
        """Texts of the member's will be gone at the clean end."""
        assert self._team is not None, f"team {self._team_id!r} has no account"
        self.erased = [place for place, kept in self._team.texts.items() if kept.member == member]
        return 0, len(self.erased)

    def work_moves(self, work_id: str) -> list[WorkMove]:
        """From the statement, which is never behind."""
        return self._ledger.work_moves(self._team_id, work_id)

    def answer_on_file(self, principal: str, key: str) -> tuple[bytes, bytes] | None:
        """What the key was answered."""
        return self._team.answers.get((principal, key)) if self._team else None

    def save(
        self,
        account: TeamAccount,
        decision: Decision,
        expected_version: int,
        *,
        principal: str,
        key: str,
        body_digest: bytes,
        answer: bytes,
        team: TeamDecision | None = None,
        work: WorkDecision | None = None,
    ) -> None:
        """The decision will stand at the clean end."""
        assert expected_version == (self.account.version if self.account else 0)
        assert account is decision.account
        assert team is None or team.expected_version == self.load_team().version
        assert work is None or work.expected_version == self.load_work(work.work.work_id).version
        self.saved = Saved(decision, ((principal, key), (body_digest, answer)), team, work)

    def save_due(self, account: TeamAccount, decision: Decision, expected_version: int) -> None:
        """What was due will stand at the clean end."""
        assert expected_version == (self.account.version if self.account else 0)
        assert account is decision.account
        self.saved = Saved(decision)


@dataclass
class Saved:
    """What a session will leave behind."""

    decision: Decision
    answered: tuple[tuple[str, str], tuple[bytes, bytes]] | None = None
    team: TeamDecision | None = None
    work: WorkDecision | None = None
