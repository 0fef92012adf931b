"""What sockets report, in words."""

from __future__ import annotations

import errno
import socket

_WORDS = {
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


def describe(error: BaseException) -> str:
    """An I/O error in a few words, without numbers of the system."""
    if isinstance(error, socket.gaierror):
        return "host unknown"
    if isinstance(error, OSError) and error.errno in _WORDS:
        return _WORDS[error.errno]
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
