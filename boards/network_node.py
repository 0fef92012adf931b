"""The nodes of a :class:`boards.network.Network`, and where their links are plugged in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, cast

from ockamlite.errors import UnavailableError, UsageError
from ockamlite.node import Node

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from boards.board_limits import BoardLimits
    from boards.network_link import Hop
    from boards.tap import TappedTransport
    from ockamlite.limits import Limits
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.wire.link import Link, LinkListener, Transport


class NetworkNode(Node):
    """A node of a :class:`Network`."""

    def __init__(self, name: str, sockets: dict[str, Sockets], limits: Limits, **options: Any) -> None:
        super().__init__(
            transports=[cast("Transport", found) for found in sockets.values()], limits=limits, **options
        )
        self.name = name
        self.sockets = sockets
        """Where its links are plugged in, by kind."""
        self.board_limits: BoardLimits | None = None
        """What its lines and air cannot exceed, if it stands for a board."""


class Sockets:
    """A node's transport of one kind: knows which link an endpoint belongs to."""

    options: ClassVar[Collection[str]] = (
        "baud",
        "bits",
        "parity",
        "stop",
        "flow",
        "rtscts",
        "dialect",
        "adapter",
    )

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._plugged: dict[str, tuple[TappedTransport, Hop]] = {}

    def plug(self, details: str, transport: TappedTransport, hop: Hop) -> None:
        """Let a link be dialled, or listened to, at an endpoint."""
        self._plugged[details] = (transport, hop)

    def __contains__(self, details: object) -> bool:
        """True if a link is there."""
        return details in self._plugged

    async def connect(self, endpoint: Endpoint) -> Link:
        """Dial."""
        transport, hop = self._find(endpoint)
        if hop.refuses:
            raise UnavailableError(f"{endpoint}: the link is cut")
        return await transport.connect(endpoint)

    async def listen(self, endpoint: Endpoint, accept: Callable[[Link], None]) -> LinkListener:
        """Accept links."""
        return await self._find(endpoint)[0].listen(endpoint, accept)

    def _find(self, endpoint: Endpoint) -> tuple[TappedTransport, Hop]:
        if endpoint.details not in self._plugged:
            known = ", ".join(f"{self.kind}:{details}" for details in self._plugged) or "none"
            raise UsageError(f"{endpoint}: no such link in this network; this node has {known}")
        return self._plugged[endpoint.details]
