"""What a node keeps: its own identities with their keys, and the histories of peers it has met.

In memory for a node that leaves no trace, in SQLite for all others. The rules are here and the same
for both; where the rows are is in :mod:`ockamlite.identities.rows` and ``sqlite_rows``.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ockamlite.errors import AlreadyExistsError, DamagedStateError, NotFoundError, RemoteError, UsageError
from ockamlite.identities.change_history import ChangeHistory, Comparison, Identity, VerifiedHistories
from ockamlite.identities.purpose_key import Purpose, PurposeKeyAttestation
from ockamlite.identities.rows import MemoryRows
from ockamlite.limits import LIMITS
from ockamlite.vault.vault import handle_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from ockamlite.identities.identifier import Identifier
    from ockamlite.identities.rows import Rows
    from ockamlite.vault.key_store import KeyStore

_NAME: Final = re.compile(r"[\w.@-]{1,64}")
_MET_EVERY_S: Final = 3600
"""A peer met again is noted once an hour: which peers are old is all that matters."""


def default_home(environ: Mapping[str, str]) -> Path:
    """The folder of the node's state: ``OCKAMLITE_HOME``, else one under the XDG state folder.

    Raises:
        UsageError: this user has no home.
    """
    if chosen := environ.get("OCKAMLITE_HOME"):
        return Path(chosen).absolute()
    state = environ.get("XDG_STATE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    if Path(state).is_absolute():
        return Path(state) / "ockamlite"
    try:
        home = Path(environ["HOME"]) if environ.get("HOME") else Path.home()
    except RuntimeError as error:
        raise UsageError("this user has no home folder", hint="set OCKAMLITE_HOME") from error
    return home / ".local" / "state" / "ockamlite"


class Store:
    """Identities, attestations, keys and peers.

    Every method raises StateError if the state cannot be read or written; a change that fails leaves
    everything as it was.
    """

    def __init__(self, rows: Rows, *, most_peers: int = LIMITS.stored_identities) -> None:
        self._rows = rows
        self._most_peers = most_peers
        self.histories = VerifiedHistories()
        """Spares checking a history again that was stored once."""

    @property
    def keys(self) -> KeyStore:
        """The private keys, for the vault."""
        return self._rows.keys

    def transaction(self) -> AbstractContextManager[None]:
        """All changes made inside, or none; no other process writes meanwhile. May be nested."""
        return self._rows.transaction()

    def version(self) -> int:
        """Another number whenever another process has written."""
        return self._rows.version()

    def close(self) -> None:
        """Let go of the state; may be called twice."""
        self._rows.close()

    # -- our own ---------------------------------------------------------------------------------

    def create(self, name: str, identity: Identity) -> None:
        """Keep a new identity of ours; its private key is the vault's.

        Raises:
            UsageError: not a name.
            AlreadyExistsError: the name is taken, or the identity has another name already.
        """
        check_name(name)
        with self.transaction():
            if self._rows.local(name) is not None:
                raise AlreadyExistsError(f"there is an identity {name!r} already")
            if self._rows.local_by_identifier(identity.identifier.digest) is not None:
                raise AlreadyExistsError(f"{identity.identifier} has another name already")
            self._rows.put_local(name, identity.identifier.digest, identity.encoded)

    def show(self, name: str) -> Identity:
        """Our identity of that name.

        Raises:
            NotFoundError: there is none.
        """
        history = self._rows.local(name)
        if history is None:
            raise NotFoundError(f"no identity {name!r}", hint=f"ockamlite identity create {name}")
        return self._load(history, f"identity {name!r}")

    def rotate(self, name: str, identity: Identity) -> None:
        """Put a longer history in the place of the one of that name.

        The old private key and all purpose keys that it attested are deleted.

        Raises:
            NotFoundError: there is no identity of that name.
            UsageError: it is not a continuation of the old history.
        """
        with self.transaction():
            before = self.show(name)
            if identity.identifier != before.identifier or identity.compare(before) is not Comparison.NEWER:
                raise UsageError(f"not a continuation of identity {name!r}")
            self._delete_purpose_keys(before)
            if before.latest.key != identity.latest.key:
                self.keys.delete_key(handle_of(before.latest.key.data))
            self._rows.put_local(name, identity.identifier.digest, identity.encoded)

    def delete(self, name: str) -> None:
        """Delete our identity of that name with all of its keys.

        Raises:
            NotFoundError: there is none.
        """
        with self.transaction():
            identity = self.show(name)
            self._delete_purpose_keys(identity)
            self.keys.delete_key(handle_of(identity.latest.key.data))
            self._rows.delete_local(name)

    def attestation(self, identity: Identity, purpose: Purpose) -> PurposeKeyAttestation | None:
        """The attestation of a purpose key of ours, not verified."""
        encoded = self._rows.attestation(identity.identifier.digest, purpose.value)
        if encoded is None:
            return None
        try:
            return PurposeKeyAttestation.decode(encoded)
        except RemoteError as error:
            raise _damaged(f"the {purpose.value} key of {identity.identifier}", error) from error

    def put_attestation(self, identity: Identity, attestation: PurposeKeyAttestation) -> None:
        """Keep the attestation of a purpose key; the key that it replaces is deleted."""
        with self.transaction():
            before = self.attestation(identity, attestation.purpose)
            if before is not None and before.key != attestation.key:
                self.keys.delete_key(handle_of(before.key.data))
            self._rows.put_attestation(
                identity.identifier.digest, attestation.purpose.value, attestation.encoded
            )

    def _delete_purpose_keys(self, identity: Identity) -> None:
        for purpose in Purpose:
            attestation = self.attestation(identity, purpose)
            if attestation is not None:
                self.keys.delete_key(handle_of(attestation.key.data))
                self._rows.delete_attestation(identity.identifier.digest, purpose.value)

    # -- peers -----------------------------------------------------------------------------------

    def known_identity(self, identifier: Identifier) -> Identity | None:
        """What is known of an identity, our own or a peer's."""
        own = self._rows.local_by_identifier(identifier.digest)
        if own is not None:
            return self._load(own, f"identity {identifier}")
        found = self._rows.peer(identifier.digest)
        return self._load(found[0], f"peer {identifier}") if found is not None else None

    def remember(self, identity: Identity, now: int, *, add: bool = True) -> None:
        """Keep the history of a peer that is trusted, unless a better one is known.

        Those not met for longest are forgotten when there are too many; our own never are.

        Args:
            identity: the peer's.
            now: seconds since 1970.
            add: also if nothing is known of it. Strangers, let in because everybody is, are not added:
                they could make so many identities that those who are trusted were forgotten.

        Raises:
            IdentityError: it is older than, or contradicts, what is known.
        """
        digest = identity.identifier.digest
        found = self._rows.peer(digest)
        if found is not None and found[0] == identity.encoded and abs(now - found[1]) < _MET_EVERY_S:
            return
        with self.transaction():
            known = self.known_identity(identity.identifier)
            identity.check_not_behind(known)
            if self._rows.local_by_identifier(digest) is not None or not (add or known):
                return
            # Of an equal history the encoding we have stays: it was verified, and so does no harm.
            kept = known if known is not None and known == identity else identity
            self._rows.put_peer(digest, kept.encoded, now)
            if known is None:
                self._rows.trim_peers(self._most_peers)

    def count_peers(self) -> int:
        """How many peers are remembered."""
        return self._rows.count_peers()

    def _load(self, history: bytes, what: str) -> Identity:
        try:
            return self.histories.verify(ChangeHistory.decode(history))
        except RemoteError as error:
            raise _damaged(what, error) from error

    # Last, since its name hides the built-in type in the annotations behind it.
    def list(self) -> tuple[tuple[str, Identity], ...]:
        """Our identities with their names, by name."""
        return tuple((name, self._load(data, f"identity {name!r}")) for name, data in self._rows.all_local())


class MemoryStore(Store):
    """A store that is gone when the process ends."""

    def __init__(self, *, most_peers: int = LIMITS.stored_identities) -> None:
        super().__init__(MemoryRows(), most_peers=most_peers)


class SqliteStore(Store):
    """A store in the folder ``home``, which is made if it is missing.

    Raises:
        PermissionsError: others may use the folder or file, or we may not; the hint is what to run.
        DamagedStateError: the file cannot be read.
        StorageError: disk full, read-only, I/O error.
    """

    def __init__(self, home: Path | str, *, most_peers: int = LIMITS.stored_identities) -> None:
        # Here, so that who keeps nothing on disk never loads SQLite.
        from ockamlite.identities.sqlite_rows import SqliteRows

        super().__init__(SqliteRows(Path(home)), most_peers=most_peers)


def check_name(name: str) -> None:
    """Refuse what cannot name an identity.

    Raises:
        UsageError: empty, longer than 64, or with other signs than letters, digits and ``._@-``.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(f"{name[:80]!r} cannot name an identity", hint="use letters, digits, '.', '_', '-'")


def _damaged(what: str, error: RemoteError) -> DamagedStateError:
    return DamagedStateError(f"{what} is damaged: {error}", hint="restore the state folder from a backup")
