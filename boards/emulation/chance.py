"""What makes a run in virtual time the same each time: where chance and the date come from meanwhile.

For tests only: keys drawn inside are known to whoever knows the seed.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BEGIN: Final = 1_767_225_600.0
"""The date at which virtual time begins: 2026-01-01, in seconds since 1970."""


@contextmanager
def same_each_time(seed: int, now: Callable[[], float]) -> Iterator[None]:
    """Let ``os.urandom``, :mod:`random` and ``time.time`` give the same each time for the same seed.

    Args:
        seed: of all that is drawn.
        now: seconds since the beginning; an event loop's time.
    """
    drawn = random.Random(f"{seed} urandom")  # noqa: S311  (that is what this is for)
    state, urandom, date = random.getstate(), os.urandom, time.time
    random.seed(f"{seed} random")
    os.urandom = drawn.randbytes
    time.time = lambda: BEGIN + now()
    try:
        yield
    finally:
        os.urandom, time.time = urandom, date
        random.setstate(state)
