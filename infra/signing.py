"""What this ledger signs with, for others to verify without it: Ed25519, one private key, its public key published."""

from __future__ import annotations

from hashlib import sha256

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_PURPOSE = b"coffer signature 1\n"


class SigningKey:
    """A private key, made from a secret; as ``domain.handover.Signer``."""

    def __init__(self, secret: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(sha256(_PURPOSE + secret).digest())
        self.public_key = self._key.public_key().public_bytes_raw().hex()
        self.key_id = key_id_of(self.public_key)

    def sign(self, message: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._key.sign(message)


def key_id_of(public_key: str) -> str:
    """The name of a public key given in hex: the first 16 hex digits of its SHA-256."""
    return sha256(bytes.fromhex(public_key)).hexdigest()[:16]


def is_signed(public_key: str, message: bytes, signature: bytes) -> bool:
    """Whether the message was signed by the private key of this public one, given in hex. Raises: ValueError for no key."""
    try:
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(public_key)).verify(signature, message)
    except InvalidSignature:
        return False
    return True
