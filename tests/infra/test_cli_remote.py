"""The coffer command asks the API or the database: the same story is told alike, whoever is asked."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from infra.cli.remote import Api
from infra.settings import Settings
from infra.wiring import Wiring
from tests.infra.test_cli import CARD, PLAN, Coffer, Told, bare, put_a_dead_letter
from tests.infra.test_cli_covers import PINNED
from tests.serving import Served, serving_process

__all__ = ["bare"]

README = Path(__file__).parents[2] / "README.md"
OWN = {
    *("team_version", "position", "hash", "previous_hash", "key_id", "plan_id", "quote_id", "token"),
    *("act_id", "adjustment_id", "signature", "document", "digest", "opened_by", "started_by", "by"),
}
"""What two teams cannot have in common."""
STORY: tuple[tuple[str, ...], ...] = (
    ("account", "open", "TEAM", "--zone", "Europe/Berlin"),
    ("grant", "TEAM", "100", "--reason", "a start", "--key", "a-start"),
    ("grant", "TEAM", "100", "--reason", "a start", "--key", "a-start"),
    ("topup-request", "TEAM", "50", "--payment-reference", "pay/1", "PAID"),
    ("topup", "TEAM", "50", "--payment-reference", "pay/1", "PAID"),
    ("topup-show", "TEAM", "pay/1"),
    ("topup-request", "TEAM", "50", "--payment-reference", "pay-2", "PAID"),
    ("topup-fail", "TEAM", "pay-2", "--failure", "card_declined"),
    ("balance", "TEAM"),
    ("lots", "TEAM"),
    ("balance", "TEAM", "--at-version", "2"),
    ("team", "add", "TEAM", "olga", "--role", "owner"),
    ("team", "add", "TEAM", "mira", "--role", "member"),
    ("team", "role", "TEAM", "mira", "--role", "admin"),
    ("team", "members", "TEAM"),
    ("team", "set-billing", "TEAM", "--name", "Acme", "--address", "Hauptstr. 1", "--country", "DE"),
    ("team", "billing", "TEAM"),
    ("team", "set-payment-method", "TEAM", "--token", "tok_4", "--brand", "visa", "CARD"),
    ("team", "payment-method", "TEAM"),
    ("team", "remove-payment-method", "TEAM"),
    ("limits", "set", "TEAM", "day", "--window", "day", "--cap", "500", "--threshold", "80"),
    ("limits", "show", "TEAM"),
    ("estimate", "TEAM", "image.generate", "-m", "units=12"),
    ("estimate", "TEAM", "image.generate", "-m", "units=12", "--times", "3", "--member", "mira"),
    ("preflight", "TEAM", "image.generate", "-m", "units=12", "--times", "2", "--member", "mira"),
    ("review", "TEAM", "image.generate", "-m", "units=12"),
    ("hold", "place", "TEAM", "image.generate", "--amount", "40", "--work", "poster"),
    ("hold", "show", "TEAM"),
    ("hold", "extend", "TEAM", "HOLD", "--lasts", "7200"),
    ("hold", "capture", "TEAM", "HOLD", "15"),
    ("usage", "show", "TEAM", "CHARGE"),
    ("refund", "TEAM", "CHARGE", "--amount", "5", "--reason", "one of three was blurred"),
    ("dispute", "open", "TEAM", "CHARGE", "--evidence", "the others, too"),
    ("dispute", "show", "TEAM"),
    ("dispute", "reject", "TEAM", "DISPUTE", "--reason", "they are fine"),
    ("dispute", "show", "TEAM", "DISPUTE"),
    ("hold", "release", "TEAM", "HOLD"),
    ("hold", "show", "TEAM", "HOLD"),
    ("hold", "place", "TEAM", "image.generate", "--amount", "5000"),
    ("explain", "TEAM"),
    ("explain", "TEAM", "--denial", "VERSION"),
    ("chargeback", "open", "TEAM", "pay/1"),
    ("chargeback", "show", "TEAM"),
    ("chargeback", "won", "TEAM", "pay/1"),
    ("auto-topup", "set", "TEAM", "AUTO"),
    ("auto-topup", "show", "TEAM"),
    ("auto-topup", "off", "TEAM"),
    ("work", "start", "TEAM", "--work", "poster", "--goal", "a fox", "--audience", "all", "--member", "mira"),
    ("work", "step", "TEAM", "poster", "draft", "--prompt", "a fox", "--member", "mira"),
    ("work", "show", "TEAM", "poster"),
    ("work", "cost", "TEAM", "poster"),
    ("work", "handover", "TEAM", "poster"),
    ("work", "save", "TEAM", "poster", "--file", "fox.png", "--member", "mira"),
    ("work", "list", "TEAM"),
    ("contexts", "TEAM", "fox", "--in", "prompt"),
    ("plan", "assign", "TEAM", "studio"),
    ("plan", "show", "TEAM"),
    ("plan", "preview", "TEAM", "-v", "image.generate=1:20:300", "-m", "units=1", "--days", "10"),
    (
        "plan",
        "save",
        "TEAM",
        "--for",
        "all",
        "-v",
        "image.generate=1:20:300",
        "-m",
        "units=1",
        "--days",
        "10",
    ),
    ("plan", "saved", "TEAM"),
    ("adjust", "TEAM", "raise", "5", "--reason", "lost"),
    ("adjust", "TEAM", "lower", "5", "--reason", "found"),
    ("adjustments", "TEAM"),
    ("acts", "show", "TEAM"),
    ("void", "TEAM", "lot-2", "--reason", "the wrong team"),
    ("suspend", "TEAM", "--reason", "unpaid"),
    ("resume", "TEAM", "--reason", "paid"),
    ("zone", "TEAM", "America/Lima"),
    ("account", "show", "TEAM"),
    ("invoice", "list", "TEAM"),
    ("revenue", "TEAM"),
    ("catalogue", "cards"),
    ("catalogue", "card", "standard", "1"),
    ("catalogue", "plans"),
    ("catalogue", "waiting"),
    ("sources", "list"),
    ("issuer", "show"),
    ("signing-key",),
    ("dlq", "list"),
    ("team", "keys", "TEAM"),
    ("limits", "remove", "TEAM", "day"),
    ("team", "remove", "TEAM", "mira"),
    ("account", "close", "TEAM", "--reason", "the end"),
)
WORDS = {
    "PAID": ("--price-minor", "500", "--currency", "EUR"),
    "CARD": ("--last-four", "4242", "--expires-month", "5", "--expires-year", "2029"),
    "AUTO": (
        *("--amount", "50", "--threshold", "20", "--money-cap-minor", "2000"),
        *("--price-minor", "500", "--currency", "EUR"),
    ),
}


def masked(told: Any, team: str) -> Any:
    """The answer without what two teams cannot have in common."""
    return _masked(json.loads(unstamped(json.dumps(told)).replace(team, "TEAM")))


def _masked(told: Any) -> Any:
    if isinstance(told, dict):
        return {name: "…" if name in OWN and value else _masked(value) for name, value in told.items()}
    return [_masked(each) for each in told] if isinstance(told, list) else told


def unstamped(text: str) -> str:
    """The text without instants and digests."""
    stamps = r"20[0-9]{2}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?Z?"
    return re.sub(rf"{stamps}|[0-9a-f]{{32,64}}", "…", re.sub('"position": [0-9]+', '"position": 1', text))


class Teller:
    """Tells the story about one team, and remembers what later sentences name."""

    def __init__(self, run: Callable[..., Told], team: str) -> None:
        self._run = run
        self._words = {"TEAM": team}

    def __call__(self, sentence: tuple[str, ...]) -> Any:
        said: list[str] = []
        for word in sentence:
            said += WORDS.get(word) or (self._words.get(word, word),)
        told = self._run(*said, "-o", "json")
        assert told.code in {0, 1}, (said, told.err)
        answer = json.loads(told.out)
        if isinstance(answer, dict):
            for word in ("HOLD", "CHARGE", "DISPUTE", "VERSION"):
                named = answer.get(f"{word.lower()}_id") if word != "VERSION" else answer.get("version")
                if named and sentence[0] in {"hold", "dispute"}:
                    self._words[word] = str(named)
        return told.code, masked(answer, self._words["TEAM"])


@pytest.fixture
def served(database_url: str, tmp_path: Path) -> Iterator[Served]:
    """The API over the database of the test."""
    with serving_process(database_url, tmp_path) as running:
        yield running


@pytest.fixture
def here(bare: Coffer, monkeypatch: pytest.MonkeyPatch, database_url: str, tmp_path: Path) -> Coffer:
    """The command over the database, in which a card and a plan are published."""
    monkeypatch.setenv("COFFER_DATABASE_URL", database_url)
    for name, text in (("card", CARD), ("plan", PLAN)):
        (tmp_path / f"{name}.toml").write_text(text)
        assert bare("publish", str(tmp_path / f"{name}.toml")).code == 0
    return bare


@pytest.fixture
def there(here: Coffer, served: Served, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Told]:
    """The command over the API alone: it knows no database."""

    def run(*arguments: str, key: str = served.key) -> Told:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("COFFER_DATABASE_URL")
            patch.setenv("COFFER_API_KEY", key)
            return here("--api", served.url, *arguments)

    return run


def test_a_story_is_told_alike_by_the_api_and_by_the_database(
    here: Coffer, there: Callable[..., Told], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []
    ask = Api.ask

    def noted(self: Api, method: str, path: str, *rest: Any, **more: Any) -> Any:
        asked.append((method, path))
        return ask(self, method, path, *rest, **more)

    monkeypatch.setattr(Api, "ask", noted)
    of_database, of_api = Teller(here, "globex"), Teller(there, "initech")
    differing = [
        (sentence, expected, told)
        for sentence in STORY
        if (expected := of_database(sentence)) != (told := of_api(sentence))
    ]

    assert differing == []
    templates = {
        (method.upper(), re.compile(re.sub(r"\{[a-z_]+\}", "[^/]+", path) + "$"))
        for path, item in json.loads(PINNED.read_text())["paths"].items()
        for method in item
    }
    for method, path in asked:
        assert any(method == one and known.match(path) for one, known in templates), (method, path)
    assert len(set(asked)) > 60


def test_words_lists_and_forms_come_from_the_api_as_from_the_database(
    here: Coffer, there: Callable[..., Told], tmp_path: Path
) -> None:
    here("account", "open", "acme")
    for number in range(5):
        here("grant", "acme", "1", "--reason", f"grant {number}")
    here("project", "--once")
    year = ("--from", "2020-01-01T00:00Z", "--until", "2040-01-01T00:00Z")
    file = tmp_path / "statement.csv"

    for said in (
        ("history", "acme", "-o", "csv"),
        ("history", "acme", "--newest", "--limit", "2", "-o", "jsonl"),
        ("statement", "acme", "-o", "jsonl"),
        ("statement", "acme", "--kind", "CreditsGranted", "--limit", "3", *year, "-o", "json"),
        ("statement", "acme", *year, "--csv"),
        ("replay", "acme", "--limit", "2", "-o", "json"),
        ("replay", "acme", "--after", "3", "-o", "csv"),
        ("diff", "acme", "--from", "2", "--to", "4"),
        ("diff", "acme", "--from", "2", "--to", "4", "-o", "json"),
        ("explain", "acme", "--at-version", "3"),
        ("invoice", "draft", "acme", "-o", "json"),
        ("invoice", "csv", "acme"),
        ("spending", "acme"),
        ("watch", "acme", "--times", "1"),
    ):
        expected, told = here(*said), there(*said)
        assert (told.code, unstamped(told.out)) == (expected.code, unstamped(expected.out)), said
        assert told.out, said
    assert there("statement", "acme", *year, "--csv", "--file", str(file)).code == 0
    assert file.stat().st_size > 100


def test_a_key_is_made_used_rotated_and_revoked(here: Coffer, there: Callable[..., Told]) -> None:
    here("account", "open", "acme")
    here("team", "add", "acme", "olga", "--role", "owner")
    first = here(
        "team",
        "key-create",
        "acme",
        "--member",
        "olga",
        "--scope",
        "balance",
        "--scope",
        "keys",
        "--scope",
        "listed",
        "--scope",
        "revoke",
        "-o",
        "json",
    ).json
    second = there("team", "key-rotate", "acme", first["key_id"], "-o", "json", key=first["key"]).json
    listed = there("team", "keys", "acme", "-o", "json", key=second["key"]).json["data"]
    revoked = there("team", "key-revoke", "acme", first["key_id"], key=second["key"])
    here_again = here("team", "keys", "acme", "-o", "json").json["data"]

    assert first["key"].startswith("cof_live_")
    assert there("balance", "acme", key=second["key"]).code == 0
    assert [each["scopes"] for each in listed] == [["balance", "keys", "listed", "revoke"]] * 2
    assert (revoked.code, [each["key_id"] for each in here_again]) == (0, [second["key_id"]])
    assert "not for" in there("statement", "acme", key=second["key"]).err


def test_what_takes_two_persons_is_proposed_and_approved_by_another(
    here: Coffer, there: Callable[..., Told], database_url: str, tmp_path: Path
) -> None:
    with Wiring(Settings(database_url=database_url, state_directory=tmp_path)) as wiring:
        ann, bob = (wiring.keys.create(name, "operator", timedelta(days=1))[0] for name in ("ann", "bob"))
    here("account", "open", "acme")
    dearer = tmp_path / "dearer.toml"
    dearer.write_text(CARD.replace("2020-01-01", "2090-01-01").replace('"1"', '"2"'))

    grant = there("grant", "acme", "5", "--reason", "a gift", "-o", "json", key=ann)
    alone = there("acts", "approve", "acme", grant.json["act_id"], key=ann)
    together = there("acts", "approve", "acme", grant.json["act_id"], "-o", "json", key=bob)
    proposed = there("publish", str(dearer), "--reason", "costs rose", "-o", "json", key=ann)
    waits = there("catalogue", "waiting", "-o", "json", key=bob).json["data"]
    read = there("catalogue", "proposal", proposed.json["publication_id"], key=bob).json
    by_itself = there("catalogue", "approve", proposed.json["publication_id"], key=ann)
    published = there("catalogue", "approve", proposed.json["publication_id"], "-o", "json", key=bob)

    assert f"coffer acts approve acme {grant.json['act_id']}" in grant.err
    assert (alone.code, together.json["settled"]) == (2, "5")
    assert f"coffer catalogue approve {proposed.json['publication_id']}" in proposed.err
    assert [each["proposed_by"] for each in waits] == ["ann"]
    assert read["document"]["rates"][0]["terms"][0]["price"] == "2"
    assert (by_itself.code, "ask another person" in by_itself.err) == (2, True)
    assert (published.json["version"], published.json["publisher"]) == (2, "bob")


def test_dead_letters_are_mended_over_the_api(
    here: Coffer, there: Callable[..., Told], database_url: str
) -> None:
    put_a_dead_letter(database_url)
    number = str(here("dlq", "list", "-o", "json").json[0]["letter"])

    for said in (("dlq", "list"), ("dlq", "show", number), ("dlq", "retry", number), ("offset", "3", "7")):
        expected, told = here(*said, "-o", "json"), there(*said, "-o", "json")
        assert (told.code, told.json) == (expected.code, expected.json), said
    assert there("dlq", "retry", "--all", "-o", "json").json[0]["outcome"] == "rejected"
    assert there("dlq", "show", "99").code == 2


def test_a_refusal_of_the_api_is_one_clear_line_and_exit_2(
    here: Coffer, there: Callable[..., Told], bare: Coffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [
        there("balance", "nobody"),
        there("grant", "acme", "1.0000001", "--reason", "x"),
        there("balance", "acme", key="cof_live_no"),
        there("verify"),
        there("migrate"),
        there("hold", "show", "acme", "hold-9"),
        bare("--api", "ftp://ledger", "balance", "acme"),
        bare("--api", "http://127.0.0.1:1", "balance", "acme"),
        bare("--api", "http://127.0.0.1:1", "grant", "acme", "1", "--reason", "x", "--key", "k-1"),
        bare("--api", "http://user:secret@127.0.0.1:1", "balance", "acme"),
    ]

    for told in said:
        assert (told.code, told.out, len(told.err.strip().splitlines())) == (2, "", 1), told.err
        assert told.err.startswith("coffer: ")
        assert "secret" not in told.err
    assert "leave out --api" in said[3].err
    assert "--key k-1" in said[8].err
    monkeypatch.delenv("COFFER_API_KEY", raising=False)


def test_the_doctor_says_what_is_wrong_and_what_would_help(
    here: Coffer, there: Callable[..., Told], bare: Coffer, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = there("doctor", "-o", "json")
    no_key = there("doctor", "-o", "json", key="cof_live_no")
    database = {each["check"]: each for each in here("doctor", "-o", "json").json}
    monkeypatch.setenv("COFFER_SHARD", "8")
    monkeypatch.setenv("COFFER_DATABASE_URL", "postgresql://coffer:hunter2@127.0.0.1:1/coffer")
    away = bare("doctor", "-o", "json")

    assert (sound.code, no_key.code, away.code) == (0, 1, 1)
    assert [each["passes"] for each in no_key.json] == [True, False]
    assert [name for name, each in database.items() if not each["passes"]] == ["kafka"]
    assert "COFFER_KAFKA_BOOTSTRAP" in database["kafka"]["remedy"]
    assert {"database", "clock", "partitions", "dead letters", "read models", "time"} <= set(database)
    assert [each["check"] for each in away.json if not each["passes"]] == ["settings", "database", "kafka"]
    assert "hunter2" not in away.out


def test_the_address_may_be_in_the_environment(
    here: Coffer, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    here("account", "open", "acme")
    monkeypatch.setenv("COFFER_API_URL", served.url)
    without = here("balance", "acme")
    monkeypatch.setenv("COFFER_API_KEY", served.key)

    assert (without.code, "set COFFER_API_KEY" in without.err) == (2, True)
    assert here("balance", "acme", "-o", "json").json["available"] == "0"
    assert here("--api", "", "verify").code == 0


def test_the_example_of_the_readme_runs(here: Coffer, served: Served) -> None:
    """Twenty lines with httpx: priced, held, captured, explained."""
    [example] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    card = served.log.with_name("pictures.toml")
    card.write_text(CARD.replace("units", "images").replace('"standard"', '"pictures"'))
    assert here("publish", str(card)).code == 0
    here("account", "open", "acme", "--card", "pictures")
    here("grant", "acme", "1000", "--reason", "a start")

    ran = subprocess.run(
        [sys.executable, "-c", example],
        env=os.environ | {"COFFER_API": served.url, "COFFER_API_KEY": served.key},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ran.returncode == 0, ran.stderr
    assert len([line for line in example.splitlines() if line]) <= 20
    assert "image.generate" in ran.stdout
    assert here("balance", "acme", "-o", "json").json["settled"] == "996"


def test_records_are_read_from_a_file_and_each_line_is_told(
    there: Callable[..., Told], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text('{"specversion": "1.0"}\n{"no": "event"}\n')
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))

    told = there("usage", "send", str(file), "-o", "json")

    assert told.code == 1
    assert [each["line"] for each in told.json] == [1, 2]
    assert all(each["reason"] for each in told.json)
