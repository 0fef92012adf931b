"""The other side of a relay: register there, stay registered, and say so."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ockamlite import bare
from ockamlite.errors import AnswerTimeoutError, LinkBrokenError, OckamError
from ockamlite.events import RelayLost, RelayRegistered
from ockamlite.relays.protocol import RANDOM, RANDOM_SERVICE, STATIC_SERVICE, check_name, is_answer
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route
from ockamlite.workers.context import ask

if TYPE_CHECKING:
    from ockamlite.events import OnEvent
    from ockamlite.limits import Limits
    from ockamlite.paths import Opened, Path
    from ockamlite.routing.address import Address
    from ockamlite.routing.router import Router
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)

T = TypeVar("T")

_ANSWER_S: Final = 5.0
_CHECK_S: Final = 8.0
_CHECK_ANSWER_S: Final = 5.0
_CHECKS: Final = 2
_CHECK_BODY: Final = bare.encode_str("registered?")


class RemoteRelay:
    """A registration at a relay, renewed by itself. Made by ``Node.register``.

    Every few seconds it sends a message to itself through the relay; when they no longer come back,
    it registers anew.
    """

    def __init__(
        self, router: Router, limits: Limits, on_event: OnEvent, path: Path, name: str | None
    ) -> None:
        if name is not None:
            check_name(name)
        self.path = path
        self.name = name
        self.address: Address | None = None
        """The address at the relay, while registered."""
        self._router = router
        self._limits = limits
        self._on_event = on_event
        self._registered = asyncio.Event()
        self._answer: asyncio.Future[Address] | None = None
        self._main = router.add_random(self._through)

    async def registered(self) -> Address:
        """Wait until the relay has answered; return the address it gave."""
        while self.address is None:
            await self._registered.wait()
        return self.address

    async def run(self) -> None:
        """Stay registered until cancelled."""
        said = ""
        try:
            while True:
                route = None
                try:
                    route = await self.path.wait(3600.0, hurry=False)
                    opened = self.path.opened
                    address = await self._register(route, opened)
                except OckamError as error:
                    if str(error) != said:
                        logger.warning("relay %s: %s; trying on", self.path.text, error)
                    said = str(error)
                    if isinstance(error, AnswerTimeoutError) and self.path.current == route:
                        self.path.drop("the relay did not answer")
                    await asyncio.sleep(0.5)
                    continue
                said = ""
                self.address = address
                self._registered.set()
                self._on_event(RelayRegistered(self.path.text, address.name))
                try:
                    reason = await self._watch(route, address, opened)
                finally:
                    self.address = None
                    self._registered.clear()
                self._on_event(RelayLost(self.path.text, address.name, reason))
        finally:
            self._router.remove(self._main)

    async def _register(self, route: Route, opened: Opened | None) -> Address:
        service = STATIC_SERVICE if self.name is not None else RANDOM_SERVICE
        asked = bare.encode_str(self.name if self.name is not None else RANDOM)
        self._router.open(self._main, (self._router.flow_of(route[0]),))
        answer: asyncio.Future[Address] = asyncio.get_running_loop().create_future()
        self._answer = answer
        try:
            self._router.deliver(Message(route / service, Route((self._main,)), asked))
            await _wait(opened, answer, _ANSWER_S)
            if answer.done():
                return answer.result()
            if self.path.current != route:
                raise LinkBrokenError("the link to the relay was lost before it answered")
            raise AnswerTimeoutError(
                f"no answer to the registration within {_ANSWER_S:g} s",
                hint="the relay may not be there, or may not let us register",
            )
        finally:
            self._answer = None

    async def _watch(self, route: Route, address: Address, opened: Opened | None) -> str:
        """Return, with the reason, when the registration no longer holds."""
        missed, answered = 0, False
        while True:
            await _wait(opened, None, _CHECK_S if answered or missed < _CHECKS else None)
            if self.path.current != route:
                parts = opened.parts if opened is not None else ()
                ended = (part.closed.result() for part in parts if part.closed.done())
                return next(ended, "the path to the relay was lost")
            body = _CHECK_BODY + os.urandom(4)
            check = asyncio.ensure_future(
                ask(self._router, self._limits, route / address / "echo", body, _CHECK_ANSWER_S)
            )
            check.add_done_callback(_seen)
            try:
                await _wait(opened, check, None)
                if check.done():
                    await check
                    missed, answered = 0, True
            except AnswerTimeoutError:
                missed += 1
                if missed >= _CHECKS:
                    if answered:
                        self.path.drop("the relay no longer forwards")
                        return "the relay no longer forwards to us"
                    logger.info("relay %s does not let us check the registration", self.path.text)
            except OckamError as error:
                logger.debug("relay %s: %s", self.path.text, error)
            finally:
                check.cancel()

    def _through(self, message: Message) -> Gate | None:
        """The answer to a registration; or, from relays of the Elixir kind, a message for others.

        Those put the registrant's own address in front of what they forward; it steps over it.
        """
        onward = message.onward.rest
        if onward:
            return self._router.deliver(message._replace(onward=onward)) if onward[0] != self._main else None
        answer = self._answer
        expected = answer is not None and not answer.done() and is_answer(message.payload, self.name)
        if expected and answer is not None and message.return_route:
            answer.set_result(message.return_route[-1])
        return None


async def _wait(opened: Opened | None, something: asyncio.Future[T] | None, timeout_s: float | None) -> None:
    """Wait for ``something``, for the end of what a path had open, or for ``timeout_s`` seconds."""
    if opened is None:
        return
    waited: list[asyncio.Future[Any]] = [part.closed for part in opened.parts]
    waited.append(something if something is not None else asyncio.get_running_loop().create_future())
    await asyncio.wait(waited, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)


def _seen(check: asyncio.Future[T]) -> None:
    """A check may fail when nobody asks any more: its path has ended."""
    if not check.cancelled():
        check.exception()
