"""Who may send to a worker: incoming access control, asked on delivery."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.routing.message import Message


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
