"""Documents that are published for ever: what may be written in any of them, what is wrong with one, and its digest.

A document is what a TOML or JSON file holds: tables, arrays and strings. Numbers that may have places are quoted decimal
strings, so that no float ever stands between the publisher and an amount.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping

import msgspec

from domain.amounts import parse_credits
from domain.errors import Malformed

DOCUMENT_BYTES_MAX = 1_048_576
DECIMAL_HINT = "every number is a quoted decimal string such as '0.5'"

_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII)
_ACTION = re.compile(r"[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*){0,7}", re.ASCII)
_ACTION_CHARACTERS_MAX = 100
_DOCUMENT_ID = re.compile(r"[a-z][a-z0-9_-]{0,63}", re.ASCII)
# What anybody else's id may be: a member, a project, a limit.
_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.:@~+=-]{0,127}", re.ASCII)


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong with a document: where it stands, and what would be right."""

    where: str
    detail: str

    def text(self) -> str:
        """The finding as one line."""
        return f"{self.where}: {self.detail}"


def canonical_json(document: Mapping[str, object]) -> bytes:
    """The document as canonical JSON: keys sorted, no spaces, UTF-8."""
    return msgspec.json.encode(document, order="sorted")


def document_digest(canonical: bytes) -> str:
    """SHA-256 of a canonical document, in hex."""
    return hashlib.sha256(canonical).hexdigest()


def reading_findings(
    value: object, shape: type[msgspec.Struct], where: str, hint: str = DECIMAL_HINT
) -> list[Finding]:
    """The first fault that keeps a value from being read as the table it should be; none when it can be."""
    try:
        msgspec.convert(value, type=shape)
        # What cannot be written as UTF-8 cannot be published.
        msgspec.json.encode(value)
    except (msgspec.ValidationError, UnicodeEncodeError, TypeError) as error:
        detail = str(error).replace("`$.", "`").replace("$.", "")
        return [Finding(where, f"{detail} ({hint})")]
    return []


def size_findings(canonical: bytes) -> list[Finding]:
    """Whether the document is too large to be published."""
    if len(canonical) <= DOCUMENT_BYTES_MAX:
        return []
    return [Finding("document", f"has {len(canonical)} bytes: at most {DOCUMENT_BYTES_MAX} can be published")]


def document_id_findings(where: str, text: str, such_as: str) -> Iterator[Finding]:
    """Whether a text may be the id of a card or plan."""
    if not _DOCUMENT_ID.fullmatch(text):
        yield Finding(where, f"{text[:80]!r} is no id: write lower-case ASCII such as {such_as!r}")


def name_findings(where: str, text: str) -> Iterator[Finding]:
    """Whether a text may be the name of a meter, a unit or a dimension."""
    if not _NAME.fullmatch(text):
        yield Finding(
            where,
            f"{text[:80]!r} is no name: write lower-case ASCII with underscores, such as 'input_tokens'",
        )


def action_findings(where: str, text: str) -> Iterator[Finding]:
    """Whether a text may be an action."""
    if not _ACTION.fullmatch(text) or len(text) > _ACTION_CHARACTERS_MAX:
        yield Finding(
            where,
            f"{text[:80]!r} is no action: write lower-case words with dots, such as 'image.generate'",
        )


def id_findings(where: str, text: str) -> Iterator[Finding]:
    """Whether a text may be the id of a member, a project or a limit."""
    if not _ID.fullmatch(text):
        yield Finding(
            where, f"{text[:80]!r} is no id: write letters, digits and -_.:@~+=, at most 128 characters"
        )


def credits_findings(where: str, text: str) -> Iterator[Finding]:
    """Whether a text is an amount of credits."""
    yield from unreadable(parse_credits, where, text)


def unreadable(parse: Callable[[str, str], int], where: str, text: str) -> Iterator[Finding]:
    """What the parser has against a text, if anything."""
    try:
        parse(text, where)
    except Malformed as error:
        yield Finding(where, error.detail)
