"""Who holds a port, as far as the system tells."""

from __future__ import annotations

from pathlib import Path
from typing import Final

_LISTENING: Final = "0A"


def holder_of_port(port: int, protocol: str = "tcp", root: Path = Path("/")) -> str:
    """``port N is in use by NAME (pid N)``, as far as the system tells (Linux, own processes).

    Args:
        port: which one.
        protocol: ``tcp`` or ``udp``.
        root: of the tree that stands for the machine.
    """
    text = f"port {port} is in use" if protocol == "tcp" else f"{protocol.upper()} port {port} is in use"
    try:
        inodes = {
            fields[9]
            for table in (root / "proc/net" / protocol, root / "proc/net" / f"{protocol}6")
            if table.exists()
            for line in table.read_text().splitlines()[1:]
            if (fields := line.split())[3] == _LISTENING or protocol != "tcp"
            if int(fields[1].rpartition(":")[2], 16) == port
        }
        for process in (root / "proc").glob("[0-9]*"):
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
