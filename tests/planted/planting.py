"""Plants a bug in a copy of the rooms and sees whether a test turns red."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.planted.bugs import Bug

ROOT = Path(__file__).parents[2]
ROOMS = ("domain", "projections", "consumers", "api", "infra", "tests")
SECONDS_MAX = 300
ENVIRONMENT = {
    "PYTHONDONTWRITEBYTECODE": "1",
    # None of these tests needs a plugin, and without them pytest starts in a third of the time.
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
}


class Catch(NamedTuple):
    """What became of one bug: the tests that turned red, the first of them, and the public report behind it."""

    red: bool
    by: str
    source: str | None


CAUGHT: dict[str, Catch] = {}
"""By the name of the bug, in the order of the list."""


def copy_rooms(into: Path) -> None:
    """The product and its tests stand in ``into`` as they are."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, into / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", into / "pyproject.toml")


def plant(bug: Bug, root: Path) -> None:
    """The bug is in the copy. Raises: AssertionError unless its text is there exactly once."""
    file = root / bug.file
    before = file.read_text()
    assert before.count(bug.text) == 1, (
        f"{bug.file} has {before.count(bug.text)} times the text of: {bug.name}"
    )
    file.write_text(before.replace(bug.text, bug.becomes))


def run_tests(root: Path, tests: str) -> tuple[bool, str]:
    """Whether the tests of the copy are red, and the first that is; a copy that cannot be collected is no catch."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "--no-header", "-p", "no:cacheprovider", tests],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
        env=os.environ | ENVIRONMENT | {"PYTHONPATH": str(root)},
    )
    red = re.search(r"^FAILED \S+::(\S+)", done.stdout, re.MULTILINE)
    assert done.returncode in {0, 1}, f"{tests} could not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    assert (red is not None) == (done.returncode == 1), done.stdout[-2000:]
    return red is not None, red[1] if red else ""
