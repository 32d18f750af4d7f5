"""The tick process: every so many seconds it books what is due on teams that nobody asks about, issues invoices of periods that
closed, and keeps accounts as they were.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from threading import Event
from types import FrameType

import msgspec
import psycopg
import structlog

from domain.errors import Busy, UnknownEventShape
from domain.ledger import OutcomeUnknown
from domain.ticking import DueStore, tick
from infra.closing import Closer
from infra.postgres.due_teams import DueTeams
from infra.postgres.kept_heads import Keeper, KeptSoFar

log = structlog.get_logger("tick")


class Ticked(msgspec.Struct, frozen=True, kw_only=True):
    """What was booked: teams that changed and the events this took.

    ``busy`` teams were being changed by somebody else, and are met again by the next tick if anything is still due.
    ``failed`` ones could not be read or folded; the log says why.
    """

    teams: int = 0
    events: int = 0
    busy: int = 0
    failed: int = 0

    def plus(self, other: Ticked) -> Ticked:
        """Both together."""
        return Ticked(
            teams=self.teams + other.teams,
            events=self.events + other.events,
            busy=self.busy + other.busy,
            failed=self.failed + other.failed,
        )


Progress = Callable[[Ticked], None]


def tick_due_teams(
    store: DueStore, due: DueTeams, *, stop: Event | None = None, progress: Progress = lambda _: None
) -> Ticked:
    """Every team that was due and free is up to date, each in a transaction of its own; ``stop`` ends it after the team in hand.

    Raises: psycopg.OperationalError when due teams cannot be looked up.
    """
    told = Ticked()
    for team_id in due.teams():
        if stop is not None and stop.is_set():
            break
        told = told.plus(_tick(store, team_id))
        progress(told)
    return told


def _tick(store: DueStore, team_id: str) -> Ticked:
    """One team; trouble with it is its own, and the others go on."""
    try:
        events = tick(store, team_id)
    except (Busy, OutcomeUnknown) as error:
        log.info("team_is_busy", team=team_id, why=str(error))
        return Ticked(busy=1)
    except (UnknownEventShape, AssertionError) as error:
        log.exception("team_not_ticked", team=team_id, error=str(error))
        return Ticked(failed=1)
    return Ticked(teams=1 if events else 0, events=events)


class TickLoop:
    """Ticks again and again until told to stop; a database that is away is waited for.

    What is left of the time until the next tick is for the ``keeper``, which nobody waits for either.
    """

    def __init__(
        self,
        store: DueStore,
        due: DueTeams,
        every_seconds: float,
        keeper: Keeper | None = None,
        closer: Closer | None = None,
    ) -> None:
        self._store = store
        self._due = due
        self._every_seconds = every_seconds
        self._keeper = keeper
        self._closer = closer
        self._stop = Event()

    def stop(self) -> None:
        """The loop ends after the team in hand."""
        self._stop.set()

    def run(self) -> Ticked:
        """Returns what was booked in all once ``stop`` was called."""
        told = Ticked()
        while not self._stop.is_set():
            next_at = time.monotonic() + self._every_seconds
            told = told.plus(self._round())
            self._close()
            self._keep(next_at)
            self._stop.wait(max(0.0, next_at - time.monotonic()))
        return told

    def _round(self) -> Ticked:
        began = time.monotonic()
        try:
            done = tick_due_teams(self._store, self._due, stop=self._stop)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            log.warning("tick_lost_database", error=str(error), wait_seconds=self._every_seconds)
            return Ticked()
        if done != Ticked():
            took = round((time.monotonic() - began) * 1000, 1)
            log.info("time_passed", **msgspec.structs.asdict(done), took_ms=took)
        return done

    def _close(self) -> None:
        """Periods that closed have their invoices, documents their PDFs."""
        if self._closer is None:
            return
        try:
            self._closer.run(stop=self._stop.is_set)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            log.warning("closer_lost_database", error=str(error))

    def _keep(self, until: float) -> None:
        """Accounts are kept, a few at a time, until it is time for the next tick."""
        if self._keeper is None:
            return
        began = time.monotonic()
        try:
            made = self._keeper.keep_all(stop=lambda: self._stop.is_set() or time.monotonic() > until)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            log.warning("keeper_lost_database", error=str(error))
            return
        if made != KeptSoFar():
            took = round((time.monotonic() - began) * 1000, 1)
            log.info("accounts_kept", **msgspec.structs.asdict(made), took_ms=took)


def run(
    store: DueStore,
    due: DueTeams,
    every_seconds: float,
    keeper: Keeper | None = None,
    closer: Closer | None = None,
) -> Ticked:
    """Ticks in this process until SIGTERM or SIGINT; returns what was booked in all."""
    loop = TickLoop(store, due, every_seconds, keeper, closer)

    def stop(number: int, frame: FrameType | None) -> None:
        loop.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    log.info("tick_started", every_seconds=every_seconds)
    told = loop.run()
    log.info("tick_stopped", **msgspec.structs.asdict(told))
    return told
