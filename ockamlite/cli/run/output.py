"""What stdout gets: results, one ready line, then events; as text or as JSON lines."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import sys
from functools import cache
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from ockamlite.cli.run.lines import LineWriter, write_all
from ockamlite.cli.run.logs import EVENTS, iso_time, printable, set_up
from ockamlite.cli.stop import ReaderGoneError
from ockamlite.errors import StorageError
from ockamlite.events import LinkDown, LinkUp, Refused, RouteChanged, SessionClosed, SessionOpened

if TYPE_CHECKING:
    from collections.abc import Callable

    from ockamlite.cli.options import Common
    from ockamlite.events import Event

logger = logging.getLogger(EVENTS)

_MOST_EARLY: Final = 1000
_KEYS: Final = {"from_route": "from", "to_route": "to"}


def print_result(common: Common, text: str, /, **keys: Any) -> None:
    """Print the result of a command: the text, or one JSON object.

    Raises:
        StorageError: stdout takes no more.
        ReaderGoneError: nobody reads it.
    """
    line = json.dumps(keys) if common.json else text
    print_bytes(f"{line}\n".encode(errors="backslashreplace"))


def print_bytes(data: bytes) -> None:
    """Write bytes to stdout as they are.

    Raises:
        StorageError: stdout takes no more.
        ReaderGoneError: nobody reads it.
    """
    try:
        write_all(sys.stdout.fileno(), data)
    except BrokenPipeError as error:
        raise ReaderGoneError from error
    except OSError as error:
        raise StorageError(f"cannot write to stdout: {(error.strerror or str(error)).lower()}") from error


def for_terminal(text: str) -> str:
    """What a peer wrote, without what would steer a terminal if stdout is one."""
    return printable(text, keep="\t\n") if sys.stdout.isatty() else text


class ServingOutput:
    """What a command that serves prints: the ready line once, and what happens then.

    Events before the ready line are kept until it was printed.
    """

    def __init__(self, common: Common, command: str) -> None:
        self._common = common
        self._command = command
        self._stdout = LineWriter(sys.stdout.fileno())
        self._stderr = LineWriter(sys.stderr.fileno())
        self._waiting: list[tuple[str, Event]] = []
        self._ready = False
        set_up(common, self._stderr)

    def ready(self, text: str, /, *, identifier: str, **keys: Any) -> None:
        """Print the line that says this command can serve."""
        if self._common.json:
            event = {
                "event": "ready",
                "time": iso_time(),
                "command": self._command,
                "pid": os.getpid(),
                "identifier": identifier,
                **keys,
            }
            self._stdout.put(json.dumps(event))
        else:
            self._stdout.put(f"ready: {self._command} {text}")
        self._ready = True
        self._print_events()

    def event(self, event: Event) -> None:
        """Print an event; given to a node as ``on_event``."""
        if not self._common.json:
            _log(event)
            return
        if self._ready and not self._waiting:
            # What the event is about is on its way and comes first: this is put into words behind it.
            asyncio.get_running_loop().call_soon(self._print_events)
        if self._ready or len(self._waiting) < _MOST_EARLY:
            self._waiting.append((iso_time(), event))

    def close(self) -> None:
        """Write what waits."""
        if self._ready:
            self._print_events()
        self._stdout.close()
        broken = self._stdout.broken
        if broken is not None and broken.errno != errno.EPIPE:
            logger.error("events could not be written to stdout: %s", (broken.strerror or "").lower())
        if self._stdout.dropped:
            logger.warning("%d events were not read from stdout in time, and dropped", self._stdout.dropped)
        self._stderr.close()

    def _print_events(self) -> None:
        waiting, self._waiting = self._waiting, []
        for when, event in waiting:
            self._stdout.put(json.dumps({"event": event.kind, "time": when, **_values(event)}))


@cache
def _fields(names: tuple[str, ...]) -> tuple[tuple[str, ...], Callable[[object], tuple[Any, ...]]]:
    """The keys of a kind of event with these fields, and what gets their values."""
    return tuple(_KEYS.get(name, name) for name in names), attrgetter(*names)


def _values(event: Event) -> dict[str, Any]:
    keys, get = _fields(event.__slots__)
    values = dict(zip(keys, get(event), strict=True))
    if isinstance(event, SessionOpened):
        # A session has a client or a target, by the end of the portal that tells.
        del values["client" if event.client is None else "target"]
    return values


def _log(event: Event) -> None:
    """The event as a log line."""
    match event:
        case Refused():
            return  # whoever refuses says why as a warning
        case SessionOpened():
            side = f"client {event.client}" if event.client is not None else f"target {event.target}"
            text = f"session {event.session} open: {side}, peer {event.peer or 'unknown'}"
        case SessionClosed():
            text = (
                f"session {event.session} closed: sent {event.sent_bytes} bytes, received "
                f"{event.received_bytes}, {event.seconds:.1f} s: {event.reason}"
            )
        case LinkUp():
            text = f"link up: {event.link} ({event.remote})"
        case LinkDown():
            text = f"link down: {event.link} ({event.remote}): {event.reason}"
        case RouteChanged():
            text = f"route changed from {event.from_route} to {event.to_route}: {event.reason}"
        case _:
            reason = f": {event.reason}" if event.reason else ""
            text = f"{event.kind.replace('-', ' ')}: {event.address} at {event.at}{reason}"
    logger.info("%s", text)
