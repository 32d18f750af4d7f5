"""Measures the forms: PDFs a second on two processes, memory while they go on, electronic invoices made and validated.

Run: .venv/bin/python -m tests.infra.forms.measure
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time

import msgspec

from domain.invoices.document import Invoice
from infra.forms.einvoice import NotAnInvoiceForMachines, invoice_xml
from infra.forms.invoices import invoice_html, printed_invoice
from tests.infra.forms.documents import a_line, generated

PROCESSES = 2
EINVOICES = 10_000
KINDS = (("one or two pages, 12 lines", 12, 200), ("five pages, 130 lines", 130, 60))


def main() -> None:
    """Print every figure as it is known."""
    for name, lines, count in KINDS:
        with multiprocessing.get_context("spawn").Pool(PROCESSES) as pool:
            pool.map(_print, [(lines, 0, 4)] * PROCESSES, chunksize=1)
            begun = time.perf_counter()
            told = pool.map(
                _print, [(lines, 1 + part * count, count) for part in range(PROCESSES)], chunksize=1
            )
            took = time.perf_counter() - begun
        peaks = ", ".join(f"{before} -> {after} MB" for before, after, _ in told)
        each = 1_000 * sum(worked for _, _, worked in told) / (PROCESSES * count)
        print(
            f"PDF, {name}: {PROCESSES * count / took:.0f} a second on {PROCESSES} processes, "
            f"{each:.0f} ms of processor time each; peak memory {peaks}",
            flush=True,
        )
    began = time.perf_counter()
    for seed in range(200):
        invoice_html(_document(12, seed))
    print(f"HTML, 12 lines: {200 / (time.perf_counter() - began):.0f} a second on one process")
    _einvoices()


def _einvoices() -> None:
    refused = 0
    begun = time.perf_counter()
    for seed in range(EINVOICES):
        try:
            invoice_xml(generated(seed))
        except NotAnInvoiceForMachines:
            refused += 1
    took = time.perf_counter() - begun
    print(
        f"EN 16931: {EINVOICES - refused} valid by the schema, {refused} refused, in {took:.0f} s on one process"
    )


def _print(part: tuple[int, int, int]) -> tuple[int, int, float]:
    """Print some invoices; the peak of memory, in MB, after a quarter of them and at the end; seconds of processor time."""
    lines, first, count = part
    begun = time.process_time()
    early = 0
    for number in range(count):
        printed_invoice(_document(lines, first + number))
        if number == count // 4:
            early = _peak_megabytes()
    return early, _peak_megabytes(), time.process_time() - begun


def _document(lines: int, seed: int) -> Invoice:
    kinds = [seed * 7 + number for number in range(lines)]
    used = [
        a_line(place + 1, project=f"project-{kind % 40}", member=f"m{kind % 90}")
        for place, kind in enumerate(kinds)
    ]
    document = generated(seed)
    return document if document.kind != "invoice" else msgspec.structs.replace(document, lines=used)


def _peak_megabytes() -> int:
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return kilobytes // (1024 if sys.platform != "darwin" else 1024 * 1024)


if __name__ == "__main__":
    main()
