"""The coffer command for works and contexts: said, signed, verified without a ledger, and forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.infra.test_cli import Coffer, bare, coffer
from tests.infra.test_cli_whole_account import json_of, refused

__all__ = ["bare", "coffer"]

PLANNED = [{"action": "image.generate", "meters": {"units": "4"}, "step": "draft", "times": 3}]


@pytest.fixture
def studio(coffer: Coffer, tmp_path: Path) -> Coffer:
    """Team acme with 100 credits, an owner, and a work with a brief and a draft."""
    planned = tmp_path / "planned.json"
    planned.write_text(json.dumps(PLANNED))
    json_of(coffer, "team", "add", "acme", "olga", "--role", "owner")
    brief = ("--work", "poster", "--goal", "a poster", "--audience", "all", "--planned", str(planned))
    assert json_of(coffer, "work", "start", "acme", *brief)["amount"] == "12"
    said = ("--prompt", "a fox", "--version", "model=xl-2", "--parameter", "seed=42", "--file", "1.png")
    saved = json_of(coffer, "work", "step", "acme", "poster", "draft", *said, "--member", "mira")
    assert (saved["step"], saved["revision"]) == ("draft", 1)
    return coffer


def test_a_work_is_shown_with_what_was_saved_and_what_it_cost(studio: Coffer) -> None:
    hold = json_of(studio, "hold", "place", "acme", "image.generate", "--amount", "5", "--work", "poster")
    json_of(studio, "hold", "capture", "acme", hold["hold_id"], "3")

    shown = json_of(studio, "work", "show", "acme", "poster")
    table = studio("work", "show", "acme", "poster").out
    cost = json_of(studio, "work", "cost", "acme", "poster")

    assert shown["work"]["steps"] == {"draft": 1}
    assert shown["texts"][1]["text"] == {
        "prompts": ["a fox"],
        "versions": {"model": "xl-2"},
        "parameters": {"seed": "42"},
        "files": ["1.png"],
    }
    assert (cost["cost"]["total"]["net"], cost["cost"]["total"]["estimate"]) == ("3", "12")
    assert "in all" in table
    assert [each["work_id"] for each in json_of(studio, "work", "list", "acme")["data"]] == ["poster"]
    assert "has no work 'other'" in refused(studio("work", "cost", "acme", "other"))


def test_a_signed_handover_verifies_without_a_ledger_and_a_changed_one_does_not(
    studio: Coffer, bare: Coffer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed, key = tmp_path / "signed.json", tmp_path / "key.json"
    checked = studio("work", "handover", "acme", "poster", "--file", str(signed))
    key.write_text(studio("signing-key", "-o", "json").out)
    monkeypatch.delenv("COFFER_DATABASE_URL")

    sound = bare("verify-handover", str(signed), "--public-key", str(key))
    in_hex = bare("verify-handover", str(signed), "--public-key", json.loads(key.read_text())["public_key"])
    other = bare("verify-handover", str(signed), "--public-key", "ab" * 32)
    signed.write_text(signed.read_text().replace('\\"passes\\":true', '\\"passes\\":null', 1))
    edited = bare("verify-handover", str(signed), "--public-key", str(key))

    assert (checked.code, sound.code, in_hex.code, other.code, edited.code) == (0, 0, 0, 1, 1)
    assert "charges" in sound.out
    assert "signature is not that of the document" in edited.err
    assert "this is key" in other.err
    assert "public_key" in refused(bare("verify-handover", str(signed), "--public-key", "nothing"))


def test_a_handover_that_is_not_in_order_ends_with_one_and_says_why(studio: Coffer) -> None:
    told = studio("work", "handover", "acme", "poster", "--action", "image.generate", "-m", "units=500")

    assert told.code == 1
    assert "next_action" in told.out
    assert "olga" in told.out


def test_what_was_written_is_found_exported_and_forgotten(studio: Coffer) -> None:
    found = studio("contexts", "acme", "fox", "--in", "prompt", "-o", "json").json
    exported = [json.loads(line) for line in studio("contexts", "acme", "-o", "jsonl").out.splitlines()]
    forgotten = studio("forget", "acme", "mira", "--reason", "asked for it")

    assert [(each["work_id"], each["step"], each["member"]) for each in found] == [
        ("poster", "draft", "mira")
    ]
    assert len(exported) == 2
    assert forgotten.code == 0
    assert studio("contexts", "acme", "fox", "-o", "json").json == []
    assert json_of(studio, "work", "show", "acme", "poster")["work"]["steps"] == {"draft": 1}
    assert "ContextErased" in studio("history", "acme").out
    assert studio("verify").code == 0
