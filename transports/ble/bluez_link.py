"""One central's connection as BlueZ gives it to a peripheral: a socket per direction, a value per packet."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final

from ockamlite.errors import LinkBrokenError
from transports.ble.bluez import device_address
from transports.ble.gatt import ATT_HEAD_BYTES, LEAST_VALUE_BYTES, value_bytes
from transports.ble.queued import GONE

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from ockamlite.errors import OckamError
    from transports.ble.radio import ConnectionUser

_READ_BYTES: Final = 1024
_READS: Final = 16
"""Values read per turn of the loop."""
_WAITING_VALUES: Final = 16
_EARLY_VALUES: Final = 64
_FLUSH_S: Final = 1.0


class BluezConnection:
    """See :class:`transports.ble.radio.Connection`.

    Args:
        path: of the device.
        let_go: called once at the end, with whether our side ended it.
    """

    def __init__(self, path: str, let_go: Callable[[BluezConnection, bool], None]) -> None:
        self.path = path
        self.remote = device_address(path)
        self.value_bytes = LEAST_VALUE_BYTES
        self._let_go = let_go
        self._loop = asyncio.get_running_loop()
        self._notify: socket.socket | None = None
        self._writes: socket.socket | None = None
        self._user: ConnectionUser | None = None
        self._early: deque[bytes] = deque(maxlen=_EARLY_VALUES)
        self._waiting: deque[bytes] = deque()
        self._closing = False
        self._over: list[OckamError | None] = []

    # -- the peripheral's side ------------------------------------------------------------------

    @property
    def is_subscribed(self) -> bool:
        """True if it has been handed on."""
        return self._notify is not None

    def notify_acquired(self, ours: socket.socket, mtu: int) -> None:
        """The central subscribed; ``ours`` takes notifications."""
        self._notify = ours
        self._set_mtu(mtu)
        self._loop.add_reader(ours, self._unsubscribed)

    def write_acquired(self, ours: socket.socket, mtu: int) -> None:
        """The central writes; ``ours`` gives what it writes."""
        self._drop_writes()
        if self._over:
            ours.close()
            return
        self._writes = ours
        self._set_mtu(mtu)
        self._loop.add_reader(ours, self._readable)

    def received(self, value: bytes) -> None:
        """A value came."""
        if len(value) > self.value_bytes:
            # The MTU has grown since the sockets were acquired, and is the same both ways.
            self._set_mtu(len(value) + ATT_HEAD_BYTES)
        if self._user is None:
            self._early.append(value)
        else:
            self._user.value_received(value)

    def lost(self, reason: str) -> None:
        """The connection has ended."""
        self._end(None if self._closing else LinkBrokenError(reason), disconnect=False)

    # -- the user's side ------------------------------------------------------------------------

    def start(self, user: ConnectionUser) -> None:
        """Hand on what came and will come."""
        self._user = user
        while self._early:
            user.value_received(self._early.popleft())
        if self._over:
            self._loop.call_soon(self._tell_end)

    def write_frame(self, frame: bytes) -> None:
        """Notify of a value."""
        if self._notify is None or self._closing:
            return
        self._waiting.append(bytes(frame))
        if len(self._waiting) == 1:
            self._write()

    def writable_bytes(self) -> int:
        """Room in front of the socket."""
        return max(0, _WAITING_VALUES - len(self._waiting)) * self.value_bytes

    def close(self) -> None:
        """Disconnect when all is sent."""
        if not self._closing:
            self._closing = True
            if self._waiting:
                self._loop.call_later(_FLUSH_S, self.abort)
            else:
                # What is in the socket bluetoothd takes at once; the radio has to be given its time.
                self._loop.call_later(_FLUSH_S / 4, self.abort)

    def abort(self) -> None:
        """Disconnect."""
        self._closing = True
        self._end(None, disconnect=True)

    # -- inside ---------------------------------------------------------------------------------

    def _set_mtu(self, mtu: int) -> None:
        size = value_bytes(mtu)
        if size > self.value_bytes:
            self.value_bytes = size
            if self._user is not None:
                self._user.room_changed()

    def _readable(self) -> None:
        for _ in range(_READS):
            if self._writes is None:
                return
            try:
                value = self._writes.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                value = b""
            if not value:
                self._drop_writes()
                return
            self.received(value)

    def _unsubscribed(self) -> None:
        """BlueZ says nothing on the socket of notifications but that it closes it."""
        assert self._notify is not None  # noqa: S101  (it is its reader)
        try:
            if self._notify.recv(_READ_BYTES):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.lost(GONE)

    def _write(self) -> None:
        """Write what the socket takes."""
        notify = self._notify
        if notify is None:
            return
        had = len(self._waiting)
        while self._waiting:
            try:
                notify.send(self._waiting[0])
            except BlockingIOError:
                self._loop.add_writer(notify, self._write)
                break
            except OSError as error:
                self.lost(f"notifying the device failed: {error.strerror}")
                return
            self._waiting.popleft()
        else:
            self._loop.remove_writer(notify)
            if self._closing:
                self._loop.call_later(_FLUSH_S / 4, self.abort)
        if len(self._waiting) < had and self._user is not None and not self._closing:
            self._loop.call_soon(self._tell_room)

    def _tell_room(self) -> None:
        if self._user is not None and not self._over:
            self._user.room_changed()

    def _drop_writes(self) -> None:
        writes, self._writes = self._writes, None
        if writes is not None:
            self._loop.remove_reader(writes)
            writes.close()

    def _end(self, error: OckamError | None, *, disconnect: bool) -> None:
        if self._over:
            return
        self._over.append(error)
        self._drop_writes()
        notify, self._notify = self._notify, None
        if notify is not None:
            self._loop.remove_reader(notify)
            self._loop.remove_writer(notify)
            notify.close()
        self._waiting.clear()
        self._let_go(self, disconnect)
        if self._user is not None:
            self._loop.call_soon(self._tell_end)

    def _tell_end(self) -> None:
        user, self._user = self._user, None
        if user is not None:
            user.connection_lost(self._over[0])
