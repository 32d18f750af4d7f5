"""The exact reading of a CloudEvent from Kafka, in both modes: every rule in order, the first that is broken gives the reason."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

import msgspec

from consumers.rejections import Reason, Unreadable, shown
from consumers.stream_record import StreamRecord
from consumers.strict_json import LEVELS_MAX, JsonValue, read_json
from consumers.wire_rules import (
    ATTRIBUTE_NAME,
    BINARY_CONTENT_TYPE,
    CONTENT_TYPE,
    CORE_ATTRIBUTES,
    HEADERS_MAX,
    SPEC_VERSION,
    STRUCTURED_CONTENT_TYPE,
    VALUE_BYTES_MAX,
    check_id,
    check_record_id,
    check_source,
    read_time,
)

JsonObject = dict[str, JsonValue]

# `content-type` carries datacontenttype, the value carries data: a header for either would contradict them.
_NEVER_HEADERS = ("data", "datacontenttype")


class Identity(msgspec.Struct, frozen=True):
    """The attributes of an event that say what it is, whose it is, and when it happened (aware UTC)."""

    type: str
    id: str
    source: str
    team: str
    occurred_at: datetime


class CloudEvent(msgspec.Struct, frozen=True):
    """An event as it was read: its identity and its data, a JSON object nobody has judged yet."""

    identity: Identity
    data: JsonObject
    is_structured: bool


def read_event(record: StreamRecord, types: Collection[str]) -> CloudEvent:
    """Read a record as a CloudEvent of one of these types. Raises: Unreadable with the reason."""
    value = _sized(record.value)
    headers = _headers(record)
    if _content_type(headers) == STRUCTURED_CONTENT_TYPE:
        event = _object(read_json(value, LEVELS_MAX + 1), "the value")
        return CloudEvent(_structured_identity(event, headers, types), _data_of(event), True)
    attributes = {name: _header_text(name, headers[name]) for name in CORE_ATTRIBUTES if name in headers}
    identity = _identity(attributes, types)
    return CloudEvent(identity, _object(read_json(value), "the value"), False)


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


def _structured_identity(
    event: JsonObject, headers: dict[str, bytes | None], types: Collection[str]
) -> Identity:
    if "data_base64" in event:
        raise Unreadable("data_encoding", "'data_base64' is not read; send the JSON object itself in 'data'")
    for name in event:
        if not ATTRIBUTE_NAME.fullmatch(name):
            raise Unreadable(
                "attribute_name",
                f"the member {shown(name)} is not made of lower-case ASCII letters and digits",
            )
    attributes = {name: text_of(event[name], name) for name in CORE_ATTRIBUTES if name in event}
    identity = _identity(attributes, types)
    _check_agreement(attributes, headers)
    if "datacontenttype" in event:
        text = text_of(event["datacontenttype"], "datacontenttype")
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


def _identity(attributes: dict[str, str], types: Collection[str]) -> Identity:
    for name in CORE_ATTRIBUTES:
        if name not in attributes:
            raise Unreadable("attribute_missing", f"{name} is missing; every record has one")
    for name, right in (("specversion", (SPEC_VERSION,)), ("type", types)):
        if attributes[name] not in right:
            known = ", ".join(map(repr, right))
            raise Unreadable(
                "unknown_schema", f"{name} {shown(attributes[name])} is not known here; {known} is"
            )
    return Identity(
        type=attributes["type"],
        id=check_record_id(attributes["id"], "record_id", "id"),
        source=check_source(attributes["source"]),
        team=check_id(attributes["subject"], "team", "subject"),
        occurred_at=read_time(attributes["time"]),
    )


def _data_of(event: JsonObject) -> JsonObject:
    if "data" not in event:
        raise Unreadable("attribute_missing", "'data' is missing; it holds what happened")
    return _object(event["data"], "data")


def _object(value: JsonValue, field: str) -> JsonObject:
    if isinstance(value, dict):
        return value
    raise Unreadable("not_an_object", f"{field} is {shown(value)}; send a JSON object")


def check_fields(data: JsonObject, known: Collection[str], required: Collection[str]) -> None:
    """The data have the required fields, and none that is not known. Raises: Unreadable."""
    for field in data:
        if field not in known:
            raise Unreadable("unknown_field", f"the field {shown(field)} is not one of {', '.join(known)}")
    for field in required:
        if field not in data:
            raise Unreadable("missing_field", f"{field} is missing; every such record has one")


def text_of(value: JsonValue, field: str) -> str:
    """The field is a string. Raises: Unreadable."""
    if isinstance(value, str):
        return value
    raise wrong_kind(value, field, "a string")


def wrong_kind(value: JsonValue, field: str, right: str) -> Unreadable:
    """What to say of a field that is null, or of another kind than the right one."""
    if value is None:
        return Unreadable("null_value", f"{field} is null; leave it out or send {right}")
    reason: Reason = "wrong_type"
    return Unreadable(reason, f"{field} is {shown(value)}; send {right}")
