"""What a checkpoint says: the root over the newest event of every stream, with the position of every shard.

It is canonical JSON that is signed and kept outside the database. Whoever holds one can tell later whether what it covers was
edited, by whomever, the owner of the database included; about what came after it says nothing.
"""

from __future__ import annotations

import msgspec

from domain.errors import Malformed

FORMAT = "coffer.checkpoint.1"


class StreamHead(msgspec.Struct, frozen=True, kw_only=True):
    """The newest event of a stream: which stream it is of its owner (account, team, work and its id), version and hash.

    The hash binds all events of the stream up to this one.
    """

    stream: str
    stream_id: str
    version: int
    hash: str


class Leaf(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """An entry of the tree: all streams of one team, or of one issuer, as they stood."""

    team_id: str | None = None
    issuer_id: str | None = None
    streams: list[StreamHead]


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The ``number``-th checkpoint of a ledger: position of each shard, by its number, and the root over so many leaves.

    ``ledger`` is the instant at which the ledger was installed, ``previous`` the SHA-256 of the document before this one.
    """

    format: str
    ledger: str
    number: int
    made_at: str
    positions: list[int]
    leaves: int
    root: str
    previous: str | None


class Signed(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A document and its Ed25519 signature, with the public key that verifies it; key and signature in hex."""

    document: str
    public_key: str
    signature: str


_encoder = msgspec.json.Encoder(order="sorted")
_leaf_decoder = msgspec.json.Decoder(Leaf)
_checkpoint_decoder = msgspec.json.Decoder(Checkpoint)
_signed_decoder = msgspec.json.Decoder(Signed)


def leaf_bytes(leaf: Leaf) -> bytes:
    """The entry of the tree: canonical JSON without a line's end."""
    return _encoder.encode(leaf)


def ends_like_leaf_of(team_id: str) -> bytes:
    """How the entry of this team ends, and that of no other: most entries need not be read."""
    return b'],"team_id":' + _encoder.encode(team_id) + b"}"


def read_leaf(entry: bytes) -> Leaf:
    """The leaf that the bytes are, in the one form it has. Raises: Malformed."""
    try:
        leaf = _leaf_decoder.decode(entry)
    except msgspec.MsgspecError as error:
        raise Malformed(f"{shown(entry)} is no leaf of a checkpoint: {error}") from error
    if leaf_bytes(leaf) != entry:
        raise Malformed(f"{shown(entry)} is a leaf written in another form: take it as it was made")
    return leaf


def document_of(checkpoint: Checkpoint) -> str:
    """The canonical JSON that is signed: names in order, no spaces."""
    return _encoder.encode(checkpoint).decode()


def read_document(document: str) -> Checkpoint:
    """The checkpoint that the document is. Raises: Malformed."""
    try:
        checkpoint = _checkpoint_decoder.decode(document)
    except msgspec.MsgspecError as error:
        raise Malformed(f"{shown(document.encode())} is no checkpoint: {error}") from error
    if checkpoint.format != FORMAT:
        raise Malformed(f"format {checkpoint.format[:80]!r} is not {FORMAT!r}: use the version that wrote it")
    return checkpoint


def signed_bytes(signed: Signed) -> bytes:
    """The signed document as JSON on one line."""
    return _encoder.encode(signed) + b"\n"


def read_signed(told: bytes) -> Signed:
    """The signed document that the bytes are; its signature is not judged here. Raises: Malformed."""
    try:
        return _signed_decoder.decode(told)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise Malformed(f"{shown(told)} is no signed document: {error}") from error


def shown(told: bytes) -> str:
    """The beginning of some bytes, fit to be printed."""
    return repr(told[:60].decode(errors="backslashreplace"))
