"""Tokens of the customers' identity provider: what makes one believed, and whose it is. Roles never come from a token."""

from __future__ import annotations

import json
from collections.abc import Sequence

import jwt
from jwt.types import Options

TOKEN_BYTES_MAX = 8 * 1024
LEEWAY_SECONDS = 30
ALGORITHMS = ("EdDSA", "RS256", "ES256")
"""An installation pins one of them."""

_OPTIONS: Options = {
    "require": ["exp", "iat", "aud", "iss", "sub"],
    "verify_signature": True,
    "verify_aud": True,
    "verify_iss": True,
    "verify_exp": True,
    "verify_iat": True,
    "verify_nbf": True,
}


class TokenReader:
    """Reads tokens of one issuer for one audience, signed by one algorithm with one of a fixed set of keys.

    ``jwks`` is the key set as JSON. Keys that a token names or carries itself (``jwk``, ``jku``, ``x5u``) are never used.
    Raises: ValueError for a set without a key of the algorithm, or an algorithm that is none of ``ALGORITHMS``.
    """

    def __init__(self, *, issuer: str, audience: str, jwks: str, algorithm: str) -> None:
        if algorithm not in ALGORITHMS:
            raise ValueError(f"algorithm {algorithm!r}: one of {', '.join(ALGORITHMS)} would be right")
        self._issuer = issuer
        self._audience = audience
        self._algorithm = algorithm
        self._keys = _keys(jwks, algorithm)

    def subject(self, text: str) -> str | None:
        """Whose token it is, when it is to be believed; None otherwise, whatever was wrong."""
        if len(text) > TOKEN_BYTES_MAX or not text.isascii():
            return None
        try:
            header = jwt.get_unverified_header(text)
            if header.get("alg") != self._algorithm or "crit" in header:
                return None
            return self._believed(text, header.get("kid"))
        except (jwt.PyJWTError, ValueError, RecursionError):
            return None

    def _believed(self, text: str, key_id: object) -> str | None:
        named = (
            [key for key in self._keys if key.key_id == key_id] if key_id is not None else list(self._keys)
        )
        for key in named:
            try:
                claims = jwt.decode(
                    text,
                    key.key,
                    algorithms=[self._algorithm],
                    audience=self._audience,
                    issuer=self._issuer,
                    leeway=LEEWAY_SECONDS,
                    options=_OPTIONS,
                )
            except jwt.InvalidSignatureError:
                continue
            subject = claims["sub"]
            return subject if isinstance(subject, str) and subject else None
        return None


def _keys(jwks: str, algorithm: str) -> Sequence[jwt.PyJWK]:
    document = json.loads(jwks)
    family = {"EdDSA": "OKP", "RS256": "RSA", "ES256": "EC"}[algorithm]
    found = [
        jwt.PyJWK(each, algorithm)
        for each in document.get("keys", [])
        if each.get("kty") == family
        and each.get("use", "sig") == "sig"
        and each.get("alg", algorithm) == algorithm
    ]
    if not found:
        raise ValueError(
            f"the key set has no key for {algorithm}: a JWKS with a signing key of type {family} would be right"
        )
    return found
