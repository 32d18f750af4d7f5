"""Workers that froze in the middle of a transaction: whoever waits for their locks ends it.

The server's own bound on idle transactions is blind to a client that stops in the middle of a COPY or of a pipeline: it counts
from the end of an exchange, and nothing but being ended interrupts a COPY that waits for its next byte.
"""

from __future__ import annotations

import structlog

from infra.postgres.connections import NOT_REACHED
from infra.postgres.shards import ShardMap

WORKER = "coffer-consume"
"""The application name of every connection of a worker."""

SILENT_MILLISECONDS_MAX = 10_000
"""A worker that says nothing inside a transaction holds its accounts no longer than this; deciding takes far less."""

_log = structlog.get_logger("frozen")


def end_frozen_workers(
    shards: ShardMap, databases: list[str], silent_milliseconds: int = SILENT_MILLISECONDS_MAX
) -> int:
    """No worker holds a lock in these databases whose transaction waits for its next word for so long; returns how many did.

    What they had done is rolled back; a worker that wakes up finds its connection ended, and reads its partitions anew.
    Workers of another database role are not ours to end. A database that is away holds nobody up, and is left out.
    """
    return sum(_ended_at(shards, name, silent_milliseconds) for name in databases)


def _ended_at(shards: ShardMap, name: str, silent_milliseconds: int) -> int:
    try:
        with shards.connection_to(name) as connection:
            rows = connection.execute(
                "SELECT pid, extract(epoch FROM clock_timestamp() - greatest(query_start, state_change))::float,"
                " pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND usename = current_user AND application_name = %s"
                " AND xact_start IS NOT NULL AND wait_event = 'ClientRead'"
                " AND greatest(query_start, state_change) < clock_timestamp() - %s * interval '1 millisecond'",
                (WORKER, silent_milliseconds),
            ).fetchall()
    except NOT_REACHED as error:
        _log.warning("frozen_workers_not_looked_for", database=name, error=str(error))
        return 0
    for pid, silent, _ in rows:
        _log.warning(
            "frozen_worker_ended", database=name, server_process=pid, silent_seconds=round(silent, 1)
        )
    return len(rows)
