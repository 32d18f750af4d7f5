"""Every value that the environment may set, in one place, with its default and its bounds."""

import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit, urlunsplit

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

REPOSITORY = Path(__file__).resolve().parent.parent
HIDDEN = "**********"
FORBIDDEN_VARIABLE = "POSTGRES_ENABLE_DB_FUNCTIONS"
READ_ELSEWHERE = frozenset(
    {"COFFER_API", "COFFER_API_KEY", "COFFER_API_URL", "COFFER_FAILPOINT", "COFFER_TRACE"}
)
FOR_TESTS = ("COFFER_TEST_", "COFFER_KILL_", "COFFER_MACHINE_")
QUOTE_KEY_CHARACTERS_MIN = 32
FALSE_WORDS = frozenset({"", "0", "n", "no", "f", "false", "off"})

Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(ge=1)]


class ForbiddenSetting(RuntimeError):
    """The environment asks for something that would break a promise of the ledger."""


class Settings(BaseSettings):
    """What this process was told: `COFFER_<NAME>` from the environment over the defaults here.

    Units are in the names. An address that is not set means: use the local stack under the state directory.
    Raises: pydantic.ValidationError naming the field, the value and what would be right.
    """

    model_config = SettingsConfigDict(
        env_prefix="COFFER_", frozen=True, extra="forbid", env_ignore_empty=True, validate_default=True
    )

    # Where the ledger lives. Not shown in a repr, because the address may hold a password.
    database_url: str | None = Field(
        default=None,
        repr=False,
        pattern=r"^postgres(ql)?://",
        description="an address such as postgresql://user@host:5432/name would be right",
    )
    # Databases beside the first one, which is at `database_url`. Which shards live in each, they say themselves.
    more_databases: str | None = Field(
        default=None,
        repr=False,
        pattern=r"^\s*[a-z][a-z0-9_]*=postgres(ql)?://\S+(\s+[a-z][a-z0-9_]*=postgres(ql)?://\S+)*\s*$",
        description="name=address would be right, such as east=postgresql://user@host:5432/name, or several with spaces between",
    )
    kafka_bootstrap: str | None = Field(
        default=None,
        pattern=r"^[^\s,:]+:\d+(,[^\s,:]+:\d+)*$",
        description="host:port would be right, or several with commas between",
    )
    state_directory: Path = REPOSITORY / ".coffer"
    cache_directory: Path | None = None

    # Fixed at installation: the shard of a team never changes.
    shards: Annotated[int, Field(ge=1, le=4096)] = 8
    # A worker whose clock differs more than this from the database's halts.
    clock_offset_max_milliseconds: Positive = 1_000

    # One batch of the usage consumer ends at whichever bound comes first.
    batch_records_max: Positive = 4_000
    batch_bytes_max: Positive = 8 * 1024 * 1024
    batch_wait_milliseconds: Positive = 10
    # How long a batch may keep others who write to its shards waiting. It has fewer records where they take longer.
    batch_hold_milliseconds: Positive = 40
    # Whether a batch is decided while the server still writes the one before. It helps where there are more cores than workers.
    batch_overlap: bool = True

    statement_timeout_milliseconds: Positive = 30_000
    lock_timeout_milliseconds: Positive = 5_000
    idle_in_transaction_timeout_milliseconds: Positive = 60_000
    database_connections_max: Positive = 8

    api_host: str = "127.0.0.1"
    api_port: Port = 8000
    # Mixed into the stored digest of API keys. Set it when more than one machine serves the API.
    key_pepper: SecretStr | None = Field(default=None, min_length=32)
    # How often one principal may ask this process, on average and at once; 0 for as often as it likes. Several servers allow as
    # many times more together.
    requests_per_second_max: Annotated[int, Field(ge=0, le=1_000_000)] = 300
    requests_at_once_max: Positive = 600
    # Tokens of the customers' identity provider: all four or none. The key set is a file with a JWKS, read at start.
    oidc_issuer: str | None = None
    oidc_audience: str | None = None
    oidc_key_set: Path | None = None
    oidc_algorithm: Annotated[
        str, Field(pattern=r"^(EdDSA|RS256|ES256)$", description="EdDSA, RS256 or ES256 would be right")
    ] = "EdDSA"
    # Sign quotes: the first one those given from now on, each of them those given before. To rotate, put a new one in front
    # and drop the last when the quotes that it signed have expired. Set it when more than one machine serves the API.
    quote_keys: SecretStr | None = Field(
        default=None,
        description="one key of at least 32 characters would be right, or several with commas between, newest first",
    )

    # Seal the heads of accounts: the first one those written from now on, each of them those written before. A head under no
    # seal of theirs is folded again from its events. Set it when more than one machine writes, or all fold each other's.
    head_keys: SecretStr | None = Field(
        default=None,
        description="one key of at least 32 characters would be right, or several with commas between, newest first",
    )

    # Makes the Ed25519 key that signs checks of handovers; its public key is published. Set it when more than one machine signs.
    signing_secret: SecretStr | None = Field(
        default=None, min_length=32, description="at least 32 characters would be right"
    )

    # Where `coffer checkpoint` keeps what it signed: better a disk, or a mounted store, that the database's owner cannot write.
    checkpoint_directory: Path | None = None

    # 0: the first free port is taken and kept for the next start.
    local_postgres_port: Port = 0
    local_kafka_port: Port = 0

    log_level: Annotated[
        str,
        Field(
            pattern=r"^(debug|info|warning|error)$",
            description="debug, info, warning or error would be right",
        ),
    ] = "info"

    @field_validator("quote_keys", "head_keys")
    @classmethod
    def _each_key_is_long(cls, keys: SecretStr | None) -> SecretStr | None:
        if keys is not None and min(map(len, _listed(keys))) < QUOTE_KEY_CHARACTERS_MIN:
            raise ValueError(
                f"each key has at least {QUOTE_KEY_CHARACTERS_MIN} characters, with commas between"
            )
        return keys

    @field_validator("more_databases")
    @classmethod
    def _each_has_a_name_of_its_own(cls, databases: str | None) -> str | None:
        names = [name for name, _ in _named(databases)]
        if "first" in names or len(set(names)) != len(names):
            raise ValueError('each has a name of its own, and "first" is the one at COFFER_DATABASE_URL')
        return databases

    @model_validator(mode="after")
    def _tokens_are_wholly_described(self) -> Self:
        told = [self.oidc_issuer is not None, self.oidc_audience is not None, self.oidc_key_set is not None]
        if any(told) and not all(told):
            raise ValueError("oidc_issuer, oidc_audience and oidc_key_set: set all of them, or none")
        return self

    @property
    def other_databases(self) -> dict[str, str]:
        """The addresses of the databases beside the first one, by name."""
        return dict(_named(self.more_databases))

    @property
    def cache(self) -> Path:
        """Where downloads are kept: `cache_directory`, or `cache` in the state directory."""
        return self.cache_directory or self.state_directory / "cache"

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints are kept: `checkpoint_directory`, or `checkpoints` in the state directory."""
        return self.checkpoint_directory or self.state_directory / "checkpoints"


def load_settings(environment: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process, after the environment was found free of forbidden ones.

    Raises: ForbiddenSetting, pydantic.ValidationError.
    """
    refuse_forbidden(os.environ if environment is None else environment)
    return Settings()


def refuse_forbidden(environment: Mapping[str, str]) -> None:
    """The event library was not told to append through its own database functions.

    They would bypass our recorder: no usage claim, no position of the shard, no head in the same transaction. The
    library also reads the variable with an application's name in front, so that form is refused too.
    Raises: ForbiddenSetting.
    """
    for name, value in environment.items():
        named = name == FORBIDDEN_VARIABLE or name.endswith(f"_{FORBIDDEN_VARIABLE}")
        if named and value.strip().lower() not in FALSE_WORDS:
            raise ForbiddenSetting(
                f"{name}={value!r} is set: the ledger writes its events, claims, positions and heads in one"
                f" transaction of its own, which database functions would bypass. Unset {name} or set it to 'no'."
            )


def unknown_settings(environment: Mapping[str, str]) -> list[str]:
    """Names that look like settings and are none: most are mistyped. Those that other programs read are left out."""
    known = {f"COFFER_{name.upper()}" for name in Settings.model_fields} | READ_ELSEWHERE
    return sorted(
        name
        for name in environment
        if name.startswith("COFFER_") and name not in known and not name.startswith(FOR_TESTS)
    )


def shown(settings: Settings) -> dict[str, str]:
    """The settings by name, fit to be printed: secrets and the passwords inside addresses are hidden."""
    return {name: _shown(name, getattr(settings, name)) for name in sorted(type(settings).model_fields)}


def _shown(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, SecretStr):
        return HIDDEN
    if name == "more_databases":
        return " ".join(f"{name}={without_password(url)}" for name, url in _named(str(value)))
    return without_password(str(value)) if name.endswith("_url") else str(value)


def without_password(url: str) -> str:
    """The address with its password hidden; user, host, port and database stay readable."""
    parts = urlsplit(url)
    if "password" in parts.query:
        parts = parts._replace(query=HIDDEN)
    if parts.password is None:
        return urlunsplit(parts)
    netloc = f"{parts.username or ''}:{HIDDEN}@{parts.netloc.rpartition('@')[2]}"
    return urlunsplit(parts._replace(netloc=netloc))


def key_pepper(settings: Settings) -> bytes:
    """The pepper of API keys: as set, or made once and kept in the state directory, readable by its owner only."""
    if settings.key_pepper is not None:
        return settings.key_pepper.get_secret_value().encode()
    return kept_secret(settings.state_directory / "key_pepper").encode()


def quote_keys(settings: Settings) -> list[bytes]:
    """The keys that sign quotes, newest first: as set, or one made once and kept in the state directory."""
    if settings.quote_keys is not None:
        return [key.encode() for key in _listed(settings.quote_keys)]
    return [kept_secret(settings.state_directory / "quote_key").encode()]


def head_keys(settings: Settings) -> list[bytes]:
    """The keys that seal heads, newest first: as set, or one made once and kept in the state directory."""
    if settings.head_keys is not None:
        return [key.encode() for key in _listed(settings.head_keys)]
    return [kept_secret(settings.state_directory / "head_key").encode()]


def signing_secret(settings: Settings) -> bytes:
    """What the signing key is made from: as set, or made once and kept in the state directory, readable by its owner only."""
    if settings.signing_secret is not None:
        return settings.signing_secret.get_secret_value().encode()
    return kept_secret(settings.state_directory / "signing_secret").encode()


def _named(databases: str | None) -> list[tuple[str, str]]:
    return [(name, url) for name, _, url in (each.partition("=") for each in (databases or "").split())]


def _listed(keys: SecretStr) -> list[str]:
    return [key.strip() for key in keys.get_secret_value().split(",")]


def kept_secret(path: Path) -> str:
    """The secret in the file; made at first use with 256 random bits, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(32))
    # A link is made whole or not at all, so of two processes that start at once, both read the same secret.
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text()
