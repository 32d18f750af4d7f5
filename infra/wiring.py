"""The one place that builds things: from settings to a ledger, its questions, and the API before them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec

from infra.settings import Settings, key_pepper, quote_keys, signing_secret

if TYPE_CHECKING:
    # A command that only prints its settings need not wait for the database driver or the web framework.
    from starlette.types import ASGIApp

    from api.app import Behind
    from api.queries import Queries
    from api.rates import Rates
    from api.tokens import TokenReader
    from domain.ledger import Ledger
    from infra.dead_letters import DeadLetterDesk
    from infra.invoices import InvoiceDesk
    from infra.kafka.intake import KafkaIntake
    from infra.postgres.account_reads import AsyncShards, PostgresAccountReads
    from infra.postgres.api_keys import ApiKeys
    from infra.postgres.batch_stores import BatchStores
    from infra.postgres.catalogue_store import PostgresCatalogue
    from infra.postgres.dead_letters import DeadLetters
    from infra.postgres.due_teams import DueTeams
    from infra.postgres.ledger_store import Clock, PostgresLedgerStore
    from infra.postgres.read_models import PostgresStatement
    from infra.postgres.shards import ShardMap
    from infra.postgres.spending_model import PostgresSpending
    from infra.postgres.stream_state import StreamState
    from infra.signing import SigningKey
    from infra.works import WorkDesk

T = TypeVar("T")


class NotConnected(RuntimeError):
    """No address was given and no local stack is running."""


class Endpoints(msgspec.Struct, frozen=True):
    """Where a running local stack listens; `coffer up` notes it in the state directory."""

    database_url: str | None = None
    kafka_bootstrap: str | None = None
    api_url: str | None = None


def endpoints_file(state_directory: Path) -> Path:
    """The file in which a running local stack is noted."""
    return state_directory / "endpoints.json"


def connected(settings: Settings) -> Settings:
    """The settings with the addresses of the running local stack where none was given."""
    file = endpoints_file(settings.state_directory)
    noted = msgspec.json.decode(file.read_bytes(), type=Endpoints) if file.exists() else Endpoints()
    return settings.model_copy(
        update={
            "database_url": settings.database_url or noted.database_url,
            "kafka_bootstrap": settings.kafka_bootstrap or noted.kafka_bootstrap,
        }
    )


class Wiring:
    """What one process uses, each part built when it is first asked for and closed at the end.

    ``now`` replaces the database's clock in commands and answers, for tests that tell a story in time.
    Raises, where a database or a broker is needed and none is known: NotConnected.
    """

    def __init__(
        self,
        settings: Settings,
        application_name: str = "coffer",
        *,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        self.settings = connected(settings)
        self._now = now
        self._application_name = application_name
        self._closing: list[Callable[[], None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def database_url(self) -> str:
        """The address of the database."""
        if self.settings.database_url is None:
            raise NotConnected(
                "no database: set COFFER_DATABASE_URL, or start the local stack with `coffer up`"
                f" (looked in {self.settings.state_directory})"
            )
        return self.settings.database_url

    @property
    def kafka_bootstrap(self) -> str:
        """The address of the broker."""
        if self.settings.kafka_bootstrap is None:
            raise NotConnected(
                "no Kafka: set COFFER_KAFKA_BOOTSTRAP, or start the local stack with `coffer up`"
            )
        return self.settings.kafka_bootstrap

    @property
    def databases(self) -> dict[str, str]:
        """The addresses of all databases of the ledger by name, the first one first."""
        return {"first": self.database_url, **self.settings.other_databases}

    @cached_property
    def pepper(self) -> bytes:
        """What keys the digests of API keys and the signatures of cursors."""
        return key_pepper(self.settings)

    @cached_property
    def quote_keys(self) -> list[bytes]:
        """What signs quotes, newest first."""
        return quote_keys(self.settings)

    @cached_property
    def shards(self) -> ShardMap:
        """The shards of the installation."""
        from infra.postgres.shards import ShardMap

        shards = ShardMap.of(self.settings, self.database_url, self._application_name)
        self._closing.append(shards.close)
        return shards

    @cached_property
    def ledger(self) -> Ledger:
        """Decides commands."""
        from domain.ledger import Ledger

        return Ledger(self.ledger_store, self.catalogue.current, self.quote_keys, self.signing_key)

    @cached_property
    def ledger_store(self) -> PostgresLedgerStore:
        """Opens transactions on accounts."""
        from infra.postgres.ledger_store import PostgresLedgerStore

        return PostgresLedgerStore(self.shards, clock=self._clock())

    @cached_property
    def due_teams(self) -> DueTeams:
        """Finds teams on which something is due."""
        from infra.postgres.due_teams import DueTeams

        return DueTeams(self.shards, clock=self._clock())

    @cached_property
    def catalogue(self) -> PostgresCatalogue:
        """What is sold."""
        from infra.postgres.catalogue_store import PostgresCatalogue

        catalogue = PostgresCatalogue(self.shards)
        self._closing.append(catalogue.close)
        return catalogue

    @cached_property
    def keys(self) -> ApiKeys:
        """API keys."""
        from infra.postgres.api_keys import ApiKeys

        return ApiKeys(self.shards, self.pepper)

    @cached_property
    def statement(self) -> PostgresStatement:
        """Reads of the statement."""
        from infra.postgres.read_models import PostgresStatement

        return PostgresStatement(self.shards)

    @cached_property
    def spending(self) -> PostgresSpending:
        """Reads of spending."""
        from infra.postgres.spending_model import PostgresSpending

        return PostgresSpending(self.shards)

    @cached_property
    def intake(self) -> KafkaIntake:
        """The stream of usage, for records that come over HTTP."""
        from infra.kafka.intake import KafkaIntake
        from infra.topics import USAGE

        intake = KafkaIntake(self._broker, USAGE)
        self._closing.append(intake.close)
        return intake

    @cached_property
    def invoices(self) -> InvoiceDesk:
        """Reads of invoices, and who sells."""
        from infra.invoices import InvoiceDesk

        return InvoiceDesk(self.shards)

    @cached_property
    def signing_key(self) -> SigningKey:
        """What signs checks of handovers."""
        from infra.signing import SigningKey

        return SigningKey(signing_secret(self.settings))

    @cached_property
    def works(self) -> WorkDesk:
        """Reads of works and contexts."""
        from infra.works import WorkDesk

        return WorkDesk(self.shards)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        """Records that were rejected or parked."""
        from infra.postgres.dead_letters import DeadLetters

        return DeadLetters(self.shards)

    @cached_property
    def letter_desk(self) -> DeadLetterDesk:
        """Dead letters as people read them."""
        from infra.dead_letters import DeadLetterDesk

        return DeadLetterDesk(
            self.dead_letters, self.stream_state, lambda: self.batch_store, self.catalogue.current
        )

    @cached_property
    def stream_state(self) -> StreamState:
        """Where the ledger stands in the stream."""
        from infra.postgres.stream_state import StreamState

        return StreamState(self.shards)

    @cached_property
    def batch_store(self) -> BatchStores:
        """Writes what the stream brings, for retries of dead letters."""
        from infra.postgres.batch_stores import BatchStores

        store = BatchStores(self.shards)
        self._closing.append(store.close)
        return store

    def ask(self, question: Callable[[Queries], Awaitable[T]]) -> T:
        """The answer to one question, or to several on one pool."""

        async def asked() -> T:
            shards, reads = self._reads()
            try:
                return await question(self._behind(reads).queries())
            finally:
                await shards.close()

        return asyncio.run(asked())

    def api(self) -> ASGIApp:
        """The API; its pool of read connections closes with it."""
        from api.app import create_api

        shards, reads = self._reads()
        return create_api(self._behind(reads), closing=shards.close)

    def close(self) -> None:
        """Everything that was built is closed, last first."""
        while self._closing:
            self._closing.pop()()

    def _clock(self) -> Clock | None:
        now = self._now
        return None if now is None else lambda _: now()

    def _reads(self) -> tuple[AsyncShards, PostgresAccountReads]:
        from infra.postgres.account_reads import AsyncShards, PostgresAccountReads
        from infra.postgres.connections import Timeouts

        shards = AsyncShards(
            self.database_url,
            self.shards.count,
            homes=self.shards,
            timeouts=Timeouts.of(self.settings),
            connections_max=self.settings.database_connections_max,
        )
        return shards, PostgresAccountReads(shards, now=self._now)

    def _behind(self, reads: PostgresAccountReads) -> Behind:
        from api.app import Behind
        from infra.postgres.api_keys import ServedKeys

        return Behind(
            ledger=self.ledger,
            accounts=reads,
            statements=self.statement,
            catalogue=self.catalogue,
            keys=ServedKeys(reads, self.keys),
            readiness=reads,
            pepper=self.pepper,
            quote_keys=self.quote_keys,
            invoices=self.invoices,
            issuers=self.invoices,
            works=self.works,
            signing_key=self.signing_key,
            intake=self.intake,
            tokens=self._tokens(),
            rates=self._rates(),
            spending=self.spending,
            publishing=self.catalogue,
            letters=self.letter_desk,
            streams=self.letter_desk,
        )

    def _broker(self) -> str:
        """Where the broker is. Raises: Busy when no address is known, so that who sends records sends them again."""
        from domain.errors import Busy

        try:
            return self.kafka_bootstrap
        except NotConnected as error:
            raise Busy(str(error)) from error

    def _tokens(self) -> TokenReader | None:
        """Believes tokens of the identity provider that the settings name. Raises: ValueError for a key set that is none."""
        from api.tokens import TokenReader

        told = self.settings
        if told.oidc_issuer is None or told.oidc_audience is None or told.oidc_key_set is None:
            return None
        return TokenReader(
            issuer=told.oidc_issuer,
            audience=told.oidc_audience,
            jwks=told.oidc_key_set.read_text(),
            algorithm=told.oidc_algorithm,
        )

    def _rates(self) -> Rates | None:
        from api.rates import Policy, Rates

        told = self.settings
        if told.requests_per_second_max == 0:
            return None
        return Rates(Policy(told.requests_per_second_max, told.requests_at_once_max))
