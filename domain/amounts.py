"""Micro-credits and quantities: the only doors through which text becomes a number and back."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

from domain.errors import Malformed

MICROS_PER_CREDIT = 1_000_000
NANOS_PER_UNIT = 1_000_000_000
AMOUNT_MAX = 2**62
"""No amount and no quantity goes beyond this, in micro-credits and in whole units."""

REMEMBERED_MAX = 4_096
"""So many numbers of a kind are remembered as text and back: those of real use repeat themselves."""

_CREDITS = re.compile(r"(0|[1-9][0-9]{0,12})(?:\.([0-9]{1,6}))?", re.ASCII)
_QUANTITY = re.compile(r"(0|[1-9][0-9]{0,18})(?:\.([0-9]{1,9}))?", re.ASCII)


def parse_credits(text: str, field: str) -> int:
    """Read a decimal string of credits ("12.5") as micro-credits.

    Raises: Malformed, naming the field, unless it has at most six places, no sign and no exponent, and is at most 2^62.
    """
    match = _CREDITS.fullmatch(text)
    if match:
        micros = int(match[1]) * MICROS_PER_CREDIT + int((match[2] or "").ljust(6, "0"))
        if micros <= AMOUNT_MAX:
            return micros
    raise Malformed(
        f"{field} {text[:40]!r} is not an amount of credits: write a plain decimal such as '12.5', "
        "with at most six places and no sign",
        field=field,
    )


@lru_cache(maxsize=REMEMBERED_MAX)
def format_credits(micros: int) -> str:
    """Show micro-credits as the shortest exact decimal string of credits: 12500000 is "12.5"."""
    if micros < 0:
        return "-" + format_credits(-micros)
    whole, rest = divmod(micros, MICROS_PER_CREDIT)
    return f"{whole}.{rest:06d}".rstrip("0") if rest else str(whole)


@lru_cache(maxsize=REMEMBERED_MAX)
def parse_quantity(text: str, field: str) -> int:
    """Read a decimal string quantity ("30", "1.25") as billionths of a unit.

    Raises: Malformed, naming the field, unless it has at most nine places, no sign and no exponent, and is at most 2^62.
    """
    if text.isdigit() and text.isascii() and len(text) <= 18 and (text[0] != "0" or text == "0"):
        return int(text) * NANOS_PER_UNIT
    whole, _, places = text.partition(".")
    if (
        whole.isdigit()
        and places.isdigit()
        and text.isascii()
        and len(whole) <= 18
        and len(places) <= 9
        and (whole[0] != "0" or whole == "0")
    ):
        return int(whole + places.ljust(9, "0"))
    match = _QUANTITY.fullmatch(text)
    if match:
        nanos = int(match[1]) * NANOS_PER_UNIT + int((match[2] or "").ljust(9, "0"))
        if nanos <= AMOUNT_MAX * NANOS_PER_UNIT:
            return nanos
    raise Malformed(
        f"{field} {text[:40]!r} is not a quantity: write a plain decimal such as '1.25', "
        "with at most nine places, no sign and no exponent, at most 2^62",
        field=field,
    )


def round_up(exact: Fraction) -> int:
    """Round an exact number of micro-credits up to a whole one. The one place where prices are rounded."""
    return -(-exact.numerator // exact.denominator)
