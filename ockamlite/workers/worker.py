"""User workers: one task each, one message at a time, in order."""

from __future__ import annotations

import inspect
import logging
from typing import TYPE_CHECKING, TypeAlias

from ockamlite.errors import OckamError
from ockamlite.routing.tally import Tallies

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
    """Handle messages until cancelled. An error is logged, the often seen now and then; on it goes."""
    await worker.started(context)
    # What a worker fails on may be a stranger's message, as often as he likes: counted by kind.
    failures = Tallies()
    try:
        while True:
            message = await context.mailbox.get()
            try:
                await worker.handle(context, message)
            except OckamError as error:
                if count := failures.add(type(error)):
                    logger.warning("worker %s: %s (%d so far)", context.address.name, error, count)
            except Exception as error:  # a user's code may raise anything; its worker survives
                if count := failures.add(type(error)):
                    text = "worker %s failed on a message (%d so far)"
                    logger.exception(text, context.address.name, count)
    finally:
        await worker.stopped(context)
