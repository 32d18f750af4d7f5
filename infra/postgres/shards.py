"""Which database holds which shard: the one place that knows, and the connections to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from threading import Lock
from typing import NamedTuple

import psycopg
from eventsourcing.postgres import PostgresDatastore
from psycopg.conninfo import conninfo_to_dict
from psycopg.rows import TupleRow, dict_row, tuple_row

from domain.shards import shard_of
from infra.postgres.connections import FIRST, NOT_REACHED, ShardMoved, Timeouts, connect, session_options
from infra.settings import Settings

POOL_WAIT_SECONDS = 5
"""How long short work waits for a free connection."""

MAP_READS_MAX = 3
"""How often the map is read again for one question; a shard that moves more often than that is answered with an error."""


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


class WrongDatabase(RuntimeError):
    """A database is not the one that the settings say: another ledger's, under another name, or with a shard that lives twice."""


class ShardMap:
    """The shards of an installation and where they live: all in the first database, or each in one of several.

    The databases say themselves which shards live in them; the map reads it when it is made and again whenever a shard is not
    found where it was. Connections for short work come from one pool per database; a worker that keeps one open asks for its
    own. ``others`` are the databases beside the first one, by name.
    Raises: WrongDatabase; psycopg.OperationalError when one of them does not answer.
    """

    def __init__(
        self,
        database_url: str,
        *,
        others: Mapping[str, str] | None = None,
        timeouts: Timeouts | None = None,
        application_name: str = "coffer",
        connections_max: int = 8,
    ) -> None:
        self._urls = {FIRST: database_url, **(others or {})}
        self._timeouts = timeouts or Timeouts()
        self._application_name = application_name
        self._datastores = {
            name: LedgerDatastore(url, self._timeouts, application_name, connections_max)
            for name, url in self._urls.items()
        }
        self._lock = Lock()
        self._homes: dict[int, str] = {}
        self.count = self._installed_shards()

    @classmethod
    def of(cls, settings: Settings, database_url: str, application_name: str) -> ShardMap:
        """The map as the settings bound its connections."""
        return cls(
            database_url,
            others=settings.other_databases,
            timeouts=Timeouts.of(settings),
            application_name=application_name,
            connections_max=settings.database_connections_max,
        )

    @property
    def databases(self) -> list[str]:
        """The names of the databases, the first one first: the order in which whoever needs several takes their locks."""
        return list(self._urls)

    def shard_of(self, team_id: str) -> int:
        """The shard of a team, for ever."""
        return shard_of(team_id, self.count)

    def home_of(self, shard: int) -> str:
        """The name of the database in which the shard lives, as far as this map knows.

        Raises: ShardMoved while it lives in none of them: it is on its way, or its database is not among the settings.
        """
        assert 0 <= shard < self.count, f"shard {shard} is none of 0 to {self.count - 1}"
        if shard not in self._homes:
            self.refresh()
        home = self._homes.get(shard)
        if home is None:
            raise ShardMoved(
                f"shard {shard} lives in none of {', '.join(self._urls)}: it is being moved (`coffer shards`), or"
                " COFFER_MORE_DATABASES lacks its database"
            )
        return home

    def shards_at(self, name: str) -> list[int]:
        """The shards that live in the database of that name, as far as this map knows."""
        return sorted(shard for shard, home in self._homes.items() if home == name)

    def refresh(self) -> None:
        """The map is as the databases say now; of one that does not answer it keeps what it knew. Raises: WrongDatabase."""
        for _ in range(MAP_READS_MAX):
            said = {name: told.shards for name in self._urls if (told := self._heard(name)) is not None}
            if self._learn(said):
                return
        raise WrongDatabase(
            f"some shard lives in two of {', '.join(said)} at once: only one can be right ({said})"
        )

    def datastore_for(self, shard: int) -> LedgerDatastore:
        """The library's datastore, with its pool, of the database that holds the shard."""
        return self._datastores[self.home_of(shard)]

    @property
    def first_datastore(self) -> LedgerDatastore:
        """The library's datastore of the database that also holds what belongs to no shard."""
        return self._datastores[FIRST]

    @contextmanager
    def connection_for(self, shard: int) -> Iterator[psycopg.Connection[TupleRow]]:
        """A pooled connection, in autocommit, to the database that holds the shard; errors are psycopg's own.

        Where there are several, that database was asked just now whether the shard still lives there.
        Raises: ShardMoved, psycopg_pool.PoolTimeout.
        """
        for _ in range(MAP_READS_MAX):
            home = self.home_of(shard)
            with self.connection_to(home) as connection:
                if len(self._urls) == 1 or _lives_there(connection, shard):
                    yield connection
                    return
            self.forget(shard, home)
        raise ShardMoved(f"shard {shard} is moved again and again: it was last seen at {home}")

    @contextmanager
    def connection_to(self, name: str) -> Iterator[psycopg.Connection[TupleRow]]:
        """A pooled connection, in autocommit, to the database of that name. Raises: psycopg_pool.PoolTimeout."""
        pool = self._datastores[name].pool
        pool.open()
        with pool.connection() as connection:
            # The library reads its rows as dicts, and gets the connection back as it was.
            connection.row_factory = tuple_row  # type: ignore[assignment]
            try:
                yield connection  # type: ignore[misc]
            finally:
                connection.row_factory = dict_row

    def first_connection(self) -> AbstractContextManager[psycopg.Connection[TupleRow]]:
        """A pooled connection to the database that also holds what belongs to no shard."""
        return self.connection_to(FIRST)

    def own_connection_for(self, shard: int, more_options: str = "") -> psycopg.Connection[TupleRow]:
        """A connection that belongs to the caller alone, to the database that holds the shard."""
        return self.own_connection_to(self.home_of(shard), more_options)

    def own_connection_to(self, name: str, more_options: str = "") -> psycopg.Connection[TupleRow]:
        """A connection that belongs to the caller alone, to the database of that name."""
        return connect(self._urls[name], self._timeouts, self._application_name, more_options)

    def url_of(self, name: str) -> str:
        """The address of the database of that name."""
        return self._urls[name]

    def close(self) -> None:
        """No connection of the pools is open any more."""
        for datastore in self._datastores.values():
            datastore.close()

    def forget(self, shard: int, home: str) -> None:
        """The shard lives there no longer; whoever asks next reads the map again."""
        with self._lock:
            if self._homes.get(shard) == home:
                del self._homes[shard]

    def _learn(self, said: Mapping[str, Sequence[int]]) -> bool:
        """The map of these databases is as they say; False when a shard was seen at two, moved from one to the other between."""
        homes = {shard: name for name, shards in said.items() for shard in shards}
        if len(homes) != sum(map(len, said.values())):
            return False
        with self._lock:
            kept = {shard: name for shard, name in self._homes.items() if name not in said}
            self._homes = kept | homes
        return True

    def _heard(self, name: str) -> _Told | None:
        """What the database of that name says of itself, None while it does not answer."""
        try:
            return self._told(name)
        except NOT_REACHED:
            return None

    def _told(self, name: str) -> _Told:
        with connect(self._urls[name], self._timeouts, self._application_name) as connection:
            row = connection.execute(
                "SELECT shards, installed_at, database_name FROM installation"
            ).fetchone()
            assert row is not None, "the database is not installed: run `coffer migrate`"
            living = connection.execute("SELECT shard FROM shard_log WHERE lives_here").fetchall()
        return _Told(row[0], row[1], row[2], [shard for (shard,) in living])

    def _installed_shards(self) -> int:
        """The number of shards of the first database; all others belong to the same ledger. Raises: WrongDatabase."""
        said = {name: self._told(name) for name in self._urls}
        first = said[FIRST]
        for name, told in said.items():
            if (told.shards_in_all, told.installed_at) != (first.shards_in_all, first.installed_at):
                raise WrongDatabase(
                    f"the database given as {name!r} belongs to another ledger: run `coffer migrate`"
                )
            if told.name != name:
                raise WrongDatabase(
                    f"the database given as {name!r} is called {told.name!r}, for good: give it that name"
                )
        if not self._learn({name: told.shards for name, told in said.items()}):
            self.refresh()
        return first.shards_in_all


class _Told(NamedTuple):
    """What a database says of itself."""

    shards_in_all: int
    installed_at: datetime
    name: str
    shards: list[int]


def _lives_there(connection: psycopg.Connection[TupleRow], shard: int) -> bool:
    row = connection.execute("SELECT lives_here FROM shard_log WHERE shard = %s", (shard,)).fetchone()
    return row is not None and bool(row[0])
