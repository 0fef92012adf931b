"""Debian's packages for the machine: kernel, BlueZ and D-Bus, downloaded and read without root.

They are those that this system's package lists name; one that is already there is not fetched again.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ockamlite.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

KERNEL: Final = "linux-image-amd64"
"""Names the package of the newest kernel; those for clouds have no Bluetooth."""
PROGRAMS: Final = ("bluez", "dbus-daemon", "dbus-system-bus-common")
_TOOLS: Final = ("apt-get", "apt-cache", "dpkg-deb")
_DOWNLOAD_S: Final = 600
_DEPENDS: Final = re.compile(r"^ [ |](?:Pre)?Depends: (\S+)$", re.MULTILINE)


def fetch(folder: Path) -> dict[str, Path]:
    """Download the packages and the libraries they need; returns the files by the packages' names.

    Raises:
        UnavailableError: this is no Debian, or the packages cannot be had.
    """
    for tool in _TOOLS:
        if shutil.which(tool) is None:
            raise UnavailableError(
                f"{tool} is not there: the machine is made of Debian's packages",
                hint="run it on Debian 12 or later, on x86-64",
            )
    folder.mkdir(parents=True, exist_ok=True)
    kernels = [name for name in _needs(KERNEL) if name.startswith("linux-image-")]
    if not kernels:
        raise UnavailableError(f"apt knows no package {KERNEL}", hint="sudo apt-get update; Debian on x86-64")
    names = [kernels[0], *PROGRAMS, *_libraries(*PROGRAMS)]
    files = {}
    with tempfile.TemporaryDirectory() as empty:
        # It is silent about what is in the folder already.
        for line in _run("apt-get", "download", "--print-uris", *names, folder=Path(empty)).splitlines():
            file = folder / line.split()[1]
            files[file.name.partition("_")[0]] = file
    missing = [name for name in names if not files[name].is_file()]
    if missing:
        _run("apt-get", "download", *missing, folder=folder)
    return {("linux-image" if name == kernels[0] else name): files[name] for name in names}


def version(file: Path) -> str:
    """The version of a package, of its file."""
    return _run("dpkg-deb", "--field", file.name, "Version", folder=file.parent).strip()


def members(file: Path) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """The files and symbolic links in a package, their names as in the root folder of a merged ``/usr``."""
    data = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", str(file)], check=True, capture_output=True, timeout=_DOWNLOAD_S
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            member.name = merged(member.name.removeprefix("./"))
            content = archive.extractfile(member) if member.isfile() else None
            if content is not None or member.issym():
                yield member, content.read() if content is not None else b""


def merged(path: str) -> str:
    """Where a file is, since ``/lib`` and its like are in ``/usr``."""
    top = path.lstrip("/").partition("/")[0]
    return f"usr/{path.lstrip('/')}" if top in ("bin", "sbin", "lib", "lib64") else path.lstrip("/")


def _libraries(*packages: str) -> list[str]:
    """The libraries that packages need, and those need."""
    found: dict[str, None] = {}
    level = list(packages)
    while level:
        needed = [name for name in _needs(*level) if name.startswith("lib")]
        level = [name for name in dict.fromkeys(needed) if name not in found]
        found |= dict.fromkeys(level)
    return list(found)


def _needs(*packages: str) -> list[str]:
    return [name for name in _DEPENDS.findall(_run("apt-cache", "depends", *packages)) if name[0] != "<"]


def _run(*command: str, folder: Path | None = None) -> str:
    try:
        return subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=_DOWNLOAD_S
        ).stdout
    except subprocess.CalledProcessError as error:
        said = error.stderr.strip().splitlines()
        raise UnavailableError(
            f"{' '.join(command[:2])} failed: {said[-1] if said else error.returncode}",
            hint="sudo apt-get update",
        ) from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"{' '.join(command[:2])} took more than {_DOWNLOAD_S} s") from error
