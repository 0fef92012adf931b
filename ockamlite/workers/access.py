"""Who may send to a worker, asked on delivery; and where a worker may send to, asked on sending."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.routing.address import Address
    from ockamlite.routing.message import Message
    from ockamlite.routing.route import Route


class AllowRoutes:
    """Outgoing: only routes whose first hop is one of these addresses, as a link's or a worker's."""

    def __init__(self, *first_hops: Address) -> None:
        self._first_hops = frozenset(first_hops)

    def __call__(self, onward: Route) -> bool:
        """True if the route begins with one of the addresses."""
        return bool(onward) and onward[0] in self._first_hops


class AllowAll:
    """Everything the flow lets through."""

    def __call__(self, message: Message) -> bool:
        """Always true."""
        return True


class AllowPeers:
    """Only messages out of a secure channel with one of these identifiers."""

    def __init__(self, trust: Callable[[object], bool]) -> None:
        self._trust = trust

    def __call__(self, message: Message) -> bool:
        """True if the message came out of a channel with a trusted peer."""
        return message.flow is not None and message.flow.peer is not None and self._trust(message.flow.peer)


class AllowAuthenticated:
    """Only messages out of a secure channel, whoever is at its other end."""

    def __call__(self, message: Message) -> bool:
        """True if the message came out of a secure channel."""
        return message.flow is not None and message.flow.peer is not None
