"""The index overlay: what is decided but not written reads as if it were."""

from __future__ import annotations

import pytest

from domain.account.index import IndexChange, IndexOverlay


def overlay(*changes: tuple[str, bytes | None], over: IndexOverlay | None = None) -> IndexOverlay:
    index = IndexOverlay(over)
    for key, entry in changes:
        index.put(IndexChange("repayment", key, entry))
    return index


@pytest.mark.parametrize(
    ("beneath", "above", "expected"),
    [
        ([("1", b"a"), ("3", b"c"), ("2", b"b")], [], ["3", "2", "1"]),
        ([("2", b"b")], [("1", b"a"), ("4", b"d"), ("3", b"c")], ["4", "3", "2", "1"]),
        ([("1", b"a"), ("3", b"c")], [("2", b"b"), ("3", None)], ["2", "1"]),
        ([("1", b"a"), ("3", b"c")], [("3", b"C"), ("0", b"z")], ["3", "1", "0"]),
        ([("5", None)], [("5", b"e")], ["5"]),
    ],
)
def test_latest_gives_both_layers_greatest_key_first_without_what_is_gone(
    beneath: list[tuple[str, bytes | None]], above: list[tuple[str, bytes | None]], expected: list[str]
) -> None:
    index = overlay(*above, over=overlay(*beneath))

    assert [key for key, _ in index.latest("repayment")] == expected


def test_a_changed_entry_hides_the_one_beneath() -> None:
    index = overlay(("3", b"C"), over=overlay(("3", b"c")))

    assert index.entry("repayment", "3") == b"C"
    assert list(index.latest("repayment")) == [("3", b"C")]


def test_an_entry_deleted_above_is_gone_though_it_is_beneath() -> None:
    index = overlay(("3", None), over=overlay(("3", b"c")))

    assert index.entry("repayment", "3") is None
