"""The description of the API is pinned: a change of it is a change of this file, to be seen by whoever reviews."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from api.app import published_text
from tests.asgi import Http

PINNED = Path(__file__).parent / "openapi.json"


def test_the_description_is_the_pinned_one() -> None:
    assert published_text() == PINNED.read_text(), "run `make openapi`"


def test_the_served_description_is_the_pinned_one_and_is_openapi_3_1(http: Http) -> None:
    served = http.get("/openapi.json").json()

    assert served == json.loads(PINNED.read_text())
    assert served["openapi"].startswith("3.1")


def test_every_operation_declares_its_problems_and_its_roles() -> None:
    document: dict[str, Any] = json.loads(PINNED.read_text())

    for path, item in document["paths"].items():
        for operation in item.values():
            problems = {status: each for status, each in operation["responses"].items() if int(status) >= 400}
            assert all("application/problem+json" in each["content"] for each in problems.values()), path
            if path not in {"/livez", "/readyz", "/v1/signing-key"}:
                assert {"401", "403"} <= set(problems), path
                assert operation["security"] == [{"api_key": []}, {"token": []}]
                assert operation["x-roles"]


def test_figures_are_counted_by_operation_and_name_no_team(http: Http, acme: Any) -> None:
    acme.get("/v1/accounts/acme/balance")

    figures = acme.get("/metrics").text

    assert 'coffer_http_requests_total{operation="read_balance",status="200"}' in figures
    assert "acme" not in figures


def test_readiness_says_what_is_missing(http: Http, ledger: Any) -> None:
    ready = http.get("/readyz").status_code
    ledger.gone.append("the database is away")
    not_ready = http.get("/readyz")

    assert ready == 200
    assert (not_ready.status_code, not_ready.json()["code"]) == (503, "not_ready")
    assert http.get("/livez").status_code == 200
