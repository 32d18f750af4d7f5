"""Numbers, money and days as the customer's locale writes them, exact to the last place.

Digits are the Western ones in every locale: they are the digits of the attached data, and a search finds them.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from zoneinfo import ZoneInfo

from babel import Locale, UnknownLocaleError
from babel.dates import format_date, format_datetime, format_interval
from babel.numbers import NumberPattern, parse_pattern
from iso4217 import Currency

FALLBACK = "en"
MINUS = "\u2212"
NO_BREAK_SPACE = "\u00a0"

_DIRECTION_MARKS = str.maketrans("", "", "\u061c\u200e\u200f")
_DIGITS_OF_PATTERN = re.compile(r"[#0][#0,.]*")
_LETTER_TERRITORIES = frozenset({"US", "CA", "MX", "PH"})


@lru_cache(maxsize=512)
def locale_of(identifier: str | None) -> Locale:
    """The locale that a customer named ("de", "pt-BR", "zh_Hant_TW"); English for none and for one that nobody knows.

    An issued invoice is shown whatever its customer wrote: so nothing is refused here.
    """
    try:
        return Locale.parse((identifier or FALLBACK).strip().replace("-", "_"))
    except (ValueError, TypeError, UnknownLocaleError):
        return Locale.parse(FALLBACK)


class Writing:
    """Writes amounts and times in one locale. The hyphen of a negative number becomes a minus sign."""

    def __init__(self, locale: Locale) -> None:
        self.locale = locale
        self._grouped = locale.decimal_formats[None].pattern.partition(".")[0]
        # Where the currency stands, before or after the amount, is the locale's; the code is spaced as ISO 4217 asks.
        self._code_first = (
            locale.currency_formats["standard"].pattern.translate(_DIRECTION_MARKS).startswith("\u00a4")
        )
        self._decimal = self._number(Decimal("0.5"), 1)[1]

    @property
    def paper(self) -> str:
        """The paper of the customer's country."""
        return "us-letter" if self.locale.territory in _LETTER_TERRITORIES else "a4"

    def number(self, text: str) -> str:
        """A decimal string (credits, a quantity, a price) with the locale's signs, every place kept and none added."""
        return self._number(Decimal(text), len(text.partition(".")[2]))

    def count(self, number: int) -> str:
        """A whole number."""
        return self._number(Decimal(number), 0)

    def minor(self, amount_minor: int, currency: str) -> str:
        """Money without its currency, with the places of ISO 4217: 1050 of JPY is "1,050", of EUR "10.50"."""
        places = minor_places(currency)
        return self._number(Decimal(amount_minor).scaleb(-places), places)

    def money(self, amount_minor: int, currency: str) -> str:
        """Money with its ISO 4217 code, which no other country's sign can be mistaken for."""
        amount = self.minor(amount_minor, currency)
        pair = (currency, amount) if self._code_first else (amount, currency)
        return NO_BREAK_SPACE.join(pair)

    def percent(self, text: str) -> str:
        """A percentage given as a decimal string: "19.5" is "19.5 %" as the locale spaces it."""
        pattern = str(self.locale.percent_formats[None].pattern).partition(";")[0].translate(_DIRECTION_MARKS)
        return _DIGITS_OF_PATTERN.sub(self.number(text), pattern)

    def day(self, moment: datetime, zone: str) -> str:
        """The day of an instant in a zone: "3 November 2026"."""
        return str(format_date(moment.astimezone(ZoneInfo(zone)).date(), "long", self.locale))

    def short_day(self, moment: datetime, zone: str) -> str:
        """The day of an instant in a zone, for a column of days: "3 Nov 2026"."""
        return str(format_date(moment.astimezone(ZoneInfo(zone)).date(), "medium", self.locale))

    def moment(self, moment: datetime, zone: str = "UTC") -> str:
        """An instant in a zone to the minute."""
        return _plain(format_datetime(moment.astimezone(ZoneInfo(zone)), "short", locale=self.locale))

    def days(self, start: datetime, end: datetime, zone: str) -> str:
        """The days of an interval from its first to its last ("1 - 30 Nov 2026"): its end is excluded."""
        first, last = first_and_last_day(start, end, zone)
        return str(format_interval(first, last, "yMMMMd", locale=self.locale))

    def padding(self, text: str, places: int) -> str:
        """What must stand unseen after a decimal string so that the points of a column with that many places align."""
        own = len(text.partition(".")[2])
        if own >= places:
            return ""
        return ("" if own else self._decimal) + "0" * (places - own)

    def _number(self, value: Decimal, places: int) -> str:
        shown = _pattern(self._grouped, places).apply(value, self.locale, decimal_quantization=True)
        return _plain(shown).replace("-", MINUS)


def minor_places(currency: str) -> int:
    """How many places the minor unit of a currency has by ISO 4217; 2 for a code that the standard does not know."""
    try:
        exponent = Currency(currency).exponent
    except ValueError:
        return 2
    return 2 if exponent is None else int(exponent)


def first_and_last_day(start: datetime, end: datetime, zone: str) -> tuple[date, date]:
    """The first and the last day, in a zone, of an interval that excludes its end."""
    local = ZoneInfo(zone)
    last = (end.astimezone(UTC) - timedelta(microseconds=1)).astimezone(local).date()
    return start.astimezone(local).date(), max(last, start.astimezone(local).date())


def _plain(text: str) -> str:
    return text.translate(_DIRECTION_MARKS)


@lru_cache(maxsize=1_024)
def _pattern(grouped: str, places: int) -> NumberPattern:
    return parse_pattern(grouped + ("." + "0" * places if places else ""))
