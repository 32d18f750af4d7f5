"""How far a long piece of work is: one live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time

LIVE_SECONDS = 0.2
PLAIN_SECONDS = 2.0


class Progress:
    """Says what is going on, on standard error; results go to standard output."""

    def __init__(self) -> None:
        self._live = sys.stderr.isatty()
        self._shown_at = 0.0
        self._line_open = False

    def is_due(self) -> bool:
        """Whether it is time to show progress again, so that nobody counts for nothing."""
        return time.monotonic() - self._shown_at >= (LIVE_SECONDS if self._live else PLAIN_SECONDS)

    def show(self, text: str) -> None:
        """The line says this now."""
        self._shown_at = time.monotonic()
        if self._live:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[2K{text[:width]}")
            self._line_open = True
        else:
            sys.stderr.write(f"{text}\n")
        sys.stderr.flush()

    def say(self, text: str) -> None:
        """The text stands on a line of its own and stays."""
        if self._line_open:
            sys.stderr.write("\r\x1b[2K")
            self._line_open = False
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()
