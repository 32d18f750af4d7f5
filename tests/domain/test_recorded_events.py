"""The bytes of every event shape ever released still read, and write again, as they were.

A file is never changed or removed. A new shape of an event gets a new topic, a new file, and an upcast from the old one.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from domain.account.events import ACCOUNT_EVENTS
from domain.catalogue import CATALOGUE_EVENTS

CORPUS = Path(__file__).parent / "recorded_events"
SHAPES: dict[str, type[msgspec.Struct]] = {shape.TOPIC: shape for shape in ACCOUNT_EVENTS}
SHAPES |= {shape.TOPIC: shape for shape in CATALOGUE_EVENTS}


def test_every_shape_has_its_recorded_bytes_and_every_file_its_shape() -> None:
    assert {path.stem for path in CORPUS.glob("*.json")} == set(SHAPES)


@pytest.mark.parametrize("topic", sorted(SHAPES))
def test_recorded_bytes_read_and_write_again_as_they_were(topic: str) -> None:
    stored = (CORPUS / f"{topic}.json").read_bytes().rstrip(b"\n")

    event = msgspec.json.decode(stored, type=SHAPES[topic])

    assert msgspec.json.encode(event) == stored


def test_topics_are_the_same_in_a_fresh_process() -> None:
    code = (
        "from domain.account.events import ACCOUNT_EVENTS as a; from domain.catalogue import CATALOGUE_EVENTS as c;"
        "print(' '.join(sorted(e.TOPIC for e in (*a, *c))))"
    )
    root = Path(__file__).parents[2]

    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )

    assert printed.stdout.split() == sorted(SHAPES)
