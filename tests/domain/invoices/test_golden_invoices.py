"""R7: documents that were once issued are derived again from their stored events, in another process, byte for byte.

The files are never changed or removed. Whoever must change what an invoice says gives it another shape beside this one.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from domain.invoices.document import canonical_invoice, read_invoice
from tests.domain.invoices.golden_stories import GOLDEN, STORIES, derived, stored_events

ROOT = Path(__file__).parents[3]
NAMES = sorted(path.name.removesuffix(".events.jsonl") for path in GOLDEN.glob("*.events.jsonl"))
DERIVING = """
import sys, zoneinfo

def no_zone_data(*asked):
    raise AssertionError(f"zone data was asked: {asked}")

zoneinfo.ZoneInfo = no_zone_data
from tests.domain.invoices.golden_stories import derived, stored_events
for name in sys.argv[1:]:
    for number, digest, document in derived(stored_events(name)):
        print(name, number, digest, document.hex())
"""


def on_file(name: str) -> dict[str, bytes]:
    """The documents of a story, by number."""
    paths = sorted(GOLDEN.glob(f"{name}.*.json"))
    return {path.name.removeprefix(f"{name}.").removesuffix(".json"): path.read_bytes() for path in paths}


def test_every_story_is_on_file() -> None:
    assert set(STORIES) <= set(NAMES)
    assert {name: len(on_file(name)) for name in NAMES} == {
        "adjustments": 2,
        "everything": 1,
        "plan_fee": 3,
        "small": 1,
        "void_and_credit_note": 4,
    }


def test_r7_t5_documents_are_derived_again_byte_for_byte_in_another_process_without_zone_data() -> None:
    elsewhere = {**os.environ, "TZ": "Pacific/Apia", "LC_ALL": "C", "PYTHONHASHSEED": "7"}

    printed = subprocess.run(
        [sys.executable, "-c", DERIVING, *NAMES],
        cwd=ROOT,
        env=elsewhere,
        capture_output=True,
        text=True,
        check=True,
    ).stdout

    found: dict[str, dict[str, bytes]] = {}
    for name, number, digest, document in (line.split(" ") for line in printed.splitlines()):
        found.setdefault(name, {})[number] = bytes.fromhex(document)
        assert hashlib.sha256(bytes.fromhex(document)).hexdigest() == digest
    assert found == {name: on_file(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_r7_a_document_reads_and_writes_again_as_it_was(name: str) -> None:
    for document in on_file(name).values():
        assert canonical_invoice(read_invoice(document)) == document
        assert b'"shape":"coffer-invoice.1"' in document


@pytest.mark.parametrize("name", NAMES)
def test_r7_what_was_recorded_after_it_changes_no_document(name: str) -> None:
    events = stored_events(name)
    known = {number: document for number, _, document in derived(events)}

    later = [
        *events,
        events[-1].__class__(
            "acme",
            len(events) + 1,
            msgspec.structs.replace(
                next(e.event for e in events if type(e.event).__name__ == "CreditsCharged")
            ),
        ),
    ]

    assert {number: document for number, _, document in derived(later)} == known
