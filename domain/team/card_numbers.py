"""A card's number is recognised wherever it stands, so that it is refused before anything keeps it or repeats it."""

from __future__ import annotations

import re

from domain.errors import CardNumberRefused

DIGITS_MIN = 13
DIGITS_MAX = 19

# Groups of digits, with up to three characters between them that are neither digit nor letter: however a number is written
# down, it is this. A digit of any script counts: a reader reads it too.
_GROUPS = re.compile(r"\d+(?:[\W_]{1,3}\d+)*")
_GROUP = re.compile(r"\d+")


def refuse_card_numbers(**fields: str | None) -> None:
    """None of the texts holds what looks like a card number: 13 to 19 digits that pass the Luhn check, however separated.

    Raises: CardNumberRefused, which names the field and never repeats what stood in it.
    """
    for field, text in fields.items():
        if text is not None and holds_card_number(text):
            raise CardNumberRefused(
                f"{field} holds what looks like a card number (it is not repeated here): leave it out; "
                "a payment method is the provider's token, the brand and the last four digits",
                field=field,
            )


def holds_card_number(text: str) -> bool:
    """Whether some whole groups of digits in a row make 13 to 19 digits that pass the Luhn check."""
    return any(_makes_number(_GROUP.findall(run)) for run in _GROUPS.findall(text))


def _makes_number(groups: list[str]) -> bool:
    for first in range(len(groups)):
        digits = ""
        for group in groups[first:]:
            digits += group
            if len(digits) > DIGITS_MAX:
                break
            if len(digits) >= DIGITS_MIN and passes_luhn(digits):
                return True
    return False


def passes_luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others."""
    total = 0
    for place, digit in enumerate(map(int, reversed(digits))):
        doubled = digit * (1 + place % 2)
        total += doubled - 9 if doubled > 9 else doubled
    return total % 10 == 0
