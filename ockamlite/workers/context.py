"""What a worker does with its node: send, receive, ask."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ockamlite.errors import AnswerTimeoutError, ClosedError, LinkClosedError, NotAllowedError, UsageError
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route
from ockamlite.workers.mailbox import Mailbox, Received, encode_body

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ockamlite.limits import Limits
    from ockamlite.routing.address import Address
    from ockamlite.routing.router import Router


class Context:
    """An address with a mailbox, and the means to use them."""

    def __init__(
        self,
        router: Router,
        limits: Limits,
        address: Address,
        may_send: Callable[[Route], bool] | None = None,
    ) -> None:
        self._router = router
        self._may_send = may_send
        self._limits = limits
        self.mailbox = Mailbox(limits)
        self.address = address

    async def send(self, route: Route | str, body: object) -> None:
        """Send ``body`` along ``route``; an answer comes to this context's address.

        Waits while the way is full. Bytes go as they are, a str or a dataclass as BARE.

        Raises:
            NotAllowedError: the worker's outgoing access control forbids the route.
            NotFoundError: the first hop does not exist.
            UsageError: the body is larger than a message.
        """
        payload = check_size(encode_body(body), self._limits)
        onward = self._allowed(route)
        gate = self._router.deliver(Message(onward, Route((self.address,)), payload))
        if gate is not None:
            with self._needing(onward):
                await gate.wait()

    async def receive(self, *, timeout_s: float | None = None) -> Received:
        """Wait for the next message to this context.

        Raises:
            AnswerTimeoutError: none came within ``timeout_s`` seconds.
            ClosedError: the context's worker was stopped, or its node closed.
            UsageError: another task receives from this context already.
        """
        try:
            async with asyncio.timeout(timeout_s):
                return await self.mailbox.get()
        except TimeoutError as error:
            raise AnswerTimeoutError(f"no message within {timeout_s} s") from error

    async def reply(self, message: Received, body: object) -> None:
        """Answer ``message``."""
        await self.send(message.return_route, body)

    async def ask(self, route: Route | str, body: object, *, timeout_s: float = 10.0) -> Received:
        """Send ``body`` and wait for the answer to exactly this message.

        Raises:
            AnswerTimeoutError: no answer in time; the peer may not be there, or not trust us.
            LinkClosedError: the link or channel ended before the answer came.
            NotAllowedError: the worker's outgoing access control forbids the route.
            NotFoundError: the first hop does not exist.
        """
        onward = self._allowed(route)
        with self._needing(onward):
            return await ask(self._router, self._limits, onward, encode_body(body), timeout_s)

    def _allowed(self, route: Route | str) -> Route:
        onward = Route.of(route)
        if self._may_send is not None and not self._may_send(onward):
            raise NotAllowedError(f"{self.address.name} may not send along {onward}")
        return onward

    @contextmanager
    def _needing(self, onward: Route) -> Iterator[None]:
        """While who takes our messages waits for a link, that link is not held for our mailbox."""
        if asyncio.current_task() is not self.mailbox.taker or not onward:
            yield
            return
        self.mailbox.need(self._router.flow_of(onward[0]))
        try:
            yield
        finally:
            self.mailbox.need(None)


def check_size(payload: bytes, limits: Limits) -> bytes:
    """The payload, if a message has room for it, its routes, and what channels add.

    Raises:
        UsageError: it has not.
    """
    most = limits.message_bytes - limits.message_bytes // 64
    if len(payload) > most:
        raise UsageError(f"a body of {len(payload)} bytes is too long for a message: {most} are allowed")
    return payload


class _Answer(Mailbox):
    """Where an answer comes; it ends with the link or channel that would bring it."""

    lost: str | None = None

    def flow_lost_messages(self) -> None:
        """Whether it was the answer, nobody knows; the time-out decides."""

    def flow_closed(self, reason: str) -> None:
        """No answer can come any more."""
        self.lost = reason
        if not self._queue:
            self.close()


async def ask(router: Router, limits: Limits, route: Route, payload: bytes, timeout_s: float) -> Received:
    """Send one message from a fresh address and wait for what comes back to it.

    Raises:
        AnswerTimeoutError: nothing came within ``timeout_s`` seconds.
        LinkClosedError: the link or channel ended before the answer came.
        NotFoundError: the first hop does not exist.
        UsageError: the payload is larger than a message.
    """
    check_size(payload, limits)
    mailbox = _Answer(limits)
    address = router.add_random(mailbox.put)
    flow = router.flow_of(route[0]) if route else None
    try:
        if flow is not None:
            flow.watch(mailbox)
            router.open(address, (flow,))
        gate = router.deliver(Message(route, Route((address,)), payload))
        try:
            async with asyncio.timeout(timeout_s):
                if gate is not None:
                    await gate.wait()
                return await mailbox.get()
        except TimeoutError as error:
            raise AnswerTimeoutError(
                f"no answer within {timeout_s:g} s",
                hint="the peer may not be there, may not offer this, or may not trust us",
            ) from error
        except ClosedError as error:
            raise LinkClosedError(f"no answer: {mailbox.lost}") from error
    finally:
        if flow is not None:
            flow.watchers.discard(mailbox)
        router.remove(address)
        mailbox.close()
