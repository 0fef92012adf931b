"""Logs: lines on stderr, for people (with colour on a terminal) or for machines (JSON)."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ockamlite.cli.options import Common
    from ockamlite.cli.run.lines import LineWriter

EVENTS: Final = "ockamlite.cli.events"
"""Logger of what happens while a command serves; heard by default, unlike other INFO lines."""

_COLOURS: Final = {"DEBUG": "2", "INFO": "32", "WARNING": "33", "ERROR": "31", "CRITICAL": "31"}


def set_up(common: Common, writer: LineWriter | None = None) -> None:
    """Send the logs of this process to stderr, as ``-v``, ``--quiet`` and ``--log-format`` say.

    Args:
        common: the options.
        writer: writes the lines; without one they are written at once.
    """
    if common.quiet:
        level = logging.ERROR
    else:
        level = (logging.WARNING, logging.INFO, logging.DEBUG)[min(common.verbose, 2)]
    handler = _Handler(writer) if writer is not None else logging.StreamHandler()
    handler.setFormatter(_JsonFormatter() if common.json_log else _TextFormatter(_with_colour()))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("ockamlite").setLevel(level)
    logging.getLogger("transports").setLevel(level)
    logging.getLogger(EVENTS).setLevel(min(level, logging.INFO) if not common.quiet else level)
    logging.raiseExceptions = False


def _with_colour() -> bool:
    return sys.stderr.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class _Handler(logging.Handler):
    """Hands lines to a writer that never blocks."""

    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self._writer.put(self.format(record))


class _TextFormatter(logging.Formatter):
    """``09:00:00 warning: text``."""

    def __init__(self, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """The line; control characters, which may be a peer's, are shown and not obeyed."""
        level = record.levelname.lower()
        if self._colour:
            level = f"\x1b[{_COLOURS.get(record.levelname, '0')}m{level}\x1b[0m"
        line = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {level}: "
        line += printable(record.getMessage())
        if record.exc_info:
            line += "\n" + self.formatException(record.exc_info)
        return line


class _JsonFormatter(logging.Formatter):
    """One object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        entry = {
            "time": iso_time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def iso_time(seconds: float | None = None) -> str:
    """A time (now, if absent) as ISO 8601 in UTC with milliseconds."""
    when = time.time() if seconds is None else seconds
    whole = int(when)
    return f"{_iso_second(whole)}.{int((when - whole) * 1000):03d}Z"


@lru_cache(maxsize=2)
def _iso_second(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def printable(text: str, keep: str = "\t") -> str:
    """The text with control characters escaped, but for those in ``keep``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)
