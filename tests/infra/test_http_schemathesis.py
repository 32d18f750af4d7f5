"""Requests made up from the published description, good and bad: never a bug, never an answer it does not declare."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.app import published_text
from infra.settings import Settings
from infra.wiring import Wiring
from tests.api.asking import BODIES
from tests.builders import TESTER, a_plan, unit_card
from tests.serving import Served, serving_process

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def fuzzed(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A running API with a published card and plan, and a team that has something of everything."""
    directory = tmp_path_factory.mktemp("fuzzed")
    with serving_process(module_database_url, directory) as running:
        with Wiring(Settings(database_url=module_database_url, state_directory=directory)) as wiring:
            wiring.catalogue.publish(unit_card(), TESTER)
            wiring.catalogue.publish_plan(a_plan("studio", 300), TESTER)
        for number, (path, body) in enumerate(BEFORE):
            answer = httpx.post(
                f"{running.url}/v1/accounts{path}",
                json=body,
                headers=running.headers | {"Idempotency-Key": f"before-{number}"},
            )
            assert answer.status_code == 201, answer.text
        yield running


CASES = int(os.environ.get("COFFER_TEST_API_CASES", "15"))
"""Of each operation, good and bad; 240 make a run of more than 50 000."""

BEFORE: list[tuple[str, dict[str, Any]]] = [
    ("", {"team_id": "acme"}),
    ("/acme/grants", {"amount": "100000", "reason": "a start"}),
    ("/acme/holds", {"action": "image.generate", "amount": "1000", "lasts_seconds": 86_400}),
    ("/acme/limits", {"limit_id": "day", "window": "day", "cap": "1000"}),
    ("/acme/top-ups", BODIES["top_up_credits"]),
    ("/acme/members", BODIES["add_member"]),
    ("/acme/plan", BODIES["assign_plan"]),
]
REAL = {
    "team_id": "acme",
    "lot_id": "lot-2",
    "hold_id": "hold-3",
    "limit_id": "day",
    "payment_reference": "pay-1",
    "member": "mira",
}
"""What the team has, by the name that a path gives it."""
LAST = ("suspend", "close")
"""An account that takes no request would hide what the other requests meet."""


# The plugin for pytest needs an older pytest, so the operations are taken one by one. A live stream does not end by itself.
DESCRIBED: Any = schemathesis.openapi.from_dict(json.loads(published_text()))
OPERATIONS = sorted(
    (found.ok() for found in DESCRIBED.get_all_operations() if not found.ok().path.endswith("/live")),
    key=lambda operation: (operation.path.rpartition("/")[2] in LAST, operation.label),
)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["good", "bad"])
def test_what_the_description_allows_and_forbids_is_answered_as_it_says(
    operation: Any, mode: GenerationMode, fuzzed: Served
) -> None:
    calls = itertools.count()

    @settings(
        max_examples=CASES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def answered(case: Any) -> None:
        # Every other call is about what exists, so that more than its absence is reached.
        if next(calls) % 2 and case.path_parameters:
            case.path_parameters |= {name: REAL[name] for name in REAL if name in case.path_parameters}
        response = case.call(base_url=fuzzed.url, headers=fuzzed.headers)
        case.validate_response(response, checks=CHECKS)

    try:
        answered()
    except Unsatisfiable:
        assert mode is GenerationMode.NEGATIVE, "no good request can be made from the description"
