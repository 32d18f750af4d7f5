"""A stream record becomes a usage record, or a reason: fast for the normal one, exact for every other.

`read_usage` first tries a reading in compiled code that gives up at the slightest doubt; whatever it gives up on is read
by `consumers.wire_exact`, rule by rule. The fast reading never refuses: reasons come from one place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import timedelta
from typing import Any, Literal

import msgspec

from consumers.rejections import REASONS, Reason, Rejection, Unreadable
from consumers.stream_record import StreamRecord, append_time
from consumers.wire_exact import read_exactly
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
    "key_matches_team",
    "read_usage",
    "time_window_violation",
]

LATE_MAX = timedelta(days=400)
EARLY_MAX = timedelta(minutes=5)

KNOWN_MAX = 20_000
"""So many checked strings of one kind are remembered; then the memory starts again. None is above 256 characters."""


def read_usage(record: StreamRecord) -> UsageRecord | Rejection:
    """Read one record as a usage record, or say why not. Never raises, whatever the bytes.

    Nothing is normalised: strings and the context's bytes are those that were received; the time is UTC.
    Whether the time lies in the window is another question: `time_window_violation`.
    """
    try:
        usage = _read_fast(record)
    except _DOUBTS:
        # Not an answer yet: the exact reading says whether this is an error, and which.
        usage = None
    return read_exactly(record) if usage is None else usage


def time_window_violation(record: UsageRecord, historic: bool) -> Literal["too_old", "in_the_future"] | None:
    """The reason to park a record by its times, or None: arrived - 400 d <= occurred_at <= arrived + 5 min.

    ``historic`` (a registered source of backfills) has no lower bound. Judged by the broker's append time only, so that
    reading again gives the same answer.
    """
    if record.occurred_at - record.arrived_at > EARLY_MAX:
        return "in_the_future"
    if not historic and record.arrived_at - record.occurred_at > LATE_MAX:
        return "too_old"
    return None


def key_matches_team(record: StreamRecord, usage: UsageRecord) -> bool:
    """False if the record's key names another team: it was charged rightly, but its producer partitions wrongly."""
    return record.key is None or record.key == usage.team_id.encode()


class _Data(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, gc=False):
    """The data as compiled code reads it. A null or a default that was sent makes the counts differ: a doubt."""

    action: str
    status: UsageStatus
    meters: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    dimensions: dict[str, str] | msgspec.UnsetType = msgspec.UNSET
    member: str | None = None
    project: str | None = None
    work: str | None = None
    step: str | None = None
    hold: str | None = None
    corrects: str | None = None
    context: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


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


_DOUBTS = (msgspec.MsgspecError, UnicodeError, RecursionError, Unreadable)
_BINARY, _STRUCTURED = "binary", "structured"
_BINARY_TYPES = frozenset({b"application/json", b"application/json; charset=utf-8"})
_STRUCTURED_TYPES = frozenset(
    {b"application/cloudevents+json", b"application/cloudevents+json; charset=utf-8"}
)
_TYPE = USAGE_TYPE.encode()
_VERSION = SPEC_VERSION.encode()

_read_data = msgspec.json.Decoder(_Data).decode
_read_event = msgspec.json.Decoder(_Event).decode
_read_any: Callable[[bytes], Any] = msgspec.json.Decoder().decode
_write = msgspec.json.Encoder().encode

# A number of 16 characters or with an exponent, where a number may begin. Inside a string it is only a needless doubt.
_UNUSUAL_NUMBER = re.compile(rb"[:,\[][ \t\r\n]*+[-0-9][0-9.]*+(?:[eE]|(?<=[0-9.]{16}))")
_BRACKETS_MAX = 24

_layouts: dict[tuple[str, ...], str] = {}
_LAYOUTS_MAX = 256
_LAYOUT_CHARACTERS_MAX = 2_000
_teams: dict[bytes, str] = {}
_sources: dict[bytes, str] = {}
_names: set[str] = set()
_quantities: set[str] = set()
_dimension_values: set[str] = set()
_ids: set[str] = set()


def _read_fast(record: StreamRecord) -> UsageRecord | None:
    """The usage record, if every part of it is usual; None for any doubt."""
    value = record.value
    if not value or len(value) > VALUE_BYTES_MAX or _has_doubtful_escape(value):
        return None
    headers = dict(record.headers)
    if len(headers) != len(record.headers):
        return None
    names = tuple(headers)
    layout = _layouts.get(names) or _learn_layout(names)
    if layout is _BINARY:
        return _read_binary(record, value, headers)
    if layout is _STRUCTURED:
        return _read_structured(record, value, headers)
    return None


def _has_doubtful_escape(value: bytes) -> bool:
    """True for an escaped NUL, which is refused, and an escaped quotation mark, which would spoil the count of them."""
    return value.find(b"\\u00") >= 0 and (b"\\u0000" in value or b"\\u0022" in value)


def _learn_layout(names: tuple[str, ...]) -> str | None:
    """Which mode these header names allow; remembered, since a producer always sends the same ones."""
    ours = [name for name in names if name.lower().startswith(("ce_", "content-type"))]
    if len(names) > HEADERS_MAX or "content-type" not in ours:
        return None
    attributes = {name[3:] for name in ours if name.startswith("ce_") and ATTRIBUTE_NAME.fullmatch(name[3:])}
    if len(attributes) + 1 != len(ours) or not attributes.isdisjoint(("data", "datacontenttype")):
        return None
    layout = _BINARY if attributes.issuperset(CORE_ATTRIBUTES) else None if attributes else _STRUCTURED
    if layout and sum(map(len, names)) <= _LAYOUT_CHARACTERS_MAX:
        if len(_layouts) >= _LAYOUTS_MAX:
            _layouts.clear()
        _layouts[names] = layout
    return layout


def _read_binary(record: StreamRecord, value: bytes, headers: dict[str, bytes | None]) -> UsageRecord | None:
    record_id, time = headers["ce_id"], headers["ce_time"]
    if (
        headers["content-type"] not in _BINARY_TYPES
        or headers["ce_specversion"] != _VERSION
        or headers["ce_type"] != _TYPE
        or record_id is None
        or time is None
    ):
        return None
    data = _read_data(value)
    if _has_lost_keys(data, value):
        return None
    return _usual(
        record,
        data,
        _remembered(_teams, headers["ce_subject"], ID),
        _remembered(_sources, headers["ce_source"], SOURCE),
        record_id.decode("ascii"),
        time.decode("ascii"),
    )


def _read_structured(
    record: StreamRecord, value: bytes, headers: dict[str, bytes | None]
) -> UsageRecord | None:
    if headers["content-type"] not in _STRUCTURED_TYPES:
        return None
    event = _read_event(value)
    if (
        event.specversion != SPEC_VERSION
        or event.type != USAGE_TYPE
        or (event.datacontenttype is not None and event.datacontenttype != BINARY_CONTENT_TYPE)
        or _has_lost_keys(event, value)
    ):
        return None
    team = _remembered(_teams, event.subject.encode(), ID)
    source = _remembered(_sources, event.source.encode(), SOURCE)
    return _usual(record, event.data, team, source, event.id, event.time)


def _has_lost_keys(read: object, received: bytes) -> bool:
    """True if `received` holds more strings than were read: of a key that comes twice, the reader keeps only the last.

    Exact: every string brings two quotation marks, and those inside a string are written with a backslash on both
    sides, as the other spelling (u0022) was turned away before. A lost key always loses at least its own two.
    What is written again as it was received has lost nothing, and needs no count.
    """
    again = _write(read)
    return again != received and again.count(b'"') != received.count(b'"')


def _usual(
    record: StreamRecord, data: _Data, team: str | None, source: str | None, record_id: str, time: str
) -> UsageRecord | None:
    meters = {} if data.meters is msgspec.UNSET else data.meters
    dimensions = {} if data.dimensions is msgspec.UNSET else data.dimensions
    if (
        team is None
        or source is None
        or RECORD_ID.fullmatch(record_id) is None
        or len(meters) > METERS_MAX
        or len(dimensions) > DIMENSIONS_MAX
        or not _all_known(_names, (data.action, *meters, *dimensions), NAME.fullmatch)
        or not _all_known(_quantities, meters.values(), _is_quantity)
        or not _all_known(_dimension_values, dimensions.values(), is_dimension_value)
        or not _are_ids(data)
        or (data.corrects is not None and not _may_correct(data, record_id))
    ):
        return None
    context = None
    if data.context is not msgspec.UNSET:
        context = bytes(data.context)
        if not _is_usual_context(context):
            return None
    return UsageRecord(
        team_id=team,
        source=source,
        id=record_id,
        occurred_at=read_time(time),
        arrived_at=record.arrived_at,
        action=data.action,
        status=data.status,
        meters=meters,
        dimensions=dimensions,
        member=data.member,
        project=data.project,
        work=data.work,
        step=data.step,
        hold_id=data.hold,
        corrects=data.corrects,
        context=context,
        origin=Origin(record.topic, record.partition, record.offset),
    )


def _remembered(known: dict[bytes, str], received: bytes | None, pattern: re.Pattern[str]) -> str | None:
    """The text of `received` if it matches the pattern, from memory if it was seen before."""
    if received is None:
        return None
    text = known.get(received)
    if text is None:
        text = received.decode("ascii")
        if pattern.fullmatch(text) is None:
            return None
        if len(known) >= KNOWN_MAX:
            known.clear()
        known[received] = text
    return text


def _all_known(known: set[str], texts: Collection[str], is_right: Callable[[str], object]) -> bool:
    """True if all of `texts` are right; those seen before are not judged again."""
    if known.issuperset(texts):
        return True
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


def _are_ids(data: _Data) -> bool:
    present = [
        text for text in (data.member, data.project, data.work, data.step, data.hold) if text is not None
    ]
    return _all_known(_ids, present, ID.fullmatch)


def _may_correct(data: _Data, record_id: str) -> bool:
    corrects = data.corrects
    return (
        corrects is not None
        and corrects != record_id
        and data.status != "succeeded"
        and RECORD_ID.fullmatch(corrects) is not None
    )


def _is_usual_context(raw: bytes) -> bool:
    """True if strict reading cannot object: a small, shallow object with short numbers and every key once."""
    return (
        raw.startswith(b"{")
        and len(raw) <= CONTEXT_BYTES_MAX
        and raw.count(b"{") + raw.count(b"[") <= _BRACKETS_MAX
        and _UNUSUAL_NUMBER.search(raw) is None
        and not _has_lost_keys(_read_any(raw), raw)
    )
