"""The cryptographic functions of Ockam's suite, each a thin call into ``cryptography``.

X25519 (RFC 7748), Ed25519 (RFC 8032), ECDSA on P-256 with SHA-256, AES-256-GCM, HKDF-SHA256 (RFC 5869).
The only module that imports ``cryptography``; its exceptions end here. Hashes come from there too:
the standard library's would load a second OpenSSL, 3.5 MB of every process.
"""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ockamlite.errors import VerificationError

TAG_BYTES: Final = 16
KEY_BYTES: Final = 32
_SHA256: Final = hashes.SHA256()

__all__ = [
    "KEY_BYTES",
    "TAG_BYTES",
    "Aead",
    "Ed25519PrivateKey",
    "X25519PrivateKey",
    "ed25519_from_seed",
    "ed25519_public",
    "ed25519_seed",
    "ed25519_verify",
    "hkdf2",
    "p256_from_scalar",
    "p256_public",
    "p256_random_scalar",
    "p256_sign",
    "p256_verify",
    "sha256",
    "x25519_exchange",
    "x25519_from_secret",
    "x25519_public",
    "x25519_secret",
]


class Aead:
    """One AES-256-GCM key. Nonces are the caller's: 12 bytes, never used twice for sealing."""

    __slots__ = ("_cipher", "open_raw", "seal", "seal_into")

    WRONG: Final = (InvalidTag, ValueError)
    """What ``open_raw`` raises where ``open`` says that the tag does not fit."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)
        # Bound once: these run for every message of a channel.
        self.seal = self._cipher.encrypt
        self.seal_into = self._cipher.encrypt_into
        self.open_raw = self._cipher.decrypt

    def open(self, nonce: bytes, data: bytes | memoryview, associated: bytes | None) -> bytes:
        """Check the tag and decrypt.

        Raises:
            VerificationError: the tag does not fit; says nothing about why.
        """
        try:
            return self.open_raw(nonce, data, associated)
        except self.WRONG as error:
            raise VerificationError("authentication tag does not fit") from error


def sha256(data: bytes) -> bytes:
    """SHA-256, 32 bytes."""
    digest = hashes.Hash(_SHA256)
    digest.update(data)
    return digest.finalize()


def hkdf2(salt: bytes, material: bytes) -> tuple[bytes, bytes]:
    """HKDF-SHA256 with empty info, cut into two outputs of 32 bytes (Noise rev 34, §4.3)."""
    key = _hmac(salt, material)
    first = _hmac(key, b"\x01")
    return first, _hmac(key, first + b"\x02")


def _hmac(key: bytes, data: bytes) -> bytes:
    made = hmac.HMAC(key, _SHA256)
    made.update(data)
    return made.finalize()


def x25519_from_secret(secret: bytes) -> X25519PrivateKey:
    """Load a 32-byte X25519 secret."""
    return X25519PrivateKey.from_private_bytes(secret)


def x25519_secret(key: X25519PrivateKey) -> bytes:
    """The 32 secret bytes, for storage only."""
    return key.private_bytes_raw()


def x25519_public(key: X25519PrivateKey) -> bytes:
    """The 32-byte public key."""
    return key.public_key().public_bytes_raw()


def x25519_exchange(key: X25519PrivateKey, public: bytes) -> bytes:
    """Diffie-Hellman.

    Raises:
        VerificationError: the public key is malformed or of low order (all-zero result).
    """
    try:
        return key.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError as error:
        raise VerificationError("the peer's X25519 key is not usable") from error


def ed25519_from_seed(seed: bytes) -> Ed25519PrivateKey:
    """Load a 32-byte Ed25519 seed."""
    return Ed25519PrivateKey.from_private_bytes(seed)


def ed25519_seed(key: Ed25519PrivateKey) -> bytes:
    """The 32-byte seed, for storage only."""
    return key.private_bytes_raw()


def ed25519_public(key: Ed25519PrivateKey) -> bytes:
    """The 32-byte public key."""
    return key.public_key().public_bytes_raw()


def ed25519_verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """True if the Ed25519 signature holds; False for it or a key that is malformed."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def p256_from_scalar(scalar: bytes) -> object:
    """Load a P-256 private key from its 32-byte big-endian scalar.

    Raises:
        ValueError: zero, or not below the order of the group.
    """
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.derive_private_key(int.from_bytes(scalar, "big"), ec.SECP256R1())


def p256_random_scalar() -> bytes:
    """A new private key as its 32-byte big-endian scalar."""
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1()).private_numbers().private_value.to_bytes(32, "big")


def p256_public(key: object) -> bytes:
    """The 65-byte uncompressed public key."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101  (narrows the opaque type)
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def p256_sign(key: object, message: bytes) -> bytes:
    """ECDSA with SHA-256, as r || s of 32 bytes each; deterministic (RFC 6979)."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    assert isinstance(key, ec.EllipticCurvePrivateKey)  # noqa: S101  (narrows the opaque type)
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(_SHA256, deterministic_signing=True)))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def p256_verify(public: bytes, signature: bytes, message: bytes) -> bool:
    """True if the r || s signature holds; False for it or a key that is malformed."""
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    if len(signature) != 64 or len(public) != 65:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public)
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(_SHA256))
    except (InvalidSignature, ValueError):
        return False
    return True
