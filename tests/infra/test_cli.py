"""The coffer command over PostgreSQL: what is printed, where, and with which exit code."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
import typer

from domain.usage import usage_key
from infra.cli import main as command
from tests.builders import SOURCE

PLAN = """
plan_id = "studio"
card_id = "standard"
allowance = "1000"
price = { price_minor = 1900, currency = "EUR" }

[[limits]]
limit_id = "day"
window = "day"
cap = "300"
hard = true
"""

CARD = """
card_id = "standard"
effective_at = "2020-01-01T00:00:00Z"

[meters]
units = "unit"

[[rates]]
action = "image.generate"
terms = [{ model = "unit", meters = ["units"], price = "1" }]
"""


class Told:
    """What one run of the command said."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err

    @property
    def json(self) -> Any:
        """Standard output as JSON, all of it."""
        return json.loads(self.out)


class Coffer:
    """Runs the command in this process, as the shell would."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Told:
        self._monkeypatch.setattr("sys.argv", ["coffer", *arguments])
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            command.main()
        code = ended.value.code or 0
        assert isinstance(code, int)
        read = self._capsys.readouterr()
        return Told(code, read.out, read.err)


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Coffer:
    """The command without any database."""
    for name in ("COFFER_DATABASE_URL", "COFFER_KAFKA_BOOTSTRAP", "COFFER_API_URL", "COFFER_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COFFER_STATE_DIRECTORY", str(tmp_path))
    return Coffer(monkeypatch, capsys)


@pytest.fixture
def coffer(bare: Coffer, monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path) -> Coffer:
    """The command over a database in which team acme has 100 credits."""
    monkeypatch.setenv("COFFER_DATABASE_URL", database_url)
    card = tmp_path / "card.toml"
    card.write_text(CARD)
    assert bare("publish", str(card)).code == 0
    assert bare("account", "open", "acme").code == 0
    assert bare("grant", "acme", "100", "--reason", "a start").code == 0
    return bare


def test_a_team_is_opened_granted_bought_for_and_its_balance_is_told(coffer: Coffer) -> None:
    bought = coffer(
        *("topup", "acme", "50", "--payment-reference", "pay-1", "--price-minor", "500", "--currency", "EUR"),
        *("-o", "json"),
    )
    balance = coffer("balance", "acme", "-o", "json")
    table = coffer("balance", "acme")

    assert bought.json["settled"] == "150"
    assert (balance.code, balance.json["available"], balance.json["version"]) == (0, "150", 3)
    assert "lot-2" in table.out
    assert "150" in table.out


def test_the_same_key_happens_once(coffer: Coffer) -> None:
    given = ("grant", "acme", "5", "--reason", "goodwill", "--key", "k", "-o", "json")

    once, again = coffer(*given), coffer(*given)
    other = coffer("grant", "acme", "6", "--reason", "goodwill", "--key", "k")

    assert once.json == again.json
    assert (once.err, "nothing was done now" in again.err) == ("", True)
    assert other.code == 2
    assert "was used before with another body" in other.err


def test_lists_are_printed_as_table_json_lines_and_csv(coffer: Coffer) -> None:
    lines = [json.loads(line) for line in coffer("history", "acme", "-o", "jsonl").out.splitlines()]
    rows = list(csv.DictReader(io.StringIO(coffer("history", "acme", "-o", "csv").out)))
    newest = coffer("history", "acme", "--newest", "--limit", "1", "-o", "json").json

    assert [line["topic"] for line in lines] == ["AccountOpened.1", "CreditsGranted.1"]
    assert [row["version"] for row in rows] == ["1", "2"]
    assert [entry["version"] for entry in newest] == [2]


def test_the_statement_is_there_once_it_is_projected(coffer: Coffer) -> None:
    projected = coffer("project", "--once")
    lines = coffer("statement", "acme", "-o", "json").json

    assert projected.code == 0
    assert [(line["kind"], line["settled_after"]) for line in lines] == [("CreditsGranted", "100")]


def test_an_estimate_tells_the_price(coffer: Coffer) -> None:
    told = coffer("estimate", "acme", "image.generate", "-m", "units=120", "-o", "json")
    table = coffer("estimate", "acme", "image.generate", "-m", "units=120")
    unknown = coffer("estimate", "acme", "music.generate", "-m", "units=1")
    wrong = coffer("estimate", "acme", "image.generate", "-m", "units")

    assert (told.json["amount"], told.json["debt"]) == ("120", "20")
    assert "standard version 1" in table.out
    assert (unknown.code, wrong.code) == (2, 2)
    assert "music.generate" in unknown.err
    assert "name=value" in wrong.err


@pytest.mark.parametrize(
    "arguments",
    [
        ("balance", "nobody"),
        ("grant", "acme", "1.0000001", "--reason", "x"),
        ("grant", "acme", "1", "--reason", "x", "--expires-at", "2030-01-01T00:00:00"),
        ("account", "open", "acme"),
        ("account", "open", "white space"),
        ("account", "open", "other", "--zone", "Mars/Olympus"),
        ("refund", "acme", "0" * 32, "--reason", "x"),
        ("refund", "acme", "rec-7", "--reason", "x"),
        ("explain", "acme", usage_key("acme", SOURCE, "r1")),
        ("keys", "create", "x", "--role", "king"),
        ("keys", "revoke", "nothing"),
        ("grant", "acme", "1", "--reason", "red \x1b[31m"),
        ("grant", "acme", "1", "--reason", "broken \udcff"),
        ("grant", "white space", "1", "--reason", "x"),
        ("grant", "acme", "1", "--reason", "x", "--source", "purchased"),
        ("topup", "acme", "1", "--payment-reference", "p", "--price-minor", "1", "--currency", "euro"),
        ("dlq", "show", "1"),
        ("dlq", "retry"),
        ("offset", "0", "0"),
        ("rebuild", "everything"),
        ("sources", "register", "not a uri"),
        ("balance", "acme", "--as-of", "yesterday"),
    ],
    ids=" ".join,
)
def test_a_refusal_is_one_clear_line_and_exit_2(coffer: Coffer, arguments: tuple[str, ...]) -> None:
    told = coffer(*arguments)

    assert told.code == 2, told.out + told.err
    assert told.out == ""
    assert told.err.startswith("coffer: ")
    assert len(told.err.strip().splitlines()) == 1
    assert "Traceback" not in told.err


def test_publishing_the_same_card_again_changes_nothing(coffer: Coffer, tmp_path: Path) -> None:
    again = coffer("publish", str(tmp_path / "card.toml"), "-o", "json")
    broken = tmp_path / "broken.toml"
    broken.write_text("card_id = ")

    assert (again.code, again.json["version"]) == (0, 1)
    assert "stands already" in again.err
    assert coffer("publish", str(broken)).code == 2


def test_a_plan_is_published_shown_and_changed_by_a_new_version(coffer: Coffer, tmp_path: Path) -> None:
    file = tmp_path / "studio.toml"
    file.write_text(PLAN)
    first = coffer("publish", str(file), "-o", "json")
    again = coffer("publish", str(file))
    file.write_text(PLAN.replace('"1000"', '"1200"'))
    second = coffer("publish", str(file), "--reason", "more", "-o", "json")

    assert (first.code, first.json["plan_id"], first.json["version"]) == (0, "studio", 1)
    assert (first.json["allowance"], first.json["limits"]) == ("1000", ["day"])
    assert "studio version 1 stands already" in again.err
    assert "1000" in again.out
    assert (second.json["version"], second.json["allowance"]) == (2, "1200")


@pytest.mark.parametrize(
    ("right", "wrong", "told"),
    [
        ('"1000"', "1000", "document: Expected `str`, got `int` - at `allowance`"),
        ('"standard"', '"gold"', "card_id: 'gold' is no published rate card"),
        ('"300"', '"-300"', "limits[0].cap '-300' is not an amount of credits"),
    ],
)
def test_a_plan_that_fails_its_check_is_told_what_would_be_right(
    coffer: Coffer, tmp_path: Path, right: str, wrong: str, told: str
) -> None:
    file = tmp_path / "studio.toml"
    file.write_text(PLAN.replace(right, wrong))

    refused = coffer("publish", str(file))

    assert (refused.code, refused.out) == (2, "")
    assert refused.err.startswith("coffer: plan studio is not published:\n")
    assert told in refused.err


def test_keys_are_made_listed_and_revoked(coffer: Coffer) -> None:
    made = coffer("keys", "create", "dashboard", "--role", "auditor", "--days", "90", "-o", "json").json
    revoked = coffer("keys", "revoke", made["key_id"], "-o", "json").json
    listed = coffer("keys", "list", "-o", "json")

    assert made["key"].startswith(f"cof_live_{made['key_id']}_")
    assert revoked["revoked_at"]
    assert made["key"].rpartition("_")[2] not in listed.out
    assert [key["name"] for key in listed.json] == ["dashboard"]


def put_a_dead_letter(database_url: str) -> None:
    """A record that is no JSON was read at offset 7 of partition 3 and rejected."""
    import psycopg

    place = {"shard": 3, "cluster_id": "c", "topic_id": "t", "topic": "credits.usage.v1", "part": 3}
    columns, values = ", ".join(place), ", ".join(f"'{value}'" for value in place.values())
    with psycopg.connect(database_url) as connection:
        connection.execute(f"INSERT INTO consumed ({columns}, next_offset) VALUES ({values}, 8)")
        connection.execute(
            f"INSERT INTO usage_outcome ({columns}, kafka_offset, outcome, reason, detail, recorded_at)"
            f" VALUES ({values}, 7, 'rejected', 'not_json', 'the value is not JSON', now())"
        )
        connection.execute(
            f"INSERT INTO dead_letter ({columns}, kafka_offset, arrived_at, outcome, reason, detail, record_value,"
            " record_headers, recorded_at)"
            f" VALUES ({values}, 7, now(), 'rejected', 'not_json', 'the value is not JSON', '{{\x1b[31m', '[]', now())"
        )


def test_dead_letters_are_listed_shown_and_tried_again_and_an_offset_is_told(
    coffer: Coffer, database_url: str
) -> None:
    put_a_dead_letter(database_url)

    (listed,) = coffer("dlq", "list", "-o", "json").json
    shown = coffer("dlq", "show", str(listed["letter"]))
    retried = coffer("dlq", "retry", "--reason", "not_json", "-o", "json")
    told = coffer("offset", "3", "7", "-o", "json")

    assert (listed["offset"], listed["reason"]) == (7, "not_json")
    assert (shown.code, "\x1b" in shown.out) == (0, False)
    assert (retried.code, retried.json[0]["outcome"]) == (1, "rejected")
    assert told.json["kind"] == "rejected"


def test_verify_finds_nothing_and_then_names_the_row_that_was_changed(
    coffer: Coffer, database_url: str
) -> None:
    import psycopg

    coffer("project", "--once")
    sound = coffer("verify", "-o", "json")
    with psycopg.connect(database_url) as connection:
        connection.execute("UPDATE statement_entry SET amount_micros = amount_micros + 1")
    changed = coffer("verify", "-o", "json")

    assert (sound.code, sound.json["findings"]) == (0, [])
    assert changed.code == 1
    (finding,) = changed.json["findings"]
    assert (finding["table"], finding["team_id"], finding["version"]) == ("statement_entry", "acme", 2)
    assert coffer("rebuild").code == 0
    assert coffer("verify").code == 0


def test_settings_are_printed_without_secrets(bare: Coffer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A13, I23."""
    monkeypatch.setenv("COFFER_DATABASE_URL", "postgresql://coffer:hunter2@db.example/coffer")
    monkeypatch.setenv("COFFER_KEY_PEPPER", "x" * 40)

    told = bare("config", "-o", "json")

    assert told.json["database_url"].startswith("postgresql://coffer:****")
    assert "hunter2" not in told.out
    assert "x" * 40 not in told.out


def test_without_a_database_the_command_says_what_to_do(
    bare: Coffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    none = bare("balance", "acme")
    monkeypatch.setenv("COFFER_DATABASE_URL", "postgresql://coffer:hunter2@127.0.0.1:1/coffer")
    away = bare("balance", "acme")
    monkeypatch.setenv("COFFER_API_PORT", "many")
    wrong = bare("config")

    assert none.code == away.code == wrong.code == 2
    assert "COFFER_DATABASE_URL" in none.err
    assert "hunter2" not in away.err
    assert "COFFER_API_PORT" in wrong.err


def test_the_addresses_of_a_running_local_stack_are_found(
    coffer: Coffer, monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path
) -> None:
    monkeypatch.delenv("COFFER_DATABASE_URL")
    (tmp_path / "endpoints.json").write_text(json.dumps({"database_url": database_url}))

    assert coffer("balance", "acme").code == 0


def commands() -> list[tuple[tuple[str, ...], Any]]:
    """Every command by the words that name it."""
    group: Any = typer.main.get_command(command.app)
    found: list[tuple[tuple[str, ...], Any]] = []
    waiting: list[tuple[tuple[str, ...], Any]] = [((), group)]
    while waiting:
        words, each = waiting.pop()
        below = getattr(each, "commands", None)
        if below is None:
            found.append((words, each))
        else:
            waiting += [((*words, name), one) for name, one in below.items()]
    return sorted(found)


@pytest.mark.parametrize(
    ("words", "each"), commands(), ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_every_command_explains_itself_with_an_example(words: tuple[str, ...], each: Any) -> None:
    assert f"coffer {' '.join(words)}" in each.help
    assert "Example:" in each.help


def test_what_is_unknown_is_named_as_it_was_asked(coffer: Coffer) -> None:
    """Support asks by record, an auditor by team: a mistyped name never reads as an answer."""
    record = coffer("explain", "acme", "rec-1", "--source", "urn:elsewhere")
    team = coffer("verify", "--team", "acne")
    shard = coffer("verify", "--shard", "99")

    assert (record.code, "record 'rec-1' of 'urn:elsewhere'" in record.err) == (2, True)
    assert (team.code, "'acne' has no account, so nothing was verified" in team.err) == (2, True)
    assert (shard.code, "0 to 7 would be right" in shard.err) == (2, True)


def test_an_estimate_without_a_priced_meter_says_so(coffer: Coffer) -> None:
    told = coffer("estimate", "acme", "image.generate", "--meter", "unist=4")

    assert told.code == 0
    assert "nothing to price" in told.err
