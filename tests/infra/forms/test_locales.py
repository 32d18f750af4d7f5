"""Numbers, money and days in a locale: exact, unmistakable, and never refused."""

from __future__ import annotations

import re
import tomllib
from datetime import UTC, datetime
from importlib.resources import files

import pytest
from babel import localedata
from iso4217 import Currency

from infra.forms.fonts import families, lacks
from infra.forms.locales import Writing, locale_of, minor_places
from infra.forms.words import LANGUAGES, words_of
from projections.statement import DIRECTIONS

NBSP = "\u00a0"


@pytest.mark.parametrize(
    ("locale", "text", "shown"),
    [
        ("en", "1234567.123456", "1,234,567.123456"),
        ("de", "1234567.123456", "1.234.567,123456"),
        ("fr", "1234567.1", "1\u202f234\u202f567,1"),
        ("de_CH", "1234.5", "1’234.5"),
        ("hi", "1234567", "12,34,567"),
        ("ar-EG", "1234.5", "1,234.5"),
        ("fa", "-1234.5", "−1,234.5"),
        ("he", "-12.5", "−12.5"),
        ("en", "0.000001", "0.000001"),
        ("en", "4611686018427.387904", "4,611,686,018,427.387904"),
    ],
)
def test_credits_keep_every_place_in_every_locale(locale: str, text: str, shown: str) -> None:
    assert Writing(locale_of(locale)).number(text) == shown


@pytest.mark.parametrize(
    ("locale", "minor", "currency", "shown"),
    [
        ("en", 123_450, "EUR", f"EUR{NBSP}1,234.50"),
        ("de", 123_450, "EUR", f"1.234,50{NBSP}EUR"),
        ("ja", 1_050, "JPY", f"JPY{NBSP}1,050"),
        ("ar", 1_050, "KWD", f"1.050{NBSP}KWD"),
        ("en", -1_050, "KWD", f"KWD{NBSP}−1.050"),
        ("he", 5, "ILS", f"0.05{NBSP}ILS"),
        ("fr", 100, "CLF", f"0,0100{NBSP}CLF"),
        ("en", 100, "ZZZ", f"ZZZ{NBSP}1.00"),
    ],
)
def test_money_has_the_places_of_its_currency_and_its_code(
    locale: str, minor: int, currency: str, shown: str
) -> None:
    assert Writing(locale_of(locale)).money(minor, currency) == shown


def test_places_are_those_of_the_standard_for_every_currency() -> None:
    for currency in Currency:
        if currency.exponent is not None:
            assert minor_places(currency.code) == currency.exponent


@pytest.mark.parametrize(
    ("locale", "shown"),
    [
        ("en-GB", "3 November 2026"),
        ("en-US", "November 3, 2026"),
        ("de", "3. November 2026"),
        ("ja", "2026年11月3日"),
    ],
)
def test_days_are_those_of_the_zone_in_the_locale(locale: str, shown: str) -> None:
    late = datetime(2026, 11, 2, 23, 30, tzinfo=UTC)

    assert Writing(locale_of(locale)).day(late, "Europe/Berlin") == shown


def test_a_period_is_shown_by_its_first_and_its_last_day() -> None:
    # In Berlin the month begins an hour before it does in UTC, and its end is excluded.
    start, end = datetime(2026, 10, 31, 23, tzinfo=UTC), datetime(2026, 11, 30, 23, tzinfo=UTC)

    assert Writing(locale_of("de")).days(start, end, "Europe/Berlin") == "1.–30. Nov. 2026"


@pytest.mark.parametrize(
    "locale", [None, "", "xx-nowhere", "../../etc/passwd", "de_DE.UTF-8", "日本語", "e" * 5_000]
)
def test_a_locale_that_nobody_knows_is_english_or_the_language_it_begins_with(locale: str | None) -> None:
    assert locale_of(locale).language in {"en", "de"}


def test_every_locale_writes_a_number_a_day_and_a_percentage() -> None:
    for identifier in sorted(localedata.locale_identifiers()):
        writing = Writing(locale_of(identifier))
        number = writing.number("-1234.5")
        assert re.sub(r"[^0-9]", "", number) == "12345", identifier
        assert number.startswith("−"), identifier
        assert "7" in writing.percent("7"), identifier
        assert writing.days(datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), "UTC"), (
            identifier
        )
        assert writing.padding("5", 2)[1:] == "00", identifier


def test_every_language_has_every_word_with_the_same_places() -> None:
    english = _words("en")
    for language in LANGUAGES:
        words = _words(language)
        assert list(words) == list(english), language
        for name, text in words.items():
            assert sorted(re.findall(r"\{\w+\}", text)) == sorted(re.findall(r"\{\w+\}", english[name])), (
                language,
                name,
            )
            assert not lacks(text), (language, name)


def test_every_kind_of_entry_of_a_statement_has_a_word() -> None:
    assert [kind for kind in DIRECTIONS if not words_of(locale_of("en")).has(kind)] == []


@pytest.mark.parametrize(
    ("locale", "beside", "han"),
    [
        ("ja-JP", "", "JP"),
        ("zh-CN", "", "SC"),
        ("zh_Hant_TW", "", "TC"),
        ("zh_Hant_HK", "", "HK"),
        ("ko", "", "KR"),
        ("en", "株式会社ノース", "JP"),
        ("en", "주식회사 北光", "KR"),
        ("en", "北光影视", "SC"),
    ],
)
def test_han_characters_take_the_form_of_the_customers_place(locale: str, beside: str, han: str) -> None:
    known = locale_of(locale)

    assert families(known.language, known.territory, beside)[-1] == f"Noto Sans CJK {han}"


def test_who_writes_traditional_chinese_gets_no_simplified_words() -> None:
    assert words_of(locale_of("zh_Hant_TW")).language == "en"
    assert words_of(locale_of("zh-CN")).language == "zh"


def _words(language: str) -> dict[str, str]:
    return tomllib.loads((files("infra.forms") / "words" / f"{language}.toml").read_text(encoding="utf-8"))
