"""Whether the processes beside the worker have done their part: the relay, the payment provider, the bank."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

from psycopg.rows import tuple_row

from domain.account.decision import account_id
from infra.local.gateway import LOST, TEAMS, WON
from infra.postgres.shards import ShardMap

_PAYMENT_TOPICS = [
    "AutoTopUpRequested.1",
    "CreditsToppedUp.1",
    "AutoTopUpFailed.1",
    "ChargebackWon.1",
    "ChargebackLost.1",
]


def events_to_relay(shards: ShardMap) -> int:
    """How many events of the ledger are not known to be on Kafka."""
    behind = 0
    for shard in range(shards.count):
        with (
            shards.connection_for(shard) as connection,
            closing(connection.cursor(row_factory=tuple_row)) as cursor,
        ):
            cursor.execute(
                "SELECT l.position - coalesce(max(t.position), 0) FROM shard_log l"
                " LEFT JOIN tracking t ON t.shard = l.shard AND t.projection LIKE 'relay to %%'"
                " WHERE l.shard = %s GROUP BY l.position",
                (shard,),
            )
            row = cursor.fetchone()
            behind += max(0, row[0]) if row else 0
    return behind


def answers_awaited(shards: ShardMap) -> int:
    """How many answers of provider and bank the gateways' teams still wait for."""
    return sum(_awaited(shards, team_id) for team_id in TEAMS)


def _awaited(shards: ShardMap, team_id: str) -> int:
    shard = shards.shard_of(team_id)
    with (
        shards.connection_for(shard) as connection,
        closing(connection.cursor(row_factory=tuple_row)) as cursor,
    ):
        cursor.execute(
            "SELECT topic, convert_from(state, 'UTF8')::jsonb ->> 'payment_reference' FROM ledger_events"
            " WHERE shard = %s AND originator_id = %s AND topic = ANY(%s)",
            (shard, account_id(team_id), _PAYMENT_TOPICS),
        )
        told: dict[str, set[str]] = {}
        for topic, reference in cursor:
            told.setdefault(topic, set()).add(reference)
    asked = told.get("AutoTopUpRequested.1", set())
    settled = told.get("CreditsToppedUp.1", set()) & asked
    open_requests = asked - settled - told.get("AutoTopUpFailed.1", set())
    is_taken_back = bool(settled) and team_id in (WON, LOST)
    is_decided = bool(told.get("ChargebackWon.1") or told.get("ChargebackLost.1"))
    return len(open_requests) + (is_taken_back and not is_decided)


def log_positions(shards: ShardMap) -> dict[int, int]:
    """Where the log of each shard ends now."""
    positions: dict[int, int] = {}
    for name in shards.databases:
        with shards.connection_to(name) as connection:
            positions |= connection.execute(
                "SELECT shard, position FROM shard_log WHERE lives_here"
            ).fetchall()
    return positions


def events_since(shards: ShardMap, positions: Mapping[int, int]) -> dict[str, int]:
    """How many events of each kind the log got since it ended there, by the event's name."""
    counts: dict[str, int] = {}
    for shard, position in positions.items():
        with shards.connection_for(shard) as connection:
            rows = connection.execute(
                "SELECT topic, count(*) FROM ledger_events WHERE shard = %s AND position > %s GROUP BY topic",
                (shard, position),
            ).fetchall()
        for topic, count in rows:
            name = topic.rpartition(".")[0]
            counts[name] = counts.get(name, 0) + count
    return dict(sorted(counts.items()))


def captures_since(shards: ShardMap, positions: Mapping[int, int]) -> int:
    """How many charges since then took credit that their hold had set aside."""
    captures = 0
    for shard, position in positions.items():
        with shards.connection_for(shard) as connection:
            row = connection.execute(
                "SELECT count(*) FROM ledger_events WHERE shard = %s AND position > %s"
                " AND topic LIKE 'CreditsCharged.%%' AND position('\"hold_lines\":'::bytea IN state) > 0",
                (shard, position),
            ).fetchone()
        assert row is not None
        captures += row[0]
    return captures
