"""A connection between two devices as the pipe of a reliable link."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from ockamlite.errors import AnswerTimeoutError, LinkClosedError, OckamError, ProtocolError
from ockamlite.wire.reliable.engine import ReliableLink
from ockamlite.wire.reliable.frames import DATA_OVERHEAD_BYTES
from ockamlite.wire.reliable.profile import Profile
from transports.ble.gatt import MOST_VALUE_BYTES
from transports.reliable import ReliableShell

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.limits import Limits
    from transports.ble.radio import Connection
    from transports.reliable import ReliableSession

QUEUE_BYTES: Final = 16 * 1024
"""What may wait in front of the radio before senders wait: a fifth of a second on a good link."""


class BleChannel:
    """Runs the reliable link over a connection; the connection tells it what comes.

    Args:
        connection: not yet started.
        endpoint: ours.
        session: 32 random bits.
        limits: bounds; a peer that does not begin the link in time is disconnected.
        most_bytes: the longest value that we write, whatever the connection takes.
        accept: called with each link when its session begins.
        ended: called once when the connection is over.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        endpoint: str,
        session: int,
        limits: Limits,
        most_bytes: int = MOST_VALUE_BYTES,
        accept: Callable[[ReliableSession], None],
        ended: Callable[[OckamError | None], None],
    ) -> None:
        loop = asyncio.get_running_loop()
        self._connection = connection
        self._most_bytes = most_bytes
        self._value_bytes = min(connection.value_bytes, most_bytes)
        self._accept = accept
        self._ended = ended
        self._hello: asyncio.TimerHandle | None = loop.call_later(limits.link_hello_s, self._too_late)
        self._hello_s = limits.link_hello_s
        engine = ReliableLink(Profile.ble(self._value_bytes), session=session, now=loop.time(), limits=limits)
        self.shell = ReliableShell(
            engine,
            connection,
            endpoint=endpoint,
            remote=connection.remote,
            limits=limits,
            accept=self._begun,
            ended=self._over,
            queue_bytes=QUEUE_BYTES,
        )

    def start(self) -> None:
        """Begin."""
        self._connection.start(self)
        self.shell.start()

    # -- the connection's side ------------------------------------------------------------------

    def value_received(self, value: bytes) -> None:
        """One value is one frame."""
        self.shell.frame_received(value)

    def room_changed(self) -> None:
        """More may be written, or longer values."""
        size = min(self._connection.value_bytes, self._most_bytes)
        if size != self._value_bytes:
            self._value_bytes = size
            self.shell.engine.set_payload_limit(size - DATA_OVERHEAD_BYTES)
        self.shell.pipe_ready()

    def connection_lost(self, error: OckamError | None) -> None:
        """The device is gone."""
        self.shell.pipe_lost(error)

    # -- inside ---------------------------------------------------------------------------------

    def _begun(self, session: ReliableSession) -> None:
        if self._hello is not None:
            self._hello.cancel()
            self._hello = None
        self._accept(session)

    def _too_late(self) -> None:
        self._hello = None
        mismatch = self.shell.mismatch
        if mismatch is not None:
            self.shell.abort(
                ProtocolError(
                    f"the device speaks version {mismatch.theirs} of the link, we speak {mismatch.ours}"
                )
            )
        else:
            self.shell.abort(
                AnswerTimeoutError(f"the device did not begin the link within {self._hello_s:.0f} s")
            )

    def _over(self, error: OckamError | None) -> None:
        if self._hello is not None:
            self._hello.cancel()
            self._hello = None
        self._ended(error)


async def open_link(
    connection: Connection,
    *,
    endpoint: str,
    session: int,
    limits: Limits,
    most_bytes: int = MOST_VALUE_BYTES,
    gone: Callable[[], None],
) -> ReliableSession:
    """Begin a link over a connection that we made; it ends with its first session.

    ``gone`` is called once when the connection is over.

    Raises:
        OckamError: the device says nothing, or speaks another version, or has gone.
    """
    begun: asyncio.Future[ReliableSession] = asyncio.get_running_loop().create_future()

    def accept(made: ReliableSession) -> None:
        if begun.done():
            # Whoever dialled was told that the link ended, and will dial anew.
            channel.shell.abort(LinkClosedError("the peer restarted"))
        else:
            begun.set_result(made)

    def ended(error: OckamError | None) -> None:
        gone()
        if not begun.done():
            begun.set_exception(error or LinkClosedError("closed by the peer"))

    channel = BleChannel(
        connection,
        endpoint=endpoint,
        session=session,
        limits=limits,
        most_bytes=most_bytes,
        accept=accept,
        ended=ended,
    )
    channel.start()
    try:
        return await begun
    except asyncio.CancelledError:
        channel.shell.abort(None)
        raise
