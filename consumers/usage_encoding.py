"""A usage record as its producer sends it: key, CloudEvents headers and value, in both modes."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

import msgspec

from consumers.wire_rules import BINARY_CONTENT_TYPE, SPEC_VERSION, STRUCTURED_CONTENT_TYPE, USAGE_TYPE
from domain.usage import UsageRecord

_encoder = msgspec.json.Encoder()


class EncodedUsage(NamedTuple):
    """What a producer hands to Kafka."""

    key: bytes
    headers: list[tuple[str, bytes]]
    value: bytes


def encode_usage(usage: UsageRecord) -> EncodedUsage:
    """The record in CloudEvents binary mode: attributes in `ce_` headers, the value is the data alone.

    ``arrived_at`` and ``origin`` are the broker's to say and are not sent.
    """
    attributes = _attributes(usage)
    headers = [(f"ce_{name}", text.encode()) for name, text in attributes.items()]
    headers.append(("content-type", BINARY_CONTENT_TYPE.encode()))
    return EncodedUsage(usage.team_id.encode(), headers, _encoder.encode(_data(usage)))


def encode_usage_structured(usage: UsageRecord) -> EncodedUsage:
    """The record in CloudEvents structured mode: one JSON object holds attributes and data."""
    event = {**_attributes(usage), "datacontenttype": BINARY_CONTENT_TYPE, "data": _data(usage)}
    headers = [("content-type", STRUCTURED_CONTENT_TYPE.encode())]
    return EncodedUsage(usage.team_id.encode(), headers, _encoder.encode(event))


def _attributes(usage: UsageRecord) -> dict[str, str]:
    return {
        "specversion": SPEC_VERSION,
        "type": USAGE_TYPE,
        "id": usage.id,
        "source": usage.source,
        "subject": usage.team_id,
        "time": time_text(usage.occurred_at),
    }


def time_text(at: datetime) -> str:
    """An aware UTC time as records carry it."""
    return at.isoformat().removesuffix("+00:00") + "Z"


def _data(usage: UsageRecord) -> dict[str, object]:
    fields = {
        "action": usage.action,
        "status": usage.status,
        "meters": usage.meters or None,
        "dimensions": usage.dimensions or None,
        "member": usage.member,
        "project": usage.project,
        "work": usage.work,
        "step": usage.step,
        "hold": usage.hold_id,
        "corrects": usage.corrects,
        "context": None if usage.context is None else msgspec.Raw(usage.context),
    }
    return {field: value for field, value in fields.items() if value is not None}
