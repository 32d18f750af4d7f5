"""The whole ledger on one machine: servers, workers, projector, tick and API, fed with a day of usage, until told to stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from types import FrameType

import msgspec
import structlog

from consumers.batches import PartitionKey
from domain.catalogue import Catalogue
from domain.ledger import Ledger
from infra.kafka.broker import describe_partitions
from infra.local.children import Children
from infra.local.demo_day import DemoDay
from infra.local.demo_key import kept_api_key
from infra.local.gateway import PROVIDER_ARGUMENTS, GatewaySession
from infra.local.opening import open_teams, publish_demo
from infra.local.others import answers_awaited, captures_since, events_since, events_to_relay, log_positions
from infra.local.processes import Claim, LocalServerError, free_port, is_free
from infra.local.producing import RECORDS_BETWEEN_LOOKS, end_offsets, produce
from infra.local.progress import Progress
from infra.local.run import Run
from infra.local.run_report import (
    RunResult,
    Span,
    Spans,
    as_table,
    events_to_project,
    halted_partitions,
    run_result,
    settled_records,
    tally_of,
)
from infra.local.servers import Servers
from infra.local.streams import DemoDayStream, TraceStream, UsageStream, kept_day_start
from infra.local.trying import what_to_try
from infra.postgres.catalogue_store import PostgresCatalogue
from infra.postgres.ledger_store import PostgresLedgerStore
from infra.postgres.migrations import migrate_all
from infra.postgres.shards import ShardMap
from infra.settings import REPOSITORY, Settings, key_pepper
from infra.topics import PAYMENTS, USAGE
from infra.wiring import Endpoints, endpoints_file

STALL_SECONDS_MAX = 300.0
LOOK_SECONDS = 0.1
TICK_SECONDS = 15
"""How often what is due is looked for on teams that nobody asks about."""

_log = structlog.get_logger()


class Interrupted(BaseException):
    """Somebody asked us to stop: Ctrl-C or SIGTERM."""


def run_up(run: Run, settings: Settings) -> int:
    """The stream is in the ledger; returns the exit code once everything that was started is stopped again.

    Raises: LocalServerError, TraceError, FileNotFoundError, NotDelivered, with nothing left running.
    """
    stack = _Stack(run, settings)
    with _interruptible() as asked:
        try:
            with stack.all_stopped_at_the_end():
                stack.stream_once()
                if not run.once:
                    stack.stay_up()
        except (Interrupted, Exception) as error:
            if not asked.is_set():
                raise
            if not isinstance(error, Interrupted):
                # The signal came inside a client's call, whose own clean-up then failed on it.
                _log.warning("interrupted_call", error=f"{type(error).__name__}: {error}")
            stack.progress.say("stopped; data are kept, `make run` goes on from here")
            return 130 if run.once else 0
    return 0


@contextmanager
def _interruptible() -> Iterator[Event]:
    """The first SIGINT, SIGTERM or SIGHUP raises Interrupted and sets the event; later ones wait for the orderly end."""
    asked = Event()

    def stop(_number: int, _frame: FrameType | None) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        asked.set()
        raise Interrupted

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = [signal.signal(each, stop) for each in signals]
    try:
        yield asked
    finally:
        for each, handler in zip(signals, before, strict=True):
            signal.signal(each, handler)


class _Stack:
    """Everything of one run."""

    def __init__(self, run: Run, settings: Settings) -> None:
        self.progress = Progress()
        self._run = run
        self._settings = settings
        self._state = settings.state_directory.absolute()
        self._servers = Servers(settings)
        self._children: Children | None = None
        self._shards: ShardMap | None = None
        self._log_before: dict[int, int] = {}
        self._api_address = ""
        self._api_key = ""

    @contextmanager
    def all_stopped_at_the_end(self) -> Iterator[None]:
        """Whatever was started by then is stopped, in the reverse order: readers before what they read."""
        claim = Claim(self._state / "up")
        with ExitStack() as stops:
            claim.take()
            stops.callback(claim.release)
            stops.callback(self._servers.stop)
            stops.callback(self._close_shards)
            stops.callback(self._stop_children)
            try:
                yield
            except KeyboardInterrupt as interrupt:  # pragma: no cover - only where the handler is not ours
                raise Interrupted from interrupt

    def stream_once(self) -> None:
        """The stream is produced, settled and projected; its result is printed and written."""
        began = time.monotonic()
        stream = self._stream()
        self.progress.say(f"streaming {stream.title}")
        bootstrap = self._start(stream)
        result = self._send(stream, bootstrap)
        result.write(self._run.result)
        print(f"\n{as_table(result)}\n")
        self.progress.say(
            f"in all {time.monotonic() - began:.1f} s; the result is in {_short(self._run.result)}"
        )

    def stay_up(self) -> None:
        """The ledger serves until somebody asks it to stop."""
        assert self._shards is not None
        self._wait(self._api_answers, lambda: "starting the API")
        text = what_to_try(self._shards, self._api_address, self._api_key, self._state)
        print(text, flush=True)
        while True:
            self._look()
            time.sleep(0.5)

    # --- starting ---

    def _stream(self) -> UsageStream:
        if self._run.trace is not None:
            return TraceStream(self._run.trace)
        start = kept_day_start(self._state, self._run.seed, self._run.records, datetime.now(UTC))
        return DemoDayStream(DemoDay(self._run.seed, start, self._run.records))

    def _start(self, stream: UsageStream) -> str:
        with self._step("PostgreSQL"):
            database_url = self._servers.start_database()
            migrate_all({"first": database_url, **self._settings.other_databases}, self._settings.shards)
        self._shards = shards = ShardMap.of(self._settings, database_url, "coffer-up")
        self._log_before = log_positions(shards)
        catalogue = publish_demo(shards, stream)
        self._api_key = kept_api_key(shards, key_pepper(self._settings), self._state)
        # Kafka takes some seconds to start; the teams are opened meanwhile.
        with ThreadPoolExecutor(1) as beside:
            opening = beside.submit(self._open_teams, shards, stream, catalogue)
            with self._step("Kafka"):
                bootstrap = self._servers.start_kafka()
            opened = opening.result()
        self.progress.say(f"  {len(stream.members()):,} teams, {opened:,} of them opened now")
        self._start_children(database_url, bootstrap)
        return bootstrap

    @staticmethod
    def _open_teams(shards: ShardMap, stream: UsageStream, catalogue: Catalogue) -> int:
        return open_teams(shards, stream, catalogue)

    def _start_children(self, database_url: str, bootstrap: str) -> None:
        port = self._settings.api_port
        port = port if port and is_free(port) else free_port()
        self._api_address = f"http://{self._settings.api_host}:{port}"
        self._note_endpoints(
            Endpoints(database_url, bootstrap, None if self._run.once else self._api_address)
        )
        environment = os.environ | {
            "COFFER_DATABASE_URL": database_url,
            "COFFER_KAFKA_BOOTSTRAP": bootstrap,
            "COFFER_STATE_DIRECTORY": str(self._state),
            "COFFER_SHARDS": str(self._settings.shards),
            "COFFER_API_PORT": str(port),
        }
        self._children = children = Children(REPOSITORY, self._state / "logs", environment)
        children.start("consume", "consume", "--alone")
        children.start("project", "project")
        children.start("relay", "relay")
        children.start("provider", "demo", "provider", *PROVIDER_ARGUMENTS)
        children.start("tick", "tick", "--every", str(TICK_SECONDS))
        if not self._run.once:
            children.start("serve", "serve")

    def _note_endpoints(self, endpoints: Endpoints) -> None:
        """Other commands of `coffer` find this ledger; the file holds a password, so only its owner may read it."""
        file = endpoints_file(self._state)
        draft = file.with_name(f".{file.name}")
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(msgspec.json.encode(endpoints))
        draft.rename(file)

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        self.progress.show(f"  {name} ...")
        yield
        self.progress.say(f"  {name} is up ({time.monotonic() - began:.1f} s)")

    # --- streaming ---

    def _send(self, stream: UsageStream, bootstrap: str) -> RunResult:
        shards = self._shards
        assert shards is not None
        partitions = describe_partitions(bootstrap, [USAGE, PAYMENTS])
        before = end_offsets(bootstrap, partitions)
        # What an interrupted run left is settled first, so that what follows is counted alone.
        self._settle({each: Span(0, end) for each, end in before.items()}, "settling what was there")
        began = time.monotonic()
        produce(bootstrap, USAGE, stream, lambda sent: self._look_producing(sent, len(stream)))
        self._settle(self._since(bootstrap, before), "settled")
        self._wait(lambda: not events_to_project(shards), lambda: "the statement catches up")
        seconds = time.monotonic() - began
        denied = self._work_live(stream, bootstrap) if isinstance(stream, DemoDayStream) else 0
        self._let_the_others_finish(bootstrap, before)
        spans = self._since(bootstrap, before)
        self._settle(spans, "settled")
        usage = {each: span for each, span in spans.items() if each.topic == USAGE}
        payments = {each: span for each, span in spans.items() if each.topic == PAYMENTS}
        return msgspec.structs.replace(
            run_result(shards, usage, seconds),
            payments=tally_of(shards, payments),
            events=events_since(shards, self._log_before),
            holds_denied=denied,
            holds_captured=captures_since(shards, self._log_before),
        )

    def _since(self, bootstrap: str, before: dict[PartitionKey, int]) -> Spans:
        ends = end_offsets(bootstrap, before)
        return {each: Span(before[each], end) for each, end in ends.items()}

    def _work_live(self, stream: DemoDayStream, bootstrap: str) -> int:
        """The gateways have held, worked and sent what was used; returns how many holds were denied."""
        assert self._shards is not None
        with closing(PostgresCatalogue(self._shards)) as catalogue:
            ledger = Ledger(PostgresLedgerStore(self._shards), catalogue.current)
            session = GatewaySession(ledger, stream.name)
            session.open()
            sent = produce(bootstrap, USAGE, session.records(), lambda _: self._look())
        self.progress.say(
            f"  four teams worked live: {sent} records, {session.denied} holds denied before any work"
        )
        return session.denied

    def _let_the_others_finish(self, bootstrap: str, before: dict[PartitionKey, int]) -> None:
        """Usage is settled, provider and bank have answered, and all of it is on the ledger's topic and in the statement."""
        shards = self._shards
        assert shards is not None
        while True:
            self._settle(self._since(bootstrap, before), "settled")
            self._wait(
                lambda: not answers_awaited(shards), lambda: "  the payment provider answers", self._log_end
            )
            self._wait(
                lambda: not events_to_relay(shards),
                lambda: "  events go out",
                lambda: -events_to_relay(shards),
            )
            self._wait(lambda: not events_to_project(shards), lambda: "  the statement catches up")
            if not answers_awaited(shards) and not events_to_relay(shards):
                return

    def _log_end(self) -> int:
        assert self._shards is not None
        return sum(log_positions(self._shards).values())

    def _settle(self, spans: Spans, what: str) -> None:
        shards = self._shards
        assert shards is not None
        total = sum(span.end - span.first for span in spans.values())
        done = 0

        def is_settled() -> bool:
            nonlocal done
            done = settled_records(shards, spans)
            return done >= total

        self._wait(is_settled, lambda: f"  {what}: {done:,} of {total:,} records", lambda: done)

    def _look_producing(self, sent: int, total: int) -> None:
        self._look()
        # The first records are always told: from here on an interruption leaves some behind.
        if self.progress.is_due() or sent <= RECORDS_BETWEEN_LOOKS:
            self.progress.show(f"  sent: {sent:,} of {total:,} records")

    def _wait(
        self, ready: Callable[[], bool], text: Callable[[], str], mark: Callable[[], int] = lambda: 0
    ) -> None:
        """Comes back when ``ready``; children and servers are looked after meanwhile.

        Raises: LocalServerError when ``mark`` does not move for minutes, or a partition is halted.
        """
        assert self._shards is not None
        last, moved_at = mark(), time.monotonic()
        while not ready():
            self._look()
            if mark() != last:
                last, moved_at = mark(), time.monotonic()
            if time.monotonic() - moved_at > STALL_SECONDS_MAX:
                raise LocalServerError(
                    f"no progress for {STALL_SECONDS_MAX:.0f} s; see {self._state / 'logs'}"
                )
            if self.progress.is_due():
                self.progress.show(text())
                halted = halted_partitions(self._shards)
                if halted:
                    raise LocalServerError("; ".join(halted))
            time.sleep(LOOK_SECONDS)

    def _look(self) -> None:
        self._servers.look_after()
        if self._children is not None:
            self._children.look_after()

    def _api_answers(self) -> bool:
        return not is_free(int(self._api_address.rpartition(":")[2]))

    # --- stopping ---

    def _stop_children(self) -> None:
        endpoints_file(self._state).unlink(missing_ok=True)
        if self._children is not None:
            self._children.stop()

    def _close_shards(self) -> None:
        if self._shards is not None:
            self._shards.close()


def _short(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
