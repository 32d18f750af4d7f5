"""JSON without its traps: one text, UTF-8, every key once, no NaN, bounded depth and bounded numbers."""

from __future__ import annotations

import json
import re
from typing import NoReturn, TypeAlias

from consumers.rejections import Unreadable, shown

LEVELS_MAX = 32
NUMBER_CHARACTERS_MAX = 40
NUMBER_MAX = 2**62

JsonValue: TypeAlias = "bool | int | float | str | list[JsonValue] | dict[str, JsonValue] | None"

# Possessive, and content with an unterminated string: one pass whatever the input, so it cannot be made slow.
_STRINGS = re.compile(r'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)
_NOT_BRACKETS = re.compile(r"[^\[\]{}]++")


def read_json(value: bytes, levels_max: int = LEVELS_MAX) -> JsonValue:
    """Read one JSON text exactly, or not at all.

    Raises: Unreadable with the reason; nothing else, whatever the bytes. Time is linear in their number.
    """
    text = _text(value)
    _check_depth(text, levels_max)
    try:
        read: JsonValue = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise Unreadable(
            "not_json", f"the value is not JSON at character {error.pos}: {error.msg}; send one JSON object"
        ) from None
    # Only an escape can bring half a surrogate pair or NUL: raw ones were refused with the text.
    if "\\u" in text:
        _check_strings(read)
    return read


def _text(value: bytes) -> str:
    if value.startswith(b"\xef\xbb\xbf"):
        raise Unreadable("byte_order_mark", "the value begins with a byte order mark; send plain UTF-8")
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Unreadable(
            "not_utf8", f"the value is not UTF-8 at byte {error.start}: {error.reason}"
        ) from None
    if "\0" in text:
        raise Unreadable("nul", f"the value holds NUL at character {text.index(chr(0))}; JSON text has none")
    return text


def _check_depth(text: str, levels_max: int) -> None:
    if text.count("[") + text.count("{") <= levels_max:
        return
    level = 0
    for bracket in _NOT_BRACKETS.sub("", _STRINGS.sub("", text)):
        level += 1 if bracket in "[{" else -1
        if level > levels_max:
            raise Unreadable("too_deep", f"objects and lists are nested more than {levels_max} levels deep")


def _object(pairs: list[tuple[str, JsonValue]]) -> dict[str, JsonValue]:
    members = dict(pairs)
    if len(members) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise Unreadable(
                    "duplicate_key", f"the key {shown(key)} is in one object twice; name it once"
                )
            seen.add(key)
    return members


def _integer(text: str) -> int:
    if len(text) <= NUMBER_CHARACTERS_MAX and abs(number := int(text)) <= NUMBER_MAX:
        return number
    raise _number_too_large(text)


def _decimal(text: str) -> float:
    # Judges the size only: what is kept of a context is its bytes, so no digit depends on this float.
    if len(text) <= NUMBER_CHARACTERS_MAX and abs(number := float(text)) <= NUMBER_MAX:
        return number
    raise _number_too_large(text)


def _number_too_large(text: str) -> Unreadable:
    return Unreadable(
        "number_too_large",
        f"the number {shown(text)} has more than {NUMBER_CHARACTERS_MAX} characters or is beyond 2^62; "
        "send long numbers as strings",
    )


def _constant(text: str) -> NoReturn:
    raise Unreadable("not_a_number", f"{text} is not JSON; leave the field out or send a number")


def _check_strings(read: JsonValue) -> None:
    waiting: list[JsonValue] = [read]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            _check_string(item)
        elif isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())


def _check_string(text: str) -> None:
    if "\0" in text:
        raise Unreadable("nul", f"the string {shown(text)} holds NUL; leave it out")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise Unreadable(
            "surrogate", f"the string {shown(text)} holds half of a surrogate pair; send whole characters"
        ) from None


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_int=_integer, parse_float=_decimal, parse_constant=_constant
)
