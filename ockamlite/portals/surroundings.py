"""What connections of a portal share: with their node, and with others over the same flow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine

    from ockamlite.events import OnEvent
    from ockamlite.limits import Limits
    from ockamlite.routing.router import Router


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a portal needs of the node it is in."""

    router: Router
    limits: Limits
    on_event: OnEvent
    spawn: Callable[[Coroutine[object, object, None], str], asyncio.Task[None]]
    """Runs a task of the node's, with a name."""
    shared: bytearray
    """Where all connections read, each before the next: room for a message's head, then a chunk."""


class FlowUse:
    """What the connections over one flow have in common."""

    __slots__ = ("answers_signs", "moved_bytes", "open")

    def __init__(self) -> None:
        self.open = 0
        """How many there are."""
        self.moved_bytes = 0
        """Both ways, those that have ended included."""
        self.answers_signs: bool | None = None
        """Whether the peer has ever given a sign of life when asked; None if it was never asked."""
