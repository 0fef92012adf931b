"""What sockets report, in words: errors of the system, and who holds a port."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

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


def holder_of_port(port: int) -> str:
    """``port N is in use by NAME (pid N)``, as far as the system tells (Linux, own processes)."""
    text = f"port {port} is in use"
    try:
        inodes = {
            fields[9]
            for table in ("/proc/net/tcp", "/proc/net/tcp6")
            if Path(table).exists()
            for line in Path(table).read_text().splitlines()[1:]
            if (fields := line.split())[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port
        }
        for process in Path("/proc").glob("[0-9]*"):
            if _holds(process, inodes):
                name = (process / "comm").read_text().strip()
                return f"{text} by {name} (pid {process.name})"
    except OSError:
        pass
    return text


def _holds(process: Path, inodes: set[str]) -> bool:
    try:
        return any(
            target.startswith("socket:[") and target[8:-1] in inodes
            for entry in (process / "fd").iterdir()
            if (target := str(entry.readlink()))
        )
    except OSError:
        return False
