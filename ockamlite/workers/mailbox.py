"""A bounded queue of messages in front of a task. A full one slows its senders and drops nothing.

Except while its task itself waits for the link that brings more: if that were not read from, and the
peer did the same, both would wait for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from ockamlite import bare
from ockamlite.errors import ClosedError, UsageError
from ockamlite.links import carrier
from ockamlite.routing.tally import Tally
from ockamlite.wire.gate import Gate

if TYPE_CHECKING:
    from ockamlite.limits import Limits
    from ockamlite.routing.message import Flow, Message
    from ockamlite.routing.route import Route

logger = logging.getLogger(__name__)

T = TypeVar("T")

_LET_IN = 2
"""Links read from again per message taken out: each may fill the mailbox."""


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
        self._limits = limits
        self._most = limits.mailbox_messages
        self._most_bytes = limits.message_bytes
        self._bytes = 0
        self._queue: deque[Received] = deque()
        self._gate = Gate(self._loop)
        """For senders in this node."""
        self._link_gates: dict[Flow, Gate] = {}
        """For links that are not read from."""
        self._needed: Flow | None = None
        self._dropped = Tally()
        self._waiting: asyncio.Future[None] | None = None
        self._closed = False
        self.taker: asyncio.Task[Any] | None = None
        """The task that took the last message."""

    def put(self, message: Message) -> Gate | None:
        """Take a message; a handler for the router."""
        if self._closed:
            return None
        if self._needed is not None and self._overflows(message):
            return None
        received = Received(
            bytes(message.payload), message.return_route, message.onward.rest, message.flow
        )  # fmt: skip
        self._queue.append(received)
        self._bytes += len(received.payload)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
        if len(self._queue) >= self._most or self._bytes >= self._most_bytes:
            return self._hold(message.flow)
        return None

    def _hold(self, flow: Flow | None) -> Gate | None:
        link = carrier(flow)
        if link is None:
            self._gate.shut()
            return self._gate
        if link is self._needed:
            return None
        gate = self._link_gates.get(link)
        if gate is None:
            gate = self._link_gates[link] = Gate(self._loop)
            gate.shut()
        return gate

    def need(self, flow: Flow | None) -> None:
        """While the task waits for ``flow``, hold its link for nothing; None when it goes on."""
        self._needed = carrier(flow)
        if self._needed is not None and (gate := self._link_gates.pop(self._needed, None)) is not None:
            gate.open()

    def _overflows(self, message: Message) -> bool:
        """True if a message of the link we wait for has no room any more."""
        limits = self._limits
        if len(self._queue) < limits.mailbox_excess_messages and (
            self._bytes < limits.mailbox_excess_bytes or len(self._queue) < self._most
        ):
            return False
        if carrier(message.flow) is not self._needed:
            return False
        if self._dropped.add():
            logger.warning(
                "%s: too many messages for a worker that waits to answer (%d dropped so far)",
                message.onward[0].name, self._dropped.count,
            )  # fmt: skip
        return True

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
        self.taker = asyncio.current_task()
        received = self._queue.popleft()
        self._bytes -= len(received.payload)
        if (
            (self._gate.is_shut or self._link_gates)
            and len(self._queue) <= self._most // 2
            and self._bytes < self._most_bytes
        ):
            self._let_in(_LET_IN if self._queue else len(self._link_gates))
        return received

    def _let_in(self, links: int) -> None:
        if self._gate.is_shut:
            self._gate.open()
        for link in tuple(self._link_gates)[:links]:
            self._link_gates.pop(link).open()

    def close(self) -> None:
        """Take no more, let waiting senders go on."""
        self._closed = True
        self._queue.clear()
        self._bytes = 0
        self._let_in(len(self._link_gates))
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
