"""Small services every node offers: ``echo`` and ``uppercase``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ockamlite import bare
from ockamlite.errors import DecodeError
from ockamlite.routing.message import Message
from ockamlite.routing.route import Route

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.routing.router import Router
    from ockamlite.wire.gate import Gate


def echo(router: Router) -> Callable[[Message], Gate | None]:
    """A handler that sends each payload back unchanged: what peers probe for life.

    It answers only along the link or channel that the message came by.
    """

    def handle(message: Message) -> Gate | None:
        if not message.return_route:
            return None
        return router.deliver(Message(message.return_route, Route((message.onward[0],)), message.payload))

    return handle


def uppercase(router: Router) -> Callable[[Message], Gate | None]:
    """A handler that answers a BARE string with itself in capitals; anything else is ignored."""

    def handle(message: Message) -> Gate | None:
        if not message.return_route:
            return None
        try:
            text = bare.decode_str(bytes(message.payload))
        except DecodeError:
            return None
        answer = bare.encode_str(text.upper())
        return router.deliver(Message(message.return_route, Route((message.onward[0],)), answer))

    return handle
