"""User workers: one task each, one message at a time, in order."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, TypeAlias

from ockamlite.errors import OckamError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ockamlite.workers.context import Context
    from ockamlite.workers.mailbox import Received

logger = logging.getLogger(__name__)


class Worker:
    """Code that handles messages. Override what is needed."""

    async def started(self, context: Context) -> None:
        """Called once, before the first message."""

    async def handle(self, context: Context, message: Received) -> None:
        """Called for each message, one at a time, in order."""

    async def stopped(self, context: Context) -> None:
        """Called once, after the last message."""


Handle: TypeAlias = "Callable[[Context, Received], Awaitable[None]]"


class FunctionWorker(Worker):
    """A worker made of one async function."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle

    async def handle(self, context: Context, message: Received) -> None:
        """Call the function."""
        await self._handle(context, message)


def as_worker(worker: Worker | Handle) -> Worker:
    """A worker, or an async function made one.

    Raises:
        TypeError: neither.
    """
    if isinstance(worker, Worker):
        return worker
    if inspect.iscoroutinefunction(worker):
        return FunctionWorker(worker)
    raise TypeError(f"{worker!r} is neither a Worker nor an async function")


async def run(worker: Worker, context: Context) -> None:
    """Handle messages until cancelled. An error of the worker is logged; it goes on with the next."""
    await worker.started(context)
    try:
        while True:
            message = await context.mailbox.get()
            try:
                await worker.handle(context, message)
            except OckamError as error:
                logger.warning("worker %s: %s", context.address.name, error)
            except Exception:  # a user's code may raise anything; its worker survives
                logger.exception("worker %s failed on a message", context.address.name)
    finally:
        await worker.stopped(context)
