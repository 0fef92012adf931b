"""What a worker does with its node: send, receive, ask."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ockamlite.errors import AnswerTimeoutError
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route
from ockamlite.workers.mailbox import Mailbox, Received, encode_body

if TYPE_CHECKING:
    from ockamlite.limits import Limits
    from ockamlite.routing.address import Address
    from ockamlite.routing.router import Router


class Context:
    """An address with a mailbox, and the means to use them."""

    def __init__(self, router: Router, limits: Limits, address: Address) -> None:
        self._router = router
        self._limits = limits
        self.mailbox = Mailbox(limits)
        self.address = address

    async def send(self, route: Route | str, body: object) -> None:
        """Send ``body`` along ``route``; an answer comes to this context's address.

        Waits while the way is full. Bytes go as they are, a str or a dataclass as BARE.

        Raises:
            NotFoundError: the first hop does not exist.
        """
        onward = Route.of(route)
        gate = self._router.deliver(Message(onward, Route((self.address,)), encode_body(body)))
        if gate is not None:
            await gate.wait()

    async def receive(self, *, timeout_s: float | None = None) -> Received:
        """Wait for the next message to this context.

        Raises:
            AnswerTimeoutError: none came within ``timeout_s`` seconds.
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
            NotFoundError: the first hop does not exist.
        """
        return await ask(self._router, self._limits, Route.of(route), encode_body(body), timeout_s)


async def ask(router: Router, limits: Limits, route: Route, payload: bytes, timeout_s: float) -> Received:
    """Send one message from a fresh address and wait for what comes back to it.

    Raises:
        AnswerTimeoutError: nothing came within ``timeout_s`` seconds.
        NotFoundError: the first hop does not exist.
    """
    mailbox = Mailbox(limits)
    address = router.add_random(mailbox.put)
    try:
        router.open(address, (router.flow_of(route[0]),) if route else ())
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
    finally:
        router.remove(address)
        mailbox.close()
