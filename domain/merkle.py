"""One hash that stands for a whole list: a Merkle tree as RFC 6962 section 2.1, and the path that proves one entry of it.

Leaves and nodes are hashed behind different first bytes, so no node can pass for an entry, nor an entry for a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple

HASH_BYTES = 32
EMPTY_ROOT = sha256().digest()
"""The root of a tree without entries."""


class _Subtree(NamedTuple):
    """A full subtree of so many leaves; whether the leaf whose path is wanted is in it."""

    leaves: int
    hash: bytes
    holds_wanted: bool


class MerkleTree:
    """A tree that grows by one entry after the other; keeps one hash for each power of two, whatever its size."""

    def __init__(self) -> None:
        self._subtrees: list[_Subtree] = []
        self._path: list[bytes] = []
        self.size = 0
        self.wanted: int | None = None

    def add(self, entry: bytes, *, wanted: bool = False) -> None:
        """The entry is the last leaf of the tree; the path of one, the ``wanted``, can be told in the end."""
        if wanted:
            assert self.wanted is None, "one path at a time"
            self.wanted = self.size
        self.size += 1
        grown = _Subtree(1, leaf_hash(entry), wanted)
        while self._subtrees and self._subtrees[-1].leaves == grown.leaves:
            grown = _joined(self._subtrees.pop(), grown, self._path)
        self._subtrees.append(grown)

    def root(self) -> bytes:
        """The hash that stands for all entries so far."""
        return self._folded([])

    def path(self) -> list[bytes]:
        """The hashes beside the way from the wanted entry up to the root, lowest first."""
        assert self.wanted is not None, "no entry was wanted"
        path = list(self._path)
        self._folded(path)
        return path

    def _folded(self, path: list[bytes]) -> bytes:
        if not self._subtrees:
            return EMPTY_ROOT
        *rest, folded = self._subtrees
        for left in reversed(rest):
            folded = _joined(left, folded, path)
        return folded.hash


def leaf_hash(entry: bytes) -> bytes:
    """The hash of an entry."""
    return sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees side by side."""
    return sha256(b"\x01" + left + right).digest()


def root_by_path(entry: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root of a tree of ``size`` leaves in which the entry stands at ``index``, if this is its path; None if it is none.

    Source: RFC 9162 section 2.1.3.2.
    """
    if not 0 <= index < size or any(len(each) != HASH_BYTES for each in path):
        return None
    at, last, found = index, size - 1, leaf_hash(entry)
    for beside in path:
        if last == 0:
            return None
        if at & 1 or at == last:
            found = node_hash(beside, found)
            while at and not at & 1:
                at, last = at >> 1, last >> 1
        else:
            found = node_hash(found, beside)
        at, last = at >> 1, last >> 1
    return found if last == 0 else None


def _joined(left: _Subtree, right: _Subtree, path: list[bytes]) -> _Subtree:
    """Both as one; the path of the wanted entry has one more hash when it is in either."""
    if left.holds_wanted:
        path.append(right.hash)
    elif right.holds_wanted:
        path.append(left.hash)
    return _Subtree(
        left.leaves + right.leaves,
        node_hash(left.hash, right.hash),
        left.holds_wanted or right.holds_wanted,
    )
