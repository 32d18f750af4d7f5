"""The hash chain of a team's stream: each event binds its predecessor, its place and its stored bytes."""

from __future__ import annotations

from hashlib import sha256

GENESIS = bytes(32)
"""The predecessor hash of a stream's first event."""


def event_hash(previous: bytes, originator: bytes, version: int, topic: str, state: bytes) -> bytes:
    """SHA-256 over predecessor hash, account id (16 bytes), version (8 bytes, big-endian), and topic and state, each after
    its length (4 bytes, big-endian). ``state`` is the stored bytes, untouched, so anyone with SQL and SHA-256 can recompute it.
    """
    named = topic.encode()
    return sha256(
        b"%b%b%b%b%b%b%b"
        % (
            previous,
            originator,
            version.to_bytes(8, "big"),
            len(named).to_bytes(4, "big"),
            named,
            len(state).to_bytes(4, "big"),
            state,
        )
    ).digest()
