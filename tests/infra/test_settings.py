"""Settings: what is refused at start, what is shown, what reaches a log line."""

import json
import logging
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from pydantic import SecretStr, ValidationError

from infra.logs import VALUE_LENGTH_MAX, configure_logs
from infra.settings import (
    HIDDEN,
    ForbiddenSetting,
    Settings,
    kept_secret,
    key_pepper,
    load_settings,
    quote_keys,
    refuse_forbidden,
    shown,
    unknown_settings,
    without_password,
)

PEPPER = "a pepper of more than thirty-two characters"
QUOTE_KEYS = f"{'newest' * 6}, {'older' * 7}"


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for field in Settings.model_fields:
        monkeypatch.delenv(f"COFFER_{field.upper()}", raising=False)


@pytest.fixture
def restored_logs() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.mark.parametrize("name", ["POSTGRES_ENABLE_DB_FUNCTIONS", "LEDGER_POSTGRES_ENABLE_DB_FUNCTIONS"])
@pytest.mark.parametrize("value", ["1", "y", "true", "ON", "yes", "anything"])
def test_database_functions_are_refused_at_start(name: str, value: str) -> None:
    with pytest.raises(ForbiddenSetting, match=f"{name}='{value}'"):
        refuse_forbidden({name: value})


@pytest.mark.parametrize("value", ["", "0", "n", "no", "False", "off"])
def test_database_functions_switched_off_are_fine(value: str) -> None:
    refuse_forbidden({"POSTGRES_ENABLE_DB_FUNCTIONS": value})


def test_the_environment_of_the_process_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COFFER_POSTGRES_ENABLE_DB_FUNCTIONS", "y")

    with pytest.raises(ForbiddenSetting):
        load_settings()


def test_defaults_are_those_of_the_design() -> None:
    settings = load_settings({})

    assert settings.shards == 8
    assert settings.state_directory.name == ".coffer"
    assert settings.database_url is None
    assert settings.kafka_bootstrap is None


def test_the_environment_overrides_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COFFER_SHARDS", "64")
    monkeypatch.setenv("COFFER_KAFKA_BOOTSTRAP", "one:9092,two:9093")
    monkeypatch.setenv("COFFER_DATABASE_URL", "")

    settings = load_settings()

    assert (settings.shards, settings.kafka_bootstrap, settings.database_url) == (
        64,
        "one:9092,two:9093",
        None,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SHARDS", "0"),
        ("DATABASE_URL", "mysql://somewhere/ledger"),
        ("KAFKA_BOOTSTRAP", "no-port"),
        ("API_PORT", "70000"),
        ("KEY_PEPPER", "short"),
        ("QUOTE_KEYS", "short"),
        ("QUOTE_KEYS", f"{'k' * 32},"),
        ("QUOTE_KEYS", f"{'k' * 32},short"),
        ("LOG_LEVEL", "loud"),
    ],
)
def test_a_wrong_value_names_its_field(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"COFFER_{name}", value)

    with pytest.raises(ValidationError, match=name.lower()):
        load_settings()


def test_a_mistyped_setting_is_named() -> None:
    environment = {
        "COFFER_SHARDS": "8",
        "COFFER_SHARD": "8",
        "COFFER_API_KEY": "k",
        "COFFER_KILL_SEED": "1",
        "HOME": "/",
    }

    assert unknown_settings(environment) == ["COFFER_SHARD"]


def test_shown_settings_hide_secrets_and_keep_the_rest() -> None:
    settings = Settings(
        database_url="postgresql://ledger:hunter2@db:5432/coffer?sslmode=require",
        key_pepper=SecretStr(PEPPER),
        quote_keys=SecretStr(QUOTE_KEYS),
    )

    lines = shown(settings)

    assert lines["database_url"] == f"postgresql://ledger:{HIDDEN}@db:5432/coffer?sslmode=require"
    assert lines["key_pepper"] == lines["quote_keys"] == HIDDEN
    assert lines["shards"] == "8"
    assert "hunter2" not in f"{lines}{settings!r}"
    assert PEPPER not in f"{lines}{settings!r}"
    assert QUOTE_KEYS not in f"{lines}{settings!r}"


@pytest.mark.parametrize(
    "url", ["postgresql:///coffer?user=a&password=hunter2", "postgresql://u:hunter2@[::1]/c"]
)
def test_a_password_is_hidden_wherever_it_stands_in_an_address(url: str) -> None:
    assert "hunter2" not in without_password(url)


def test_the_pepper_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    settings = Settings(state_directory=tmp_path / "state")

    first, second = key_pepper(settings), key_pepper(settings)

    assert first == second
    assert len(first) >= 32
    assert stat.S_IMODE((tmp_path / "state" / "key_pepper").stat().st_mode) == 0o600
    assert kept_secret(tmp_path / "other") != first.decode()
    assert [each.name for each in (tmp_path / "state").iterdir()] == ["key_pepper"]


def test_quote_keys_are_listed_newest_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COFFER_QUOTE_KEYS", QUOTE_KEYS)

    assert quote_keys(load_settings()) == [b"newest" * 6, b"older" * 7]


def test_without_quote_keys_one_is_made_once_and_is_not_the_pepper(tmp_path: Path) -> None:
    settings = Settings(state_directory=tmp_path / "state")

    (first,), (second,) = quote_keys(settings), quote_keys(settings)

    assert first == second != key_pepper(settings)
    assert len(first) >= 32
    assert stat.S_IMODE((tmp_path / "state" / "quote_key").stat().st_mode) == 0o600


@pytest.mark.usefixtures("restored_logs")
def test_a_log_line_is_one_json_object_without_secrets(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logs()
    key = "cof_live_abcDEF123_0f0f"

    structlog.get_logger().info(
        "key_used",
        team_id="team-1",
        api_key=key,
        note=f"the caller sent {key}",
        nested={"authorization": "Bearer abc.def.ghi", "url": "postgresql://u:hunter2@db/c"},
        headers=[f"bearer {key}"],
        body="x" * 5_000,
    )

    line = capsys.readouterr().err
    told = json.loads(line)
    assert line.count("\n") == 1
    assert (told["event"], told["team_id"], told["level"]) == ("key_used", "team-1", "info")
    assert told["timestamp"].endswith("Z")
    assert len(told["body"]) < VALUE_LENGTH_MAX + 50
    for secret in (key, "hunter2", "abc.def.ghi"):
        assert secret not in line


@pytest.mark.usefixtures("restored_logs")
def test_a_secret_inside_an_exception_or_a_librarys_line_is_hidden(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logs("warning")

    try:
        _fail_with_secrets()
    except RuntimeError:
        structlog.get_logger().exception("database_away")
    logging.getLogger("some.library").warning("Authorization: Bearer %s", "abc.def.ghi")
    structlog.get_logger().info("not_shown")

    lines = capsys.readouterr().err.splitlines()
    assert [json.loads(line)["level"] for line in lines] == ["error", "warning"]
    assert "Traceback" in json.loads(lines[0])["exception"]
    for secret in ("hunter2", "cof_live_secret1", "abc.def.ghi"):
        assert secret not in "".join(lines)


def _fail_with_secrets() -> None:
    raise RuntimeError("cannot reach postgresql://u:hunter2@db/c with cof_live_secret1")
