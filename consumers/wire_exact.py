"""The exact reading of a usage record: every rule in order, the first that is broken gives the reason."""

from __future__ import annotations

from datetime import datetime
from typing import cast

import msgspec

from consumers.rejections import Reason, Rejection, Unreadable, head_hex, shown
from consumers.stream_record import StreamRecord
from consumers.strict_json import LEVELS_MAX, JsonValue, read_json
from consumers.wire_rules import (
    ATTRIBUTE_NAME,
    BINARY_CONTENT_TYPE,
    CONTENT_TYPE,
    CONTEXT_BYTES_MAX,
    CORE_ATTRIBUTES,
    DIMENSIONS_MAX,
    FIELDS,
    HEADERS_MAX,
    ID_FIELDS,
    METERS_MAX,
    SPEC_VERSION,
    STATUSES,
    STRUCTURED_CONTENT_TYPE,
    USAGE_TYPE,
    VALUE_BYTES_MAX,
    check_dimension_value,
    check_id,
    check_name,
    check_quantity,
    check_record_id,
    check_source,
    read_time,
)
from domain.usage import Origin, UsageRecord, UsageStatus

JsonObject = dict[str, JsonValue]

# `content-type` carries datacontenttype, the value carries data: a header for either would contradict them.
_NEVER_HEADERS = ("data", "datacontenttype")


class ContextSlice(msgspec.Struct):
    """Data of which only the context is read: its bytes, exactly as they were received."""

    context: msgspec.Raw


class DataSlice(msgspec.Struct):
    """An event of which only the context in its data is read."""

    data: ContextSlice


class _Identity(msgspec.Struct, frozen=True):
    id: str
    source: str
    team: str
    occurred_at: datetime


def read_exactly(record: StreamRecord) -> UsageRecord | Rejection:
    """Read one record by every rule, slowly; the answer that the fast reading must equal. Never raises."""
    try:
        return _read(record)
    except Unreadable as no:
        return Rejection(no.reason, no.detail, head_hex(record.value))


def _read(record: StreamRecord) -> UsageRecord:
    value = _sized(record.value)
    headers = _headers(record)
    if _content_type(headers) == STRUCTURED_CONTENT_TYPE:
        event = _object(read_json(value, LEVELS_MAX + 1), "the value")
        return _usage(record, _structured_identity(event, headers), _data_of(event), DataSlice)
    attributes = {name: _header_text(name, headers[name]) for name in CORE_ATTRIBUTES if name in headers}
    identity = _identity(attributes)
    return _usage(record, identity, _object(read_json(value), "the value"), ContextSlice)


def _sized(value: bytes | None) -> bytes:
    if not value:
        raise Unreadable("empty", "the value is null or empty; send one JSON object")
    if len(value) > VALUE_BYTES_MAX:
        raise Unreadable(
            "too_large",
            f"the value has {len(value)} bytes; at most {VALUE_BYTES_MAX} are read, keep files elsewhere",
        )
    return value


def _headers(record: StreamRecord) -> dict[str, bytes | None]:
    """The CloudEvents headers without their prefix, and `content-type`; all others are none of our business."""
    if len(record.headers) > HEADERS_MAX:
        raise Unreadable("too_many_headers", f"{len(record.headers)} headers; at most {HEADERS_MAX} are read")
    found: dict[str, bytes | None] = {}
    for name, value in record.headers:
        attribute = _attribute_of(name)
        if attribute is None:
            continue
        if attribute in found:
            raise Unreadable("attribute_twice", f"the header {shown(name)} is there twice; send it once")
        found[attribute] = value
    return found


def _attribute_of(name: str) -> str | None:
    lower = name.lower()
    if lower == "content-type":
        if name != lower:
            raise Unreadable("attribute_name", f"the header {shown(name)} must be written 'content-type'")
        return lower
    if not lower.startswith("ce_"):
        return None
    attribute = name[3:]
    if not name.startswith("ce_") or not ATTRIBUTE_NAME.fullmatch(attribute):
        raise Unreadable(
            "attribute_name", f"the header {shown(name)} must be 'ce_' and lower-case letters and digits"
        )
    if attribute in _NEVER_HEADERS:
        raise Unreadable(
            "attribute_name", f"{shown(name)} may not be a header; use the value and 'content-type'"
        )
    return attribute


def _header_text(name: str, value: bytes | None) -> str:
    if value is None:
        raise Unreadable("attribute_value", f"the header of {name} is null; give it a value")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("attribute_value", f"the header of {name} {shown(value)} is not UTF-8") from None


def _content_type(headers: dict[str, bytes | None]) -> str:
    right = f"'{BINARY_CONTENT_TYPE}' or '{STRUCTURED_CONTENT_TYPE}'"
    if "content-type" not in headers:
        raise Unreadable("content_type", f"the header 'content-type' is missing; send {right}")
    return _media_type(_header_text("content-type", headers["content-type"]), right)


def _media_type(text: str, right: str) -> str:
    match = CONTENT_TYPE.fullmatch(text)
    if match is None:
        raise Unreadable("content_type", f"content-type {shown(text)} is not {right}")
    return match[1].lower()


def _structured_identity(event: JsonObject, headers: dict[str, bytes | None]) -> _Identity:
    if "data_base64" in event:
        raise Unreadable("data_encoding", "'data_base64' is not read; send the JSON object itself in 'data'")
    for name in event:
        if not ATTRIBUTE_NAME.fullmatch(name):
            raise Unreadable(
                "attribute_name",
                f"the member {shown(name)} is not made of lower-case ASCII letters and digits",
            )
    attributes = {name: _string(event[name], name) for name in CORE_ATTRIBUTES if name in event}
    identity = _identity(attributes)
    _check_agreement(attributes, headers)
    if "datacontenttype" in event:
        text = _string(event["datacontenttype"], "datacontenttype")
        if _media_type(text, f"'{BINARY_CONTENT_TYPE}'") != BINARY_CONTENT_TYPE:
            raise Unreadable("content_type", f"datacontenttype {shown(text)} is not '{BINARY_CONTENT_TYPE}'")
    return identity


def _check_agreement(attributes: dict[str, str], headers: dict[str, bytes | None]) -> None:
    for name, text in attributes.items():
        if name in headers and headers[name] != text.encode("utf-8"):
            raise Unreadable(
                "header_disagrees",
                f"the header of {name} is {shown(headers[name])}, the value says {shown(text)}; send one of them",
            )


def _identity(attributes: dict[str, str]) -> _Identity:
    for name in CORE_ATTRIBUTES:
        if name not in attributes:
            raise Unreadable("attribute_missing", f"{name} is missing; every usage record has one")
    for name, right in (("specversion", SPEC_VERSION), ("type", USAGE_TYPE)):
        if attributes[name] != right:
            raise Unreadable(
                "unknown_schema", f"{name} {shown(attributes[name])} is not known here; {right!r} is"
            )
    return _Identity(
        id=check_record_id(attributes["id"], "record_id", "id"),
        source=check_source(attributes["source"]),
        team=check_id(attributes["subject"], "team", "subject"),
        occurred_at=read_time(attributes["time"]),
    )


def _data_of(event: JsonObject) -> JsonObject:
    if "data" not in event:
        raise Unreadable("attribute_missing", "'data' is missing; it holds action and status")
    return _object(event["data"], "data")


def _object(value: JsonValue, field: str) -> JsonObject:
    if isinstance(value, dict):
        return value
    raise Unreadable("not_an_object", f"{field} is {shown(value)}; send a JSON object")


def _usage(
    record: StreamRecord, identity: _Identity, data: JsonObject, slice_type: type[ContextSlice | DataSlice]
) -> UsageRecord:
    _check_fields(data)
    action = check_name(_string(data["action"], "action"), "action", "action")
    status = _status(_string(data["status"], "status"))
    meters = _meters(_mapping(data, "meters"))
    dimensions = _dimensions(_mapping(data, "dimensions"))
    ids = {
        field: check_id(_string(data[field], field), "identifier", field)
        for field in ID_FIELDS
        if field in data
    }
    return UsageRecord(
        team_id=identity.team,
        source=identity.source,
        id=identity.id,
        occurred_at=identity.occurred_at,
        arrived_at=record.arrived_at,
        action=action,
        status=status,
        meters=meters,
        dimensions=dimensions,
        member=ids.get("member"),
        project=ids.get("project"),
        work=ids.get("work"),
        step=ids.get("step"),
        hold_id=ids.get("hold"),
        corrects=_corrects(data, identity.id, status),
        context=_context(record, data, slice_type),
        origin=Origin(record.topic, record.partition, record.offset),
    )


def _check_fields(data: JsonObject) -> None:
    for field in data:
        if field not in FIELDS:
            raise Unreadable("unknown_field", f"the field {shown(field)} is not one of {', '.join(FIELDS)}")
    for field in ("action", "status"):
        if field not in data:
            raise Unreadable("missing_field", f"{field} is missing; every usage record has one")


def _string(value: JsonValue, field: str) -> str:
    if isinstance(value, str):
        return value
    raise _wrong_kind(value, field, "a string")


def _wrong_kind(value: JsonValue, field: str, right: str) -> Unreadable:
    if value is None:
        return Unreadable("null_value", f"{field} is null; leave it out or send {right}")
    reason: Reason = "wrong_type"
    return Unreadable(reason, f"{field} is {shown(value)}; send {right}")


def _mapping(data: JsonObject, field: str) -> dict[str, str]:
    value = data.get(field, {})
    if not isinstance(value, dict):
        raise _wrong_kind(value, field, "an object of strings")
    return {key: _string(item, f"{field}[{shown(key)}]") for key, item in value.items()}


def _status(text: str) -> UsageStatus:
    if text in STATUSES:
        return cast(UsageStatus, text)
    raise Unreadable("status", f"status {shown(text)} is none of {', '.join(STATUSES)}")


def _meters(meters: dict[str, str]) -> dict[str, str]:
    if len(meters) > METERS_MAX:
        raise Unreadable("too_many_meters", f"{len(meters)} meters; at most {METERS_MAX} are read")
    for name, quantity in meters.items():
        check_name(name, "meter_name", "the meter")
        check_quantity(quantity, f"meters[{shown(name)}]")
    return meters


def _dimensions(dimensions: dict[str, str]) -> dict[str, str]:
    if len(dimensions) > DIMENSIONS_MAX:
        raise Unreadable(
            "too_many_dimensions", f"{len(dimensions)} dimensions; at most {DIMENSIONS_MAX} are read"
        )
    for name, value in dimensions.items():
        check_name(name, "dimension_name", "the dimension")
        check_dimension_value(value, f"dimensions[{shown(name)}]")
    return dimensions


def _corrects(data: JsonObject, record_id: str, status: UsageStatus) -> str | None:
    if "corrects" not in data:
        return None
    corrects = check_record_id(_string(data["corrects"], "corrects"), "corrects", "corrects")
    if corrects == record_id:
        raise Unreadable(
            "corrects_itself", f"corrects {shown(corrects)} is the record's own id; name an earlier one"
        )
    if status == "succeeded":
        raise Unreadable(
            "corrects_without_failure",
            "corrects with status succeeded; only a record with status failed or cancelled may correct another",
        )
    return corrects


def _context(
    record: StreamRecord, data: JsonObject, slice_type: type[ContextSlice | DataSlice]
) -> bytes | None:
    """The bytes of the context exactly as they were received: its digest must be that of what was sent."""
    if "context" not in data:
        return None
    if not isinstance(data["context"], dict):
        raise _wrong_kind(data["context"], "context", "a JSON object")
    found = msgspec.json.decode(record.value or b"", type=slice_type)
    raw = bytes(found.data.context if isinstance(found, DataSlice) else found.context)
    if len(raw) > CONTEXT_BYTES_MAX:
        raise Unreadable(
            "context_too_large",
            f"the context has {len(raw)} bytes; at most {CONTEXT_BYTES_MAX} are kept, link to files",
        )
    return raw
