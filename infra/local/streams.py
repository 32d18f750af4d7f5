"""What `coffer up` streams: the demo day or a trace, its teams, and the credits that each will need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple, Protocol
from zlib import crc32

from consumers.usage_encoding import encode_usage
from domain.amounts import MICROS_PER_CREDIT
from domain.catalogue import Catalogue
from domain.errors import UnknownAction, UnknownPrice
from domain.pricing import price_usage
from domain.times import instant_text, parse_instant
from domain.usage import UsageRecord
from infra.local.demo_day import DAY, DemoDay
from infra.local.producing import Sent
from infra.local.trace import read_trace, source_of

CARD_ID = "standard"
SMALLEST_START_MICROS = 10 * MICROS_PER_CREDIT


class Member(NamedTuple):
    """A team of the stream and the terms of its account; ``plan_id`` None for one that only buys."""

    team_id: str
    zone: str = "UTC"
    anchor_day: int = 1
    plan_id: str | None = None


class UsageStream(Protocol):
    """Usage to produce, known before the first record is sent."""

    @property
    def title(self) -> str:
        """What it is, in words."""
        ...

    @property
    def source(self) -> str:
        """The CloudEvents source of its records."""
        ...

    @property
    def is_historic(self) -> bool:
        """Whether its use may be of any age."""
        ...

    @property
    def books_from(self) -> datetime | None:
        """Its first use: the books of its teams begin with the period of that time, not with the day of their opening."""
        ...

    def members(self) -> list[Member]:
        """The teams that need an account."""
        ...

    def usages(self) -> Iterator[UsageRecord]:
        """What will probably be charged."""
        ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Sent]: ...


class DemoDayStream:
    """The made-up day."""

    is_historic = False

    def __init__(self, day: DemoDay) -> None:
        self._day = day
        self.source = day.source
        self.books_from: datetime | None = day.start
        self.name = f"day-{day.seed}-{day.size}"
        self.title = (
            f"a made-up day: {day.size} records of {len(day.teams)} teams, seed {day.seed}, "
            f"beginning {day.start:%Y-%m-%d %H:%M} UTC"
        )

    def members(self) -> list[Member]:
        """The teams of the day, without those that nobody ever opened."""
        return [
            Member(team.team_id, team.zone, team.anchor_day, _plan_of(rank, team.team_id))
            for rank, team in enumerate(self._day.teams)
        ]

    def usages(self) -> Iterator[UsageRecord]:
        """What is expected to be charged."""
        return self._day.usages()

    def __len__(self) -> int:
        return self._day.size

    def __iter__(self) -> Iterator[Sent]:
        return iter(self._day)


class TraceStream:
    """A trace of requests from a file. Raises: TraceError for a file with a wrong cell, before anything is sent."""

    is_historic = True

    def __init__(self, path: Path) -> None:
        self._path = path
        self.source = source_of(path)
        self._teams: dict[str, None] = {}
        self._length = 0
        self.books_from: datetime | None = None
        for usage in read_trace(path):
            self._teams[usage.team_id] = None
            self._length += 1
            self.books_from = min(self.books_from or usage.occurred_at, usage.occurred_at)
        self.title = f"the trace {path.name}: {self._length} records of {len(self._teams)} teams"

    def members(self) -> list[Member]:
        """Every team that the trace names, in the order in which they first appear."""
        return [Member(team) for team in self._teams]

    def usages(self) -> Iterator[UsageRecord]:
        """The requests that succeeded."""
        return (usage for usage in read_trace(self._path) if usage.status == "succeeded")

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[Sent]:
        for usage in read_trace(self._path):
            encoded = encode_usage(usage)
            yield Sent(encoded.key, encoded.value, encoded.headers, "charged", "", usage)


class StartingCredits(NamedTuple):
    """What a team starts with: a part is given, the rest bought."""

    granted_micros: int
    bought_micros: int


def starting_credits(stream: UsageStream, catalogue: Catalogue) -> dict[str, StartingCredits]:
    """Credits by team, so that the stream leaves most teams with some and about one in twelve in debt.

    Whole credits, the same for the same stream.
    """
    return {team_id: _start(team_id, cost) for team_id, cost in costs_by_team(stream, catalogue).items()}


def costs_by_team(stream: UsageStream, catalogue: Catalogue) -> dict[str, int]:
    """What the stream will cost each of its teams at most, in micro-credits."""
    costs = dict.fromkeys((member.team_id for member in stream.members()), 0)
    for team_id, cost in _costs(stream.usages(), catalogue):
        costs[team_id] += cost
    return costs


def _costs(usages: Iterable[UsageRecord], catalogue: Catalogue) -> Iterator[tuple[str, int]]:
    for usage in usages:
        card = catalogue.card_in_force(CARD_ID, usage.occurred_at)
        if card is None:
            continue
        try:
            # Tiers are left out: the first, dearest one is a good upper bound.
            price = price_usage(card, usage.action, usage.meters, usage.dimensions, lambda _: 0)
        except (UnknownAction, UnknownPrice):
            continue
        if price is not None:
            yield usage.team_id, price.amount_micros


def _lot(team_id: str) -> int:
    # Any fixed spread over the teams does; a checksum of the name is the same on every machine.
    return crc32(team_id.encode()) % 12


def _plan_of(rank: int, team_id: str) -> str | None:
    """Half of the teams have a plan, the busiest the largest; those that shall end in debt have none."""
    if rank % 2 or _lot(team_id) == 0:
        return None
    return "studio-plus" if rank < 30 else "studio" if rank < 150 else "free"


def _start(team_id: str, cost_micros: int) -> StartingCredits:
    lot = _lot(team_id)
    share = 0.7 if lot == 0 else 1.05 + lot / 10
    whole = max(SMALLEST_START_MICROS, int(cost_micros * share) // MICROS_PER_CREDIT * MICROS_PER_CREDIT)
    granted = max(SMALLEST_START_MICROS, whole // 5 // MICROS_PER_CREDIT * MICROS_PER_CREDIT)
    return StartingCredits(granted, whole - granted)


def kept_day_start(state_directory: Path, seed: int, records: int, now: datetime) -> datetime:
    """When the day of that seed and size begins: 24 hours before it was first streamed, kept for every later run.

    So a day that was interrupted goes on, and one that is streamed again is the same day.
    """
    file = state_directory / "days" / f"seed-{seed}-records-{records}"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        start = (now - DAY).astimezone(UTC).replace(second=0, microsecond=0) - timedelta(minutes=1)
        draft = file.with_name(f".{file.name}")
        draft.write_text(instant_text(start))
        draft.rename(file)
    return parse_instant(file.read_text(), str(file))
