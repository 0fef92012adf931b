"""The files by which a machine describes itself: ``/proc``, ``/sys`` and ``/dev`` below a folder.

Links are followed inside that folder, so that a copied tree, or a made-up one, can stand for a machine.
What cannot be read is absent; nothing here raises.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Final

_MOST_BYTES: Final = 65_536
"""What is read of a file at most: the files of interest have some hundred bytes."""
_MOST_LINKS: Final = 40
"""How many links lead to a file at most, as in Linux."""


class Machine:
    """A machine as a tree of files.

    Args:
        root: where its root folder is; ``/`` is this machine.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def data(self, path: str) -> bytes | None:
        """The bytes of a file (64 KiB at most), or None."""
        try:
            with self.here(path).open("rb") as file:
                return file.read(_MOST_BYTES)
        except OSError:
            return None

    def text(self, path: str) -> str | None:
        """The text of a file without zeros and white space around it, or None."""
        data = self.data(path)
        return None if data is None else data.decode(errors="replace").strip("\0 \t\r\n")

    def strings(self, path: str) -> list[str]:
        """The strings of a file that parts them by zeros, as a device tree does."""
        data = self.data(path) or b""
        return [part.decode(errors="replace") for part in data.split(b"\0") if part]

    def names(self, folder: str) -> list[str]:
        """The names in a folder, sorted."""
        try:
            return sorted(entry.name for entry in self.here(folder).iterdir())
        except OSError:
            return []

    def has(self, path: str) -> bool:
        """True if there is something at the path, other than a link that leads nowhere."""
        try:
            return self.here(path).exists()
        except OSError:
            return False

    def here(self, path: str) -> Path:
        """Where a path of the machine is in our file system."""
        return self.root / self.real(path).lstrip("/")

    def real(self, path: str) -> str:
        """The path of the machine that a path leads to when its links are followed."""
        left = list(reversed(PurePosixPath(path).parts[1:]))
        done = PurePosixPath("/")
        links = 0
        while left:
            part = left.pop()
            if part == "..":
                done = done.parent
                continue
            step = done / part
            target = self._link(str(step)) if links < _MOST_LINKS else None
            if target is None:
                done = step
                continue
            links += 1
            if target.startswith("/"):
                done = PurePosixPath("/")
            left += [piece for piece in reversed(PurePosixPath(target).parts) if piece != "/"]
        return str(done)

    def _link(self, path: str) -> str | None:
        try:
            return str((self.root / path.lstrip("/")).readlink())
        except OSError:
            return None
