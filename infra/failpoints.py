"""Named places at which a test may kill or freeze this process; without the variable they cost one comparison.

`COFFER_FAILPOINT=batch.before_commit:3` sends SIGKILL to the process when it passes that place for the third time;
`batch.before_commit:3:freeze` sends SIGSTOP instead.
"""

from __future__ import annotations

import os
import signal

OF_WORKERS = (
    "stream.after_poll",
    "dead_letters.before_mark",
    "batch.after_begin",
    "batch.after_events",
    "batch.before_commit",
    "batch.under_way",
    "batch.after_commit",
)
"""The places that a worker passes."""

OF_ARCHIVERS = (
    "archive.before_manifest",
    "archive.after_files",
    "archive.after_verified",
    "archive.before_removed",
    "archive.after_removed",
)
"""The places that archiving passes."""

OF_RESTORERS = ("restore.before_commit", "restore.after_commit")
"""The places that restoring passes."""

OF_MOVES = (
    "shard.after_portion",
    "shard.after_read_model",
    "shard.in_freeze",
    "shard.after_copy",
    "shard.after_leaving",
    "shard.after_arriving",
)
"""The places that a move of a shard to another database passes."""

OF_CLOSERS = (
    "close.after_draft",
    "close.after_locks",
    "close.after_number",
    "close.after_decided",
    "close.after_events",
    "close.before_commit",
    "close.after_commit",
    "close.before_pdf",
    "close.after_pdf",
)
"""The places that issuing invoices passes."""

OF_COMMANDS = (
    "command.after_answer",
    "command.after_events",
    "command.before_commit",
    "command.after_commit",
)
"""The places that a command passes, between what it does and the answer that its caller hears."""

NAMES = (
    *OF_WORKERS,
    *OF_COMMANDS,
    "stream.between_databases",
    "relay.before_mark",
    *OF_ARCHIVERS,
    *OF_RESTORERS,
    *OF_MOVES,
    *OF_CLOSERS,
    "close.drawn_apart",
)
"""Every place there is, so that a test can go through all of them."""

VARIABLE = "COFFER_FAILPOINT"


class UnknownFailpoint(RuntimeError):
    """The variable names a place that does not exist, so the test that set it would prove nothing."""


def _armed(value: str) -> tuple[str, int, signal.Signals]:
    name, count, what = (*value.split(":"), "", "")[:3]
    if name and name not in NAMES:
        raise UnknownFailpoint(f"{VARIABLE}={value!r}: {name!r} is none of {', '.join(NAMES)}")
    if what not in ("", "freeze"):
        raise UnknownFailpoint(f"{VARIABLE}={value!r}: {what!r} is not 'freeze'")
    return name, int(count or 1), signal.SIGSTOP if what else signal.SIGKILL


_name, _left, _signal = _armed(os.environ.get(VARIABLE, ""))


def hit(name: str) -> None:
    """The process is gone, or frozen, if this was the place and the time it was asked for."""
    global _left  # noqa: PLW0603 - a count of the process, like the variable that sets it
    if name == _name:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), _signal)
