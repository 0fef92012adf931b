"""Runs a Python program so that a lack of memory ends it, as the kernel of a small board would do.

    python -m boards.emulation.board_program app.py ARGUMENT…
    python -m boards.emulation.board_program -m MODULE ARGUMENT…

Where memory is limited an allocation fails with ``MemoryError``; a program that handles it by name goes on.
One that nobody handles, or that is only logged, ends the process with :data:`OUT_OF_MEMORY`.
"""

from __future__ import annotations

import errno
import logging
import os
import runpy
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from types import TracebackType

OUT_OF_MEMORY: Final = 100 + errno.ENOMEM
"""Exit code; none that a program or a signal would have by chance."""


def main(program: list[str]) -> None:
    """Run a program in this process."""
    _watch()
    if program[0] == "-m":
        sys.argv = program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = program
        sys.path[0] = str(Path(program[0]).parent)
        runpy.run_path(program[0], run_name="__main__")


def _watch() -> None:
    """Notice every ``MemoryError`` that leaves a program, a thread or a callback, or is logged."""
    make = logging.getLogRecordFactory()
    uncaught, in_thread, ignored = sys.excepthook, threading.excepthook, sys.unraisablehook

    def made(*args: Any, **more: Any) -> logging.LogRecord:
        record = make(*args, **more)
        if record.exc_info:
            _end_if_memory(record.exc_info[1])
        return record

    def on_uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        _end_if_memory(error)
        uncaught(kind, error, trace)

    def on_thread(args: threading.ExceptHookArgs) -> None:
        _end_if_memory(args.exc_value)
        in_thread(args)

    def on_ignored(args: sys.UnraisableHookArgs) -> None:
        _end_if_memory(args.exc_value)
        ignored(args)

    logging.setLogRecordFactory(made)
    sys.excepthook, threading.excepthook, sys.unraisablehook = on_uncaught, on_thread, on_ignored


def _end_if_memory(error: BaseException | None) -> None:
    while error is not None:
        if isinstance(error, MemoryError):
            os._exit(OUT_OF_MEMORY)
        error = error.__cause__ or error.__context__


if __name__ == "__main__":
    main(sys.argv[1:])
