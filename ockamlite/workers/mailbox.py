"""A bounded queue of messages in front of a task. A full one slows its senders and drops nothing."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ockamlite import bare
from ockamlite.errors import ClosedError, UsageError
from ockamlite.wire.gate import Gate

if TYPE_CHECKING:
    from ockamlite.limits import Limits
    from ockamlite.routing.message import Flow, Message
    from ockamlite.routing.route import Route

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Received:
    """A message as a worker gets it."""

    payload: bytes
    """The payload's bytes as they came."""
    return_route: Route
    """Send the answer here."""
    onward: Route
    """Hops behind the worker's own address; usually none."""
    flow: Flow | None
    """The flow it came by; None for a message of this node."""

    @property
    def peer(self) -> object:
        """Identifier of the peer whose secure channel brought it, or None."""
        return self.flow.peer if self.flow is not None else None

    @property
    def text(self) -> str:
        """The payload as a BARE string, Ockam's way to send text.

        Raises:
            DecodeError: it is none.
        """
        return bare.decode_str(self.payload)

    def body(self, kind: type[T] | Any) -> T:
        """The payload decoded as BARE, e.g. into a dataclass.

        Raises:
            DecodeError: the bytes do not fit ``kind``.
        """
        decoded: T = bare.decode(self.payload, kind)
        return decoded


def encode_body(body: object) -> bytes:
    """What a worker sends: bytes as they are, anything else as BARE (a str, a dataclass)."""
    if isinstance(body, (bytes, bytearray, memoryview)):
        return bytes(body)
    if isinstance(body, str):
        return bare.encode_str(body)
    return bare.encode(body, type(body))


class Mailbox:
    """Messages waiting for one task."""

    def __init__(self, limits: Limits) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = limits.mailbox_messages
        self._most_bytes = limits.message_bytes
        self._bytes = 0
        self._queue: deque[Received] = deque()
        self._gate = Gate(self._loop)
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False

    def put(self, message: Message) -> Gate | None:
        """Take a message; a handler for the router."""
        if self._closed:
            return None
        received = Received(
            bytes(message.payload), message.return_route, message.onward.rest, message.flow
        )  # fmt: skip
        self._queue.append(received)
        self._bytes += len(received.payload)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        if len(self._queue) >= self._most or self._bytes >= self._most_bytes:
            self._gate.shut()
            return self._gate
        return None

    async def get(self) -> Received:
        """Wait for the next message. One task at a time.

        Raises:
            ClosedError: the mailbox was closed.
            UsageError: another task waits for it already.
        """
        while not self._queue:
            if self._closed:
                raise ClosedError("the mailbox is closed")
            if self._waiting is not None:
                raise UsageError("two tasks receive from one mailbox")
            self._waiting = self._loop.create_future()
            try:
                await self._waiting
            finally:
                self._waiting = None
        received = self._queue.popleft()
        self._bytes -= len(received.payload)
        if self._gate.is_shut and len(self._queue) <= self._most // 2 and self._bytes < self._most_bytes:
            self._gate.open()
        return received

    def close(self) -> None:
        """Take no more, let waiting senders go on."""
        self._closed = True
        self._queue.clear()
        self._bytes = 0
        self._gate.open()
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
