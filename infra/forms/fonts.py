"""The fonts, which come as packages: where they lie, and which characters they can show."""

from __future__ import annotations

import unicodedata
from functools import lru_cache
from importlib.resources import files
from pathlib import Path

from fontTools.ttLib import TTFont

LACKING = "\u25a1"
"""Stands on a page for a character that no font here has (U+25A1, a white square)."""

_HAN_OF_LANGUAGE = {"ja": "JP", "ko": "KR", "zh": "SC"}
_HAN_OF_TERRITORY = {"TW": "TC", "HK": "HK", "MO": "HK"}
# Controls of the direction of writing: a name could turn the words around it. Every name is set apart instead.
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
# They join and part letters, or choose a variant: no font needs a picture of them.
_UNSEEN = frozenset("\u200c\u200d\ufe0e\ufe0f")


@lru_cache(maxsize=1)
def font_directories() -> tuple[Path, ...]:
    """Where the fonts lie that pages are set in; each package carries their licence (SIL Open Font License 1.1)."""
    return (
        _inside("fontpkg_noto_sans", "files"),
        _inside("fontpkg_almarai", "files"),
        _inside("justmytype_intl_rtl", "fonts"),
        _inside("noto_cjk_sans_otc", ""),
    )


def families(language: str, territory: str | None, texts: str) -> list[str]:
    """The font families for a page in the order they are asked for a character.

    Chinese, Japanese and Korean share characters and draw them differently: the customer's locale decides which form, else
    what stands beside them (kana: Japanese, hangul: Korean), else simplified Chinese. Noto Sans Arabic makes most letters of
    a stem and dots, which readers of the file take for two letters: it only serves for what Almarai lacks.
    """
    return [
        "Noto Sans",
        "Almarai",
        "Noto Sans Arabic",
        "Noto Sans Hebrew",
        f"Noto Sans CJK {_han(language, territory, texts)}",
    ]


def printable(text: str) -> str:
    """The text as a page can show it: controls as spaces, no turning of the direction of writing, and a white square for
    every character that no font here has. Composed (NFC), so that a letter and its accent are one where that exists.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        _shown(character) for character in unicodedata.normalize("NFC", text) if character not in _TURNING
    )


def printable_letters(text: str) -> str:
    """As ``printable``, without the marks that stand on or under a letter and could not be composed with it."""
    composed = unicodedata.normalize("NFC", text)
    return printable(
        "".join(each for each in composed if unicodedata.category(each)[0] != "M" and each not in _UNSEEN)
    )


def lacks(text: str) -> bool:
    """Whether a page shows white squares for some characters of the text."""
    return printable(text).count(LACKING) > text.count(LACKING)


def _shown(character: str) -> str:
    if character in _UNSEEN:
        return character
    if unicodedata.category(character) in {"Cc", "Zl", "Zp", "Cf"}:
        return " " if character.isspace() or unicodedata.category(character) == "Cc" else ""
    return character if ord(character) in _covered() else LACKING


@lru_cache(maxsize=1)
def _covered() -> frozenset[int]:
    """Every code point that some font has. Read once, 0.2 s: PDF/A refuses a page with a character that no font shows."""
    found: set[int] = set()
    for directory in font_directories():
        for path in sorted(directory.rglob("*.[ot]t[fc]")):
            with TTFont(path, lazy=True, fontNumber=0) as font:
                found.update(font.getBestCmap())
    return frozenset(found)


def _han(language: str, territory: str | None, texts: str) -> str:
    if language == "zh" and territory in _HAN_OF_TERRITORY:
        return _HAN_OF_TERRITORY[territory]
    if language in _HAN_OF_LANGUAGE:
        return _HAN_OF_LANGUAGE[language]
    if texts.isascii():
        return "SC"
    if any("\u3040" <= character <= "\u30ff" for character in texts):
        return "JP"
    return "KR" if any("\uac00" <= character <= "\ud7a3" for character in texts) else "SC"


def _inside(package: str, directory: str) -> Path:
    return Path(str(files(package))) / directory
