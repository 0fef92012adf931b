"""Who holds a port, as far as the system tells."""

from __future__ import annotations

from pathlib import Path


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
