"""One metered fact from a stream, and what may become of it."""

from __future__ import annotations

from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from struct import Struct
from typing import Literal

import msgspec

UsageStatus = Literal["succeeded", "failed", "cancelled"]
OutcomeKind = Literal["charged", "waived", "duplicate", "conflict", "parked", "rejected"]
"""Every record ends in exactly one of these."""

KEYS_REMEMBERED_MAX = 8_192
"""Several batches: the claim of a record is asked for while it is looked up, decided and written."""

_length = Struct(">I").pack
_canonical = msgspec.json.Encoder(order="sorted").encode


class Origin(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Where a record came from: Kafka coordinates, kept on every event it caused."""

    topic: str
    partition: int
    offset: int


class UsageRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A usage record as the wire room read it: checked, exact, not yet priced.

    ``meters`` map a meter's name to its quantity as a decimal string of at most nine places; ``dimensions`` map names to
    strings. ``occurred_at`` and ``arrived_at`` are aware UTC; ``arrived_at`` is the broker's append time.
    ``context`` is the free JSON object as received, at most 8 KiB, None when there was none.
    """

    team_id: str
    source: str
    id: str
    occurred_at: datetime
    arrived_at: datetime
    action: str
    status: UsageStatus
    meters: dict[str, str]
    dimensions: dict[str, str]
    member: str | None = None
    project: str | None = None
    work: str | None = None
    step: str | None = None
    hold_id: str | None = None
    corrects: str | None = None
    context: bytes | None = None
    origin: Origin | None = None

    def usage_key(self) -> str:
        """The permanent claim of this record, and the id of its charge: 32 hex digits."""
        return usage_key(self.team_id, self.source, self.id)

    def corrected_key(self) -> str:
        """The claim of the record that this one corrects (same team, same source)."""
        assert self.corrects is not None
        return usage_key(self.team_id, self.source, self.corrects)

    def content_digest(self) -> str:
        """SHA-256, in hex, of what is billed: all but identity, arrival and the erasable context.

        Two records of one identity with equal digests are duplicates; with different ones, a conflict.
        """
        content = (
            self.occurred_at,
            self.action,
            self.status,
            self.meters,
            self.dimensions,
            self.member,
            self.project,
            self.work,
            self.step,
            self.hold_id,
            self.corrects,
        )
        return sha256(_canonical(content)).hexdigest()


@lru_cache(maxsize=KEYS_REMEMBERED_MAX)
def usage_key(team_id: str, source: str, record_id: str) -> str:
    """Digest of (team, source, id), 128 bits as 32 hex digits: unique for ever, whatever the partition.

    Each part is prefixed with its length, so no two different triples share the bytes that are hashed.
    """
    encoded = record_id.encode()
    named = b"%b%b%b" % (_named(team_id, source), _length(len(encoded)), encoded)
    return sha256(named).hexdigest()[:32]


@lru_cache(maxsize=KEYS_REMEMBERED_MAX)
def _named(team_id: str, source: str) -> bytes:
    return _counted(team_id) + _counted(source)


def _counted(text: str) -> bytes:
    encoded = text.encode()
    return _length(len(encoded)) + encoded
