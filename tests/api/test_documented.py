"""Every problem is on the page of problems, as the code has it, and every one of this door is met in a test."""

from __future__ import annotations

from pathlib import Path

from api.documented import PAGE, documented
from api.errors import STATUS, RequestError, every_error

TESTS = Path(__file__).parent


def test_the_page_of_problems_is_the_one_that_the_classes_make() -> None:
    page = PAGE.read_text()

    assert documented(page) == page, "run `python -m api.documented`"
    for each in every_error():
        if each.__module__.split(".")[0] in {"domain", "api"}:
            assert f"| `{each.code}` | {STATUS[each].status} |" in page


def test_every_problem_of_this_door_is_met_in_a_test() -> None:
    """Those of the ledger are met in tests/domain/test_errors_reachable.py."""
    told = "".join(each.read_text() for each in TESTS.glob("test_*.py"))

    ours = [each for each in every_error(RequestError) if each is not RequestError]
    assert [each.code for each in ours if f'"{each.code}"' not in told] == []
