"""The words of the forms in the languages that have them; English for all others."""

from __future__ import annotations

import tomllib
from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

from babel import Locale

LANGUAGES = ("en", "de", "fr", "es", "ja", "zh", "ar", "he")
_DIRECTIONS = {"ar": "rtl", "he": "rtl"}


class Words(NamedTuple):
    """One language: its code, its direction and its texts by name."""

    language: str
    direction: str
    texts: dict[str, str]

    def __call__(self, name: str, **values: str) -> str:
        """The text of a name, with values put where it names them."""
        text = self.texts[name]
        for place, value in values.items():
            text = text.replace("{" + place + "}", value)
        return text

    def has(self, name: str) -> bool:
        """Whether there is a text of that name."""
        return name in self.texts


def words_of(locale: Locale) -> Words:
    """The words for a locale. Chinese is written simplified; who writes it traditional gets English."""
    language = str(locale.language)
    if language == "zh" and (locale.script == "Hant" or locale.territory in {"TW", "HK", "MO"}):
        language = "en"
    return _read(language if language in LANGUAGES else "en")


@lru_cache(maxsize=len(LANGUAGES))
def _read(language: str) -> Words:
    text = (files(__package__) / "words" / f"{language}.toml").read_text(encoding="utf-8")
    return Words(language, _DIRECTIONS.get(language, "ltr"), tomllib.loads(text))
