"""The event loop of a command: signals end it, and nothing keeps it longer than two seconds."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ockamlite.cli.stop import StoppedError, end_at_once

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

logger = logging.getLogger(__name__)

_CLOSE_S: Final = 1.9
"""After a signal we end within this time, closed or not."""


_MOST_DESCRIPTORS: Final = 65_536
"""What serves may open as many files and connections as the system lets it, and no more than this."""
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_SAY_EVERY_S: Final = 10.0
"""What has run out is missed by every connection that comes; it is said this often."""


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
    _allow_descriptors()
    try:
        asyncio.run(_run(work, serving=True))
    except _EndedError:
        return


def _allow_descriptors() -> None:
    """The usual limit of 1024 is one for programs that use select(); each connection needs two of ours."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, _MOST_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        except (OSError, ValueError) as error:
            logger.debug("the limit of open files stays at %d: %s", soft, error)


class _Unhandled:
    """Takes what nobody handled in the event loop: a defect, but for what the machine has run out of."""

    def __init__(self) -> None:
        self._said_at = float("-inf")

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Say it. The event loop accepts no more for a second, and asks hundreds of times each time."""
        error = context.get("exception")
        if not isinstance(error, OSError) or error.errno not in _EXHAUSTED:
            loop.default_exception_handler(context)
        elif loop.time() - self._said_at >= _SAY_EVERY_S:
            self._said_at = loop.time()
            logger.error("no more connections for now: %s (see ulimit -n)", os.strerror(error.errno).lower())


async def _run(work: Coroutine[Any, Any, T], *, serving: bool) -> T:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_Unhandled())
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
    finally:
        # The loop would leave Python's own handlers behind, and those a traceback.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
        end_at_once()
