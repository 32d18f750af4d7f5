"""The processes of the ledger while `coffer up` runs: each is looked after, and none outlives it."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import structlog

from infra.local.processes import LocalServerError, end, spawn, tail

COFFER = (sys.executable, "-m", "infra.cli.main")
PAUSE_SECONDS_MIN = 0.5
PAUSE_SECONDS_MAX = 10.0
STEADY_SECONDS = 30.0
"""A process that lived so long is healthy: its next end is its first again."""
ENDS_MAX = 8
PATIENCE_SECONDS = 20.0

_log = structlog.get_logger()


class Child:
    """One command of `coffer` as a process of its own; what it prints goes to its log."""

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.log = log
        self._command = [*COFFER, *arguments]
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        self._ends = 0
        self._started_at = self._start_again_at = 0.0

    @property
    def pid(self) -> int | None:
        """The process id, while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self, directory: Path) -> None:
        """The process runs; it gets SIGTERM should this one die without having stopped it."""
        self._started_at = time.monotonic()
        self._process = spawn(
            self._command,
            log=self.log,
            death_signal=signal.SIGTERM,
            environment=self._environment,
            directory=directory,
        )

    def look_after(self, directory: Path) -> None:
        """A process that ended starts again, after a pause that doubles with every end in short succession.

        Raises: LocalServerError, with the end of its log, when it never stays up.
        """
        if self._process is None or self._process.poll() is None:
            return
        now = time.monotonic()
        if not self._start_again_at:
            self._note_end(now)
        elif now >= self._start_again_at:
            self._start_again_at = 0.0
            self.start(directory)

    def _note_end(self, now: float) -> None:
        assert self._process is not None
        lived = now - self._started_at
        self._ends = 1 if lived > STEADY_SECONDS else self._ends + 1
        if self._ends > ENDS_MAX:
            raise LocalServerError(f"{self.name} does not stay up; the end of {self.log}:\n{tail(self.log)}")
        pause = min(PAUSE_SECONDS_MAX, PAUSE_SECONDS_MIN * 2 ** (self._ends - 1))
        self._start_again_at = now + pause
        _log.warning(
            "child_ended",
            child=self.name,
            pid=self._process.pid,
            exit_code=self._process.returncode,
            lived_seconds=round(lived, 1),
            starts_again_in_seconds=pause,
            log=str(self.log),
        )

    def ask_to_end(self) -> None:
        """The process was asked to finish what it is at and to end."""
        if self.pid is not None and self._process is not None:
            self._process.terminate()

    def end(self, patience_seconds: float) -> None:
        """The process is gone, and whatever it had started."""
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            end(psutil.Process(process.pid), signal.SIGTERM, patience_seconds=patience_seconds)
            process.wait()


class Children:
    """All processes of one run, started in order and ended together."""

    def __init__(self, directory: Path, logs: Path, environment: Mapping[str, str]) -> None:
        self._directory = directory
        self._logs = logs
        self._environment = environment
        self._children: list[Child] = []

    def start(self, name: str, *arguments: str) -> Child:
        """The command `coffer <arguments>` runs as the child of that name. Call it from the main thread."""
        self._logs.mkdir(parents=True, exist_ok=True)
        child = Child(name, arguments, self._environment, self._logs / f"{name}.log")
        self._children.append(child)
        child.start(self._directory)
        return child

    def look_after(self) -> None:
        """Every child that ended starts again when its time has come. Raises: LocalServerError."""
        for child in self._children:
            child.look_after(self._directory)

    def stop(self) -> None:
        """Every child has finished what it was at and is gone; one that does not end in time is killed."""
        for child in self._children:
            child.ask_to_end()
        deadline = time.monotonic() + PATIENCE_SECONDS
        for child in self._children:
            child.end(max(0.1, deadline - time.monotonic()))
        self._children.clear()
