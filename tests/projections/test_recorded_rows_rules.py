"""Events of every shape ever released make the statement rows that they made when they were recorded.

A new shape gets its entry in `recorded_rows.json`. An entry changes only when `STATEMENT_SHAPE` counts up; none is removed.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from domain.account.events import RecordedEvent
from infra.postgres.mapper import ACCOUNT_SHAPES
from projections.moves import Sums
from projections.statement import ChargeFields, charge_row, rows_of

CORPUS = Path(__file__).parents[1] / "domain" / "recorded_events"
TOPICS = sorted(path.stem for path in CORPUS.glob("*.json") if path.stem in ACCOUNT_SHAPES)
ROWS: dict[str, list[list[object]]] = msgspec.json.decode(
    Path(__file__).with_name("recorded_rows.json").read_bytes()
)
BEFORE = Sums(70_000_000, 2_000_000, 5_000_000)


def recorded(topic: str) -> bytes:
    return (CORPUS / f"{topic}.json").read_bytes().rstrip(b"\n")


def rows(topic: str) -> list[list[object]]:
    """The rows of the recorded event, as JSON keeps them."""
    event = RecordedEvent(None, 7, ACCOUNT_SHAPES.decode(topic, recorded(topic)))
    made: list[list[object]] = msgspec.to_builtins(rows_of(event, 3, "acme", BEFORE))
    return [list(row) for row in made]


def test_every_shape_has_its_rows_and_no_shape_is_forgotten() -> None:
    assert sorted(ROWS) == TOPICS


@pytest.mark.parametrize("topic", TOPICS)
def test_j8_every_shape_ever_released_makes_the_rows_that_it_made(topic: str) -> None:
    assert rows(topic) == ROWS[topic]


@pytest.mark.parametrize("topic", [topic for topic in TOPICS if topic.startswith("CreditsCharged.")])
def test_j8_charges_of_every_shape_read_in_part_make_the_same_row(topic: str) -> None:
    whole = RecordedEvent(None, 7, ACCOUNT_SHAPES.decode(topic, recorded(topic)))

    part = msgspec.json.decode(recorded(topic), type=ChargeFields)

    assert [charge_row(part, 7, 3, "acme", BEFORE)] == rows_of(whole, 3, "acme", BEFORE)
