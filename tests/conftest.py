"""Real servers for tests: each run starts its own PostgreSQL and Kafka, or uses those that the environment names.

`COFFER_TEST_DATABASE_URL` and `COFFER_TEST_KAFKA_BOOTSTRAP` name running servers. Under `CI=true` nothing may be
skipped: a test that could not run has failed.
"""

import os
import shutil
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import pytest
from psycopg import sql

from infra.local.kafka import LocalKafka
from infra.local.postgres import LocalPostgres
from infra.topics import Topic, create_topics

REPOSITORY = Path(__file__).resolve().parent.parent
# Jars are fetched once for all runs; data are made anew for each.
CACHE = REPOSITORY / ".coffer" / "cache"
RUNS = REPOSITORY / ".coffer" / "test"
IN_CI = os.environ.get("CI", "").lower() == "true"

# Every process that a test starts seals heads alike, wherever it keeps its state.
os.environ.setdefault("COFFER_HEAD_KEYS", "the head key of all processes of a test run")

MakeTopic = Callable[..., str]


# --- nothing is skipped in CI ---


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test counts as failed in CI, with its reason."""
    report = yield
    if IN_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {_reason(report.longrepr)}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A skipped module counts as failed in CI, with its reason."""
    report = yield
    if IN_CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"skipped, which CI does not allow: {_reason(report.longrepr)}"
    return report


def _reason(longrepr: object) -> object:
    return longrepr[2] if isinstance(longrepr, tuple) else longrepr


# --- where a run keeps its data ---


@pytest.fixture(scope="session")
def run_directory() -> Iterator[Path]:
    """A directory of this run alone; those of runs that ended without clearing up are removed."""
    RUNS.mkdir(parents=True, exist_ok=True)
    for left in RUNS.iterdir():
        if not (left.name.isdigit() and psutil.pid_exists(int(left.name))):
            shutil.rmtree(left, ignore_errors=True)
    mine = RUNS / str(os.getpid())
    mine.mkdir()
    yield mine
    shutil.rmtree(mine, ignore_errors=True)


# --- PostgreSQL ---


@pytest.fixture(scope="session")
def postgres_server(run_directory: Path) -> Iterator[LocalPostgres]:
    """An embedded PostgreSQL for the whole run."""
    server = LocalPostgres(run_directory)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def server_url(request: pytest.FixtureRequest) -> str:
    """The address of a PostgreSQL on which tests may make databases."""
    given = os.environ.get("COFFER_TEST_DATABASE_URL")
    if given:
        return given
    server: LocalPostgres = request.getfixturevalue("postgres_server")
    return server.url


@pytest.fixture(scope="session")
def migrated_template(server_url: str) -> Iterator[str]:
    """The name of a migrated database that others are copied from."""
    # Only now: tests without a database shall run without it.
    from infra.postgres.migrations import migrate

    with fresh_database(server_url, "template0") as url:
        migrate(url)
        yield database_of(url)


@pytest.fixture
def database_url(server_url: str, migrated_template: str) -> Iterator[str]:
    """The address of a fresh, migrated database for one test."""
    with fresh_database(server_url, migrated_template) as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(server_url: str, migrated_template: str) -> Iterator[str]:
    """The address of a fresh, migrated database for the tests of one module."""
    with fresh_database(server_url, migrated_template) as url:
        yield url


@pytest.fixture(scope="session")
def empty_database(server_url: str) -> Callable[[], AbstractContextManager[str]]:
    """Makes databases without any table: `with empty_database() as url`."""
    return lambda: fresh_database(server_url, "template0")


@contextmanager
def fresh_database(server_url: str, template: str) -> Iterator[str]:
    """A copy of the template under a new name, dropped afterwards even when someone is still connected."""
    name = f"coffer_test_{uuid4().hex[:12]}"
    identifiers = {"name": sql.Identifier(name), "template": sql.Identifier(template)}
    with psycopg.connect(server_url, autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {name} TEMPLATE {template}").format(**identifiers))
        try:
            yield with_database(server_url, name)
        finally:
            admin.execute(sql.SQL("DROP DATABASE {name} WITH (FORCE)").format(**identifiers))


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    head, _, _ = url.partition("?")[0].rpartition("/")
    query = url.partition("?")[2]
    return f"{head}/{name}" + (f"?{query}" if query else "")


def database_of(url: str) -> str:
    """The name of the database in an address."""
    return url.partition("?")[0].rpartition("/")[2]


@pytest.fixture
def own_postgres(run_directory: Path) -> Iterator[LocalPostgres]:
    """A started PostgreSQL that one test may kill and start again."""
    directory = run_directory / f"own-{uuid4().hex[:8]}"
    server = LocalPostgres(directory)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(directory, ignore_errors=True)


# --- Kafka ---


@pytest.fixture(scope="session")
def kafka_server(run_directory: Path) -> Iterator[LocalKafka]:
    """An embedded Kafka for the whole run."""
    server = LocalKafka(run_directory, cache=CACHE)
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def kafka_bootstrap(request: pytest.FixtureRequest) -> str:
    """The address of a Kafka on which tests may make topics."""
    given = os.environ.get("COFFER_TEST_KAFKA_BOOTSTRAP")
    if given:
        return given
    server: LocalKafka = request.getfixturevalue("kafka_server")
    return server.bootstrap


@pytest.fixture
def topic(kafka_bootstrap: str) -> MakeTopic:
    """Makes topics that no other test knows: `topic(partitions=8, name="usage") -> str`; broker time, as ours."""

    def make(partitions: int = 8, name: str = "test") -> str:
        unique = f"{name}.{uuid4().hex[:12]}"
        create_topics(kafka_bootstrap, [Topic(unique, partitions)])
        return unique

    return make


@pytest.fixture
def own_kafka(run_directory: Path) -> Iterator[LocalKafka]:
    """A started Kafka that one test may kill and start again."""
    directory = run_directory / f"own-{uuid4().hex[:8]}"
    server = LocalKafka(directory, cache=CACHE)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(directory, ignore_errors=True)


# --- the real trace ---


@pytest.fixture(scope="session")
def real_trace() -> Path:
    """The real trace of requests; without it the test says so, and fails in CI."""
    path = Path(
        os.environ.get("COFFER_TRACE") or REPOSITORY.parent / "shared/data/generation_requests.csv.gz"
    )
    if not path.exists():
        pytest.skip(f"the real trace is not at {path}; set COFFER_TRACE to its path")
    return path
