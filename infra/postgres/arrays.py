"""Columns as PostgreSQL's arrays in their binary form: a batch sends thousands of values, and one by one they cost more."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, date, datetime, timedelta
from struct import Struct

INT4S, INT8S, TEXTS, BYTEAS, TIMESTAMPS, UUIDS, DATES, TIMESTAMP = (
    *(1007, 1016, 1009, 1001, 1185, 2951, 1182),
    1184,
)
"""The types of the arrays, and of one time, by the numbers that PostgreSQL has for them."""

_header = Struct(">5i").pack
_length = Struct(">i").pack
_int4 = Struct(">ii").pack
_int8 = Struct(">iq").pack
_NULL = _length(-1)
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
_EPOCH_DAY = _EPOCH.toordinal()
_MICROSECOND = timedelta(microseconds=1)


def int4s(values: Collection[int]) -> bytes:
    """As integer[]."""
    return _array(23, len(values), [_int4(4, value) for value in values])


def int8s(values: Collection[int]) -> bytes:
    """As bigint[]."""
    return _array(20, len(values), [_int8(8, value) for value in values])


def texts(values: Collection[str]) -> bytes:
    """As text[]."""
    return _array(25, len(values), _lengthed(value.encode() for value in values))


def byteas(values: Collection[bytes]) -> bytes:
    """As bytea[]."""
    return _array(17, len(values), _lengthed(values))


def uuids(keys: Collection[str]) -> bytes:
    """As uuid[], of 32 hex digits each."""
    # All written as one run of hex digits, each after its length.
    return _header(1, 0, 2950, len(keys), 1) + bytes.fromhex("".join([f"00000010{key}" for key in keys]))


def timestamps(values: Collection[datetime | None]) -> bytes:
    """As timestamptz[], of aware times or NULL."""
    fields = [_NULL if value is None else _int8(8, (value - _EPOCH) // _MICROSECOND) for value in values]
    return _array(1184, len(values), fields, has_null=None in values)


def dates(values: Collection[date]) -> bytes:
    """As date[]."""
    return _array(1082, len(values), [_int4(4, value.toordinal() - _EPOCH_DAY) for value in values])


def timestamp(value: datetime) -> bytes:
    """An aware time as one timestamptz."""
    return _int8(8, (value - _EPOCH) // _MICROSECOND)[4:]


def to_int(value: bytes | None) -> int:
    """What an integer column answered."""
    assert value is not None, "an integer, not NULL"
    return int.from_bytes(value, "big", signed=True)


def to_text(value: bytes | None) -> str:
    """What a text column answered."""
    assert value is not None, "a text, not NULL"
    return value.decode()


def to_time(microseconds: int) -> datetime:
    """The time that PostgreSQL counts as so many microseconds."""
    return _EPOCH + microseconds * _MICROSECOND


def _lengthed(values: Iterable[bytes]) -> list[bytes]:
    fields: list[bytes] = []
    for value in values:
        fields += (_length(len(value)), value)
    return fields


def _array(element_type: int, count: int, fields: list[bytes], *, has_null: bool = False) -> bytes:
    """One dimension from 1; each element after its length."""
    return _header(1, has_null, element_type, count, 1) + b"".join(fields)
