"""What ``-vv`` shows of links: each message, its length and its way, never what is in it.

Stands between a node and its transports, so that nothing is asked per message where nobody looks.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, ClassVar

from ockamlite.errors import DecodeError
from ockamlite.routing.codec import decode_message
from ockamlite.wire.passing import PassingLink

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from ockamlite.routing.endpoint import Endpoint
    from ockamlite.wire.link import Link, LinkListener, Transport

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


class _ShownLink(PassingLink):
    def sends(self, head: bytes, payload: bytes | bytearray | memoryview) -> None:
        self._show(">", b"".join((head, payload)))

    def receives(self, frame: memoryview) -> None:
        self._show("<", frame)

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
