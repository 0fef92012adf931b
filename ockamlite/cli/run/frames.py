"""What ``-vv`` shows of links: each message, its length and its way, never what is in it.

Stands between a node and its transports, so that nothing is asked per message where nobody looks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar

from ockamlite.errors import DecodeError
from ockamlite.routing.codec import decode_message

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from ockamlite.errors import OckamError
    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.wire.gate import Gate
    from ockamlite.wire.link import Link, LinkListener, LinkReceiver, Transport

logger = logging.getLogger(__name__)


def shown_frames(transports: Iterable[Transport]) -> list[Transport]:
    """The transports; if logs are to show frames, wrapped by what shows them."""
    if not logger.isEnabledFor(logging.DEBUG):
        return list(transports)
    return [_ShownTransport(transport) for transport in transports]


class _ShownTransport:
    """See :class:`ockamlite.wire.link.Transport`."""

    kind: ClassVar[str]
    options: ClassVar[Collection[str]]

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        # Of the transport behind; other transports are one to a class.
        self.kind = inner.kind  # type: ignore[misc]
        self.options = inner.options  # type: ignore[misc]

    async def connect(self, endpoint: Endpoint) -> Link:
        """Dial."""
        return _ShownLink(await self._inner.connect(endpoint))

    async def listen(self, endpoint: Endpoint, accept: Callable[[Link], None]) -> LinkListener:
        """Accept links."""
        return await self._inner.listen(endpoint, lambda link: accept(_ShownLink(link)))


class _ShownLink:
    """A link and its receiver; see :mod:`ockamlite.wire.link`."""

    def __init__(self, inner: Link) -> None:
        self._inner = inner
        self._receiver: LinkReceiver | None = None

    @property
    def endpoint(self) -> str:
        """Our endpoint."""
        return self._inner.endpoint

    @property
    def remote(self) -> str:
        """The other end's address."""
        return self._inner.remote

    def start(self, receiver: LinkReceiver) -> None:
        """Begin to read."""
        self._receiver = receiver
        self._inner.start(self)

    def send(self, head: bytes, payload: bytes | bytearray | memoryview) -> Gate | None:
        """Send a message."""
        self._show(">", b"".join((head, payload)))
        return self._inner.send(head, payload)

    def close(self) -> None:
        """Close."""
        self._inner.close()

    def abort(self, error: OckamError) -> None:
        """Close at once."""
        self._inner.abort(error)

    def frame_received(self, frame: memoryview) -> Gate | None:
        """Hand a message on."""
        self._show("<", frame)
        assert self._receiver is not None  # noqa: S101  (the link was started with it)
        return self._receiver.frame_received(frame)

    def messages_lost(self) -> None:
        """Hand on that some are missing."""
        assert self._receiver is not None  # noqa: S101  (the link was started with it)
        self._receiver.messages_lost()

    def link_closed(self, error: OckamError | None) -> None:
        """Hand the end on."""
        assert self._receiver is not None  # noqa: S101
        self._receiver.link_closed(error)

    def _show(self, way: str, frame: bytes | memoryview) -> None:
        try:
            onward, _, payload = decode_message(frame)
        except DecodeError as error:
            logger.debug("%s %s %d bytes, no message: %s", way, self.remote, len(frame), error)
            return
        logger.debug(
            "%s %s %d bytes, payload %d, to %s",
            way,
            self.remote,
            len(frame),
            len(payload),
            onward or "nobody",
        )
