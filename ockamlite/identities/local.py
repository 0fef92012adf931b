"""Our own identities: made, kept, rotated, and what they show in a handshake.

The identity key signs only when a purpose key is made or the identity is rotated. Purpose keys are
renewed by themselves, but only on absence or when their time is over: one that does not verify for
another reason points to a wrong clock or damaged state, and is never replaced in silence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ockamlite.errors import NotFoundError, StateError, UsageError
from ockamlite.identities.change import LIFETIME_S, Change, make_change
from ockamlite.identities.change_history import ChangeHistory, Identity
from ockamlite.identities.faults import Fault, IdentityError
from ockamlite.identities.purpose_key import Purpose, PurposeKeyAttestation, attest
from ockamlite.identities.store import MemoryStore, Store, check_name
from ockamlite.limits import LIMITS
from ockamlite.vault.keys import KeyKind, PublicKey
from ockamlite.vault.software import SoftwareVault
from ockamlite.vault.vault import DhKey, Signer, Vault, handle_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ockamlite.identities.credential import CredentialAndPurposeKey
    from ockamlite.identities.identifier import Identifier

DEFAULT_NAME: Final = "default"
ATTESTATION_LIFETIME_S: Final = 90 * 86_400
"""How long a purpose key lasts: a stolen one ends with it. Ockam's own last five years."""
_RENEW_S: Final = 7 * 86_400
"""How long before its end a purpose key is replaced, so that no peer meets one about to expire."""


@dataclass(frozen=True, slots=True)
class _Presented:
    """What we show in handshakes."""

    key: DhKey
    attestation: PurposeKeyAttestation
    renew_at: int
    payload: bytes
    """Without credentials."""


class LocalIdentity:
    """An identity of ours, with its keys. Made by the class methods or :func:`create_identity`.

    Args:
        store: where it is kept.
        name: its name there.
        identity: its public part.
        vault: where its private keys are; in software, in the store, if absent.
    """

    def __init__(self, store: Store, name: str, identity: Identity, *, vault: Vault | None = None) -> None:
        self.name = name
        self.identity = identity
        self._store = store
        self._vault: Vault = vault if vault is not None else SoftwareVault(store.keys)
        self._version = store.version()
        self._presented: _Presented | None = None

    def __repr__(self) -> str:
        """Name and identifier."""
        return f"<LocalIdentity {self.name} {self.identifier}>"

    @property
    def identifier(self) -> Identifier:
        """What peers know us by."""
        return self.identity.identifier

    @classmethod
    def load(cls, store: Store, name: str = DEFAULT_NAME, *, vault: Vault | None = None) -> LocalIdentity:
        """An identity that was created before.

        Raises:
            NotFoundError: there is none of that name.
            StateError: it cannot be read.
        """
        return cls(store, name, store.show(name), vault=vault)

    @classmethod
    def load_or_create(
        cls, store: Store, name: str = DEFAULT_NAME, *, now: int, vault: Vault | None = None
    ) -> LocalIdentity:
        """The identity of that name, made if it is missing; at the same time by one process only.

        Raises:
            UsageError: not a name.
            StateError: it cannot be read or written.
        """
        try:
            return cls.load(store, name, vault=vault)
        except NotFoundError:
            pass
        with store.transaction():
            try:
                return cls.load(store, name, vault=vault)
            except NotFoundError:
                return create_identity(store, name, now, vault=vault)

    @classmethod
    def ephemeral(cls, now: int) -> LocalIdentity:
        """A new identity that is kept nowhere."""
        return create_identity(MemoryStore(), DEFAULT_NAME, now)

    # -- what handshakes need --------------------------------------------------------------------

    def secure_channel_key(self, now: int) -> tuple[DhKey, PurposeKeyAttestation]:
        """Our static key for secure channels, and its attestation.

        Args:
            now: seconds since 1970.

        Raises:
            StateError: the identity has expired or is gone, the clock is wrong, or the state damaged.
        """
        presented = self._present(now)
        return presented.key, presented.attestation

    def handshake_payload(self, now: int, credentials: Sequence[CredentialAndPurposeKey] = ()) -> bytes:
        """What says who we are, as CBOR; put together once for as long as it stays the same.

        Args:
            now: seconds since 1970.
            credentials: shown to anybody who asks, if we listen; so none unless given.

        Raises:
            UsageError: too many credentials.
            StateError: as for :meth:`secure_channel_key`.
        """
        presented = self._present(now)
        if not credentials:
            return presented.payload
        if len(credentials) > LIMITS.credentials:
            raise UsageError(f"{len(credentials)} credentials are too many")
        # Behind the history and the attestation stands the empty array of credentials.
        head = bytes((0x80 | len(credentials),))
        return presented.payload[:-1] + head + b"".join(one.encoded for one in credentials)

    def credential_key(self, now: int) -> tuple[Signer, PurposeKeyAttestation]:
        """Our key for issuing credentials, and its attestation.

        Raises:
            StateError: as for :meth:`secure_channel_key`.
        """
        self._follow_store()
        attestation = self._attested(Purpose.CREDENTIALS, now)
        return self._signer(attestation.key), attestation

    def _present(self, now: int) -> _Presented:
        self._follow_store()
        presented = self._presented
        if presented is not None and presented.attestation.created_at <= now < presented.renew_at:
            return presented
        attestation = self._attested(Purpose.SECURE_CHANNEL, now)
        try:
            key = self._vault.dh_key(handle_of(attestation.key.data))
        except NotFoundError as error:
            raise self._lost(error) from error
        self._presented = _Presented(
            key,
            attestation,
            max(now + 1, attestation.expires_at - _RENEW_S),
            b"".join((b"\x83", self.identity.encoded, attestation.encoded, b"\x80")),
        )
        return self._presented

    def _follow_store(self) -> None:
        """Notice that another process rotated or deleted the identity."""
        version = self._store.version()
        if version != self._version:
            try:
                self.identity = self._store.show(self.name)
            except NotFoundError as error:
                raise StateError(f"identity {self.name!r} was deleted") from error
            self._presented = None
            self._version = version

    # -- purpose keys ----------------------------------------------------------------------------

    def _attested(self, purpose: Purpose, now: int) -> PurposeKeyAttestation:
        """The attestation of a purpose key, which is made if there is none or its time is over."""
        found = self._store.attestation(self.identity, purpose)
        if found is not None and not self._is_due(found, purpose, now):
            return found
        with self._store.transaction():
            # Another process may have been quicker.
            found = self._store.attestation(self.identity, purpose)
            if found is not None and not self._is_due(found, purpose, now):
                return found
            return self._make_purpose_key(purpose, now)

    def _is_due(self, found: PurposeKeyAttestation, purpose: Purpose, now: int) -> bool:
        """True if it should be replaced because its time is over, or will be soon."""
        try:
            found.verify(self.identity, purpose, now)
        except IdentityError as error:
            if error.fault is Fault.EXPIRED:
                return True
            raise StateError(
                f"the {purpose.value} key of identity {self.name!r} cannot be used: {error.fault.value}",
                hint=f"check this machine's clock; if it is right: ockamlite identity rotate {self.name}",
            ) from error
        lasts = min(now + ATTESTATION_LIFETIME_S, self.identity.latest.valid_until)
        return found.expires_at - now < _RENEW_S < lasts - now

    def _make_purpose_key(self, purpose: Purpose, now: int) -> PurposeKeyAttestation:
        latest = self.identity.latest
        if now > latest.valid_until:
            raise StateError(
                f"identity {self.name!r} has expired", hint=f"ockamlite identity rotate {self.name}"
            )
        created_at = _not_before(latest, now)
        is_channel = purpose is Purpose.SECURE_CHANNEL
        handle = self._vault.generate(KeyKind.X25519 if is_channel else KeyKind.ED25519)
        key = (
            PublicKey(KeyKind.X25519, self._vault.dh_key(handle).public)
            if is_channel
            else self._vault.signer(handle).public_key
        )
        attestation = attest(
            self.identity,
            self._signer(latest.key),
            key,
            created_at=created_at,
            expires_at=now + ATTESTATION_LIFETIME_S,
        )
        self._store.put_attestation(self.identity, attestation)
        return attestation

    def _signer(self, key: PublicKey) -> Signer:
        try:
            return self._vault.signer(handle_of(key.data))
        except NotFoundError as error:
            raise self._lost(error) from error

    def _lost(self, error: NotFoundError) -> StateError:
        return StateError(
            f"a private key of identity {self.name!r} is not here: {error}",
            hint="restore the state folder from a backup",
        )

    # -- rotation --------------------------------------------------------------------------------

    def rotate(self, now: int, *, revoke: bool = False, kind: KeyKind | str | None = None) -> None:
        """Replace the identity key and the purpose keys; the identifier stays, old keys are deleted.

        Args:
            now: seconds since 1970.
            revoke: mark all earlier purpose keys as revoked, so that peers end channels opened with them.
            kind: of the new key; as the old one if absent.

        Raises:
            UsageError: the kind is not one that signs, or the history can grow no longer.
            StateError: it cannot be stored, or the clock is wrong; nothing has changed.
        """
        with self._store.transaction():
            before = self._store.show(self.name)
            if len(before.changes) >= LIMITS.changes:
                raise UsageError(f"identity {self.name!r} was rotated too often", hint="create a new one")
            latest = before.latest
            wanted = _signing_kind(kind) if kind is not None else latest.key.kind
            valid_from = _not_before(latest, now)
            change = make_change(
                self._vault.signer(self._vault.generate(wanted)),
                valid_from=valid_from,
                valid_until=valid_from + LIFETIME_S,
                previous=latest,
                previous_signer=self._signer(latest.key),
                revoke=revoke,
            )
            after = ChangeHistory((*before.changes, change)).verify()
            self._store.rotate(self.name, after)
            renewed = LocalIdentity(self._store, self.name, after, vault=self._vault)
            renewed.secure_channel_key(now)
        self._vault.delete(handle_of(latest.key.data))
        self.identity = after
        self._presented = None


def create_identity(
    store: Store, name: str, now: int, kind: KeyKind | str = KeyKind.ED25519, *, vault: Vault | None = None
) -> LocalIdentity:
    """Make an identity of ours and keep it under ``name``, for ten years from ``now`` on.

    Raises:
        UsageError: not a name, or not a kind of key that signs.
        AlreadyExistsError: the name is taken.
        StateError: it cannot be stored.
    """
    check_name(name)
    wanted = _signing_kind(kind)
    keys: Vault = vault if vault is not None else SoftwareVault(store.keys)
    with store.transaction():
        signer = keys.signer(keys.generate(wanted))
        change = make_change(signer, valid_from=now, valid_until=now + LIFETIME_S)
        identity = ChangeHistory((change,)).verify()
        store.create(name, identity)
    return LocalIdentity(store, name, identity, vault=vault)


def _signing_kind(kind: KeyKind | str) -> KeyKind:
    try:
        found = KeyKind(kind)
    except ValueError:
        found = KeyKind.X25519
    if found is KeyKind.X25519:
        raise UsageError(f"{kind} is not a kind of identity key", hint="use ed25519 or p256")
    return found


def _not_before(latest: Change, now: int) -> int:
    """``now``, or the start of the latest change if that is a moment later.

    Raises:
        StateError: it is much later, so the clock is wrong.
    """
    if latest.valid_from > now + LIMITS.clock_skew_s:
        raise StateError(
            "this machine's clock stands before the time when the identity was made", hint="set the clock"
        )
    return max(now, latest.valid_from)
