"""Key pairs with given secrets, for handshakes whose every byte is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ockamlite.vault.primitives import x25519_exchange, x25519_from_secret, x25519_public

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.secure_channels.noise import DhKey


class FixedKey:
    """An X25519 key pair whose secret the test chose."""

    def __init__(self, secret: bytes) -> None:
        self._key = x25519_from_secret(secret)
        self.public = x25519_public(self._key)

    def exchange(self, public: bytes) -> bytes:
        return x25519_exchange(self._key, public)


@pytest.fixture(scope="session")
def dh_key() -> Callable[[bytes], DhKey]:
    return FixedKey
