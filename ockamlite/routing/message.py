"""Messages on their way through a node, and the flows they came by."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeAlias

from ockamlite.errors import AlreadyExistsError

if TYPE_CHECKING:
    from ockamlite.routing.address import Address
    from ockamlite.routing.route import Route

Payload: TypeAlias = bytes | bytearray | memoryview


class FlowWatcher(Protocol):
    """Something that lives on a flow and must know what becomes of it."""

    def flow_lost_messages(self) -> None:
        """Messages of the flow were lost or came late: what needs all of them must end."""

    def flow_closed(self, reason: str) -> None:
        """The link or channel is gone."""


class Flow:
    """Where messages enter this node, and which workers they may reach (Ockam's flow control).

    Every link and every secure channel is a flow of its own; the listener that accepted it is its
    parent. A message of a flow is delivered only to workers opened to the flow or to its parent: a
    new flow reaches nothing.
    """

    __slots__ = ("address", "closed", "consumers", "name", "parent", "peer", "watchers")

    def __init__(
        self,
        name: str,
        *,
        address: Address | None = None,
        parent: Flow | None = None,
        peer: object = None,
    ) -> None:
        self.name = name
        self.address = address
        """Where messages to the other end go: the link's sender or the channel's encryptor."""
        self.parent = parent
        self.peer = peer
        """The authenticated identifier of the other end of a secure channel; None for a link."""
        self.consumers: set[Address] = set()
        self.watchers: set[FlowWatcher] = set()
        self.closed: str | None = None
        """The reason why the flow ended, or None while it lives."""

    def __repr__(self) -> str:
        """The flow's name, for logs."""
        return f"<Flow {self.name}>"

    def reaches(self, address: Address) -> bool:
        """True if messages of this flow may be delivered at ``address``."""
        return address in self.consumers or (self.parent is not None and address in self.parent.consumers)

    def lost_messages(self) -> None:
        """Tell the watchers that the flow has a gap."""
        for watcher in tuple(self.watchers):
            watcher.flow_lost_messages()

    def close(self, reason: str) -> None:
        """End the flow and tell its watchers, once."""
        if self.closed is not None:
            return
        self.closed = reason
        watchers = tuple(self.watchers)
        self.watchers.clear()
        self.consumers.clear()
        for watcher in watchers:
            watcher.flow_closed(reason)

    def watch(self, watcher: FlowWatcher) -> None:
        """Tell ``watcher`` of losses and of the end.

        Raises:
            AlreadyExistsError: the flow has ended already.
        """
        if self.closed is not None:
            raise AlreadyExistsError(f"{self.name} has ended: {self.closed}")
        self.watchers.add(watcher)


class Message(NamedTuple):
    """A routed message inside a node.

    A payload that came over a link is a view that is valid during the call only: whoever keeps it
    copies it.
    """

    onward: Route
    """Hops still to visit; the worker that handles the message finds its own address in front."""
    return_route: Route
    """The way back, nearest hop first."""
    payload: Payload
    flow: Flow | None = None
    """The flow it came by; None for a message made in this node."""
