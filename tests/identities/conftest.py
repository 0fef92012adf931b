"""People of the vectors, with their secrets, and the clock that stood still for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from ockamlite.identities.change import Change, make_change
from ockamlite.identities.change_history import ChangeHistory, Identity
from ockamlite.vault.key_store import MemoryKeyStore
from ockamlite.vault.keys import KeyKind
from ockamlite.vault.software import Ed25519Signer, P256Signer, SoftwareVault

if TYPE_CHECKING:
    from collections.abc import Callable

VECTORS = Path(__file__).parents[1] / "vectors"
CLOCK = 1700003600
T0 = 1700000000
TEN_YEARS = 315_360_000


@pytest.fixture
def clock() -> int:
    """The time at which the vectors were verified."""
    return CLOCK


@pytest.fixture(scope="session")
def vectors() -> Callable[[str], Any]:
    """A file of vectors."""
    return lambda name: json.loads((VECTORS / f"{name}.json").read_text())


@pytest.fixture(scope="session")
def signer() -> Callable[..., Ed25519Signer | P256Signer]:
    """The signing key whose secret is one byte 32 times, as in the vectors."""

    def make(byte: int, kind: KeyKind = KeyKind.ED25519) -> Ed25519Signer | P256Signer:
        vault = SoftwareVault(MemoryKeyStore())
        return vault.signer(vault.import_key(kind, bytes([byte]) * 32))

    return make


@pytest.fixture(scope="session")
def history(signer: Any) -> Callable[..., ChangeHistory]:
    """A history of the keys with these bytes as secrets, a day between changes."""

    def make(
        *secrets: int, valid_from: int = T0, lifetime: int = TEN_YEARS, revoke: bool = False
    ) -> ChangeHistory:
        changes: tuple[Change, ...] = ()
        for number, secret in enumerate(secrets):
            begin = valid_from + 86400 * number
            changes = (
                *changes,
                make_change(
                    signer(secret),
                    valid_from=begin,
                    valid_until=begin + lifetime,
                    previous=changes[-1] if changes else None,
                    previous_signer=signer(secrets[number - 1]) if changes else None,
                    revoke=revoke and number > 0,
                ),
            )
        return ChangeHistory(changes)

    return make


@pytest.fixture(scope="session")
def identity(history: Any) -> Callable[..., Identity]:
    """The same, verified."""
    return lambda *secrets, **options: history(*secrets, **options).verify()
