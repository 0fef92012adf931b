"""Whom a secure channel may lead to. Nobody is trusted unless somebody says so.

A policy is any function from identifier to ``True``; anything else that it returns refuses.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from ockamlite.errors import TrustError
from ockamlite.identities.identifier import Identifier

if TYPE_CHECKING:
    from ockamlite.identities.peer import PeerIdentity

Trust: TypeAlias = Callable[[Identifier], bool]


class NotTrustedError(TrustError):
    """A verified peer that our policy refuses.

    Attributes:
        peer: its identifier.
    """

    def __init__(self, peer: Identifier, reason: str) -> None:
        super().__init__(f"{peer} {reason}")
        self.peer = peer


class TrustEveryone:
    """Anyone who proves to hold some identity."""

    def __call__(self, identifier: object) -> bool:
        """True."""
        return True

    def __repr__(self) -> str:
        """As in code."""
        return "TrustEveryone()"


class TrustIdentifiers:
    """These identities and no other.

    Args:
        identifiers: identifiers, or their text; none trusts nobody.
        min_changes: how many changes the history of one of them must have at least. After a key was
            stolen and rotated away, this keeps out the thief who presents the old history.

    Raises:
        UsageError: a text is not an identifier.
    """

    def __init__(
        self,
        *identifiers: Identifier | str,
        min_changes: Mapping[Identifier, int] | None = None,
    ) -> None:
        self._identifiers = frozenset(
            Identifier.parse(one) if isinstance(one, str) else one for one in identifiers
        )
        self._min_changes = dict(min_changes or {})

    def __call__(self, identifier: object) -> bool:
        """True if it is one of them."""
        return identifier in self._identifiers

    def __repr__(self) -> str:
        """The identifiers."""
        return f"TrustIdentifiers({', '.join(sorted(map(str, self._identifiers)))})"

    def min_changes(self, identifier: Identifier) -> int:
        """How many changes the history of ``identifier`` must have."""
        return self._min_changes.get(identifier, 1)


def check(trust: Trust, peer: PeerIdentity) -> None:
    """Refuse a peer that is not trusted.

    Raises:
        NotTrustedError: naming its identifier.
    """
    # An async policy would return a coroutine, which is true: only True itself lets a peer in.
    if trust(peer.identifier) is not True:
        raise NotTrustedError(peer.identifier, "is not trusted here")
    if isinstance(trust, TrustIdentifiers):
        changes, least = len(peer.identity.changes), trust.min_changes(peer.identifier)
        if changes < least:
            raise NotTrustedError(
                peer.identifier,
                f"presents {changes} of at least {least} changes; an old key may be in wrong hands",
            )
