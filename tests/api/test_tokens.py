"""Tokens of an identity provider: whose is believed, and the corpus of those that are not (A14)."""

from __future__ import annotations

import base64
import hmac
import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from api.app import create_api
from api.gate import Gate
from api.keys import KeyRing
from api.tokens import TokenReader
from tests.api.conftest import PEPPER, Caller, behind, give_key, give_member_key
from tests.asgi import serving
from tests.builders import unit_card
from tests.memory_store import MemoryLedger

ISSUER, AUDIENCE = "https://login.example.org", "coffer"
KEY = Ed25519PrivateKey.generate()
OTHER_KEY = Ed25519PrivateKey.generate()
RSA_KEY: RSAPrivateKey = generate_private_key(65_537, 2_048)


def key_set(*more: dict[str, Any]) -> str:
    """The provider's key set."""
    public = json.loads(OKPAlgorithm.to_jwk(KEY.public_key()))
    return json.dumps({"keys": [{**public, "kid": "now", "use": "sig", "alg": "EdDSA"}, *more]})


def rsa_key_set() -> str:
    """A key set with an RSA key."""
    public = json.loads(RSAAlgorithm.to_jwk(RSA_KEY.public_key()))
    return json.dumps({"keys": [{**public, "kid": "now", "use": "sig", "alg": "RS256"}]})


READER = TokenReader(issuer=ISSUER, audience=AUDIENCE, jwks=key_set(), algorithm="EdDSA")


def claims(**changes: Any) -> dict[str, Any]:
    """What a good token says; None leaves a claim out."""
    now = int(time.time())
    said = {"iss": ISSUER, "aud": AUDIENCE, "sub": "mira", "iat": now, "exp": now + 300} | changes
    return {name: value for name, value in said.items() if value is not None}


def signed(key: Any = KEY, algorithm: str = "EdDSA", headers: Any = None, **changes: Any) -> str:
    """A token; good, unless something is changed."""
    return jwt.encode(claims(**changes), key, algorithm, headers={"kid": "now"} | (headers or {}))


def part(document: Any) -> str:
    """A part of a token, by hand."""
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def unsigned(algorithm: str) -> str:
    """A token that says it needs no signature."""
    return f"{part({'alg': algorithm, 'typ': 'JWT'})}.{part(claims())}."


def with_its_own_key(field: str) -> str:
    """A token signed by a stranger, who sends the key along."""
    public = json.loads(OKPAlgorithm.to_jwk(OTHER_KEY.public_key()))
    value = public if field == "jwk" else "https://evil.example/keys.json"
    return signed(OTHER_KEY, headers={field: value})


def confused() -> str:
    """An HMAC under the text of the public key, for a reader that takes the algorithm from the token."""
    raw = KEY.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return mac_under(raw)


def mac_under(key: bytes) -> str:
    """A token by HS256 under these bytes; the library would not sign it."""
    said = f"{part({'alg': 'HS256', 'typ': 'JWT', 'kid': 'now'})}.{part(claims())}"
    mac = hmac.digest(key, said.encode(), "sha256")
    return f"{said}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def edited() -> str:
    """A good signature over other claims."""
    head, _, tail = signed().split(".")
    return f"{head}.{part(claims(sub='olga'))}.{tail}"


NOW = int(time.time())
CORPUS: dict[str, Callable[[], str]] = {
    "none": lambda: unsigned("none"),
    "None": lambda: unsigned("None"),
    "nOnE": lambda: unsigned("nOnE"),
    "confused with HMAC": confused,
    "another algorithm": lambda: signed(RSA_KEY, "RS256"),
    "another key": lambda: signed(OTHER_KEY),
    "another key under an unknown name": lambda: signed(OTHER_KEY, headers={"kid": "theirs"}),
    "an unknown key name": lambda: signed(headers={"kid": "gone"}),
    "a key name with a path": lambda: signed(OTHER_KEY, headers={"kid": "../../../dev/null"}),
    "its own jwk": lambda: with_its_own_key("jwk"),
    "its own jku": lambda: with_its_own_key("jku"),
    "its own x5u": lambda: with_its_own_key("x5u"),
    "an unknown crit": lambda: signed(headers={"crit": ["exp2"], "exp2": 1}),
    "a crit that is known": lambda: signed(headers={"crit": ["b64"], "b64": True}),
    "edited": edited,
    "expired": lambda: signed(exp=NOW - 31),
    "not yet": lambda: signed(nbf=NOW + 600),
    "issued in the future": lambda: signed(iat=NOW + 600),
    "another audience": lambda: signed(aud="other"),
    "another issuer": lambda: signed(iss="https://evil.example"),
    "without exp": lambda: signed(exp=None),
    "without iat": lambda: signed(iat=None),
    "without aud": lambda: signed(aud=None),
    "without iss": lambda: signed(iss=None),
    "without sub": lambda: signed(sub=None),
    "an empty sub": lambda: signed(sub=""),
    "exp that is no number": lambda: signed(exp="tomorrow"),
    "9 KB": lambda: signed(more="x" * 9_000),
    "1 MB": lambda: "x" * 1_000_000,
    "two parts": lambda: ".".join(signed().split(".")[:2]),
    "five parts": lambda: signed() + ".x.y",
    "not base64": lambda: "ä.ö.ü",
    "deep": lambda: f"{'[' * 4_000}.x.y",
    "empty": lambda: "",
}


@pytest.mark.parametrize("name", CORPUS)
def test_a_token_that_is_not_wholly_right_is_nobodys(name: str) -> None:
    """A14."""
    assert READER.subject(CORPUS[name]()) is None


def test_a_good_token_is_its_subjects_also_half_a_minute_late() -> None:
    assert READER.subject(signed()) == "mira"
    assert READER.subject(signed(exp=int(time.time()) - 20)) == "mira"
    assert READER.subject(signed(aud=["other", AUDIENCE])) == "mira"


def test_keys_rotate_side_by_side() -> None:
    fresh = json.loads(OKPAlgorithm.to_jwk(OTHER_KEY.public_key()))
    reader = TokenReader(
        issuer=ISSUER, audience=AUDIENCE, jwks=key_set({**fresh, "kid": "next"}), algorithm="EdDSA"
    )

    assert reader.subject(signed()) == "mira"
    assert reader.subject(signed(OTHER_KEY, headers={"kid": "next"})) == "mira"
    assert reader.subject(signed(OTHER_KEY, headers={"kid": "now"})) is None


def test_an_installation_pins_one_algorithm() -> None:
    reader = TokenReader(issuer=ISSUER, audience=AUDIENCE, jwks=rsa_key_set(), algorithm="RS256")
    pem = RSA_KEY.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )

    assert reader.subject(signed(RSA_KEY, "RS256")) == "mira"
    assert reader.subject(signed(RSA_KEY, "PS256")) is None
    assert reader.subject(signed(RSA_KEY, "RS512")) is None
    assert reader.subject(mac_under(pem)) is None
    assert reader.subject(signed()) is None


@pytest.mark.parametrize(
    ("jwks", "algorithm"),
    [(key_set(), "RS256"), ('{"keys": []}', "EdDSA"), ("{", "EdDSA"), (key_set(), "HS256")],
)
def test_a_key_set_without_a_key_of_the_algorithm_stops_the_start(jwks: str, algorithm: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        TokenReader(issuer=ISSUER, audience=AUDIENCE, jwks=jwks, algorithm=algorithm)


# --- what a believed token may do ---


@pytest.fixture
def signed_in() -> Iterator[tuple[MemoryLedger, Caller]]:
    """mira, signed in: a member of acme, an owner of globex, nobody in initech."""
    memory = MemoryLedger()
    memory.publish(unit_card())
    built = behind(memory)
    gate = Gate(KeyRing(memory, PEPPER, now=lambda: memory.now), built.ledger, tokens=READER)
    with serving(create_api(built, gate=gate)) as http:
        founder = Caller(http, give_key(memory, "break-glass"))
        for team in ("acme", "globex", "initech"):
            assert founder.post("/v1/accounts", {"team_id": team}).status_code == 201
        give_member_key(memory, "acme", "mira", "member")
        give_member_key(memory, "globex", "mira", "owner")
        yield memory, Caller(http, signed())


def test_a_token_has_the_role_that_each_team_gives_and_none_elsewhere(
    signed_in: tuple[MemoryLedger, Caller],
) -> None:
    _, mira = signed_in
    hold = {"action": "image.generate", "amount": "1"}

    held = mira.post("/v1/accounts/acme/holds", hold)
    invoices = [mira.get(f"/v1/accounts/{team}/invoices") for team in ("acme", "globex")]
    strange, absent = (mira.get(f"/v1/accounts/{team}/balance") for team in ("initech", "nobody"))

    assert held.status_code == 201, held.text
    assert (invoices[0].status_code, invoices[1].status_code) == (403, 200)
    assert (strange.status_code, strange.json()["code"]) == (404, "unknown_team")
    assert {**strange.json(), "request_id": ""} == {
        name: ""
        if name == "request_id"
        else value.replace("nobody", "initech")
        if isinstance(value, str)
        else value
        for name, value in absent.json().items()
    }


def test_a_role_in_a_token_is_not_read(signed_in: tuple[MemoryLedger, Caller]) -> None:
    _, mira = signed_in
    boasting = Caller(
        mira.http, signed(role="operator", roles=["owner"], scope="everything", team_id="initech")
    )

    assert boasting.get("/v1/accounts/initech/balance").status_code == 404
    assert boasting.get("/v1/accounts/acme/invoices").status_code == 403


def test_a_token_that_is_not_believed_is_answered_401(signed_in: tuple[MemoryLedger, Caller]) -> None:
    """A14: whatever was wrong, in the same words; what is longer than any header is refused as such."""
    _, mira = signed_in
    told: dict[str, list[str]] = {}
    for name, make in CORPUS.items():
        sent = {"Authorization": b"Bearer " + make().encode()}
        answer = mira.http.get("/v1/accounts/acme/balance", headers=sent)
        assert answer.status_code == (431 if name == "1 MB" else 401), (name, answer.text)
        assert "eyJ" not in answer.text
        told.setdefault(answer.text.replace(answer.headers["x-request-id"], ""), []).append(name)

    assert sorted(map(len, told.values())) == [1, len(CORPUS) - 1]


def test_the_library_that_reads_tokens_has_none_of_the_known_holes() -> None:
    """A14: before 2.13 it took an unknown ``crit``, and a public key for a secret."""
    major, minor = (int(part) for part in jwt.__version__.split(".")[:2])

    assert (major, minor) >= (2, 13)
