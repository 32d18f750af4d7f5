"""The coffer command for auditors and support: explanations, replay and difference, as text and as data."""

from __future__ import annotations

import csv
import io
import json

import pytest

from infra.cli import history
from tests.infra.test_cli import Coffer, bare, coffer

__all__ = ["bare", "coffer"]


@pytest.fixture
def lived(coffer: Coffer) -> Coffer:
    """Team acme has 100 credits, a hold of 40 of which 15 are captured, and was denied 90."""
    for arguments in (
        ("hold", "place", "acme", "image.generate", "--amount", "40", "--member", "mira"),
        ("hold", "capture", "acme", "hold-3", "15"),
        ("hold", "place", "acme", "image.generate", "--amount", "90", "--member", "noor"),
    ):
        told = coffer(*arguments)
        assert told.code == 0, told.err
    return coffer


def test_a_balance_is_explained_as_text_and_as_the_same_in_json(lived: Coffer) -> None:
    text = lived("explain", "acme")
    told = lived("explain", "acme", "-o", "json").json["explanation"]
    then = lived("explain", "acme", "--at-version", "3", "-o", "json").json["explanation"]

    assert (text.code, text.err) == (0, "")
    assert "Team acme has 60 credits available" in text.out
    assert (told["available"], told["held"], told["settled"]) == ("60", "25", "85")
    assert (then["available"], then["held"], then["settled"]) == ("60", "40", "100")


def test_a_denial_is_found_and_explained(lived: Coffer) -> None:
    (step,) = lived("replay", "acme", "--kind", "HoldDenied", "-o", "json").json
    text = lived("explain", "acme", "--denial", str(step["version"])).out
    told = lived("explain", "acme", "--denial", str(step["version"]), "-o", "json").json

    assert "60 available (25 more are held), 90 requested: 30 credits short" in text
    assert told["explanation"]["short"] == "30"


def test_a_capture_is_explained(lived: Coffer) -> None:
    (step,) = lived("replay", "acme", "--kind", "HoldCaptured", "-o", "json").json

    assert "15 credits from lot lot-2, set aside by hold-3" in lived("explain", "acme", step["charge_id"]).out


def test_a_replay_is_a_table_json_lines_or_csv_and_goes_on_after_a_version(lived: Coffer) -> None:
    table = lived("replay", "acme").out
    whole = lived("replay", "acme", "-o", "json").json
    lines = [json.loads(line) for line in lived("replay", "acme", "-o", "jsonl").out.splitlines()]
    rows = list(csv.DictReader(io.StringIO(lived("replay", "acme", "-o", "csv").out)))
    first = lived("replay", "acme", "--limit", "2", "-o", "json")
    rest = lived("replay", "acme", "--after", "2", "-o", "json").json

    assert "hold-3: 40 credits set aside" in table
    assert whole == lines == first.json + rest
    assert [row["available_after"] for row in rows] == ["0", "100", "60", "60", "60"]
    assert "--after 2" in first.err
    assert [step["held_after"] for step in whole] == ["0", "0", "40", "25", "25"]


def test_a_replay_is_filtered_by_hold_member_and_either_clock(lived: Coffer) -> None:
    of_hold = lived("replay", "acme", "--hold", "hold-3", "-o", "json").json
    of_noor = lived("replay", "acme", "--member", "noor", "-o", "json").json
    later = of_hold[0]["recorded_at"]
    before = lived("replay", "acme", "--until", later, "--clock", "effective", "-o", "json").json
    after = lived("replay", "acme", "--since", later, "-o", "json").json

    assert [step["kind"] for step in of_hold] == ["CreditsHeld", "HoldCaptured"]
    assert [step["kind"] for step in of_noor] == ["HoldDenied"]
    assert [step["version"] for step in before + after] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("output", ["table", "json", "jsonl", "csv"])
def test_a_long_replay_is_printed_in_parts_and_loses_nothing(
    lived: Coffer, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "TABLE_ROWS", 2)

    told = lived("replay", "acme", "--limit", "0", "-o", output)

    if output == "json":
        assert len(told.json) == 5
    elif output == "csv":
        assert len(list(csv.DictReader(io.StringIO(told.out)))) == 5
    elif output == "jsonl":
        assert len(told.out.splitlines()) == 5
    for kind in ("AccountOpened", "CreditsGranted", "CreditsHeld", "HoldCaptured", "HoldDenied"):
        assert kind in told.out


def test_an_empty_replay_is_an_empty_list(lived: Coffer) -> None:
    assert lived("replay", "acme", "--kind", "AccountClosed", "-o", "json").json == []


def test_a_difference_is_text_or_json(lived: Coffer) -> None:
    text = lived("diff", "acme", "--from", "2", "--to", "4").out
    told = lived("diff", "acme", "--from", "2", "--to", "4", "-o", "json").json["diff"]

    assert "settled: 100 → 85 (-15)" in text
    assert "1 capture of a hold: settled -15, held -15" in text
    assert [hold["change"] for hold in told["holds"]] == ["25"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("explain", "nobody"),
        ("explain", "acme", "--denial", "2"),
        ("explain", "acme", "0" * 32, "--denial", "2"),
        ("explain", "acme", "--source", "urn:x"),
        ("explain", "acme", "--at-version", "99"),
        ("explain", "acme", "--as-of", "2020-01-01T00:00:00Z"),
        ("explain", "acme", "--as-of", "yesterday"),
        ("replay", "nobody"),
        ("replay", "acme", "--kind", "Nothing"),
        ("replay", "acme", "--since", "monday"),
        ("replay", "acme", "--charge", "rec-7"),
        ("diff", "acme", "--from", "3", "--to", "2"),
        ("diff", "acme", "--from", "1", "--to", "99"),
        ("diff", "nobody", "--from", "1", "--to", "2"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_told_is_one_clear_line_and_exit_2(coffer: Coffer, arguments: tuple[str, ...]) -> None:
    told = coffer(*arguments)

    assert (told.code, told.out) == (2, ""), told.out + told.err
    assert told.err.startswith("coffer: ")
    assert len(told.err.strip().splitlines()) == 1
