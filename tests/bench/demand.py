"""What every contestant is given: the same teams with the same lots, and the same usage as a broker would hand it over."""

from __future__ import annotations

import random
import tomllib
from bisect import bisect
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import accumulate, count
from typing import NamedTuple

import msgspec

from consumers.batches import PartitionKey
from consumers.stream_record import StreamRecord
from consumers.usage import PartitionRead
from consumers.usage_encoding import encode_usage
from domain.account.decision import Decision
from domain.account.events import CostBasis
from domain.account.funding import AskedLot, grant_credits, top_up_credits
from domain.account.limit_terms import set_limit
from domain.account.opening import open_account
from domain.actors import Actor
from domain.catalogue import Catalogue
from domain.shards import shard_of
from domain.terms import LimitTerms
from domain.usage import UsageRecord
from infra.local.opening import DEMO_CARD
from tests.builders import a_catalogue

BENCH = Actor("bench", "operator")
CARD_ID = "standard"
TOPIC = "credits.usage.v1"
PARTITIONS = 8
LOTS = 8
CONTEXT_BYTES = 300
SHARE_CONTEXT = 0.9
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "America/Sao_Paulo")
STEPS = ("brief", "draft-1", "draft-2", "refine-1", "final")
RESOLUTIONS = ("480p", "720p", "1080p", "2160p")
WORDS = (
    "amber birch cedar cobalt coral ember fern granite harbor indigo juniper lumen maple onyx quartz willow"
)
PLENTY = 10**15
LIMITS = (
    LimitTerms(limit_id="team-month", window="month", cap_micros=PLENTY, thresholds=[80, 100]),
    LimitTerms(
        limit_id="images-day", window="day", cap_micros=PLENTY, action="image.generate", thresholds=[100]
    ),
)
_encode = msgspec.json.encode


class Team(NamedTuple):
    """A team and the terms of its account."""

    team_id: str
    zone: str
    anchor_day: int


def demo_catalogue() -> Catalogue:
    """The demo card in force: units with multipliers and a minimum, packages, and graduated seconds."""
    return a_catalogue(tomllib.loads(DEMO_CARD.read_text()))


def partition_key(number: int) -> PartitionKey:
    """A partition of the topic that all usage comes from."""
    return PartitionKey("bench-cluster", "bench-topic", TOPIC, number)


class Demand:
    """Usage of ``teams`` teams, Zipf(1.0); the same ``seed`` gives the same records in the same order.

    Trivial usage has a flat price, no meters and no context; nothing else differs.
    """

    def __init__(self, teams: int, seed: int = 1, *, is_trivial: bool = False) -> None:
        self.teams = [Team(f"team-{n:05d}", ZONES[n % len(ZONES)], n % 28 + 1) for n in range(teams)]
        self._random = random.Random(f"coffer bench {seed}")
        self._weights = list(accumulate(1 / (rank + 1) for rank in range(teams)))
        self._text = " ".join(self._random.choices(WORDS.split(), k=2_000))
        self._is_trivial = is_trivial
        self._numbers = count()
        self._offsets = [0] * PARTITIONS

    def usages(self, records: int, at: datetime) -> Iterator[UsageRecord]:
        """So many records that arrive at ``at``, and half a minute later for the last of them; used a little earlier."""
        for number in range(records):
            arrived = at + timedelta(seconds=30 * number / records)
            yield self._usage(next(self._numbers), arrived.replace(microsecond=0))

    def stream(self, records: int, at: datetime | None = None) -> list[StreamRecord]:
        """The next records as the broker has them, in the order of arrival, each team in its own partition."""
        return [self._streamed(usage) for usage in self.usages(records, at or datetime.now(UTC))]

    def _streamed(self, usage: UsageRecord) -> StreamRecord:
        encoded = encode_usage(usage)
        partition = shard_of(usage.team_id, PARTITIONS)
        offset = self._offsets[partition]
        self._offsets[partition] += 1
        return StreamRecord(
            TOPIC, partition, offset, encoded.key, encoded.value, encoded.headers, usage.arrived_at
        )

    def _usage(self, number: int, arrived: datetime) -> UsageRecord:
        team = self.teams[bisect(self._weights, self._random.random() * self._weights[-1])]
        action, meters, dimensions = self._work()
        draw = self._random.randrange
        return UsageRecord(
            team_id=team.team_id,
            source="urn:coffer:bench",
            id=f"{draw(1 << 64):016x}-{number:012x}",
            occurred_at=arrived - timedelta(microseconds=draw(5_000_000)),
            arrived_at=arrived,
            action=action,
            status="succeeded",
            meters=meters,
            dimensions=dimensions,
            member=f"member-{draw(6)}",
            project=f"project-{draw(4)}",
            work=f"work-{draw(40):03d}",
            step=STEPS[draw(len(STEPS))],
            context=self._context()
            if not self._is_trivial and self._random.random() < SHARE_CONTEXT
            else None,
        )

    def _work(self) -> tuple[str, dict[str, str], dict[str, str]]:
        """An action with its meters and dimensions: half images, a fifth graduated audio, the rest video and text."""
        draw, share = self._random.randrange, self._random.random()
        if self._is_trivial:
            return "image.upscale", {}, {}
        if share < 0.5:
            meters = {"images": str(1 + draw(4)), "steps": str(20 + draw(31))}
            return "image.generate", meters, {"loras": str(draw(4)), "model": "flux-2-pro"}
        if share < 0.7:
            return "audio.generate", {"seconds": f"{1 + draw(90)}.{draw(10)}"}, {"voice": "studio"}
        if share < 0.85:
            return "video.generate", {"seconds": str(2 + draw(9))}, {"resolution": RESOLUTIONS[draw(4)]}
        return "text.generate", {"input_tokens": str(draw(9_000)), "output_tokens": str(1 + draw(2_000))}, {}

    def _context(self) -> bytes:
        begin = self._random.randrange(len(self._text) - CONTEXT_BYTES)
        context = {"prompt": self._text[begin : begin + CONTEXT_BYTES - 60], "seed": begin, "ratio": "16:9"}
        return _encode(context | {"width": 1344, "height": 768})


def started(team: Team, at: datetime, *, is_trivial: bool = False) -> Decision:
    """A team's account with its eight lots, two of them scoped, and two limits, none of which the usage empties or passes.

    A trivial one has one lot and no limit.
    """
    decision = Decision(None, at, BENCH)
    open_account(decision, team.team_id, team.zone, team.anchor_day, CARD_ID)
    if is_trivial:
        grant_credits(decision, PLENTY)
        return decision
    soon, later = at + timedelta(days=30), at + timedelta(days=365)
    grant_credits(decision, PLENTY, asked=AskedLot(expires_at=soon, action="audio.generate"))
    grant_credits(decision, PLENTY, asked=AskedLot(expires_at=soon, project="project-1"))
    grant_credits(decision, 20_000_000, asked=AskedLot(expires_at=soon))
    grant_credits(decision, PLENTY, "included", AskedLot(expires_at=soon))
    for number in range(LOTS - 4):
        top_up_credits(
            decision,
            PLENTY,
            payment_reference=f"start-{number}",
            cost_basis=CostBasis(20_000, "EUR"),
            asked=AskedLot(expires_at=later + timedelta(days=number)),
        )
    for terms in LIMITS:
        set_limit(decision, terms)
    return decision


def batches(records: Sequence[StreamRecord], size: int) -> list[list[PartitionRead]]:
    """The records as a worker reads them: ``size`` a batch, one read for each partition that has any."""
    return [_reads(records[at : at + size]) for at in range(0, len(records), size)]


def _reads(records: Sequence[StreamRecord]) -> list[PartitionRead]:
    parts: dict[int, list[StreamRecord]] = {}
    for record in records:
        parts.setdefault(record.partition, []).append(record)
    return [
        PartitionRead(partition_key(number), part[0].offset, part[-1].offset + 1, part)
        for number, part in sorted(parts.items())
    ]
