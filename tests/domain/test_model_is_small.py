"""What judges the account stays small enough to be read, and stands on nothing of the product."""

from __future__ import annotations

import ast
import io
import tokenize
from pathlib import Path

import pytest

MODEL = sorted(Path(__file__).parent.glob("model*.py"))
LINES = 400
"""The model has fewer lines of code than this: lines that hold something besides space, a comment or a docstring."""
SILENT = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}
PRODUCT = {"domain", "projections", "consumers", "api", "infra"}
OF_ITSELF = {f"tests.domain.{path.stem}" for path in MODEL}


def lines_of_code(source: str) -> int:
    """How many lines hold code; what runs over several lines counts as each of them."""
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in SILENT:
            lines |= {*range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
            and ast.get_docstring(node) is not None
        ):
            lines -= {*range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)}
    return len(lines)


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
    assert sum(lines_of_code(path.read_text(encoding="utf-8")) for path in MODEL) < LINES


def test_code_is_counted_by_line_without_what_is_for_people() -> None:
    source = '"""One.\n\nTwo."""\n\n# three\ndef f(\n    a,\n):\n    """Four."""\n    return """a\n\nb"""  # five\n'

    assert lines_of_code(source) == 6


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
