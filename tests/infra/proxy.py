"""A TCP proxy that fails on purpose: it cuts before or after a message, stalls, or delays, as the test says."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import sleep
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

COMMIT = b"COMMIT\x00"
"""How the end of a transaction looks on PostgreSQL's wire."""

ANSWER_SECONDS_MAX = 20

_FROM_STDIN = b" FROM STDIN "
_ROWS_END = b"\xff\xff" + b"c\x00\x00\x00\x04"
"""How the rows of a binary COPY end there: only then does what was sent with it happen."""

Verdict = Literal["answer_lost", "lost", "half_open"]


class Proxy:
    """Forwards each connection to the target until a message from the client holds what it was told to look for.

    ``cut_after``: that message is forwarded, the target answers, and the client never hears it. ``cut_before``: the target
    never hears the message, and with ``half_open`` not even that the client is gone. ``cuts`` counts both. ``stall`` makes it
    go silent in both directions.
    """

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._needle = b""
        self._left = 0
        self._verdict_when_found: Verdict = "answer_lost"
        self._sockets: list[socket.socket] = []
        self._flowing = threading.Event()
        self._flowing.set()
        self.delay_seconds = 0.0
        self.cuts = 0
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_after(self, needle: bytes = COMMIT, times: int = 1) -> None:
        """The next messages with the needle reach the target; their answers do not reach the client."""
        self._arm(needle, times, "answer_lost")

    def cut_before(self, needle: bytes = COMMIT, times: int = 1, *, half_open: bool = False) -> None:
        """The next messages with the needle do not reach the target; half open, it goes on waiting for them."""
        self._arm(needle, times, "half_open" if half_open else "lost")

    def stall(self) -> None:
        """Nothing passes any more, and nobody is told."""
        self._flowing.clear()

    def resume(self) -> None:
        """What was held back passes, and everything after it."""
        self._flowing.set()

    def cut_all(self) -> None:
        """Every connection is gone; new ones are accepted."""
        with self._lock:
            sockets, self._sockets = self._sockets, []
        for each in sockets:
            _end(each)

    def close(self) -> None:
        """The proxy listens no more and holds no connection."""
        _end(self._listener)
        self._flowing.set()
        self.cut_all()

    def _arm(self, needle: bytes, times: int, verdict: Verdict) -> None:
        with self._lock:
            self._needle, self._left, self._verdict_when_found = needle, times, verdict

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            target = socket.create_connection(self._target)
        except OSError:
            _end(client)
            return
        with self._lock:
            self._sockets += (client, target)
        for each in (client, target):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        deaf = threading.Event()
        answers = threading.Thread(target=self._answers, args=(target, client, deaf), daemon=True)
        answers.start()
        self._requests(client, target, answers, deaf)

    def _requests(
        self, client: socket.socket, target: socket.socket, answers: threading.Thread, deaf: threading.Event
    ) -> None:
        with suppress(OSError):
            while message := client.recv(65_536):
                self._flowing.wait()
                sleep(self.delay_seconds)
                verdict = self._verdict(message)
                if verdict is None:
                    target.sendall(message)
                    continue
                # Deaf first, so that no answer slips through.
                deaf.set()
                if verdict == "answer_lost":
                    target.sendall(message)
                    # The target works in peace: its side is closed once it has answered, and only then the client's.
                    target.shutdown(socket.SHUT_WR)
                    answers.join(ANSWER_SECONDS_MAX)
                _end(client)
                if verdict == "lost":
                    _end(target)
                return
        _end(client)
        _end(target)

    def _answers(self, target: socket.socket, client: socket.socket, deaf: threading.Event) -> None:
        with suppress(OSError):
            while message := target.recv(65_536):
                self._flowing.wait()
                sleep(self.delay_seconds)
                with suppress(OSError):
                    if not deaf.is_set():
                        client.sendall(message)
        _end(client)
        _end(target)

    def _verdict(self, message: bytes) -> Verdict | None:
        """What happens to the message; None: it passes."""
        with self._lock:
            if not self._left or self._needle not in message:
                return None
            if self._needle == COMMIT and _FROM_STDIN in message:
                # The COMMIT stands behind rows that are yet to come.
                self._needle = _ROWS_END
                return None
            if self._needle == _ROWS_END:
                self._needle = COMMIT
            self._left -= 1
            self.cuts += 1
            return self._verdict_when_found


def _end(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextmanager
def proxied(url: str) -> Iterator[tuple[Proxy, str]]:
    """A proxy before the server of an address, and the address that leads through it."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    proxy = Proxy(parts.hostname, parts.port)
    credentials, at, _ = parts.netloc.rpartition("@")
    through = urlunsplit(parts._replace(netloc=f"{credentials}{at}127.0.0.1:{proxy.port}"))
    try:
        yield proxy, through
    finally:
        proxy.close()
