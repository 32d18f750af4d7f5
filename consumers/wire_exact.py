"""The exact reading of a usage record: every rule in order, the first that is broken gives the reason."""

from __future__ import annotations

from typing import cast

import msgspec

from consumers.cloud_events import Identity, JsonObject, check_fields, read_event, text_of, wrong_kind
from consumers.rejections import Rejection, Unreadable, head_hex, shown
from consumers.stream_record import StreamRecord
from consumers.wire_rules import (
    CONTEXT_BYTES_MAX,
    DIMENSIONS_MAX,
    FIELDS,
    ID_FIELDS,
    METERS_MAX,
    STATUSES,
    USAGE_TYPE,
    check_dimension_value,
    check_id,
    check_name,
    check_quantity,
    check_record_id,
)
from domain.usage import Origin, UsageRecord, UsageStatus


class ContextSlice(msgspec.Struct):
    """Data of which only the context is read: its bytes, exactly as they were received."""

    context: msgspec.Raw


class DataSlice(msgspec.Struct):
    """An event of which only the context in its data is read."""

    data: ContextSlice


def read_exactly(record: StreamRecord) -> UsageRecord | Rejection:
    """Read one record by every rule, slowly; the answer that the fast reading must equal. Never raises."""
    try:
        return _read(record)
    except Unreadable as no:
        return Rejection(no.reason, no.detail, head_hex(record.value))


def _read(record: StreamRecord) -> UsageRecord:
    event = read_event(record, (USAGE_TYPE,))
    return _usage(record, event.identity, event.data, DataSlice if event.is_structured else ContextSlice)


def _usage(
    record: StreamRecord, identity: Identity, data: JsonObject, slice_type: type[ContextSlice | DataSlice]
) -> UsageRecord:
    check_fields(data, FIELDS, ("action", "status"))
    action = check_name(text_of(data["action"], "action"), "action", "action")
    status = _status(text_of(data["status"], "status"))
    meters = _meters(_mapping(data, "meters"))
    dimensions = _dimensions(_mapping(data, "dimensions"))
    ids = {
        field: check_id(text_of(data[field], field), "identifier", field)
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


def _mapping(data: JsonObject, field: str) -> dict[str, str]:
    value = data.get(field, {})
    if not isinstance(value, dict):
        raise wrong_kind(value, field, "an object of strings")
    return {key: text_of(item, f"{field}[{shown(key)}]") for key, item in value.items()}


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
    corrects = check_record_id(text_of(data["corrects"], "corrects"), "corrects", "corrects")
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
        raise wrong_kind(data["context"], "context", "a JSON object")
    found = msgspec.json.decode(record.value or b"", type=slice_type)
    raw = bytes(found.data.context if isinstance(found, DataSlice) else found.context)
    if len(raw) > CONTEXT_BYTES_MAX:
        raise Unreadable(
            "context_too_large",
            f"the context has {len(raw)} bytes; at most {CONTEXT_BYTES_MAX} are kept, link to files",
        )
    return raw
