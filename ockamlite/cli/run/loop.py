"""The event loop of a command: signals end it, and nothing keeps it longer than two seconds."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ockamlite.cli.stop import StoppedError

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

_CLOSE_S: Final = 1.9
"""After a signal we end within this time, closed or not."""


class _EndedError(Exception):
    """A signal ended the work: what leaves the event loop, which would take another one for a defect."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class _Executor(ThreadPoolExecutor):
    """Threads that look up names; one that hangs must not keep us."""

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for nobody."""
        super().shutdown(wait=False, cancel_futures=True)


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run what ends by itself.

    Raises:
        StoppedError: a signal ended it.
    """
    try:
        return asyncio.run(_run(work, serving=False))
    except _EndedError as error:
        raise StoppedError(error.number) from None


def serve(work: Coroutine[Any, Any, None]) -> None:
    """Run what serves until SIGINT or SIGTERM, a clean end; a second one ends it at once."""
    try:
        asyncio.run(_run(work, serving=True))
    except _EndedError:
        return


async def _run(work: Coroutine[Any, Any, T], *, serving: bool) -> T:
    loop = asyncio.get_running_loop()
    loop.set_default_executor(_Executor(thread_name_prefix="names"))
    task = asyncio.ensure_future(work)
    stopped: list[int] = []

    def stop(number: int) -> None:
        if stopped:
            os._exit(128 + number)
        stopped.append(number)
        # A thread, so that even a blocked loop ends in time.
        watchdog = threading.Timer(_CLOSE_S, os._exit, (0 if serving else 128 + number,))
        watchdog.daemon = True
        watchdog.start()
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop, number)
    try:
        return await task
    except asyncio.CancelledError:
        if stopped:
            raise _EndedError(stopped[0]) from None
        raise
