"""A closer in a process of its own, measured: how many invoices a second as JSON, how many PDFs, and how much memory at most."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from infra.closing import Closed, Closer
from infra.postgres.shards import ShardMap

ROOT = Path(__file__).resolve().parents[2]


class Speed(NamedTuple):
    """What one pass did and took; memory is resident, in MiB: after a quarter of the invoices, at the end, after the PDFs.

    Processor time is the closer's own. On a machine that is busy with other things it says what the clock cannot.
    """

    invoices: int
    omitted: int
    json_seconds: float
    json_processor_seconds: float
    pdfs: int
    pdf_seconds: float
    pdf_processor_seconds: float
    quarter_mib: float
    end_mib: float
    pdf_mib: float

    @property
    def invoices_a_second(self) -> float:
        """As JSON: drafted, numbered, digested and committed."""
        return (self.invoices + self.omitted) / self.json_seconds

    @property
    def invoices_a_processor_second(self) -> float:
        """The same by the closer's processor time."""
        return (self.invoices + self.omitted) / self.json_processor_seconds

    @property
    def pdfs_a_second(self) -> float:
        """Derived again, set and stored."""
        return self.pdfs / self.pdf_seconds if self.pdf_seconds else 0.0

    @property
    def pdfs_a_processor_second(self) -> float:
        """The same by the closer's processor time."""
        return self.pdfs / self.pdf_processor_seconds if self.pdf_processor_seconds else 0.0

    def told(self) -> str:
        """The figures as one line."""
        return (
            f"{self.invoices} invoices and {self.omitted} periods without content in {self.json_seconds:.1f} s:"
            f" {self.invoices_a_second:.0f}/s as JSON ({self.invoices_a_processor_second:.0f} a processor second);"
            f" {self.pdfs} PDFs in {self.pdf_seconds:.1f} s: {self.pdfs_a_second:.0f}/s"
            f" ({self.pdfs_a_processor_second:.0f} a processor second);"
            f" resident {self.quarter_mib:.0f} MiB after a quarter, {self.end_mib:.0f} at the end,"
            f" {self.pdf_mib:.0f} with PDFs"
        )


def measured(url: str, *, expected: int, pdfs: int) -> Speed:
    """A pass over the ledger, with at most so many PDFs."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.infra.invoicing_speed", url, str(expected), str(pdfs)],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=1_200,
    )
    assert done.returncode == 0, done.stderr[-3_000:]
    return Speed(**json.loads(done.stdout.splitlines()[-1]))


def _mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


def main(url: str, expected: int, pdfs: int) -> None:
    """Prints the figures."""
    shards = ShardMap(url)
    closer = Closer(shards)
    quarter = 0.0

    def look(so_far: Closed) -> None:
        nonlocal quarter
        if not quarter and (so_far.invoices + so_far.omitted) * 4 >= expected:
            quarter = _mib()

    began, worked = time.monotonic(), time.process_time()
    issued = closer.issue(progress=look)
    json_seconds, json_processor_seconds, end = (
        time.monotonic() - began,
        time.process_time() - worked,
        _mib(),
    )
    printed = Closed()

    def count(so_far: Closed) -> None:
        nonlocal printed
        printed = so_far

    began, worked = time.monotonic(), time.process_time()
    closer.store_pdfs(stop=lambda: printed.pdfs >= pdfs, progress=count)
    pdf_seconds = time.monotonic() - began
    assert issued.failed == printed.failed == 0, (issued, printed)
    told = Speed(
        issued.invoices,
        issued.omitted,
        json_seconds,
        json_processor_seconds,
        printed.pdfs,
        pdf_seconds,
        time.process_time() - worked,
        quarter or end,
        end,
        _mib(),
    )
    print(json.dumps(told._asdict()))
    shards.close()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
