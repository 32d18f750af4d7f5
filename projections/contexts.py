"""Where words are found in a context: in any of its texts, or in those of one kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec

ContextField = Literal["prompt", "file", "link", "version", "parameter", "audience", "goal"]
"""What may be sought in alone."""

# Usage records are written by many: the plain word, its plural, and what they are called in a work.
_NAMES: dict[ContextField, tuple[str, ...]] = {
    "prompt": ("prompt", "prompts", "negative_prompt"),
    "file": ("file", "files"),
    "link": ("link", "links"),
    "version": ("version", "versions"),
    "parameter": ("parameter", "parameters"),
    "audience": ("audience",),
    "goal": ("goal",),
}


def found_in(context: bytes, words: str, field: ContextField | None = None) -> bool:
    """Whether the words stand in a text of the context, whatever their case; names of parameters and versions count, too."""
    sought = words.casefold()
    told = msgspec.json.decode(context)
    if field is not None:
        told = [told[name] for name in _NAMES[field] if name in told] if isinstance(told, dict) else []
    return any(sought in text.casefold() for text in _texts(told))


def _texts(told: object) -> Iterator[str]:
    if isinstance(told, str):
        yield told
    elif isinstance(told, dict):
        for name, value in told.items():
            yield str(name)
            yield from _texts(value)
    elif isinstance(told, list):
        for each in told:
            yield from _texts(each)
    elif told is not None:
        yield str(told)
