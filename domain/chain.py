"""The hash chain of a team's stream: each event binds its predecessor, its place and its stored bytes."""

from __future__ import annotations

from hashlib import sha256
from struct import Struct

GENESIS = bytes(32)
"""The predecessor hash of a stream's first event."""

_version_and_length = Struct(">QI").pack
_length = Struct(">I").pack


def event_hash(previous: bytes, originator: bytes, version: int, topic: str, state: bytes) -> bytes:
    """SHA-256 over predecessor hash, stream id (16 bytes), version (8 bytes, big-endian), and topic and state, each after
    its length (4 bytes, big-endian). ``state`` is the stored bytes, untouched, so anyone with SQL and SHA-256 can recompute it.
    """
    named = topic.encode()
    parts = (
        previous,
        originator,
        _version_and_length(version, len(named)),
        named,
        _length(len(state)),
        state,
    )
    return sha256(b"".join(parts)).digest()
