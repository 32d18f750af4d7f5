"""What judges the account stays small enough to be read, and stands on nothing of the product."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

MODEL = sorted(Path(__file__).parent.glob("model*.py"))
LINES = 548
"""All lines of the model, the empty ones and those for people, too."""
PRODUCT = {"domain", "projections", "consumers", "api", "infra"}
OF_ITSELF = {f"tests.domain.{path.stem}" for path in MODEL}


def imported(source: str) -> set[str]:
    """Every module that the source names in an import, wherever in it."""
    modules: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add("." * node.level + (node.module or ""))
        elif isinstance(node, ast.Name | ast.Attribute):
            name = node.id if isinstance(node, ast.Name) else node.attr
            modules |= {"importlib"} if name in ("__import__", "import_module") else set()
    return modules


def shared(source: str) -> set[str]:
    """What the source shares with the product, or with other tests, through which it could."""
    ours = PRODUCT | {"tests", "importlib", ""}
    return {module for module in imported(source) - OF_ITSELF if module.split(".")[0] in ours}


def test_the_model_is_small() -> None:
    assert MODEL
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in MODEL) <= LINES


def test_the_model_shares_no_code_with_the_product() -> None:
    assert {path.name: shared(path.read_text(encoding="utf-8")) for path in MODEL} == {
        path.name: set() for path in MODEL
    }


SHARING = [
    "import domain",
    "from domain.times import utc",
    "def f():\n    import api.http",
    "from . import builders",
    "from tests.builders import TESTER",
    "from tests import builders",
    "__import__('domain')",
]


@pytest.mark.parametrize("source", SHARING)
def test_sharing_is_seen(source: str) -> None:
    assert shared(source)
