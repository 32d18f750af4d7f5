"""Services that start while the database is away wait for it, as they do once they run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from time import monotonic, sleep

from infra.local.kafka import LocalKafka
from infra.local.postgres import LocalPostgres
from infra.postgres.migrations import migrate
from infra.topics import TOPICS, create_topics
from tests.crash.strikes import Running

SERVICES = {
    "project": "projector_started",
    "relay": "relay_started",
    "tick": "tick_started",
    "serve": "Uvicorn running",
    "consume": "worker_reads",
}
"""Each with what it logs once it runs."""
OPTIONS = {"tick": ["--every", "1"], "serve": ["--port", "0"], "consume": ["--alone"]}


def wait_until(true: Callable[[], bool], what: Callable[[], str]) -> None:
    deadline = monotonic() + 60
    while not true():
        assert monotonic() < deadline, what()
        sleep(0.05)


def test_every_service_waits_for_a_database_that_is_starting(
    own_postgres: LocalPostgres, own_kafka: LocalKafka, tmp_path: Path
) -> None:
    migrate(own_postgres.url, 2)
    create_topics(own_kafka.bootstrap, TOPICS)
    own_postgres.stop_at_once()
    services = {
        name: Running([name, *OPTIONS.get(name, [])], own_postgres.url, own_kafka.bootstrap, tmp_path)
        for name in SERVICES
    }

    def told() -> str:
        return "\n".join(f"--- {name}\n{service.log()}" for name, service in services.items())

    try:
        wait_until(lambda: all("_away" in service.log() for service in services.values()), told)
        own_postgres.start()
        wait_until(lambda: all(SERVICES[name] in service.log() for name, service in services.items()), told)
    finally:
        codes = {name: service.stop() for name, service in services.items()}
    assert codes == dict.fromkeys(SERVICES, 0), told()
