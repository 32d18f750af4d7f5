"""Three programs that nobody here wrote, asked whether books are right."""

from __future__ import annotations

import csv
import io
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from projections.books import BookEntry
from projections.books_files import COMMODITY, BookFormat, lines_of

PROGRAMS: tuple[BookFormat, ...] = ("hledger", "ledger", "beancount")
HOW_TO_INSTALL = (
    "`apt-get install hledger ledger` (any system: hledger.org, ledger-cli.org); beancount: `make setup`"
)


class Verdict(NamedTuple):
    """Whether the program accepts the books, what it said, and how long it took."""

    is_accepted: bool
    said: str
    seconds: float


def missing() -> list[BookFormat]:
    """The programs that are not here."""
    return [program for program in PROGRAMS if shutil.which(_command(program, Path())[0]) is None]


def judged(program: BookFormat, file: Path) -> Verdict:
    """What the program says of the books in the file, asked as strictly as it can be asked."""
    started = time.perf_counter()
    done = subprocess.run(_command(program, file), capture_output=True, text=True, timeout=300, check=False)
    return Verdict(
        done.returncode == 0 and not done.stderr, done.stderr + done.stdout, time.perf_counter() - started
    )


def written(file: Path, program: BookFormat, entries: Iterable[BookEntry]) -> Path:
    """The books in a file."""
    with file.open("w", encoding="ascii") as out:
        out.writelines(f"{line}\n" for line in lines_of(entries, program))
    return file


def hledger_balances(file: Path, *query: str) -> dict[str, int]:
    """The balances that hledger adds up from the postings, in micro-credits, without those that are zero."""
    command = ["hledger", "-f", str(file), "bal", *query, "--flat", "--no-total", "-O", "csv"]
    told = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
    rows = csv.DictReader(io.StringIO(told))
    return {row["account"]: int(row["balance"].removesuffix(f" {COMMODITY}")) for row in rows}


def _command(program: BookFormat, file: Path) -> list[str]:
    if program == "hledger":
        return ["hledger", "-f", str(file), "check", "--strict"]
    if program == "ledger":
        return ["ledger", "--pedantic", "-f", str(file), "balance", "--output", "/dev/null"]
    return [str(Path(sys.executable).with_name("bean-check")), "--no-cache", str(file)]
