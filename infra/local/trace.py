"""The real trace of image requests, read row by row as usage records; a row that cannot be one is named."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

import msgspec

from consumers.wire_rules import ID, is_dimension_value
from domain.amounts import parse_quantity
from domain.errors import Malformed
from domain.usage import UsageRecord, UsageStatus

TRACE_SOURCES = {"generation_requests": "urn:trace:gentd26"}
"""The sources of traces that have one of their own, by the name of their file."""

ACTIONS: dict[str, str] = {
    "TXT_2_IMG": "image.generate",
    "IMG_2_IMG": "image.edit",
    "INPAINTING": "image.inpaint",
}
# A request that was still waiting or running when the trace ended never finished.
STATUSES: dict[str, UsageStatus] = {
    "SUCCEED": "succeeded",
    "FAILED": "failed",
    "PENDING": "cancelled",
    "PROCESSING": "cancelled",
}
METERS = {
    "exec_time_seconds": "seconds",
    "num_images_per_prompt": "images",
    "num_inference_steps": "steps",
}
DIMENSIONS = {"checkpoint_model_version_id": "model"}
NUMBERED_DIMENSIONS = {"num_lora": "loras"}
CONTEXT = ("prompt_length", "negative_prompt_length")
COLUMNS = (
    "gmt_create", "predict_type", "predict_status", "groupId", *METERS, *DIMENSIONS, *NUMBERED_DIMENSIONS, *CONTEXT,
)  # fmt: skip
_T = TypeVar("_T")
GZIP_MAGIC = b"\x1f\x8b"

_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", re.ASCII)
_NUMBER = re.compile(r"(\d+)(?:\.(\d+))?", re.ASCII)


class TraceError(ValueError):
    """A trace cannot be read; the message names file, line, column and value, and what would be right."""


def source_of(path: Path) -> str:
    """The CloudEvents source of a trace: the one its file is known for, else one made of the file's name.

    A row's identity is its source and number, so two traces in one ledger need two names.
    """
    name = path.name.partition(".")[0]
    return TRACE_SOURCES.get(name, f"urn:trace:{quote(name, safe='')}")


def read_trace(path: Path) -> Iterator[UsageRecord]:
    """Each row of the trace as a usage record, in the order of the file; the id is the row's number from 1.

    Times have second resolution in UTC and arrive when they occurred (the broker says otherwise later). A cell that is
    empty leaves its meter or dimension out. The file may be plain or gzip, whatever its name.
    Raises: TraceError naming line and column; FileNotFoundError.
    """
    with _opened(path) as text:
        rows = csv.reader(text, strict=True)
        try:
            columns = _columns(path, next(rows, []))
            source = source_of(path)
            for number, cells in enumerate(filter(None, rows), start=1):
                yield _record(_Row(path, rows.line_num, columns, cells), source, number)
        except (csv.Error, UnicodeDecodeError, EOFError, gzip.BadGzipFile) as error:
            raise TraceError(f"{path}, line {rows.line_num + 1}: not a readable CSV file: {error}") from error


@contextmanager
def _opened(path: Path) -> Iterator[io.TextIOWrapper]:
    with path.open("rb") as file:
        packed = file.read(len(GZIP_MAGIC)) == GZIP_MAGIC
        file.seek(0)
        plain = gzip.GzipFile(fileobj=file) if packed else file
        with io.TextIOWrapper(plain, encoding="utf-8-sig", newline="") as text:
            yield text


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    missing = [name for name in COLUMNS if name not in header]
    if missing:
        raise TraceError(
            f"{path}, line 1: no column {', '.join(missing)}; a trace has the columns {', '.join(COLUMNS)}"
        )
    twice = sorted({name for name in COLUMNS if header.count(name) > 1})
    if twice:
        raise TraceError(f"{path}, line 1: column {', '.join(twice)} is there twice")
    return {name: place for place, name in enumerate(header)}


class _Row:
    """One line of the file and how its cells are read."""

    def __init__(self, path: Path, line: int, columns: Mapping[str, int], cells: list[str]) -> None:
        self._path, self._line = path, line
        if len(cells) != len(columns):
            raise TraceError(f"{path}, line {line}: {len(cells)} cells, {len(columns)} would be right")
        self._cells = {name: cells[place].strip() for name, place in columns.items()}

    def wrong(self, column: str, right: str) -> TraceError:
        """The error that says what is wrong with a cell."""
        value = self._cells[column]
        return TraceError(f"{self._path}, line {self._line}, column {column}: {value[:80]!r} is not {right}")

    def team(self) -> str:
        """The team's id."""
        if not ID.fullmatch(self._cells["groupId"]):
            raise self.wrong("groupId", "the id of a team: 1 to 128 ASCII letters, digits or _.:@~+=-")
        return self._cells["groupId"]

    def time(self) -> datetime:
        """When the request was made, UTC."""
        text = self._cells["gmt_create"]
        try:
            if _TIME.fullmatch(text):
                return datetime.fromisoformat(text).replace(tzinfo=UTC)
        except ValueError:
            pass  # 31 February: said below, like every other time that is none
        raise self.wrong("gmt_create", "a time such as 2024-11-15 16:57:50")

    def action(self) -> str:
        """The action of the request's type."""
        action = ACTIONS.get(self._cells["predict_type"])
        if action is None:
            raise self.wrong("predict_type", f"one of {', '.join(ACTIONS)}")
        return action

    def status(self) -> UsageStatus:
        """How the request ended."""
        status = STATUSES.get(self._cells["predict_status"])
        if status is None:
            raise self.wrong("predict_status", f"one of {', '.join(STATUSES)}")
        return status

    def numbers(self, names: Mapping[str, str]) -> dict[str, str]:
        """The numeric cells that are not empty, as canonical decimal strings, under the names of the ledger."""
        return self._filled(names, self._number)

    def texts(self, names: Mapping[str, str]) -> dict[str, str]:
        """The text cells that are not empty, under the names of the ledger."""
        return self._filled(names, self._text)

    def context(self) -> bytes | None:
        """What else the row says, as a JSON object; None when it says nothing."""
        said = self._filled({name: name for name in CONTEXT}, self._count)
        return msgspec.json.encode(said) if said else None

    def _filled(self, names: Mapping[str, str], read: Callable[[str], _T]) -> dict[str, _T]:
        return {name: read(column) for column, name in names.items() if self._cells[column]}

    def _count(self, column: str) -> int | str:
        number = self._number(column)
        return int(number) if number.isdigit() else number

    def _number(self, column: str) -> str:
        match = _NUMBER.fullmatch(self._cells[column])
        if match:
            whole, places = match[1].lstrip("0") or "0", (match[2] or "").rstrip("0")
            text = f"{whole}.{places}" if places else whole
            try:
                parse_quantity(text, column)
            except Malformed:
                pass  # too large or too precise: said below
            else:
                return text
        raise self.wrong(column, "a quantity such as 25 or 25.0, at most nine places and 2^62")

    def _text(self, column: str) -> str:
        if not is_dimension_value(self._cells[column]):
            raise self.wrong(column, "1 to 128 printable characters")
        return self._cells[column]


def _record(row: _Row, source: str, number: int) -> UsageRecord:
    at = row.time()
    return UsageRecord(
        team_id=row.team(),
        source=source,
        id=str(number),
        occurred_at=at,
        arrived_at=at,
        action=row.action(),
        status=row.status(),
        meters=row.numbers(METERS),
        dimensions=row.texts(DIMENSIONS) | row.numbers(NUMBERED_DIMENSIONS),
        context=row.context(),
    )
