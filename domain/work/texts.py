"""What people write and attach along a work, within bounds, as the bytes that may be erased; the event keeps a salted digest."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from hashlib import sha256

import msgspec

from domain.errors import Malformed

TEXT_BYTES_MAX = 16 * 1024
"""All that is saved with one step, as JSON."""

TEXT_CHARACTERS_MAX = 8_000
NAME_CHARACTERS_MAX = 128
REFERENCE_CHARACTERS_MAX = 1_024
ENTRIES_MAX = 100
SALT_BYTES = 16

_LINK = re.compile(r"(https?|s3|gs)://[^\s]+")
_UNSEEN = frozenset({"Cc", "Cs", "Co", "Cn", "Zl", "Zp"})
# Joiners belong to letters and pictures; what turns the direction of what follows does not.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_LINES = frozenset("\n\t")
_encode = msgspec.json.Encoder(order="sorted").encode


class WorkText(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What was written and attached: of a brief its goal and audience, of a step how it was made and what came of it.

    ``audience`` says who will use the result. ``parameters`` and ``versions`` are texts by name (of a model, a tool, a preset);
    ``files`` are named as the team names them, ``links`` are addresses.
    """

    goal: str | None = None
    audience: str | None = None
    note: str | None = None
    parameters: dict[str, str] = {}
    versions: dict[str, str] = {}
    prompts: list[str] = []
    files: list[str] = []
    links: list[str] = []


def text_bytes(text: WorkText) -> bytes:
    """The bytes that are kept: JSON, names in order, left out what is empty. Raises: Malformed, naming the field."""
    for field in ("goal", "audience", "note"):
        said = getattr(text, field)
        if said is not None:
            _check(field, said, TEXT_CHARACTERS_MAX)
    for field in ("parameters", "versions"):
        _check_named(field, getattr(text, field))
    _check_listed("prompts", text.prompts, TEXT_CHARACTERS_MAX)
    _check_listed("files", text.files, REFERENCE_CHARACTERS_MAX)
    _check_listed("links", text.links, REFERENCE_CHARACTERS_MAX)
    for link in text.links:
        if not _LINK.fullmatch(link):
            raise Malformed(
                f"links holds {link[:80]!r}: an address that begins with https://, http://, s3:// or gs:// would be right",
                field="links",
            )
    encoded = _encode(text)
    if len(encoded) > TEXT_BYTES_MAX:
        raise Malformed(
            f"what is saved has {len(encoded)} bytes as JSON: at most {TEXT_BYTES_MAX} are kept, link to files",
            field="prompts",
        )
    return encoded


def read_text(encoded: bytes) -> WorkText:
    """What the kept bytes say."""
    return msgspec.json.decode(encoded, type=WorkText)


def salted_digest(salt: bytes, text: bytes) -> str:
    """SHA-256, in hex, of salt and text: what an event keeps. The salt goes with the text, so nobody can guess at one erased."""
    return sha256(salt + text).hexdigest()


def _check_named(field: str, texts: dict[str, str]) -> None:
    if len(texts) > ENTRIES_MAX:
        raise Malformed(
            f"{field} has {len(texts)} entries: at most {ENTRIES_MAX} would be right", field=field
        )
    for name, said in texts.items():
        _check(field, name, NAME_CHARACTERS_MAX)
        _check(field, said, REFERENCE_CHARACTERS_MAX)


def _check_listed(field: str, texts: Iterable[str], most: int) -> None:
    listed = list(texts)
    if len(listed) > ENTRIES_MAX:
        raise Malformed(
            f"{field} has {len(listed)} entries: at most {ENTRIES_MAX} would be right", field=field
        )
    for said in listed:
        _check(field, said, most)


def _check(field: str, said: str, most: int) -> None:
    if not said.strip() or len(said) > most:
        raise Malformed(
            f"{field} holds a text that is blank or too long: 1 to {most} characters would be right",
            field=field,
        )
    for character in said:
        if character in _TURNING or (character not in _LINES and unicodedata.category(character) in _UNSEEN):
            raise Malformed(
                f"{field} holds the control character U+{ord(character):04X}: leave it out", field=field
            )
