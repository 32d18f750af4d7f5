"""Every id is a name that all three programs read, and no two ids share one."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from projections.books_names import name_part, safe_text, text_of


@given(st.text(max_size=40))
@example("")
@example("acme")
@example("Acme")
@example("X---acme")
@example("x---acme")
@example("a-")
@example("a--2eb")
@example("lot-3~2026-10-01T00:00:00.000000Z")
def test_a_name_is_plain_and_reads_back_as_the_id_it_was_made_of(text: str) -> None:
    part = name_part(text)

    assert re.fullmatch(r"[A-Z0-9][A-Za-z0-9-]*", part)
    assert text_of(part) == text


def test_usual_ids_are_readable() -> None:
    assert [name_part(each) for each in ("acme", "lot-12", "image.generate", "Acme", "42")] == [
        "Acme",
        "Lot-12",
        "Image--2egenerate",
        "X---Acme",
        "42",
    ]


@given(st.text(max_size=40))
def test_free_text_holds_nothing_that_a_program_would_read_as_more_than_text(text: str) -> None:
    shown = safe_text(text)

    assert shown.isascii()
    assert not set(shown) & set(':,;[]"\\|\n\t')
    assert shown == shown.strip()
