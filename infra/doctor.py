"""What may be wrong with this installation, one check after the other, each with what would help; nothing is changed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import psycopg
from kafka.errors import KafkaError

from infra.kafka.broker import TopicRefused, describe_partitions
from infra.postgres.connections import NOT_REACHED
from infra.postgres.dead_letters import LetterFilter
from infra.postgres.shards import WrongDatabase
from infra.settings import unknown_settings
from infra.topics import PAYMENTS, USAGE
from infra.wiring import NotConnected, Wiring

LAG_EVENTS_MAX = 10_000
"""A read model further behind than this is not merely busy."""

TEAMS_DUE_MAX = 1_000
"""So many teams wait for a tick at most; more say that none runs."""


class Check(NamedTuple):
    """One thing that was looked at: whether it is in order, what was seen, and what would help."""

    check: str
    passes: bool
    seen: str
    remedy: str | None = None


def examine(wiring: Wiring) -> Iterator[Check]:
    """Every check in order; what needs the database is not looked at when that is not there."""
    yield _settings()
    database = _database(wiring)
    yield database
    if database.passes:
        for look in (_clock, _partitions, _letters, _read_models, _due):
            yield look(wiring)
    yield _kafka(wiring)


def _settings() -> Check:
    unknown = unknown_settings(os.environ)
    if unknown:
        return Check("settings", False, f"{', '.join(unknown)}: no such setting", "correct or remove them")
    return Check("settings", True, "all are known")


def _database(wiring: Wiring) -> Check:
    try:
        shards = wiring.shards
        for name in shards.databases:
            with shards.connection_to(name) as connection:
                connection.execute("SELECT 1 FROM installation")
    except NotConnected as error:
        return Check("database", False, str(error), "coffer up, or COFFER_DATABASE_URL")
    except psycopg.errors.UndefinedTable:
        return Check("database", False, "it has no tables yet", "coffer migrate")
    except WrongDatabase as error:
        return Check("database", False, str(error), "name the databases of this ledger")
    except NOT_REACHED as error:
        return Check(
            "database", False, f"not reached: {type(error).__name__}", "start it, or correct its address"
        )
    return Check("database", True, f"{len(shards.databases)} reached, {shards.count} shards")


def _clock(wiring: Wiring) -> Check:
    offset = wiring.stream_state.clock_offset_seconds()
    most = wiring.settings.clock_offset_max_milliseconds
    if abs(offset) * 1_000 > most:
        return Check("clock", False, f"{offset:+.3f} s off the database's", "set this machine's clock right")
    return Check("clock", True, f"{offset:+.3f} s off the database's, {most / 1_000:g} s are allowed")


def _partitions(wiring: Wiring) -> Check:
    places = wiring.stream_state.positions([USAGE, PAYMENTS])
    halted = [each for each in places if each.halted]
    if halted:
        named = ", ".join(f"{each.partition.topic}/{each.partition.partition}" for each in halted)
        return Check(
            "partitions",
            False,
            f"{named} halted: {halted[0].halted}",
            "coffer consume --release TOPIC/PARTITION",
        )
    return Check("partitions", True, f"{len(places)} known, none halted")


def _letters(wiring: Wiring) -> Check:
    counts = wiring.dead_letters.count(LetterFilter())
    if counts:
        told = ", ".join(f"{count:,} {reason}" for (_, reason), count in Counter(counts).most_common(5))
        return Check(
            "dead letters",
            False,
            f"{sum(counts.values()):,} open: {told}",
            "coffer dlq list, then coffer dlq retry",
        )
    return Check("dead letters", True, "none open")


def _read_models(wiring: Wiring) -> Check:
    lags: Counter[str] = Counter()
    halted: dict[str, str] = {}
    for name in wiring.shards.databases:
        with wiring.shards.connection_to(name) as connection:
            rows = connection.execute(
                "SELECT t.projection, sum(l.position - t.position), max(t.halted) FROM tracking t"
                " JOIN shard_log l USING (shard) WHERE l.lives_here GROUP BY 1"
            ).fetchall()
        for projection, lag, why in rows:
            lags[projection] += int(lag)
            if why:
                halted[projection] = why
    if halted:
        name, why = next(iter(halted.items()))
        return Check(
            "read models", False, f"{name} halted: {why}", f"coffer rebuild {name}, once its cause is fixed"
        )
    late = [f"{name} {lag:,}" for name, lag in sorted(lags.items()) if lag > LAG_EVENTS_MAX]
    if late:
        return Check(
            "read models", False, f"events behind: {', '.join(late)}", "coffer project, coffer relay"
        )
    return Check(
        "read models", True, ", ".join(f"{name} {lag:,} behind" for name, lag in sorted(lags.items()))
    )


def _due(wiring: Wiring) -> Check:
    due = sum(1 for _ in islice(wiring.due_teams.teams(), TEAMS_DUE_MAX + 1))
    if due > TEAMS_DUE_MAX:
        return Check(
            "time", False, f"more than {TEAMS_DUE_MAX:,} teams wait for a tick", "coffer tick --every 15"
        )
    return Check("time", True, f"{due:,} teams wait for a tick")


def _kafka(wiring: Wiring) -> Check:
    try:
        found = describe_partitions(wiring.kafka_bootstrap, [USAGE, PAYMENTS])
    except NotConnected as error:
        return Check("kafka", False, str(error), "coffer up, or COFFER_KAFKA_BOOTSTRAP")
    except TopicRefused as error:
        return Check("kafka", False, str(error), "make or mend the topic")
    except (KafkaError, OSError) as error:
        return Check(
            "kafka", False, f"not reached: {type(error).__name__}", "start it, or correct its address"
        )
    return Check("kafka", True, f"{len(found)} partitions of {USAGE} and {PAYMENTS}, stamped by the broker")
