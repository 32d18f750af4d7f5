"""Checkpoints on disk, outside the database: each a directory with the signed document and the leaves it was made over.

Only the document is evidence: what the leaves say is hashed again whenever they are read, and must come to the root in it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import IO, NamedTuple
from uuid import uuid4

from domain.bundles import Witness
from domain.checkpoints import (
    FORMAT,
    Checkpoint,
    Leaf,
    Signed,
    document_of,
    ends_like_leaf_of,
    leaf_bytes,
    read_document,
    read_leaf,
    read_signed,
    signed_bytes,
)
from domain.errors import Conflict, Refused
from domain.merkle import MerkleTree
from infra.postgres.shards import ShardMap
from infra.postgres.witnessing import AllHeads, all_heads, ledger_of
from infra.signing import SigningKey, is_signed

DOCUMENT, LEAVES = "checkpoint.json", "leaves.jsonl"
_NAME = "checkpoint-{:08}"
TOLD_EVERY = 10_000

Progress = Callable[[int], None]


class CheckpointDamaged(Refused):
    """A checkpoint on disk is not the one that was signed."""

    code = "checkpoint_damaged"


class CheckpointOnFile(NamedTuple):
    """A checkpoint, as signed, in its directory."""

    directory: Path
    signed: Signed
    checkpoint: Checkpoint

    def leaves(self) -> Iterator[bytes]:
        """The leaves as they lie there, one at a time. Raises: CheckpointDamaged for lack of the file."""
        try:
            with (self.directory / LEAVES).open("rb") as file:
                yield from (line.removesuffix(b"\n") for line in file)
        except OSError as error:
            raise CheckpointDamaged(
                f"{self.directory / LEAVES} cannot be read ({error.strerror}): without it the checkpoint proves nothing of a team"
            ) from error

    def checked_leaves(self, progress: Progress = lambda _: None) -> Iterator[Leaf]:
        """The leaves; in the end they have come to the signed root. Raises: CheckpointDamaged."""
        tree = MerkleTree()
        for entry in self.leaves():
            tree.add(entry)
            yield read_leaf(entry)
            if tree.size % TOLD_EVERY == 0:
                progress(tree.size)
        self._check(tree)

    def witness(self, team_id: str, progress: Progress = lambda _: None) -> Witness | None:
        """What proves the team's leaf; None when the team was opened later. Raises: CheckpointDamaged."""
        tree, ending, own = MerkleTree(), ends_like_leaf_of(team_id), b""
        for entry in self.leaves():
            is_own = entry.endswith(ending)
            tree.add(entry, wanted=is_own and not own)
            own = own or (entry if is_own else b"")
            if tree.size % TOLD_EVERY == 0:
                progress(tree.size)
        self._check(tree)
        if tree.wanted is None:
            return None
        return Witness(
            checkpoint=self.signed,
            leaf=own.decode(),
            index=tree.wanted,
            path=[each.hex() for each in tree.path()],
        )

    def _check(self, tree: MerkleTree) -> None:
        if (tree.size, tree.root().hex()) != (self.checkpoint.leaves, self.checkpoint.root):
            raise CheckpointDamaged(
                f"{self.directory / LEAVES} is not the list that was signed: its root is {tree.root().hex()},"
                f" {self.checkpoint.root} would be right"
            )


class Checkpoints:
    """The checkpoints in a directory, by number."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def newest(self) -> CheckpointOnFile | None:
        """The last that was made; None before the first. Raises: CheckpointDamaged."""
        directories = sorted(self._directory.glob("checkpoint-*"))
        return read_checkpoint(directories[-1]) if directories else None

    def newest_of(self, shards: ShardMap) -> CheckpointOnFile | None:
        """The last that was made, which is one of this ledger. Raises: CheckpointDamaged; Refused for another ledger's."""
        newest = self.newest()
        if newest is not None:
            check_ledger(newest, ledger_of(shards))
        return newest

    def with_leaves(self, kept: CheckpointOnFile) -> CheckpointOnFile:
        """One of which somebody kept the document alone, with the leaves that lie here under its number."""
        if (kept.directory / LEAVES).exists():
            return kept
        return kept._replace(directory=self._directory / _NAME.format(kept.checkpoint.number))

    def make(
        self, shards: ShardMap, key: SigningKey, progress: Progress = lambda _: None
    ) -> CheckpointOnFile:
        """One more checkpoint is on disk, whole: of every head as it stands, signed.

        Raises: Busy while a shard is moved; Conflict when another one was made meanwhile; Refused where it would not follow the
        one before; CheckpointDamaged; OSError.
        """
        before = self.newest()
        draft = self._directory / f".draft-{uuid4().hex}"
        draft.mkdir(parents=True)
        try:
            with all_heads(shards) as heads:
                if before is not None:
                    _check_follows(before, heads)
                with (draft / LEAVES).open("wb") as file:
                    tree = _written(heads, file, progress)
                made = _document(heads, tree, before)
            signed = sign(document_of(made), key)
            with (draft / DOCUMENT).open("wb") as file:
                _write_for_good(file, signed_bytes(signed))
            return CheckpointOnFile(self._named(draft, made.number), signed, made)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _named(self, draft: Path, number: int) -> Path:
        """The draft has its number, unless somebody else's has it. Raises: Conflict."""
        final = self._directory / _NAME.format(number)
        _sync(draft)
        try:
            draft.rename(final)
        except OSError as error:
            if final.exists():
                raise Conflict(
                    f"checkpoint {number} was made by somebody else meanwhile: ask again"
                ) from error
            raise
        _sync(self._directory)
        return final


def read_checkpoint(place: Path) -> CheckpointOnFile:
    """The checkpoint in a directory, or whose document the file is; its signature is its own key's. Raises: CheckpointDamaged."""
    file = place / DOCUMENT if place.is_dir() else place
    try:
        signed = read_signed(file.read_bytes())
    except OSError as error:
        raise CheckpointDamaged(f"{file} cannot be read: {error.strerror}") from error
    checkpoint = read_document(signed.document)
    sound = False
    with suppress(ValueError):
        sound = is_signed(signed.public_key, signed.document.encode(), bytes.fromhex(signed.signature))
    if not sound:
        raise CheckpointDamaged(f"{file} is not what its key signed: take a copy that was kept elsewhere")
    return CheckpointOnFile(file.parent, signed, checkpoint)


def check_ledger(found: CheckpointOnFile, ledger: str) -> None:
    """The checkpoint is one of this ledger. Raises: Refused."""
    if found.checkpoint.ledger != ledger:
        raise Refused(
            f"{found.directory} is of the ledger that was installed at {found.checkpoint.ledger}, this one was at {ledger}:"
            " name a directory of its own, COFFER_CHECKPOINT_DIRECTORY"
        )


def _check_follows(before: CheckpointOnFile, heads: AllHeads) -> None:
    """No log is shorter than it was: what is gone is not signed over. Raises: Refused."""
    check_ledger(before, heads.ledger())
    for shard, (then, now) in enumerate(zip(before.checkpoint.positions, heads.positions, strict=True)):
        if now < then:
            raise Refused(
                f"the log of shard {shard} ends at position {now}, and checkpoint {before.checkpoint.number} covers {then}:"
                " events are gone, `coffer checkpoint --check` says whose"
            )


def sign(document: str, key: SigningKey) -> Signed:
    """The document, signed."""
    return Signed(document=document, public_key=key.public_key, signature=key.sign(document.encode()).hex())


def _written(heads: AllHeads, file: IO[bytes], progress: Progress) -> MerkleTree:
    """The tree over all leaves, which are in the file, for good."""
    tree = MerkleTree()
    for leaf in heads.leaves():
        entry = leaf_bytes(leaf)
        tree.add(entry)
        file.write(entry + b"\n")
        if tree.size % TOLD_EVERY == 0:
            progress(tree.size)
    _write_for_good(file, b"")
    return tree


def _document(heads: AllHeads, tree: MerkleTree, before: CheckpointOnFile | None) -> Checkpoint:
    return Checkpoint(
        format=FORMAT,
        ledger=heads.ledger(),
        number=before.checkpoint.number + 1 if before else 1,
        made_at=heads.now(),
        positions=heads.positions,
        leaves=tree.size,
        root=tree.root().hex(),
        previous=sha256(before.signed.document.encode()).hexdigest() if before else None,
    )


def _write_for_good(file: IO[bytes], written: bytes) -> None:
    file.write(written)
    file.flush()
    os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
