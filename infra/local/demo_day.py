"""A made-up but realistic day of usage: the same seed gives the same records in the same order, and says what to expect."""

from __future__ import annotations

import random
from bisect import bisect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from itertools import accumulate, pairwise
from typing import NamedTuple, TypeVar

import msgspec

from consumers.usage_encoding import EncodedUsage, encode_usage, encode_usage_structured
from domain.usage import OutcomeKind, UsageRecord, UsageStatus
from infra.local.producing import Sent
from infra.local.run import RECORDS_DEFAULT, RECORDS_MIN
from infra.local.spoiling import SPOILERS, UNKNOWN_SCHEMA, spoil

TEAMS_DEFAULT = 300
DAY = timedelta(days=1)
LATE_MAX = timedelta(days=13)
SPREAD = 0.9
"""Exponent of the load over the teams: the busiest sends 12 in 100 records, thirty teams send more than half."""

# Shares of all records.
SHARE_FAILED = 0.03
SHARE_CORRECTING = 0.3  # of the failed
SHARE_CORRECTING_FIRST = 0.25  # of the correcting: they arrive before what they correct
SHARE_DUPLICATE = 0.01
SHARE_CONFLICT = 0.002
SHARE_LATE = 0.02
SHARE_NOTHING = 0.003
SHARE_REJECTED = 0.003
SHARE_PARKED = {
    "unknown_team": 0.001,
    "unknown_action": 0.0005,
    "unknown_price": 0.0005,
    "too_old": 0.0005,
    "in_the_future": 0.0005,
    "unknown_schema": 0.0002,
}
SHARE_CONTEXT = 0.9

FIRST_WORDS = (
    "amber", "azure", "birch", "cedar", "cobalt", "coral", "crimson", "ember", "fable", "fern",
    "granite", "harbor", "indigo", "ivory", "juniper", "lumen", "maple", "onyx", "quartz", "willow",
)  # fmt: skip
LAST_WORDS = (
    "atelier", "studio", "works", "pictures", "lab", "press", "media", "games",
    "motion", "agency", "design", "radio", "comics", "films", "house",
)  # fmt: skip
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "Europe/Lisbon", "America/Sao_Paulo")
HOURS_BEHIND = (0, -1, 5, -9, 0, 3)
# How busy each hour of a team's own day is.
RHYTHM = (2, 1, 1, 1, 1, 2, 4, 8, 14, 20, 22, 21, 17, 19, 22, 22, 20, 17, 13, 11, 9, 7, 5, 3)
TRADES: tuple[dict[str, int], ...] = (
    {"image.generate": 70, "image.edit": 15, "image.inpaint": 5, "image.upscale": 10},
    {"image.generate": 45, "image.edit": 20, "image.upscale": 10, "text.generate": 25},
    {"video.generate": 30, "image.generate": 50, "audio.generate": 20},
    {"text.generate": 80, "image.generate": 20},
    {"audio.generate": 60, "text.generate": 30, "image.generate": 10},
)
MODELS = ("flux-2-pro", "sd-4-medium", "atlas-image-1", "atlas-image-1-turbo", "pixel-9")
RESOLUTIONS = ("480p", "720p", "1080p", "2160p")
FAILURES: tuple[UsageStatus, UsageStatus] = ("failed", "cancelled")
STEP_NAMES = ("brief", "draft-1", "draft-2", "refine-1", "refine-2", "refine-3", "final")
SUBJECTS = (
    "a lighthouse at dawn",
    "a paper city",
    "two foxes in snow",
    "an empty stage",
    "a glass greenhouse",
)
MOODS = ("soft light, muted colours", "high contrast, grainy film", "flat shapes, bold outlines")
USES = ("campaign teaser", "chapter opening", "product page", "storyboard", "press kit")

_encode = msgspec.json.encode
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class DemoTeam:
    """A team of the day: its account's terms, who works there and on what, and how it sends its records."""

    team_id: str
    zone: str
    anchor_day: int
    trade: dict[str, int]
    members: int
    projects: int
    hours_behind: int
    encode: Callable[[UsageRecord], EncodedUsage]


class _Made(NamedTuple):
    """A record and where it stands in the day: seconds of the arrival, then the order of making."""

    arrives: float
    number: int
    usage: UsageRecord
    outcome: OutcomeKind
    reason: str


class DemoDay:
    """The usage of one day that begins at ``start``; arrivals lie within it, some use lies up to 13 days before.

    What is used, by whom, in which order and at which second of the day depends on ``seed``, ``records`` and ``teams``
    alone. Raises: ValueError for fewer than 1 000 records or a number of teams that cannot be named.
    """

    def __init__(
        self, seed: int, start: datetime, records: int = RECORDS_DEFAULT, teams: int = TEAMS_DEFAULT
    ) -> None:
        if records < RECORDS_MIN:
            raise ValueError(f"records {records}: a day has at least {RECORDS_MIN}")
        if not 1 <= teams <= len(FIRST_WORDS) * len(LAST_WORDS):
            raise ValueError(f"teams {teams}: 1 to {len(FIRST_WORDS) * len(LAST_WORDS)} would be right")
        self.seed, self.start, self.size = seed, start, records
        self._random = random.Random(f"coffer demo day {seed}")
        self.source = f"urn:coffer:demo-day:{seed}:{records}"
        self.teams = [_team(number, start) for number in range(teams)]
        self._team_weights = list(accumulate((number + 1) ** -SPREAD for number in range(teams)))
        self._number = 0

    def __iter__(self) -> Iterator[Sent]:
        """The records in the order in which they arrive."""
        return iter(self._sent)

    def usages(self) -> Iterator[UsageRecord]:
        """What may be charged, in the order of arrival: it tells the credits that a team will need."""
        return (sent.usage for sent in self._sent if sent.usage is not None and sent.outcome == "charged")

    @cached_property
    def _sent(self) -> list[Sent]:
        encoders = {team.team_id: team.encode for team in self.teams}
        return [self._send(made, encoders) for made in sorted(self._make())]

    def _make(self) -> list[_Made]:
        size = self.size
        failed = round(size * SHARE_FAILED)
        corrections = round(failed * SHARE_CORRECTING)
        parked = {reason: max(1, round(size * share)) for reason, share in SHARE_PARKED.items()}
        rejected = max(len(SPOILERS), round(size * SHARE_REJECTED))
        duplicates, conflicts = round(size * SHARE_DUPLICATE), max(1, round(size * SHARE_CONFLICT))
        nothing = round(size * SHARE_NOTHING)
        plain = size - failed - sum(parked.values()) - rejected - duplicates - conflicts - nothing

        good = [self._charged() for _ in range(plain)]
        waived = [self._failed() for _ in range(failed - corrections)]
        waived += [self._nothing() for _ in range(nothing)]
        corrected, correcting = self._corrected(good, corrections)
        on_file = corrected + waived + correcting
        again = [self._again(made) for made in self._some(on_file, duplicates)]
        # Other content under an id that a record of the same team has.
        other = [self._conflicting(made) for made in self._some(corrected, conflicts)]
        letters = [self._spoiled(number) for number in range(rejected)]
        letters += [self._parked(reason) for reason, count in parked.items() for _ in range(count)]
        return on_file + again + other + letters

    # --- what is charged ---

    def _charged(self) -> _Made:
        team = self._team()
        arrives = self._arrival(team)
        action = self._pick(list(team.trade), list(team.trade.values()))
        meters, dimensions = self._used(action)
        usage = self._usage(team, arrives, action, meters, dimensions)
        return _Made(arrives, self._number, usage, "charged", "")

    def _usage(
        self,
        team: DemoTeam,
        arrives: float,
        action: str,
        meters: dict[str, str],
        dimensions: dict[str, str],
    ) -> UsageRecord:
        self._number += 1
        project = self._below(team.projects)
        work = f"work-{project + 1}-{self._below(6) + 1}"
        occurred = self._occurred(arrives)
        return UsageRecord(
            team_id=team.team_id,
            source=self.source,
            id=f"job-{self._number:07d}",
            occurred_at=occurred,
            arrived_at=occurred,
            action=action,
            status="succeeded",
            meters=meters,
            dimensions=dimensions,
            member=f"member-{self._below(team.members) + 1}",
            project=f"project-{project + 1}",
            work=work,
            step=self._one(STEP_NAMES),
            context=self._context(team, work) if self._random.random() < SHARE_CONTEXT else None,
        )

    def _occurred(self, arrives: float) -> datetime:
        late = 0.2 + 2.8 * self._random.random()
        if self._random.random() < SHARE_LATE:
            # Hours as often as days.
            late = 3_600.0 * (LATE_MAX.total_seconds() / 3_600) ** self._random.random()
        return self.start + timedelta(milliseconds=round((arrives - late) * 1_000))

    def _used(self, action: str) -> tuple[dict[str, str], dict[str, str]]:
        match action:
            case "image.generate" | "image.edit" | "image.inpaint":
                images, steps = (
                    self._pick((1, 2, 4, 8), (60, 15, 15, 10)),
                    self._pick((20, 28, 30, 50), (1, 2, 6, 1)),
                )
                dimensions = {
                    "model": self._one(MODELS),
                    "loras": str(self._pick((0, 1, 2, 3), (75, 18, 5, 2))),
                }
                seconds = f"{images * steps / 12 * (0.8 + 0.4 * self._random.random()):.2f}"
                return {"images": str(images), "steps": str(steps), "seconds": seconds}, dimensions
            case "image.upscale":
                return {"images": "1"}, {"model": "upscale-3"}
            case "video.generate":
                seconds = self._pick(("2.5", "4", "5", "8.5", "10"), (2, 3, 3, 1, 1))
                return {"seconds": seconds}, {"resolution": self._pick(RESOLUTIONS, (3, 6, 3, 1))}
            case "text.generate":
                tokens = {
                    "input_tokens": str(200 + self._below(6_000)),
                    "output_tokens": str(20 + self._below(1_500)),
                }
                return tokens, {"model": "quill-2"}
            case "audio.generate":
                return {"seconds": f"{2 + 90 * self._random.random():.3f}"}, {
                    "voice": self._pick(("plain", "studio"), (4, 1))
                }
        raise AssertionError(f"no team of the day uses {action}")

    def _context(self, team: DemoTeam, work: str) -> bytes:
        seed = self._below(2**31)
        return _encode(
            {
                "prompt": f"{self._one(SUBJECTS)}, {self._one(MOODS)}, for the {self._one(USES)} of {team.team_id}",
                "parameters": {"seed": seed, "sampler": "euler", "guidance": self._below(12) + 1},
                "versions": {"model": f"2026.{self._below(9) + 1}", "client": "4.2.0"},
                "files": [f"s3://{team.team_id}/{work}/{seed:08x}.png"],
                "link": f"https://studio.example/{team.team_id}/{work}",
            }
        )

    # --- what is not charged ---

    def _failed(self) -> _Made:
        made = self._charged()
        usage = msgspec.structs.replace(made.usage, status=self._pick(FAILURES, (3, 1)))
        return made._replace(usage=usage, outcome="waived", reason="failed")

    def _nothing(self) -> _Made:
        """Work that succeeded and used nothing that has a price: no image came out, or nobody counted."""
        team = self._team()
        arrives = self._arrival(team)
        meters = self._one(({"images": "0", "steps": "30"}, {"steps": "30"}, {}))
        usage = self._usage(team, arrives, "image.generate", meters, {"model": self._one(MODELS)})
        return _Made(arrives, self._number, usage, "waived", "nothing_to_price")

    def _corrected(self, good: Sequence[_Made], count: int) -> tuple[list[_Made], list[_Made]]:
        """The good records, some of them now named by a correction; and the corrections."""
        result, correcting = list(good), []
        for number in self._places(len(good), count):
            made = good[number]
            first = self._random.random() < SHARE_CORRECTING_FIRST
            wait = (1 if first else 30) + 900 * self._random.random()
            arrives = made.arrives - wait if first else made.arrives + wait
            self._number += 1
            usage = msgspec.structs.replace(
                made.usage,
                id=f"job-{self._number:07d}",
                status="failed",
                corrects=made.usage.id,
                occurred_at=self.start + timedelta(milliseconds=round(min(arrives, 86_399) * 1_000)),
                meters={},
                context=None,
            )
            correcting.append(_Made(arrives, self._number, usage, "waived", "failed"))
            if first:
                result[number] = made._replace(outcome="waived", reason="corrected")
        return result, correcting

    def _again(self, made: _Made) -> _Made:
        """The same record once more, seconds to hours later."""
        self._number += 1
        arrives = made.arrives + 1 + 7_200 * self._random.random() ** 3
        return made._replace(arrives=arrives, number=self._number, outcome="duplicate", reason="")

    def _conflicting(self, made: _Made) -> _Made:
        again = self._again(made)
        usage = msgspec.structs.replace(made.usage, meters={**made.usage.meters, "images": "77"})
        return again._replace(usage=usage, outcome="conflict")

    def _parked(self, reason: str) -> _Made:
        made = self._charged()
        usage = made.usage
        match reason:
            case "unknown_team":
                usage = msgspec.structs.replace(usage, team_id=f"nobody-{self._below(9) + 1}")
            case "unknown_action":
                usage = msgspec.structs.replace(usage, action="hologram.generate")
            case "unknown_price":
                dimensions = {"resolution": "4320p"}
                usage = msgspec.structs.replace(
                    usage, action="video.generate", meters={"seconds": "4"}, dimensions=dimensions
                )
            case "too_old":
                usage = msgspec.structs.replace(usage, occurred_at=usage.occurred_at - timedelta(days=500))
            case "in_the_future":
                # Far enough that sending the day again finds it in the future still.
                usage = msgspec.structs.replace(usage, occurred_at=usage.occurred_at + timedelta(days=3_650))
        return made._replace(usage=usage, outcome="parked", reason=reason)

    def _spoiled(self, number: int) -> _Made:
        made = self._charged()
        return made._replace(outcome="rejected", reason=list(SPOILERS)[number % len(SPOILERS)])

    # --- from a record to what is sent ---

    def _send(self, made: _Made, encoders: dict[str, Callable[[UsageRecord], EncodedUsage]]) -> Sent:
        if made.outcome == "rejected" or made.reason == UNKNOWN_SCHEMA:
            headers, value = spoil(made.usage, made.reason)
            return Sent(made.usage.team_id.encode(), value, headers, made.outcome, made.reason, None)
        encoded = encoders.get(made.usage.team_id, encode_usage)(made.usage)
        return Sent(encoded.key, encoded.value, encoded.headers, made.outcome, made.reason, made.usage)

    # --- dice; only random() is used, whose sequence is the same in every version of Python ---

    def _below(self, bound: int) -> int:
        return int(self._random.random() * bound)

    def _one(self, among: Sequence[_T]) -> _T:
        return among[self._below(len(among))]

    def _pick(self, among: Sequence[_T], weights: Sequence[int]) -> _T:
        sums = list(accumulate(weights))
        return among[bisect(sums, self._random.random() * sums[-1])]

    def _places(self, length: int, count: int) -> list[int]:
        """So many different places, one in each equal part of the length."""
        bounds = [length * part // count for part in range(count + 1)]
        return [start + self._below(end - start) for start, end in pairwise(bounds)]

    def _some(self, among: Sequence[_Made], count: int) -> list[_Made]:
        return [among[place] for place in self._places(len(among), count)]

    def _team(self) -> DemoTeam:
        weights = self._team_weights
        return self.teams[bisect(weights, self._random.random() * weights[-1])]

    def _arrival(self, team: DemoTeam) -> float:
        hour = (self._pick(range(24), RHYTHM) + team.hours_behind) % 24
        return 3_600 * (hour + self._random.random())


def _team(number: int, start: datetime) -> DemoTeam:
    """The team of that rank; the busiest comes first.

    Its period begins 16 to 24 days before the day, so that all its use, late use too, lies in one period: what the
    day costs never depends on the date on which it is made.
    """
    turn, first = divmod(number, len(FIRST_WORDS))
    last = (turn + 4 * first) % len(LAST_WORDS)
    place = number % len(ZONES)
    return DemoTeam(
        team_id=f"{FIRST_WORDS[first]}-{LAST_WORDS[last]}",
        zone=ZONES[place],
        anchor_day=(start - timedelta(days=16 + number % 9)).day,
        trade=TRADES[number % len(TRADES)],
        members=2 + number * 7 % 11,
        projects=1 + number * 5 % 6,
        hours_behind=HOURS_BEHIND[place],
        encode=encode_usage_structured if number % 3 == 0 else encode_usage,
    )
