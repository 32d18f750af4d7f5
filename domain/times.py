"""Instants as text and back: aware, UTC, microseconds; a naive time never enters."""

from __future__ import annotations

from datetime import UTC, datetime

from domain.errors import Malformed


def instant_text(at: datetime) -> str:
    """The instant as fixed-width RFC 3339 in UTC ("2026-12-01T00:00:00.000000Z"): text order is time order."""
    return at.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def parse_instant(text: str, field: str) -> datetime:
    """Read an RFC 3339 time that states its offset, as UTC.

    Raises: Malformed, naming the field, for a time without an offset or one that is no time.
    """
    try:
        at = datetime.fromisoformat(text)
        if at.tzinfo is not None:
            return at.astimezone(UTC)
    except (ValueError, OverflowError):
        # No time at all, or one that falls out of the years 1 to 9999 once its offset is taken off.
        pass
    raise Malformed(
        f"{field} {text[:40]!r} is not a time with its offset: write it like '2026-12-01T09:00:00Z'",
        field=field,
    )
