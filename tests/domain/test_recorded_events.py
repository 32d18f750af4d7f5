"""The bytes of every event shape ever released still read, and write again, as they were.

A file is never changed or removed. A new shape of an event gets a new topic and a new file; bytes of the old topic read as the
new shape, in which what they did not say has its default. Where only what is said beside the default is new, the topic stays and
a file more shows it (``<topic>-<what>.json``).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from domain.account.events import ACCOUNT_EVENTS
from domain.catalogue import CATALOGUE_EVENTS
from domain.issuer.events import ISSUER_EVENTS
from domain.team.events import TEAM_EVENTS
from domain.work.events import WORK_EVENTS

CORPUS = Path(__file__).parent / "recorded_events"
CURRENT: dict[str, type[msgspec.Struct]] = {shape.TOPIC: shape for shape in ACCOUNT_EVENTS}
CURRENT |= {shape.TOPIC: shape for shape in CATALOGUE_EVENTS}
CURRENT |= {shape.TOPIC: shape for shape in TEAM_EVENTS}
CURRENT |= {shape.TOPIC: shape for shape in ISSUER_EVENTS}
CURRENT |= {shape.TOPIC: shape for shape in WORK_EVENTS}
OLD: dict[str, type[msgspec.Struct]] = {old: shape for shape in ACCOUNT_EVENTS for old in shape.OLD_TOPICS}
SHAPES = CURRENT | OLD
FILES = sorted(path.stem for path in CORPUS.glob("*.json"))
LEFT_OUT = {
    "AccountOpened.1": {"issuer_id", "books_from", "books_start", "books_end"},
    "CreditsToppedUp.1": {"record_key"},
    "UsageWaived.1": {
        "work",
        "context_digest",
        "project",
        "hold_id",
        "dimensions",
        "step",
        "corrected_by",
        "refund_id",
    },
}
"""What the files of the first release do not say: they were recorded before it could be said, or are older than this list."""


def topic_of(file: str) -> str:
    """The topic that a file shows: all of its name, or what is before the hyphen."""
    return file.partition("-")[0]


def test_every_shape_has_its_recorded_bytes_and_every_file_its_shape() -> None:
    assert {topic_of(file) for file in FILES} == set(SHAPES)
    assert set(SHAPES) <= set(FILES)


@pytest.mark.parametrize("file", FILES)
def test_recorded_bytes_read_and_write_again_as_they_were(file: str) -> None:
    stored = (CORPUS / f"{file}.json").read_bytes().rstrip(b"\n")

    event = msgspec.json.decode(stored, type=SHAPES[topic_of(file)])

    assert msgspec.json.encode(event) == stored


@pytest.mark.parametrize("topic", sorted(CURRENT))
def test_recorded_bytes_show_every_field_of_their_shape(topic: str) -> None:
    shape = CURRENT[topic]
    told = msgspec.json.decode((CORPUS / f"{topic}.json").read_bytes())

    wanted = set(shape.__struct_fields__) - {"reason", "correlation_id"}

    assert wanted - LEFT_OUT.get(topic, set()) <= set(told)


def test_what_may_be_said_since_is_shown_by_a_file_of_its_own() -> None:
    told = msgspec.json.decode((CORPUS / "AccountOpened.1-books.json").read_bytes())

    assert set(told) >= LEFT_OUT["AccountOpened.1"]
    assert (
        "locale"
        in msgspec.json.decode((CORPUS / "BillingDetailsChanged.1-locale.json").read_bytes())["details"]
    )


@pytest.mark.parametrize("topic", sorted(OLD))
def test_bytes_of_an_older_shape_say_nothing_of_what_is_new(topic: str) -> None:
    stored = (CORPUS / f"{topic}.json").read_bytes()

    event = msgspec.json.decode(stored, type=OLD[topic])

    silent = [name for name in event.__struct_fields__ if name not in msgspec.json.decode(stored)]
    assert silent
    for name in silent:
        assert not getattr(event, name), f"{name} is not what it was before there was such a thing"


def test_topics_are_the_same_in_a_fresh_process() -> None:
    code = (
        "from domain.account.events import ACCOUNT_EVENTS as a; from domain.catalogue import CATALOGUE_EVENTS as c;"
        "from domain.team.events import TEAM_EVENTS as t; from domain.issuer.events import ISSUER_EVENTS as i;"
        "from domain.work.events import WORK_EVENTS as w;"
        "print(' '.join(sorted(e.TOPIC for e in (*a, *c, *t, *i, *w))))"
    )
    root = Path(__file__).parents[2]

    printed = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )

    assert printed.stdout.split() == sorted(CURRENT)
