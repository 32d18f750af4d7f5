"""Works of the ledger in plain dicts, behind the port that the API reads them by."""

from __future__ import annotations

from api.ports import (
    ContextFound,
    ContextQuery,
    ContextsOnFile,
    CostOnFile,
    TextOnFile,
    WorkOnFile,
    WorksOnFile,
)
from domain.errors import UnknownTeam, UnknownWork
from domain.shards import shard_of
from domain.work.costs import WorkCost, cost_of
from domain.work.events import HandoverChecked, WorkStarted
from domain.work.state import Work, copy_of
from domain.work.texts import read_text
from projections.contexts import found_in
from tests.memory_store import SHARDS, Kept, MemoryLedger


class MemoryWorks:
    """As ``api.ports.WorkReads`` says."""

    def __init__(self, memory: MemoryLedger) -> None:
        self._memory = memory

    def works(self, team_id: str, *, after: str = "", limit: int = 100) -> WorksOnFile:
        """The team's works by id."""
        team = self._team(team_id)
        works = [copy_of(team.works[work_id]) for work_id in sorted(team.works) if work_id > after]
        return WorksOnFile(works[:limit], team.account.version, self._position(team_id), len(works) > limit)

    def work(self, team_id: str, work_id: str) -> WorkOnFile:
        """The work."""
        team = self._team(team_id)
        work = self._work(team_id, work_id)
        if work.status == "new":
            raise UnknownWork(f"team {team_id!r} has no work {work_id!r}", work_id=work_id)
        started = team.work_events[work_id][0]
        assert isinstance(started, WorkStarted)
        texts = [
            TextOnFile(kept.version, kept.step, kept.member, read_text(kept.text))
            for (own, _), kept in team.texts.items()
            if own == work_id
        ]
        cost = self._cost(work)
        return WorkOnFile(work, started, cost, texts, team.account.version, self._position(team_id))

    def cost(self, team_id: str, work_id: str) -> CostOnFile:
        """What it cost."""
        team, work = self._team(team_id), self._work(team_id, work_id)
        cost = self._cost(work)
        if work.status == "new" and not cost.steps:
            raise UnknownWork(f"team {team_id!r} has no work {work_id!r}", work_id=work_id)
        return CostOnFile(work, cost, team.account.version, self._position(team_id))

    def handover(self, team_id: str, work_id: str, version: int | None = None) -> HandoverChecked:
        """A check as it was signed."""
        events = self._team(team_id).work_events.get(work_id, [])
        wanted = version or self._work(team_id, work_id).handover_version
        event = events[wanted - 1] if wanted and wanted <= len(events) else None
        if not isinstance(event, HandoverChecked):
            raise UnknownWork(f"work {work_id!r} has no check of its handover there", work_id=work_id)
        return event

    def search(
        self,
        team_id: str,
        asked: ContextQuery,
        *,
        after: str | None = None,
        limit: int = 100,
        looked_max: int | None = None,
    ) -> ContextsOnFile:
        """Texts of works in which the words are found; usage has no context here."""
        team = self._team(team_id)
        looked = int(after or 0)
        found: list[ContextFound] = []
        texts = sorted(team.texts.items())
        last = len(texts) if looked_max is None else min(len(texts), looked + looked_max)
        while looked < last and len(found) < limit:
            (work_id, _), kept = texts[looked]
            looked += 1
            if asked.member in (None, kept.member) and found_in(kept.text, asked.text, asked.field):
                found.append(ContextFound(work_id, kept.version, kept.step, None, kept.member, kept.text))
        place = str(looked) if looked < len(texts) else None
        return ContextsOnFile(found, team.account.version, self._position(team_id), place)

    def context(self, team_id: str, charge_id: str) -> bytes | None:
        """None: usage has no context here."""
        self._team(team_id)
        return None

    def _team(self, team_id: str) -> Kept:
        team = self._memory.teams.get(team_id)
        if team is None:
            raise UnknownTeam(f"team {team_id!r} has no account: open one first", team_id=team_id)
        return team

    def _work(self, team_id: str, work_id: str) -> Work:
        found = self._team(team_id).works.get(work_id)
        return copy_of(found) if found else Work(team_id=team_id, work_id=work_id)

    def _cost(self, work: Work) -> WorkCost:
        moves = self._memory.work_moves(work.team_id, work.work_id)
        return cost_of(work, moves, self._memory.teams[work.team_id].account.holds)

    def _position(self, team_id: str) -> int:
        return self._memory.positions.get(shard_of(team_id, SHARDS), 0)
