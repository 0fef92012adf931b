"""The interface between the core and a transport: links, and how they are made.

A transport owns descriptors, radios and framing. It hands whole routing messages (Ockam's CBOR
``[onward, return, payload]``) to the core and takes them from it. A link tells its receiver what
came and that it ended, nothing else; the core tells it what to send and when to stop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from ockamlite.errors import OckamError
    from ockamlite.limits import Limits
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.wire.gate import Gate


class LinkReceiver(Protocol):
    """What the core gives a link to call."""

    def frame_received(self, frame: memoryview) -> Gate | None:
        """Take one routing message; the view is valid during the call only.

        A node passes over what is no routing message and raises nothing: its peer may only have passed on
        what somebody else made. Other receivers may refuse a frame.

        Returns:
            A gate to wait for before the next frame, or None. What was handed over is taken in any case.

        Raises:
            RemoteError: the frame is refused. A transport ends the link because of it, unless anybody can
                send in the peer's name (datagrams): then it passes over the frame.
        """

    def messages_lost(self) -> None:
        """Some are missing between the last frame and the next; only links that lose messages tell it."""

    def link_closed(self, error: OckamError | None) -> None:
        """The link ended; called exactly once, and nothing is called after it.

        Args:
            error: None if our side closed it, what it was aborted with if it was aborted,
                ``LinkClosedError`` if the peer ended it, ``LinkBrokenError`` if it broke.
        """


class Link(Protocol):
    """One open link, as a transport provides it."""

    @property
    def endpoint(self) -> str:
        """Our endpoint, as dialled or listened on."""

    @property
    def remote(self) -> str:
        """The other end's address as this end sees it."""

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to read; frames go to ``receiver``. If the link has ended already, it is told so, soon."""

    def send(self, head: bytes, payload: bytes | bytearray | memoryview) -> Gate | None:
        """Send the routing message ``head + payload``; ``payload`` is copied or sent at once.

        Returns:
            A gate to wait for before sending more, or None; it opens when the link ends, too. After
            that nothing happens. What is too long for the link is logged and not sent: the link stays.
        """

    def close(self) -> None:
        """Send what waits, for a short while, then close."""

    def abort(self, error: OckamError) -> None:
        """Close at once because of ``error``."""


class LinkListener(Protocol):
    """A transport that accepts links at an endpoint.

    One that hears nobody while as many links as it can have are open, as a radio does, has an attribute
    ``places`` besides: how many it can have now. Unused links give theirs back once all are taken.
    """

    @property
    def endpoint(self) -> Endpoint:
        """Where it really listens: port 0 is replaced by the port that was given."""

    async def close(self) -> None:
        """Accept no more; open links stay."""


@runtime_checkable
class Transport(Protocol):
    """How links of one kind are made. Found by the entry point ``ockamlite.transports``."""

    kind: ClassVar[str]
    """The word in front of its endpoints: ``tcp`` of ``tcp:host:port``."""
    options: ClassVar[Collection[str]]
    """Options its endpoints take, as in ``?baud=9600``."""

    def __init__(self, limits: Limits) -> None:
        """Make a transport that keeps to ``limits``."""

    async def connect(self, endpoint: Endpoint) -> Link:
        """Dial.

        Raises:
            LinkError: it cannot be reached; says why.
            UsageError: the endpoint is malformed.
        """

    async def listen(self, endpoint: Endpoint, accept: Callable[[Link], None]) -> LinkListener:
        """Accept links at ``endpoint`` and hand each, not yet started, to ``accept``.

        Raises:
            UnavailableError: the endpoint cannot be bound; names the holder where the system tells.
            UsageError: the endpoint is malformed.
        """
