"""A ledger in two databases, a stream that anybody can produce again, workers that read it, movers that may be killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import psycopg

from consumers.batches import Fenced, PartitionKey
from consumers.settling import PartitionRead, decide_and_write
from consumers.stream_record import StreamRecord
from consumers.streams import decider_of
from domain.commands import GrantCredits, OpenAccount
from domain.errors import Busy
from domain.ledger import Caller, Ledger, OutcomeUnknown
from domain.shards import shard_of
from infra.failpoints import VARIABLE
from infra.postgres.batch_stores import BatchStores
from infra.postgres.connections import Timeouts
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.moving import move
from infra.postgres.shards import ShardMap
from infra.project import read_models
from tests.builders import a_catalogue, unit_card
from tests.consumers.wire_cases import ARRIVED, DATA, binary_headers

ROOT = Path(__file__).resolve().parents[2]
SHARDS = 4
TEAMS = [f"team-{number}" for number in range(12)]
TOPIC = "credits.usage.v1"
PARTITIONS = [PartitionKey("cluster", "topic", TOPIC, part) for part in range(SHARDS)]
CATALOGUE = a_catalogue(unit_card())
GRANTED = 100_000
CALLER = Caller("tester", "operator")
BATCH = 6


class Urls(NamedTuple):
    """The two databases."""

    first: str
    east: str


def opened(urls: Urls) -> ShardMap:
    """The map of both, whose waits are short."""
    return ShardMap(urls.first, others={"east": urls.east}, timeouts=Timeouts(lock_milliseconds=2_000))


class Feed(NamedTuple):
    """So many records in each partition: of the teams of that shard, or ``strewn``, as if producers hashed differently."""

    length: int
    strewn: bool = False

    def said(self, part: int, offset: int) -> tuple[str, str, int]:
        """Team, id and units of the record there; every tenth says again what the one before it said."""
        at = offset - 1 if offset % 10 == 9 else offset
        own = [team for team in TEAMS if shard_of(team, SHARDS) == part]
        team = TEAMS[(part * 5 + at) % len(TEAMS)] if self.strewn else own[at % len(own)]
        return team, f"{part}-{at}", (at * 7 + part) % 9 + 1

    def record(self, part: int, offset: int) -> StreamRecord:
        """The record there, as it is read."""
        team, name, units = self.said(part, offset)
        value = json.dumps(DATA | {"meters": {"units": str(units)}, "context": {"prompt": name}}).encode()
        headers = binary_headers(id=name, subject=team)
        return StreamRecord(TOPIC, part, offset, team.encode(), value, headers, ARRIVED)

    def read(self, key: PartitionKey, offset: int) -> PartitionRead:
        """The next records of the partition."""
        upto = min(offset + BATCH, self.length)
        records = [self.record(key.partition, each) for each in range(offset, upto)]
        return PartitionRead(key, offset, upto, records)

    def used(self) -> dict[str, int]:
        """The units that each team used, counted without any of our code: each id once."""
        once = {
            (team, name): units
            for part in range(SHARDS)
            for team, name, units in (self.said(part, offset) for offset in range(self.length))
        }
        return {team: sum(units for (its, _), units in once.items() if its == team) for team in TEAMS}

    def charges(self) -> int:
        """How many of the records are no repetition."""
        return len({self.said(part, offset)[:2] for part in range(SHARDS) for offset in range(self.length)})


def consume(urls: Urls, feed: Feed, keys: Sequence[PartitionKey] = tuple(PARTITIONS)) -> None:
    """The partitions are read to their end, as the worker does it: whatever is away or has moved is met again."""
    at = dict.fromkeys(keys, 0)
    while any(offset < feed.length for offset in at.values()):
        try:
            _consume_some(urls, feed, at)
        except (Busy, OutcomeUnknown, Fenced, psycopg.OperationalError, psycopg.InterfaceError):
            time.sleep(0.02)


def _consume_some(urls: Urls, feed: Feed, at: dict[PartitionKey, int]) -> None:
    shards = opened(urls)
    store = BatchStores(shards)
    try:
        for key in at:
            store.register(key, 0)
            at[key] = store.next_offset(key) or 0
        while left := [key for key, offset in at.items() if offset < feed.length]:
            by_home: dict[str, list[PartitionRead]] = {}
            for key in left:
                by_home.setdefault(store.home_of(key), []).append(feed.read(key, at[key]))
            for reads in by_home.values():
                begin = partial(store.transaction_for, reads[0].partition)
                decide_and_write(begin, reads, decider_of(TOPIC, CATALOGUE), lambda t, b: t.write(b))
                at |= {read.partition: read.next_offset for read in reads}
    finally:
        store.close()
        shards.close()


def grant(shards: ShardMap, team: str, key: str) -> None:
    """One more credit for the team; repeated with its key until somebody says that it happened."""
    while True:
        try:
            ledger = Ledger(PostgresLedgerStore(shards))
            ledger.execute(GrantCredits(team_id=team, amount_micros=1_000_000), CALLER, key)
        except (Busy, OutcomeUnknown):
            time.sleep(0.02)
        else:
            return


def open_teams(shards: ShardMap) -> None:
    """Every team has an account and more credit than it will use."""
    ledger = Ledger(PostgresLedgerStore(shards))
    for team in TEAMS:
        ledger.execute(OpenAccount(team_id=team), CALLER, f"open {team}")
        ledger.execute(GrantCredits(team_id=team, amount_micros=GRANTED * 1_000_000), CALLER, f"first {team}")


def start(what: str, urls: Urls, *arguments: object, failpoint: str = "") -> subprocess.Popen[str]:
    """This module in a process of its own, which dies at the place."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.infra.two_servers", what, *urls, *map(str, arguments)],
        cwd=ROOT,
        env=os.environ | {VARIABLE: failpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def main(what: str, first: str, east: str, *arguments: str) -> None:
    """``consume LENGTH STREWN`` or ``move SHARD TO``."""
    urls = Urls(first, east)
    if what == "consume":
        consume(urls, Feed(int(arguments[0]), arguments[1] == "True"))
    else:
        shards = opened(urls)
        move(shards, int(arguments[0]), arguments[1], read_models())
        shards.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
