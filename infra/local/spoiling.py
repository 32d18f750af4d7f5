"""How records go wrong on the way: one way for each of many reasons, made from a good record."""

from __future__ import annotations

from collections.abc import Callable

from consumers.usage_encoding import encode_usage
from domain.usage import UsageRecord
from infra.local.producing import Headers

UNKNOWN_SCHEMA = "unknown_schema"

Spoiler = Callable[[Headers, bytes], tuple[Headers, bytes]]


def spoil(usage: UsageRecord, reason: str) -> tuple[Headers, bytes]:
    """Headers and value of the record, spoiled so that it is refused for that reason (binary mode)."""
    encoded = encode_usage(usage)
    return {**SPOILERS, UNKNOWN_SCHEMA: _header("ce_type", b"com.coffer.usage.recorded.v9")}[reason](
        encoded.headers, encoded.value
    )


def _value(change: Callable[[bytes], bytes]) -> Spoiler:
    return lambda headers, value: (headers, change(value))


def _added(field: bytes) -> Spoiler:
    return _value(lambda value: b"{" + field + b"," + value[1:])


def _header(name: str, value: bytes | None) -> Spoiler:
    """The header has another value, or is gone."""

    def change(headers: Headers, body: bytes) -> tuple[Headers, bytes]:
        kept = [(each, held) for each, held in headers if each != name]
        return kept if value is None else [*kept, (name, value)], body

    return change


def _instead(field: bytes) -> Spoiler:
    """The action stands, and nothing else but this field."""
    return _value(lambda _: b'{"action":"image.generate",' + field + b"}")


# By the reason code that the ledger documents; each is a mistake that some producer has really made.
SPOILERS: dict[str, Spoiler] = {
    "not_json": _value(lambda value: value[: len(value) // 2]),
    "empty": _value(lambda _: b""),
    "not_utf8": _instead(b'"status":"succeeded","member":"caf\xe9"'),
    "byte_order_mark": _value(lambda value: b"\xef\xbb\xbf" + value),
    "duplicate_key": _added(b'"action":"image.upscale"'),
    "not_a_number": _instead(b'"status":"succeeded","context":{"guidance":NaN}'),
    "wrong_type": _instead(b'"status":"succeeded","meters":{"images":1,"steps":30}'),
    "quantity": _instead(b'"status":"succeeded","meters":{"images":"-1","steps":"3e1"}'),
    "missing_field": _value(lambda _: b'{"action":"image.generate"}'),
    "null_value": _added(b'"hold":null'),
    "unknown_field": _added(b'"price":"0"'),
    "status": _instead(b'"status":"done"'),
    "too_deep": _instead(b'"status":"succeeded","context":{"tree":' + b"[" * 60 + b"]" * 60 + b"}"),
    "context_too_large": _instead(b'"status":"succeeded","context":{"log":"' + b"x" * 9_000 + b'"}'),
    "corrects_without_failure": _instead(b'"status":"succeeded","corrects":"job-0000001"'),
    "attribute_missing": _header("ce_source", None),
    "content_type": _header("content-type", b"text/xml"),
    "time_zone": _header("ce_time", b"2026-01-01T09:00:00"),
    "team": _header("ce_subject", b"two words"),
}
