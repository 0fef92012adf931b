"""Who else uses a serial line, as far as the system tells (Linux): holders, login prompts, the kernel.

Everything is read below a root, so that a tree of files can stand for a machine.
"""

from __future__ import annotations

import grp
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path("/")
_GETTYS: Final = ("getty", "agetty", "mgetty", "fgetty", "mingetty")


@dataclass(frozen=True, slots=True)
class Process:
    """A process, by name and number."""

    name: str
    pid: int

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def holder_of(device: str, root: Path = ROOT) -> Process | None:
    """Another process, or this one, that has the device open; None if none is seen.

    Without privileges only processes of the same user are seen.
    """
    real = str(Path(device).resolve())
    own = os.getpid()
    found = [
        Process(name, pid)
        for pid, name, folder in _processes(root)
        if any(target == real for target in _open_files(folder))
    ]
    # Others first: that we have it open ourselves explains less.
    return min(found, key=lambda process: process.pid == own, default=None)


def login_on(device: str, root: Path = ROOT) -> Process | None:
    """The program that offers a login on the line, or None.

    Command lines can be read by everybody, so this needs no privileges.
    """
    short = str(Path(device).resolve()).removeprefix("/dev/")
    for pid, name, folder in _processes(root):
        if name not in _GETTYS:
            continue
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(word.removeprefix("/dev/") == short for word in words[1:]):
            return Process(name, pid)
    return None


def is_console(device: str, root: Path = ROOT) -> bool:
    """True if the kernel writes its messages to the line."""
    short = str(Path(device).resolve()).removeprefix("/dev/")
    try:
        lines = (root / "proc/consoles").read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.split()[:1] == [short] for line in lines)


def login_fix(device: str) -> str:
    """What ends a login prompt on the line for good."""
    return f"sudo systemctl disable --now serial-getty@{Path(device).resolve().name}.service"


def console_fix(device: str) -> str:
    """What keeps the kernel from writing to the line."""
    short = Path(device).resolve().name
    return f"take console={short} (or console=serial0) off the kernel's command line and restart"


def permission_fix(device: str) -> tuple[str, str]:
    """Why a device may not be opened, and what to do about it."""
    try:
        found = Path(device).stat()
    except OSError:
        return "permission denied", ""
    mode = stat.filemode(found.st_mode)
    try:
        group = grp.getgrgid(found.st_gid).gr_name
    except KeyError:
        group = str(found.st_gid)
    reason = f"permission denied: it is open to group {group} ({mode})"
    if not found.st_mode & stat.S_IWGRP:
        return f"permission denied: not even group {group} may use it ({mode})", f"sudo chmod g+rw {device}"
    return reason, f"sudo usermod -aG {group} $USER, then log in anew"


def _processes(root: Path) -> Iterator[tuple[int, str, Path]]:
    try:
        folders = sorted(root.joinpath("proc").glob("[0-9]*"))
    except OSError:
        return
    for folder in folders:
        try:
            yield int(folder.name), (folder / "comm").read_text(errors="replace").strip(), folder
        except (OSError, ValueError):
            continue


def _open_files(folder: Path) -> Iterator[str]:
    try:
        entries = list((folder / "fd").iterdir())
    except OSError:
        return
    for entry in entries:
        try:
            yield str(entry.readlink())
        except OSError:
            continue
