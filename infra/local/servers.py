"""PostgreSQL and Kafka for one run: our own on loopback, or the real ones that the settings name."""

from __future__ import annotations

import structlog

from infra.local.kafka import LocalKafka
from infra.local.postgres import LocalPostgres
from infra.settings import Settings
from infra.topics import TOPICS, create_topics

_log = structlog.get_logger()


class Servers:
    """The two servers of a run; what was started here is stopped here."""

    def __init__(self, settings: Settings) -> None:
        state = settings.state_directory
        self._given_database, self._given_kafka = settings.database_url, settings.kafka_bootstrap
        self._postgres = LocalPostgres(state, port=settings.local_postgres_port)
        self._kafka = LocalKafka(state, cache=settings.cache, port=settings.local_kafka_port)

    def start_database(self) -> str:
        """A PostgreSQL answers; returns its address. Raises: LocalServerError."""
        return self._given_database or self._postgres.start()

    def start_kafka(self) -> str:
        """A Kafka with the ledger's topics answers; returns its address. Raises: LocalServerError."""
        if self._given_kafka is None:
            self._kafka.start()
        bootstrap = self._given_kafka or self._kafka.bootstrap
        create_topics(bootstrap, TOPICS)
        return bootstrap

    def look_after(self) -> None:
        """A server of ours that ended runs again, at the same address. Call it from the main thread."""
        if self._given_database is None and self._postgres.pid is None:
            _log.warning("server_ended", server="postgres")
            self._postgres.start()
        if self._given_kafka is None and self._kafka.pid is None:
            _log.warning("server_ended", server="kafka")
            self._kafka.start()

    def stop(self) -> None:
        """What was started here is gone, cleanly."""
        self._kafka.stop()
        self._postgres.stop()
