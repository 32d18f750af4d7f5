"""The page and the schema say what the code does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import get_args

import jsonschema_rs
import pytest

import consumers
from consumers.rejections import REASONS, Reason
from consumers.usage_schema import SCHEMA_FILE, schema_text, usage_schema
from consumers.wire_rules import CORE_ATTRIBUTES, FIELDS, HEADERS_MAX
from tests.consumers.wire_cases import DATA, binary, reason_of

PAGE = (Path(consumers.__file__ or "").parent / "README.md").read_text()


def test_the_page_lists_every_reason_as_the_code_has_it() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (rejected|parked) \| (.+) \|$", PAGE, re.MULTILINE)

    assert rows == [(code, meaning.outcome, meaning.explanation) for code, meaning in REASONS.items()]


def test_every_reason_has_a_meaning() -> None:
    assert get_args(Reason) == tuple(REASONS)


def test_every_reason_is_shown_by_a_test() -> None:
    here = Path(__file__).parent
    pages = ("test_wire_refusals.py", "test_wire_reading.py", "test_payment_wire.py")
    shown = "".join((here / name).read_text() for name in pages)

    assert [code for code in REASONS if f'"{code}"' not in shown] == []


def test_the_page_names_every_field_and_attribute() -> None:
    assert [name for name in (*FIELDS, *CORE_ATTRIBUTES) if f"`{name}`" not in PAGE] == []
    assert f"more than {HEADERS_MAX} headers" in PAGE


def test_the_schema_file_is_the_one_the_rules_make() -> None:
    assert SCHEMA_FILE.read_text() == schema_text()


SCHEMA = jsonschema_rs.Draft202012Validator(json.loads(json.dumps(usage_schema())))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"meters": {}, "dimensions": {}},
        {"meters": {"seconds": "0.000000001"}},
        {"status": "failed", "corrects": "run/7"},
        {"hold": "hold-1", "context": {"any": [1, None, {"x": 1.5}]}},
    ],
)
def test_schema_and_reading_accept_the_same_data(changes: dict[str, object]) -> None:
    assert SCHEMA.is_valid(DATA | changes)
    assert reason_of(binary(json.dumps(DATA | changes).encode())) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"action": "Image"},
        {"action": "a" * 101},
        {"status": "ok"},
        {"status": None},
        {"colour": "red"},
        {"meters": {"images": 4}},
        {"meters": {"images": "-1"}},
        {"meters": {"images": "0.0000000001"}},
        {"meters": {"Images": "1"}},
        {"meters": {f"m{n}": "1" for n in range(17)}},
        {"meters": None},
        {"dimensions": {"model": ""}},
        {"dimensions": {"model": "x" * 129}},
        {"dimensions": {"loras": 3}},
        {"dimensions": {f"d{n}": "1" for n in range(33)}},
        {"member": "a b"},
        {"work": "a/b"},
        {"step": "x" * 129},
        {"hold": 7},
        {"corrects": "run/7"},
        {"context": []},
        {"context": None},
    ],
)
def test_what_the_schema_refuses_the_reading_refuses(changes: dict[str, object]) -> None:
    assert not SCHEMA.is_valid(DATA | changes)
    assert reason_of(binary(json.dumps(DATA | changes).encode())) is not None
