"""Which database holds which shard: the one place that knows, and the connections to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from eventsourcing.postgres import PostgresDatastore
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow, dict_row, tuple_row

from domain.shards import shard_of
from infra.postgres.connections import Timeouts, connect, session_options
from infra.settings import Settings

POOL_WAIT_SECONDS = 5
"""How long short work waits for a free connection."""


class LedgerDatastore(PostgresDatastore):
    """The library's datastore on any libpq address, with our bounds on every wait."""

    def __init__(
        self, database_url: str, timeouts: Timeouts, application_name: str, connections_max: int
    ) -> None:
        address = conninfo_to_dict(database_url)
        super().__init__(
            dbname=str(address.get("dbname", "")),
            host=str(address.get("host", "")),
            port=str(address.get("port", "")),
            user=str(address.get("user", "")),
            password=str(address.get("password", "")),
            connect_timeout=POOL_WAIT_SECONDS,
            idle_in_transaction_session_timeout=timeouts.idle_in_transaction_milliseconds / 1000,
            pool_size=1,
            max_overflow=connections_max - 1,
            lock_timeout=max(1, timeouts.lock_milliseconds // 1000),
            # A connection that died while it lay in the pool is found out before it is used.
            pre_ping=True,
            enable_db_functions=False,
        )
        # The library passes five parts of an address; the rest (TLS, target session, ...) counts too.
        self.pool.kwargs = {
            **address,
            "options": session_options(timeouts),
            "application_name": application_name,
            "row_factory": dict_row,
        }


class ShardMap:
    """The shards of an installation and where they live: one database now, several by a longer list.

    Connections for short work come from one pool per database; a worker that keeps one open asks for its own.
    """

    def __init__(
        self,
        database_url: str,
        *,
        timeouts: Timeouts | None = None,
        application_name: str = "coffer",
        connections_max: int = 8,
    ) -> None:
        self._database_url = database_url
        self._timeouts = timeouts or Timeouts()
        self._application_name = application_name
        self._datastore = LedgerDatastore(database_url, self._timeouts, application_name, connections_max)
        self.count = self._installed_shards()

    @classmethod
    def of(cls, settings: Settings, database_url: str, application_name: str) -> ShardMap:
        """The map as the settings bound its connections."""
        return cls(
            database_url,
            timeouts=Timeouts.of(settings),
            application_name=application_name,
            connections_max=settings.database_connections_max,
        )

    def shard_of(self, team_id: str) -> int:
        """The shard of a team, for ever."""
        return shard_of(team_id, self.count)

    def datastore_for(self, shard: int) -> LedgerDatastore:
        """The library's datastore, with its pool, of the database that holds the shard."""
        assert 0 <= shard < self.count, f"shard {shard} is none of 0 to {self.count - 1}"
        return self._datastore

    @contextmanager
    def connection_for(self, shard: int) -> Iterator[psycopg.Connection[TupleRow]]:
        """A pooled connection, in autocommit, to the database that holds the shard; errors are psycopg's own.

        Raises: psycopg_pool.PoolTimeout.
        """
        pool = self.datastore_for(shard).pool
        pool.open()
        with pool.connection() as connection:
            # The library reads its rows as dicts, and gets the connection back as it was.
            connection.row_factory = tuple_row  # type: ignore[assignment]
            try:
                yield connection  # type: ignore[misc]
            finally:
                connection.row_factory = dict_row

    def own_connection_for(self, shard: int, more_options: str = "") -> psycopg.Connection[TupleRow]:
        """A connection that belongs to the caller alone, to the database that holds the shard."""
        assert 0 <= shard < self.count, f"shard {shard} is none of 0 to {self.count - 1}"
        return connect(self._database_url, self._timeouts, self._application_name, more_options)

    def close(self) -> None:
        """No connection of the pools is open any more."""
        self._datastore.close()

    def _installed_shards(self) -> int:
        with connect(self._database_url, self._timeouts, self._application_name) as connection:
            row = connection.execute("SELECT shards FROM installation").fetchone()
        assert row is not None, "the database is not installed: run `coffer migrate`"
        return int(row[0])
