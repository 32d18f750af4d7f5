"""Lists of works and contexts go on by cursors that are of their list, team and filters alone."""

from __future__ import annotations

from typing import Any

import pytest

from api import works
from tests.api.conftest import Caller

TEAM = "/v1/accounts/acme"
NAMES = ["cup", "fox", "poster", "x" * 128]


@pytest.fixture
def studio(acme: Caller) -> Caller:
    """Acme has four works, in one of which nobody wrote of a fox."""
    for number, name in enumerate(NAMES):
        goal = "a picture of a fox" if number else "a cup"
        brief = {"work_id": name, "goal": goal, "audience": "all", "planned": [], "member": "mira"}
        assert acme.post(f"{TEAM}/works", brief).status_code in (200, 201)
    return acme


def pages(caller: Caller, path: str, **query: Any) -> list[list[dict[str, Any]]]:
    """The pages of the list, to its end."""
    told: list[list[dict[str, Any]]] = []
    after: dict[str, str] = {}
    while len(told) < 20:
        page = caller.get(path, **query, **after).json()
        told.append(page["data"])
        if page["next"] is None:
            return told
        after = {"after": page["next"]}
    raise AssertionError(f"{path} has no end")


@pytest.mark.parametrize(("limit", "count"), [(1, 4), (2, 2), (3, 2), (4, 1), (100, 1)])
def test_works_are_told_page_by_page_by_id(studio: Caller, limit: int, count: int) -> None:
    told = pages(studio, f"{TEAM}/works", limit=limit)

    assert [each["work_id"] for page in told for each in page] == NAMES
    assert len(told) == count


def test_a_search_is_told_page_by_page(studio: Caller) -> None:
    told = pages(studio, f"{TEAM}/contexts", q="fox", limit=1)

    assert [each["work_id"] for page in told for each in page] == NAMES[1:]


def test_a_page_looks_at_so_many_contexts_and_goes_on(
    studio: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(works, "LOOKED_MAX", 1)

    told = pages(studio, f"{TEAM}/contexts", q="fox")

    assert [[each["work_id"] for each in page] for page in told] == [[], ["fox"], ["poster"], ["x" * 128]]


def test_cursors_of_other_lists_and_filters_are_refused_a8(studio: Caller) -> None:
    of_works = studio.get(f"{TEAM}/works", limit=1).json()["next"]
    of_foxes = studio.get(f"{TEAM}/contexts", q="fox", limit=1).json()["next"]

    refused = [
        studio.get(f"{TEAM}/works", after=of_foxes),
        studio.get(f"{TEAM}/contexts", q="fox", after=of_works),
        studio.get(f"{TEAM}/contexts", q="cow", after=of_foxes),
        studio.get(f"{TEAM}/contexts", q="fox", member="mira", after=of_foxes),
        studio.get(f"{TEAM}/works", after=("A" if of_works[0] != "A" else "B") + of_works[1:]),
    ]

    assert {(each.status_code, each.json()["type"]) for each in refused} == {
        (400, "urn:coffer:problem:cursor_refused")
    }
