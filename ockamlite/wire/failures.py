"""What the system reports of sockets, in words for people."""

from __future__ import annotations

import errno
import re
from typing import TYPE_CHECKING, Final

from ockamlite.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

_WORDS: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset by the peer",
    errno.EPIPE: "connection reset by the peer",
    errno.ETIMEDOUT: "the peer fell silent",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "network unreachable",
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "permission denied",
    errno.EMFILE: "too many open files",
}
_NUMBER: Final = re.compile(r"\[Errno (\d+)\]")
_HINTS: Final = {
    errno.EADDRINUSE: "choose another port, or port 0",
    errno.EACCES: "ports below 1024 are root's; choose another port, or port 0",
    errno.EADDRNOTAVAIL: "`ip address` lists what this machine has; 0.0.0.0 and [::] are all of it",
}


def describe(error: BaseException) -> str:
    """An I/O error in a few words, without numbers of the system."""
    if type(error).__name__ == "gaierror":  # by name: what needs no socket need not load them
        return "host unknown"
    if not isinstance(error, OSError):
        return str(error) or type(error).__name__
    number = error.errno
    if number is None and (found := _NUMBER.search(str(error))):
        number = int(found[1])  # several addresses failed, and asyncio made one text of it
    return _WORDS.get(number or 0) or str(error.strerror or error).lower()


def cannot_listen(endpoint: str, error: Exception, holder: Callable[[], str]) -> UnavailableError:
    """The error for an endpoint that cannot be bound; ``holder`` says who has the port, if that is why."""
    number = error.errno if isinstance(error, OSError) else None
    reason = holder() if number == errno.EADDRINUSE else describe(error)
    return UnavailableError(f"cannot listen at {endpoint}: {reason}", hint=_HINTS.get(number or 0, ""))
