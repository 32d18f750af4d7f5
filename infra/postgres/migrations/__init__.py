"""The database is brought to the newest revision: raw SQL, one statement at a time, one migrator at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, create_engine
from sqlalchemy.pool import NullPool

from infra.postgres.connections import Timeouts, connect
from infra.postgres.refolding import Progress, Refolded, refold_older_heads
from infra.settings import Settings

_HERE = Path(__file__).parent
# Any number does that nothing else in the database uses.
_MIGRATION_LOCK = 0x436F6666
_WAIT_FOR_OTHER_MIGRATOR = "60s"
# A migration that waits for a table blocks everyone who comes after it, so it gives up soon and may be run again.
_WAIT_FOR_TABLE = "5s"


class InstallationMismatch(RuntimeError):
    """The database was installed with another number of shards; a team's shard never changes."""


def migrate(
    database_url: str,
    shards: int | None = None,
    *,
    progress: Progress = lambda _: None,
    revision: str = "head",
) -> Refolded:
    """The database has the newest tables and a log for each of its shards; running it again changes nothing.

    Accounts whose heads are of an older schema are folded again after that, each in a transaction of its own; returns how many,
    and which could not be. ``shards`` is fixed by the first run; without it the setting COFFER_SHARDS counts. An older
    ``revision`` leaves the tables as they were then, and every account as it is.
    Raises: InstallationMismatch when the database was installed with another number of shards.
    """
    wanted = Settings().shards if shards is None else shards
    with _only_migrator(database_url) as connection:
        config = Config()
        config.set_main_option("script_location", str(_HERE))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
        _install(connection, wanted)
        if revision != "head":
            return Refolded()
        with connect(database_url, Timeouts(), "coffer migrate") as own:
            own.autocommit = True
            return refold_older_heads(own, wanted, progress)


def run_sql(connection: Connection, file_name: str) -> None:
    """Every statement of the file beside this one was executed, each by itself."""
    raw = driver_connection(connection)
    for statement in statements(file_name):
        raw.execute(statement.encode())


def statements(file_name: str) -> list[str]:
    """The statements of an SQL file: each ends with a semicolon at the end of a line, outside the body of a function."""
    found, current = [], ""
    for line in (_HERE / file_name).read_text().splitlines():
        if line.lstrip().startswith("--") or not (current or line.strip()):
            continue
        current += f"{line}\n"
        if line.endswith(";") and current.count("$$") % 2 == 0:
            found.append(current.strip().removesuffix(";"))
            current = ""
    assert not current, f"{file_name} ends within a statement: {current[:80]!r}"
    return found


def driver_connection(connection: Connection) -> psycopg.Connection[tuple[object, ...]]:
    """The psycopg connection beneath; its `execute` without parameters leaves percent signs alone."""
    raw = connection.connection.driver_connection
    assert isinstance(raw, psycopg.Connection)
    return raw


@contextmanager
def _only_migrator(database_url: str) -> Iterator[Connection]:
    """A connection that holds the migration lock; others wait for it, at most a minute."""
    engine = create_engine(
        "postgresql+psycopg://",
        poolclass=NullPool,
        creator=lambda: psycopg.connect(database_url, application_name="coffer migrate"),
    )
    with engine.connect() as connection:
        raw = driver_connection(connection)
        raw.execute("SELECT set_config('lock_timeout', %s, false)", [_WAIT_FOR_OTHER_MIGRATOR])
        raw.execute("SELECT pg_advisory_lock(%s)", [_MIGRATION_LOCK])
        raw.execute("SELECT set_config('lock_timeout', %s, false)", [_WAIT_FOR_TABLE])
        raw.commit()
        # The lock belongs to the session and ends with the connection.
        yield connection
    engine.dispose()


def _install(connection: Connection, shards: int) -> None:
    """The installation row and one log per shard exist, as many as asked for."""
    raw = driver_connection(connection)
    raw.execute("INSERT INTO installation (shards) VALUES (%s) ON CONFLICT DO NOTHING", [shards])
    row = raw.execute("SELECT shards FROM installation").fetchone()
    assert row is not None
    if row[0] != shards:
        raw.rollback()
        raise InstallationMismatch(
            f"COFFER_SHARDS is {shards}, but this database was installed with {row[0]} shards, for good: set it to {row[0]}"
        )
    raw.execute(
        "INSERT INTO shard_log (shard) SELECT generate_series(0, %s - 1) ON CONFLICT DO NOTHING", [shards]
    )
    raw.commit()
