"""A stream record becomes a usage record, or a reason: fast for the normal one, exact for every other.

`read_usages` first tries a reading in compiled code that gives up at the slightest doubt; whatever it gives up on is read
by `consumers.wire_exact`, rule by rule. The fast reading never refuses: reasons come from one place. The values of many
records are decoded at once, and written again to see that nothing was lost; a record whose value is not the same again, byte
for byte, is looked at alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from operator import itemgetter
from typing import Annotated, Literal, TypeAlias, TypeVar

import msgspec

from consumers.rejections import REASONS, Reason, Rejection, Unreadable
from consumers.stream_record import StreamRecord, append_time
from consumers.strict_json import NUMBER_MAX
from consumers.wire_exact import ContextSlice, DataSlice, read_exactly
from consumers.wire_rules import (
    ATTRIBUTE_NAME,
    BINARY_CONTENT_TYPE,
    CONTEXT_BYTES_MAX,
    CORE_ATTRIBUTES,
    DIMENSIONS_MAX,
    HEADERS_MAX,
    ID,
    METERS_MAX,
    NAME,
    RECORD_ID,
    SOURCE,
    SPEC_VERSION,
    USAGE_TYPE,
    VALUE_BYTES_MAX,
    check_quantity,
    is_dimension_value,
    read_time,
)
from domain.usage import Origin, UsageRecord, UsageStatus

__all__ = [
    "REASONS",
    "Reason",
    "Rejection",
    "StreamRecord",
    "append_time",
    "read_usage",
    "read_usages",
    "time_window_violation",
]

LATE_MAX = timedelta(days=400)
EARLY_MAX = timedelta(minutes=5)
_EARLIEST = -EARLY_MAX

KNOWN_MAX = 20_000
"""So many checked strings of one kind are remembered; then the memory starts again. None is above 256 characters."""


def read_usage(record: StreamRecord) -> UsageRecord | Rejection:
    """Read one record as a usage record, or say why not. Never raises, whatever the bytes.

    Nothing is normalised: strings and the context's bytes are those that were received; the time is UTC.
    Whether the time lies in the window is another question: `time_window_violation`.
    """
    return _read(record, None)


def read_usages(records: Sequence[StreamRecord]) -> list[UsageRecord | Rejection]:
    """Each record as `read_usage` reads it, in the same order; for many at once."""
    read: list[UsageRecord | Rejection] = []
    for start in range(0, len(records), _TOGETHER):
        some = records[start : start + _TOGETHER]
        read += map(_read, some, _read_together(some))
    return read


def time_window_violation(record: UsageRecord, historic: bool) -> Literal["too_old", "in_the_future"] | None:
    """The reason to park a record by its times, or None: arrived - 400 d <= occurred_at <= arrived + 5 min.

    ``historic`` (a registered source of backfills) has no lower bound. Judged by the broker's append time only, so that
    reading again gives the same answer.
    """
    late = record.arrived_at - record.occurred_at
    if late > LATE_MAX:
        return None if historic else "too_old"
    return "in_the_future" if late < _EARLIEST else None


# What is usual inside a context, six levels deep: compiled code judges depth and the size of numbers as it reads.
_Integer: TypeAlias = Annotated[int, msgspec.Meta(ge=-NUMBER_MAX, le=NUMBER_MAX)]
_Decimal: TypeAlias = Annotated[float, msgspec.Meta(ge=-float(NUMBER_MAX), le=float(NUMBER_MAX))]
_Plain: TypeAlias = str | bool | _Integer | _Decimal | None
_Level6: TypeAlias = _Plain | list[_Plain] | dict[str, _Plain]
_Level5: TypeAlias = _Plain | list[_Level6] | dict[str, _Level6]
_Level4: TypeAlias = _Plain | list[_Level5] | dict[str, _Level5]
_Level3: TypeAlias = _Plain | list[_Level4] | dict[str, _Level4]
_Level2: TypeAlias = _Plain | list[_Level3] | dict[str, _Level3]


class _Data(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The data as compiled code reads it. A null that was sent is not written again, so the counts differ: a doubt."""

    action: str
    status: UsageStatus
    meters: dict[str, str] | None = None
    dimensions: dict[str, str] | None = None
    member: str | None = None
    project: str | None = None
    work: str | None = None
    step: str | None = None
    hold: str | None = None
    corrects: str | None = None
    context: dict[str, _Level2] | None = None


class _Event(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """A structured event with the well-known extensions; one with others is read exactly."""

    specversion: str
    type: str
    id: str
    source: str
    subject: str
    time: str
    data: _Data
    datacontenttype: str | None = None
    dataschema: str | None = None
    partitionkey: str | None = None
    traceparent: str | None = None
    tracestate: str | None = None
    recordedtime: str | None = None
    sequence: str | None = None
    correlationid: str | None = None
    causationid: str | None = None


_DOUBTS = (msgspec.MsgspecError, ValueError, RecursionError, Unreadable)
_Layout: TypeAlias = Callable[[tuple[bytes | None, ...]], tuple[bytes | None, ...]]
_BINARY_HEADERS = (
    "content-type",
    "ce_specversion",
    "ce_type",
    "ce_id",
    "ce_time",
    "ce_subject",
    "ce_source",
)
_STRUCTURED: _Layout = itemgetter(slice(0))
"""The layout of headers that hold no attribute: they lie in the value."""
_TOGETHER = 128
"""Values decoded at once. One that is malformed costs so many others a reading of their own."""
_BINARY_TYPES = frozenset({b"application/json", b"application/json; charset=utf-8"})
_STRUCTURED_TYPES = frozenset(
    {b"application/cloudevents+json", b"application/cloudevents+json; charset=utf-8"}
)
_TYPE = USAGE_TYPE.encode()
_VERSION = SPEC_VERSION.encode()

_data_decoder = msgspec.json.Decoder(_Data)
_read_data = _data_decoder.decode
_read_data_lines = _data_decoder.decode_lines
_read_event = msgspec.json.Decoder(_Event).decode
_slice_data = msgspec.json.Decoder(ContextSlice).decode
_slice_event = msgspec.json.Decoder(DataSlice).decode
_encoder = msgspec.json.Encoder()
_write = _encoder.encode
_write_lines = _encoder.encode_lines

# A number of 16 characters or with an exponent, where a number may begin. Inside a string it is only a needless doubt.
_UNUSUAL_NUMBER = re.compile(rb"[:,\[][ \t\r\n]*+[-0-9][0-9.]*+(?:[eE]|(?<=[0-9.]{16}))")
_BACKSLASH = ord("\\")
_match_record_id = RECORD_ID.fullmatch
_CONTEXT_BEGINS = b'"context":{'
_BEFORE_CONTEXT = len(_CONTEXT_BEGINS) - 1

_DIGITS_AS_0 = bytes.maketrans(b"123456789", b"000000000")
_TIME_SHAPES = frozenset(
    {b"0000-00-00T00:00:00Z", *(b"0000-00-00T00:00:00." + b"0" * digits + b"Z" for digits in range(1, 7))}
)

_layouts: dict[tuple[str, ...], _Layout] = {}
_LAYOUTS_MAX = 256
_LAYOUT_CHARACTERS_MAX = 2_000
_teams: dict[bytes | None, str] = {}
_sources: dict[bytes | None, str] = {}
_names: set[str] = set()
_quantities: set[str] = set()
_dimension_values: set[str] = set()
_ids: set[str | None] = set()
_Text = TypeVar("_Text", str, str | None)


def _read_together(records: Sequence[StreamRecord]) -> Sequence[_Data | None]:
    """The data of each record whose value is, byte for byte, what its data are when they are written again; else None.

    Exact: lines hold no line break, so a line that equals the value is that of its own data alone.
    """
    values = [record.value or b"" for record in records]
    lines = b"\n".join(values)
    try:
        read = _read_data_lines(lines)
        again = _write_lines(read)
    except _DOUBTS:
        return [None] * len(values)
    if len(read) != len(values):
        return [None] * len(values)
    if len(again) == len(lines) + 1 and again.startswith(lines):
        return read
    each = zip(read, again.split(b"\n"), values, strict=False)
    return [data if line == value else None for data, line, value in each]


def _read(record: StreamRecord, data: _Data | None) -> UsageRecord | Rejection:
    """The record; ``data`` is its value as it was read already, None if it was not."""
    try:
        usage = _read_fast(record, data)
    except _DOUBTS:
        # Not an answer yet: the exact reading says whether this is an error, and which.
        usage = None
    return read_exactly(record) if usage is None else usage


def _read_fast(record: StreamRecord, data: _Data | None = None) -> UsageRecord | None:
    """The usage record, if every part of it is usual; None for any doubt. Raises: one of the doubts."""
    value = record.value
    if not value or len(value) > VALUE_BYTES_MAX or (_BACKSLASH in value and _has_doubtful_escape(value)):
        return None
    names, headers = zip(*record.headers, strict=True)
    layout = _layouts.get(names) or _learn_layout(names)
    if layout is None:
        return None
    if layout is _STRUCTURED:
        return _read_structured(record, value, headers[names.index("content-type")])
    content_type, version, kind, record_id, time, subject, source = layout(headers)
    if (
        content_type not in _BINARY_TYPES
        or version != _VERSION
        or kind != _TYPE
        or record_id is None
        or time is None
    ):
        return None
    is_same = data is not None
    if data is None:
        data = _read_data(value)
        again = _write(data)
        is_same = again == value
        if not is_same and _has_lost_keys(again, value):
            return None
    if data.context is None:
        context = None
    elif is_same:
        # Nothing was lost, and every number is as short as it is written here. The context comes last; before it, no
        # key called context holds an object, and inside a string its quotation marks would be escaped.
        context = value[value.index(_CONTEXT_BEGINS) + _BEFORE_CONTEXT : -1]
    else:
        context = _with_short_numbers(_slice_data(value))
    return _usual(
        record,
        data,
        context,
        _teams.get(subject) or _learn_text(_teams, subject, ID),
        _sources.get(source) or _learn_text(_sources, source, SOURCE),
        record_id.decode("ascii"),
        _read_usual_time(time),
    )


def _has_doubtful_escape(value: bytes) -> bool:
    """True for an escaped NUL, which is refused, and an escaped quotation mark, which would spoil the count of them."""
    return b"\\u0000" in value or b"\\u0022" in value


def _learn_layout(names: tuple[str, ...]) -> _Layout | None:
    """Where the attributes lie among headers of these names, by the mode that they allow; a producer always sends the same."""
    ours = [name for name in names if name.lower().startswith(("ce_", "content-type"))]
    if len(names) > HEADERS_MAX or len(set(names)) != len(names) or "content-type" not in ours:
        return None
    attributes = {name[3:] for name in ours if name.startswith("ce_") and ATTRIBUTE_NAME.fullmatch(name[3:])}
    if len(attributes) + 1 != len(ours) or not attributes.isdisjoint(("data", "datacontenttype")):
        return None
    if attributes and not attributes.issuperset(CORE_ATTRIBUTES):
        return None
    layout: _Layout = itemgetter(*map(names.index, _BINARY_HEADERS)) if attributes else _STRUCTURED
    if sum(map(len, names)) <= _LAYOUT_CHARACTERS_MAX:
        if len(_layouts) >= _LAYOUTS_MAX:
            _layouts.clear()
        _layouts[names] = layout
    return layout


def _read_structured(record: StreamRecord, value: bytes, content_type: bytes | None) -> UsageRecord | None:
    if content_type not in _STRUCTURED_TYPES:
        return None
    event = _read_event(value)
    if (
        event.specversion != SPEC_VERSION
        or event.type != USAGE_TYPE
        or (event.datacontenttype is not None and event.datacontenttype != BINARY_CONTENT_TYPE)
        or _has_lost_keys(_write(event), value)
    ):
        return None
    subject, source = event.subject.encode(), event.source.encode()
    return _usual(
        record,
        event.data,
        None if event.data.context is None else _with_short_numbers(_slice_event(value).data),
        _teams.get(subject) or _learn_text(_teams, subject, ID),
        _sources.get(source) or _learn_text(_sources, source, SOURCE),
        event.id,
        _read_usual_time(event.time.encode()),
    )


def _has_lost_keys(again: bytes, received: bytes) -> bool:
    """True if `received` holds more strings than were read: of a key that comes twice, the reader keeps only the last.

    ``again`` is what was read, written again. Exact: every string brings two quotation marks, and those inside a string
    are written with a backslash on both sides, as the other spelling (u0022) was turned away before. A lost key always
    loses at least its own two.
    """
    return again.count(b'"') != received.count(b'"')


def _with_short_numbers(read: ContextSlice) -> bytes:
    """The context as it was sent, if no number in it may have too many characters. Raises: ValueError."""
    context = bytes(read.context)
    if _UNUSUAL_NUMBER.search(context):
        raise ValueError("perhaps a long number")
    return context


def _read_usual_time(received: bytes) -> datetime:
    """The time as `read_time` reads it; one in UTC with at most six decimals needs no pattern. Raises: as it does."""
    text = received.decode("ascii")
    # Some versions read 24:00 as the next midnight; every other impossible number is an error in all of them.
    if received.translate(_DIGITS_AS_0) in _TIME_SHAPES and received[11:13] != b"24":
        return datetime.fromisoformat(text)
    return read_time(text)


def _usual(
    record: StreamRecord,
    data: _Data,
    context: bytes | None,
    team: str | None,
    source: str | None,
    record_id: str,
    occurred_at: datetime,
) -> UsageRecord | None:
    action, meters, dimensions, corrects = (
        data.action,
        data.meters or {},
        data.dimensions or {},
        data.corrects,
    )
    names = (action, *meters, *dimensions)
    ids = (data.member, data.project, data.work, data.step, data.hold)
    if (
        team is None
        or source is None
        or _match_record_id(record_id) is None
        or len(meters) > METERS_MAX
        or len(dimensions) > DIMENSIONS_MAX
        or (context is not None and len(context) > CONTEXT_BYTES_MAX)
        or not (_names.issuperset(names) or _learn(_names, names, NAME.fullmatch))
        or not (_quantities.issuperset(meters.values()) or _learn(_quantities, meters.values(), _is_quantity))
        or not (
            _dimension_values.issuperset(dimensions.values())
            or _learn(_dimension_values, dimensions.values(), is_dimension_value)
        )
        or not (_ids.issuperset(ids) or _learn(_ids, ids, _is_id_or_missing))
        or (corrects is not None and not _may_correct(corrects, data.status, record_id))
    ):
        return None
    member, project, work, step, hold = ids
    return UsageRecord(
        team_id=team,
        source=source,
        id=record_id,
        occurred_at=occurred_at,
        arrived_at=record.arrived_at,
        action=action,
        status=data.status,
        meters=meters,
        dimensions=dimensions,
        member=member,
        project=project,
        work=work,
        step=step,
        hold_id=hold,
        corrects=corrects,
        context=context,
        origin=Origin(record.topic, record.partition, record.offset),
    )


def _learn_text(
    known: dict[bytes | None, str], received: bytes | None, pattern: re.Pattern[str]
) -> str | None:
    """The text of `received` if it matches the pattern; from now on it is known."""
    if received is None:
        return None
    text = received.decode("ascii")
    if pattern.fullmatch(text) is None:
        return None
    if len(known) >= KNOWN_MAX:
        known.clear()
    known[received] = text
    return text


def _learn(known: set[_Text], texts: Collection[_Text], is_right: Callable[[_Text], object]) -> bool:
    """True if all of `texts` are right; from now on those are known. Those known before are not judged again."""
    for text in texts:
        if text not in known:
            if not is_right(text):
                return False
            if len(known) >= KNOWN_MAX:
                known.clear()
            known.add(text)
    return True


def _is_quantity(text: str) -> bool:
    return bool(check_quantity(text, "quantity"))


def _is_id_or_missing(text: str | None) -> bool:
    return text is None or ID.fullmatch(text) is not None


def _may_correct(corrects: str, status: UsageStatus, record_id: str) -> bool:
    return corrects != record_id and status != "succeeded" and RECORD_ID.fullmatch(corrects) is not None
