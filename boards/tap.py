"""Taps: between a node and its transports, where every message of a link passes, and beside its router.

The router's table is what tells a sealed message from a readable one: who takes it at its end.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Protocol

from boards.trace_step import Contents
from ockamlite.secure_channels.channel import SecureChannel

if TYPE_CHECKING:
    from collections.abc import Callable

    from boards.trace import Trace
    from ockamlite.errors import OckamError
    from ockamlite.routing.address import Address
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.routing.message import Flow
    from ockamlite.routing.router import Handler, Router
    from ockamlite.wire.gate import Gate
    from ockamlite.wire.link import Link, LinkListener, LinkReceiver, Transport


class LinkUsers(Protocol):
    """Somebody who wants to know of the links that are open."""

    def opened(self, link: TappedLink) -> None:
        """An end of a link was opened."""

    def closed(self, link: TappedLink) -> None:
        """It has ended."""


class TappedLink:
    """An open link whose messages are recorded; see :class:`ockamlite.wire.link.Link`."""

    def __init__(
        self, link: Link, trace: Trace, name: str, here: str, there: str, closed: Callable[[TappedLink], None]
    ) -> None:
        self._link = link
        self._trace = trace
        self._closed = closed
        self._name = name
        self._here = here
        self._there = there
        self._receiver: LinkReceiver | None = None
        trace.link_changed("link-up", name, here, there)

    @property
    def endpoint(self) -> str:
        """Our endpoint, as dialled or listened on."""
        return self._link.endpoint

    @property
    def remote(self) -> str:
        """The other end's address as this end sees it."""
        return self._link.remote

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to read."""
        self._receiver = receiver
        self._link.start(self)

    def send(self, head: bytes, payload: bytes | bytearray | memoryview) -> Gate | None:
        """Send a message."""
        self._trace.sent(self._name, self._here, self._there, b"".join((head, payload)))
        return self._link.send(head, payload)

    def close(self) -> None:
        """Close."""
        self._link.close()

    def abort(self, error: OckamError) -> None:
        """Close at once."""
        self._link.abort(error)

    def frame_received(self, frame: memoryview) -> Gate | None:
        """Hand a message on."""
        self._trace.arrived(self._name, self._there, self._here, bytes(frame))
        assert self._receiver is not None  # noqa: S101  (the link was started with it)
        return self._receiver.frame_received(frame)

    def messages_lost(self) -> None:
        """Hand on that some are missing."""
        assert self._receiver is not None  # noqa: S101  (the link was started with it)
        self._receiver.messages_lost()

    def link_closed(self, error: OckamError | None) -> None:
        """Hand the end on."""
        reason = str(error) if error is not None else "closed here"
        self._trace.link_changed("link-down", self._name, self._here, self._there, reason)
        self._closed(self)
        assert self._receiver is not None  # noqa: S101
        self._receiver.link_closed(error)


class TappedTransport:
    """One end of a link's transport; see :class:`ockamlite.wire.link.Transport`.

    Args:
        inner: makes the links.
        trace: records their messages.
        users: told of each link that is opened, and of its end.
        name: of the link, the same at both ends.
        here: name of the node that has this transport.
        there: name of the node at the other end.
    """

    def __init__(
        self, inner: Transport, trace: Trace, users: LinkUsers, *, name: str, here: str, there: str
    ) -> None:
        self._inner = inner
        self._trace = trace
        self._users = users
        self._names = (name, here, there)

    async def connect(self, endpoint: Endpoint) -> Link:
        """Dial."""
        return self._tap(await self._inner.connect(endpoint))

    async def listen(self, endpoint: Endpoint, accept: Callable[[Link], None]) -> LinkListener:
        """Accept links."""
        return await self._inner.listen(endpoint, lambda link: accept(self._tap(link)))

    def _tap(self, link: Link) -> TappedLink:
        tapped = TappedLink(link, self._trace, *self._names, self._users.closed)
        self._users.opened(tapped)
        return tapped


class RouterWatch:
    """Knows what the addresses of several nodes stand for, by watching them being given out."""

    def __init__(self) -> None:
        self._random: set[Address] = set()
        self._contents: dict[Address, dict[str, Contents]] = defaultdict(dict)

    def watch(self, router: Router, node: str) -> None:
        """Watch the addresses of a node; before it starts, or what it has is not known."""
        add, add_random = router.add, router.add_random

        def adding(address: Address, handler: Handler, **more: Any) -> None:
            add(address, handler, **more)
            self._contents[address][node] = _contents_for(handler)

        def adding_random(handler: Handler, *, flow: Flow | None = None) -> Address:
            address = add_random(handler, flow=flow)
            self._random.add(address)
            return address

        # The core has no seam for this, and needs none for anything but traces.
        watched: Any = router
        watched.add, watched.add_random = adding, adding_random

    def is_random(self, address: Address) -> bool:
        """True if a router drew it."""
        return address in self._random

    def contents_of(self, address: Address) -> Contents:
        """What messages to an address hold; readable, if nodes that have the address differ in that."""
        known = set(self._contents.get(address, {}).values())
        return known.pop() if len(known) == 1 else Contents.PLAIN


def _contents_for(handler: Handler) -> Contents:
    owner = getattr(handler, "__self__", None)
    if isinstance(owner, SecureChannel) and handler == owner.decrypt:
        return Contents.SEALED
    module = getattr(handler, "__module__", "")
    if module in ("ockamlite.secure_channels.handshake", "ockamlite.secure_channels.listener"):
        return Contents.HANDSHAKE
    return Contents.PLAIN
