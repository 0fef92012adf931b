"""A link between a node and its transport's: everything passes, and whoever looks is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ockamlite.errors import OckamError
    from ockamlite.wire.gate import Gate
    from ockamlite.wire.link import Link, LinkReceiver


class PassingLink:
    """A :class:`ockamlite.wire.link.Link`, and the receiver of the one it stands in front of.

    What a subclass overrides is told of what passes, before it does.
    """

    def __init__(self, inner: Link) -> None:
        self._inner = inner
        self._receiver: LinkReceiver | None = None

    def sends(self, head: bytes, payload: bytes | bytearray | memoryview) -> None:
        """A message is about to be sent."""

    def receives(self, frame: memoryview) -> None:
        """A message has come."""

    def ends(self, error: OckamError | None) -> None:
        """The link has ended."""

    @property
    def endpoint(self) -> str:
        """Our endpoint, as dialled or listened on."""
        return self._inner.endpoint

    @property
    def remote(self) -> str:
        """The other end's address as this end sees it."""
        return self._inner.remote

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to read."""
        self._receiver = receiver
        self._inner.start(self)

    def send(self, head: bytes, payload: bytes | bytearray | memoryview) -> Gate | None:
        """Send a message."""
        self.sends(head, payload)
        return self._inner.send(head, payload)

    def close(self) -> None:
        """Close."""
        self._inner.close()

    def abort(self, error: OckamError) -> None:
        """Close at once."""
        self._inner.abort(error)

    def frame_received(self, frame: memoryview) -> Gate | None:
        """Hand a message on."""
        self.receives(frame)
        return self._there.frame_received(frame)

    def messages_lost(self) -> None:
        """Hand on that some are missing."""
        self._there.messages_lost()

    def link_closed(self, error: OckamError | None) -> None:
        """Hand the end on."""
        self.ends(error)
        self._there.link_closed(error)

    @property
    def _there(self) -> LinkReceiver:
        assert self._receiver is not None  # noqa: S101  (the link was started with it)
        return self._receiver
