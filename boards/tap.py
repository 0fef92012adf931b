"""Taps: between a node and its transports, where every message of a link passes, and beside its router.

The router's table is what tells a sealed message from a readable one: who takes it at its end.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, Protocol

from boards.trace_step import Contents
from ockamlite.secure_channels.channel import SecureChannel
from ockamlite.wire.passing import PassingLink

if TYPE_CHECKING:
    from collections.abc import Callable

    from boards.trace import Trace
    from ockamlite.errors import OckamError
    from ockamlite.routing.address import Address
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.routing.message import Flow
    from ockamlite.routing.router import Handler, Router
    from ockamlite.wire.link import Link, LinkListener, Transport


class LinkUsers(Protocol):
    """Somebody who wants to know of the links that are open."""

    def opened(self, link: TappedLink) -> None:
        """An end of a link was opened."""

    def closed(self, link: TappedLink) -> None:
        """It has ended."""


class TappedLink(PassingLink):
    """An open link whose messages are recorded."""

    def __init__(
        self, link: Link, trace: Trace, name: str, here: str, there: str, closed: Callable[[TappedLink], None]
    ) -> None:
        super().__init__(link)
        self._trace = trace
        self._closed = closed
        self._name = name
        self._here = here
        self._beyond = there
        trace.link_changed("link-up", name, here, there)

    def sends(self, head: bytes, payload: bytes | bytearray | memoryview) -> None:
        """Record a message that leaves."""
        self._trace.sent(self._name, self._here, self._beyond, b"".join((head, payload)))

    def receives(self, frame: memoryview) -> None:
        """Record a message that arrives."""
        self._trace.arrived(self._name, self._beyond, self._here, bytes(frame))

    def ends(self, error: OckamError | None) -> None:
        """Record the end."""
        reason = str(error) if error is not None else "closed here"
        self._trace.link_changed("link-down", self._name, self._here, self._beyond, reason)
        self._closed(self)


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
