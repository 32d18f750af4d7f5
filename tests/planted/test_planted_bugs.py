"""A test turns red for every bug of the list, and none does without one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.planted.bugs import BUGS, Bug
from tests.planted.planting import CAUGHT, Catch, copy_rooms, plant, run_tests

AT_ONCE = 2


@pytest.fixture(scope="module")
def catches(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Catch]:
    """What became of every bug; two are tried at once."""

    def tried(bug: Bug) -> Catch:
        root = tmp_path_factory.mktemp("planted")
        copy_rooms(root)
        plant(bug, root)
        red, by = run_tests(root, bug.tests)
        return Catch(red, by, bug.source)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        CAUGHT.update(zip((bug.name for bug in BUGS), pool.map(tried, BUGS), strict=True))
    return CAUGHT


def test_nothing_is_red_without_a_bug(tmp_path: Path) -> None:
    copy_rooms(tmp_path)

    assert [run_tests(tmp_path, tests) for tests in sorted({bug.tests for bug in BUGS})] == [
        (False, "") for _ in {bug.tests for bug in BUGS}
    ]


def test_there_are_enough_bugs_and_fifteen_are_modelled_on_public_reports() -> None:
    assert len({bug.name for bug in BUGS}) == len(BUGS) >= 25
    assert sum(bug.source is not None for bug in BUGS) >= 15


@pytest.mark.parametrize("bug", BUGS, ids=[bug.name for bug in BUGS])
def test_a_planted_bug_turns_a_test_red(bug: Bug, catches: dict[str, Catch]) -> None:
    assert catches[bug.name].red, f"no test of {bug.tests} noticed: {bug.name}"
