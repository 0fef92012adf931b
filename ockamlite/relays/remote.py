"""The other side of a relay: register there, stay registered, and say so."""

from __future__ import annotations

import asyncio
import logging
import secrets
from typing import TYPE_CHECKING, Final

from ockamlite import bare
from ockamlite.errors import AnswerTimeoutError, NotFoundError, OckamError
from ockamlite.events import RelayLost, RelayRegistered
from ockamlite.relays.protocol import RANDOM, RANDOM_SERVICE, STATIC_SERVICE, check_name, is_answer
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route
from ockamlite.workers.context import ask

if TYPE_CHECKING:
    from ockamlite.events import OnEvent
    from ockamlite.limits import Limits
    from ockamlite.paths import Path
    from ockamlite.routing.address import Address
    from ockamlite.routing.router import Router
    from ockamlite.wire.gate import Gate

logger = logging.getLogger(__name__)

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
                try:
                    route = await self.path.wait(3600.0)
                    address = await self._register(route)
                except OckamError as error:
                    if str(error) != said:
                        logger.warning("relay %s: %s; trying on", self.path.text, error)
                    said = str(error)
                    if isinstance(error, AnswerTimeoutError):
                        self.path.drop("the relay did not answer")
                    await asyncio.sleep(0.5)
                    continue
                said = ""
                self.address = address
                self._registered.set()
                self._on_event(RelayRegistered(self.path.text, address.name))
                try:
                    reason = await self._watch(route, address)
                finally:
                    self.address = None
                    self._registered.clear()
                self._on_event(RelayLost(self.path.text, address.name, reason))
        finally:
            self._router.remove(self._main)

    async def _register(self, route: Route) -> Address:
        service = STATIC_SERVICE if self.name is not None else RANDOM_SERVICE
        asked = bare.encode_str(self.name if self.name is not None else RANDOM)
        self._router.open(self._main, (self._router.flow_of(route[0]),))
        self._answer = asyncio.get_running_loop().create_future()
        self._router.deliver(Message(route / service, Route((self._main,)), asked))
        try:
            async with asyncio.timeout(_ANSWER_S):
                return await self._answer
        except TimeoutError as error:
            raise AnswerTimeoutError(
                f"no answer to the registration within {_ANSWER_S:.0f} s",
                hint="the relay may not be there, or may not let us register",
            ) from error
        finally:
            self._answer = None

    async def _watch(self, route: Route, address: Address) -> str:
        """Return, with the reason, when the registration no longer holds."""
        missed, answered = 0, False
        while True:
            await self._path_ended(_CHECK_S if answered or missed < _CHECKS else None)
            if self.path.current != route:
                return str(self.path.failure or "the link to the relay was lost")
            body = _CHECK_BODY + secrets.token_bytes(4)
            try:
                await ask(self._router, self._limits, route / address / "echo", body, _CHECK_ANSWER_S)
            except AnswerTimeoutError:
                missed += 1
                if missed >= _CHECKS:
                    if answered:
                        self.path.drop("the relay no longer forwards")
                        return "the relay no longer forwards to us"
                    logger.info("relay %s does not let us check the registration", self.path.text)
            except NotFoundError:
                continue
            else:
                missed, answered = 0, True

    async def _path_ended(self, timeout_s: float | None) -> None:
        """Return when the path has ended, or after ``timeout_s`` seconds."""
        opened = self.path.opened
        if opened is not None and opened.parts:
            closed = [part.closed for part in opened.parts]
            await asyncio.wait(closed, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.sleep(0)  # the path's own task notes it first

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
