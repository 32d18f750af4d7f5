"""Text becomes a number exactly or not at all, and an amount is shown as its shortest decimal."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.amounts import AMOUNT_MAX, NANOS_PER_UNIT, format_credits, parse_credits, parse_quantity
from domain.errors import Malformed

places = st.text("0123456789", max_size=9)


@given(st.integers(0, AMOUNT_MAX - 1), places)
def test_a_quantity_is_read_to_the_last_billionth(whole: int, rest: str) -> None:
    text = f"{whole}.{rest}" if rest else str(whole)
    assert parse_quantity(text, "meters.units") == Fraction(text) * NANOS_PER_UNIT


NO_QUANTITIES = """. .5 5. 05 00.5 +1.5 -1 1_0 1.5.1 1.1234567891 1e3 1,5 ٣ ٣.٥ 1.٥
    9999999999999999999 4611686018427387904.000000001 11111111111111111111.5"""


@pytest.mark.parametrize("text", ["", " 1.5", "1.5\n", *NO_QUANTITIES.split()])
def test_what_is_no_plain_decimal_is_no_quantity(text: str) -> None:
    with pytest.raises(Malformed, match=r"^meters\.units .* is not a quantity"):
        parse_quantity(text, "meters.units")


@given(st.integers(-(AMOUNT_MAX), AMOUNT_MAX))
def test_an_amount_is_shown_as_its_shortest_decimal_and_read_back(micros: int) -> None:
    shown = format_credits(micros)
    assert Fraction(shown) * 1_000_000 == micros
    assert not ("." in shown and shown[-1] in "0.")
    assert micros < 0 or parse_credits(shown, "amount") == micros


@pytest.mark.parametrize(
    ("micros", "shown"),
    [
        (0, "0"),
        (1, "0.000001"),
        (12_500_000, "12.5"),
        (-12_500_000, "-12.5"),
        (10_000_000, "10"),
        (-1, "-0.000001"),
    ],
)
def test_an_amount_of_micro_credits_reads_as_credits(micros: int, shown: str) -> None:
    assert format_credits(micros) == shown
