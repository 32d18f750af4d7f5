"""A head's state bears a seal, a keyed digest: one that was edited, swapped or set back is found out, and the events decide.

The seal is the last member of the JSON object, ``"mac"``, so that SQL still reads the state. It covers the state's bytes and the
place they stand for: account, version and chain hash. Source: design §8; reference reliability, J5.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from hmac import compare_digest
from struct import Struct
from uuid import UUID

from prometheus_client import Counter

from infra.settings import head_keys, load_settings

SEAL_BYTES = 16
_OPENING, _CLOSING = b',"mac":"', b'"}'
_SEAL_LENGTH = len(_OPENING) + 2 * SEAL_BYTES + len(_CLOSING)
_PLACE = Struct(">16sq32s").pack

HEADS_REFUSED = Counter(
    "coffer_heads_refused",
    "Heads, and accounts kept of the past, whose seal was not ours; the events were folded instead",
)


def sealed(state: bytes, account_id: UUID, version: int, chain_hash: bytes) -> bytes:
    """The state, a JSON object that is not empty, with its seal under the newest key."""
    seal = _seal(_keys()[0], state, account_id, version, chain_hash)
    return b"".join((state[:-1], _OPENING, seal, _CLOSING))


def is_sealed(state: bytes, account_id: UUID, version: int, chain_hash: bytes) -> bool:
    """Whether the state bears the seal of one of our keys, for this very account, version and chain hash; counted when not."""
    bare, given = state[:-_SEAL_LENGTH] + b"}", state[-_SEAL_LENGTH:]
    if given.startswith(_OPENING) and given.endswith(_CLOSING):
        seal = given[len(_OPENING) : -len(_CLOSING)]
        for key in _keys():
            if compare_digest(seal, _seal(key, bare, account_id, version, chain_hash)):
                return True
    HEADS_REFUSED.inc()
    return False


def _seal(key: bytes, state: bytes, account_id: UUID, version: int, chain_hash: bytes) -> bytes:
    place = _PLACE(account_id.bytes, version, chain_hash)
    return hashlib.blake2b(place + state, key=key, digest_size=SEAL_BYTES).hexdigest().encode()


@lru_cache(maxsize=1)
def _keys() -> Sequence[bytes]:
    # Every process that writes heads seals them, so none could be told the keys too late; they are read once.
    return [hashlib.sha256(key).digest() for key in head_keys(load_settings())]
