"""What each part of a usage record must look like: names, ids, times, quantities and dimension values."""

from __future__ import annotations

import re
import unicodedata
from datetime import UTC, datetime

from consumers.rejections import Reason, Unreadable, shown
from domain.amounts import parse_quantity
from domain.errors import Malformed

USAGE_TYPE = "com.coffer.usage.recorded.v1"
SPEC_VERSION = "1.0"
BINARY_CONTENT_TYPE = "application/json"
STRUCTURED_CONTENT_TYPE = "application/cloudevents+json"

VALUE_BYTES_MAX = 64 * 1024
CONTEXT_BYTES_MAX = 8 * 1024
HEADERS_MAX = 64
METERS_MAX = 16
DIMENSIONS_MAX = 32
STATUSES = ("succeeded", "failed", "cancelled")

CORE_ATTRIBUTES = ("specversion", "type", "id", "source", "subject", "time")
ID_FIELDS = ("member", "project", "work", "step", "hold")
FIELDS = ("action", "status", "meters", "dimensions", *ID_FIELDS, "corrects", "context")

# Visible ASCII only: no two ids can look alike by normalisation, direction or invisible characters. A team is a part
# of paths, so it has no slash; a record id is not, and may.
ID_PATTERN = r"[A-Za-z0-9_\-][A-Za-z0-9_.:@~+=\-]{0,127}"
RECORD_ID_PATTERN = r"[A-Za-z0-9_\-][A-Za-z0-9_.:@~+=/\-]{0,127}"
NAME_PATTERN = r"(?=.{1,100}$)[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)*"
QUANTITY_PATTERN = r"(?:0|[1-9][0-9]{0,18})(?:\.[0-9]{1,9})?"
SOURCE_PATTERN = (
    r"(?=.{1,256}$)(?:[A-Za-z0-9\-._~:/?@!$&'()*+,;=\[\]]|%[0-9A-Fa-f]{2})*"
    r"(?:#(?:[A-Za-z0-9\-._~:/?@!$&'()*+,;=]|%[0-9A-Fa-f]{2})*)?"
)
ATTRIBUTE_NAME = re.compile(r"[a-z0-9]+", re.ASCII)
ID = re.compile(ID_PATTERN, re.ASCII)
RECORD_ID = re.compile(RECORD_ID_PATTERN, re.ASCII)
NAME = re.compile(NAME_PATTERN, re.ASCII)
SOURCE = re.compile(SOURCE_PATTERN, re.ASCII)
TIME = re.compile(
    r"[0-9]{4}-[01][0-9]-[0-3][0-9]T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,6})?"
    r"(?:Z|[+\-](?:[01][0-9]|2[0-3]):[0-5][0-9])",
    re.ASCII,
)
PLAIN_DIMENSION_VALUE = re.compile(r"(?! )[ -~]{1,128}(?<! )", re.ASCII)
CONTENT_TYPE = re.compile(
    r"(application/(?:cloudevents\+)?json)[ \t]*(?:;[ \t]*charset=(?:utf-8|\"utf-8\")[ \t]*)?",
    re.ASCII | re.IGNORECASE,
)

_TIME_TOO_PRECISE = re.compile(r"[^.]*\.[0-9]{7,}(?:[^0-9].*)?", re.ASCII)
_TIME_WITHOUT_OFFSET = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:]{5,8}(?:\.[0-9]+)?", re.ASCII)
# Marks and fillers that show nothing: two values could look the same and be priced differently.
_INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u2800\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)


def check_pattern(pattern: re.Pattern[str], text: str, reason: Reason, field: str, right: str) -> str:
    """The text matches the whole pattern. Raises: Unreadable with `reason`, naming the field and what is right."""
    if pattern.fullmatch(text):
        return text
    raise Unreadable(reason, f"{field} {shown(text)} is not {right}")


def check_id(text: str, reason: Reason, field: str) -> str:
    """The text is an id: 1 to 128 letters, digits or `_.:@~+=-`."""
    return check_pattern(
        ID, text, reason, field, "1 to 128 ASCII letters, digits or _.:@~+=- (not first: .:@~+=)"
    )


def check_record_id(text: str, reason: Reason, field: str) -> str:
    """The text is a record id: an id that may also hold slashes."""
    return check_pattern(
        RECORD_ID, text, reason, field, "1 to 128 ASCII letters, digits or _.:@~+=/- (not first: .:@~+=/)"
    )


def check_source(text: str) -> str:
    """The text is a URI reference (RFC 3986) of 1 to 256 ASCII characters, compared byte by byte ever after."""
    return check_pattern(
        SOURCE,
        text,
        "source",
        "source",
        "a URI reference of 1 to 256 ASCII characters such as 'urn:render:eu-1'",
    )


def check_name(text: str, reason: Reason, field: str) -> str:
    """The text is a name such as `image.generate`, at most 100 characters."""
    return check_pattern(
        NAME,
        text,
        reason,
        field,
        "1 to 100 of a-z, 0-9 and _ in parts joined by dots, such as 'image.generate'",
    )


def check_quantity(text: str, field: str) -> str:
    """The text is a quantity (`domain.amounts.parse_quantity`); it is kept as it was written."""
    try:
        parse_quantity(text, field)
    except Malformed:
        raise Unreadable(
            "quantity",
            f"{field} {shown(text)} is not a quantity: write a plain decimal such as '1.25', at most nine places, "
            "no sign, no exponent, at most 2^62",
        ) from None
    return text


def is_dimension_value(text: str) -> bool:
    """True for 1 to 128 printable characters in NFC, none invisible or directional, no space at either end."""
    if PLAIN_DIMENSION_VALUE.fullmatch(text):
        return True
    return (
        1 <= len(text) <= 128
        and text.isprintable()
        and text == text.strip()
        and not _INVISIBLE.search(text)
        and unicodedata.is_normalized("NFC", text)
    )


def check_dimension_value(text: str, field: str) -> str:
    """The text is a dimension value. Raises: Unreadable."""
    if is_dimension_value(text):
        return text
    raise Unreadable(
        "dimension_value",
        f"{field} {shown(text)} is not 1 to 128 printable characters in NFC, without invisible or directional ones "
        "and without a space at either end",
    )


def read_time(text: str) -> datetime:
    """Read an RFC 3339 time with its offset, exact to the microsecond, as UTC. Raises: Unreadable."""
    if TIME.fullmatch(text):
        try:
            at = datetime.fromisoformat(text)
            return at if at.tzinfo is UTC else at.astimezone(UTC)
        except (ValueError, OverflowError):
            # 31 February, year 0, or a year beyond 9999 once the offset is taken off.
            raise _no_time(text) from None
    if len(text) <= 64 and _TIME_TOO_PRECISE.fullmatch(text):
        raise Unreadable(
            "time_precision",
            f"time {shown(text)} has more than six fractional digits; round it before sending",
        )
    if _TIME_WITHOUT_OFFSET.fullmatch(text):
        raise Unreadable(
            "time_zone", f"time {shown(text)} does not state its offset; end it with Z or +hh:mm"
        )
    raise _no_time(text)


def _no_time(text: str) -> Unreadable:
    return Unreadable(
        "time",
        f"time {shown(text)} is not an RFC 3339 time of the years 1 to 9999 such as '2026-12-01T09:00:00Z'",
    )
