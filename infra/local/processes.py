"""Child processes that cannot outlive us, directories that belong to one owner, ports that stay the same."""

import ctypes
import fcntl
import os
import pwd
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, TypedDict

import psutil

PR_SET_PDEATHSIG = 1
LOOPBACK = "127.0.0.1"


class LocalServerError(RuntimeError):
    """A server of the local stack cannot start; the message says why and what would help."""


class Claim:
    """One process at a time owns a directory; the claim ends with the process, however it ends."""

    def __init__(self, directory: Path) -> None:
        self._path = directory.with_name(f"{directory.name}.lock")
        self._file: IO[str] | None = None

    def take(self) -> None:
        """This process owns the directory.

        Raises: LocalServerError naming the owner.
        """
        if self._file is not None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        file = self._path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise LocalServerError(
                f"process {owner} already runs the server of {self._path.with_suffix('')}: stop it, or set"
                " COFFER_STATE_DIRECTORY to another directory"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        self._file = file

    def release(self) -> None:
        """The directory is free for another process."""
        if self._file is not None:
            self._file.close()
            self._file = None


def spawn(
    command: Sequence[str | Path],
    *,
    log: Path,
    death_signal: signal.Signals,
    user: str | None = None,
    environment: dict[str, str] | None = None,
    directory: Path | None = None,
) -> subprocess.Popen[bytes]:
    """The command runs in its own session, so Ctrl-C reaches us first and we stop it in order.

    On Linux it gets `death_signal` when the thread that called this ends without having stopped it: call it from a
    thread that lives as long as the server should. Output is appended to `log`.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **as_user(user),
            env=environment,
            cwd=directory or "/",
            # Safe between fork and exec: it only makes a system call through a function loaded before.
            preexec_fn=_dies_with_parent(death_signal),  # noqa: PLW1509
        )


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def as_user(name: str | None) -> _Identity:
    """The arguments with which `subprocess` starts a program as this user, with its group and no others."""
    if name is None:
        return {}
    entry = pwd.getpwnam(name)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def _dies_with_parent(death_signal: signal.Signals) -> Callable[[], None] | None:
    if not sys.platform.startswith("linux"):
        return None
    # Loaded before the fork: the child may only make the call.
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    parent = os.getpid()

    def ask() -> None:
        prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died between the fork and the call
            os.kill(os.getpid(), signal.SIGKILL)

    return ask


def end(process: psutil.Process | None, how: signal.Signals, *, patience_seconds: float) -> None:
    """The process and everything it had started are gone: asked with `how`, after `patience_seconds` killed."""
    if process is None:
        return
    try:
        family = [process, *process.children(recursive=True)]
        process.send_signal(how)
    except psutil.NoSuchProcess:
        return
    _, alive = psutil.wait_procs(family, timeout=patience_seconds)
    for each in alive:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(alive, timeout=10)


def kept_port(file: Path, wanted: int, reserved: Sequence[int] = ()) -> int:
    """A free port of the loopback address: the wanted one, else the one of last time, else any; kept in the file.

    Raises: LocalServerError when the wanted port is taken.
    """
    if wanted and not is_free(wanted):
        raise LocalServerError(f"port {wanted} is taken: stop what listens there, or choose another")
    last = wanted or (int(file.read_text()) if file.exists() else 0)
    port = last if last and last not in reserved and is_free(last) else free_port(reserved)
    file.write_text(str(port))
    return port


def is_free(port: int) -> bool:
    """Nothing listens on this port of the loopback address, and we may."""
    with socket.socket() as listener:
        # As the servers do: a connection of the last run that still lingers does not hold the port.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def free_port(reserved: Sequence[int] = ()) -> int:
    """Any free port of the loopback address below the range that the kernel hands to outgoing connections."""
    # Ephemeral ports would do until a client's own connection took the number while the server is down.
    for _ in range(1_000):
        port = 20_000 + int.from_bytes(os.urandom(2)) % 10_000
        if port not in reserved and is_free(port):
            return port
    raise LocalServerError("no free port between 20000 and 29999 of the loopback address")


def let_in(user: str, *, through: Path) -> None:
    """The user may walk through every directory above the path; nothing more than that is allowed to it."""
    owner = pwd.getpwnam(user)
    for directory in through.absolute().parents:
        status = directory.stat()
        mine = stat.S_IXUSR if status.st_uid == owner.pw_uid else 0
        if not status.st_mode & (mine or stat.S_IXOTH):
            directory.chmod(stat.S_IMODE(status.st_mode) | stat.S_IXOTH)


def tail(log: Path, lines: int = 20) -> str:
    """The last lines of a log, for an error message."""
    if not log.exists():
        return f"(no log at {log})"
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


def wait_until(ready: Callable[[], bool], *, alive: Callable[[], bool], seconds: float) -> bool:
    """`ready` came true; False when the process ended or the time was over before that."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if ready():
            return True
        if not alive():
            return False
        time.sleep(0.05)
    return False
