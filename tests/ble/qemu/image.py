"""The machine's first and only file system: made in memory, written as the archive that the kernel unpacks.

In it are Debian's programs, this Python with its standard library, our packages as they stand here, and those
they need. Nothing of it is run here.
"""

from __future__ import annotations

import gzip
import importlib.metadata
import lzma
import re
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from ockamlite.errors import UnavailableError
from tests.ble.qemu import packages

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MODULES: Final = (
    "hmac", "sha512_generic", "ctr", "drbg", "ecdh_generic", "ecb", "cmac",
    "algif_hash", "algif_skcipher", "hci_vhci",
)  # fmt: skip
"""What the kernel would load by itself had it modprobe; each with what it needs."""
INSTALLED: Final = "opt/installed"
"""Where packages from PyPI are in the machine."""
SOURCES: Final = "opt/ockamlite"
"""Where our own are."""
_ROOT: Final = Path(__file__).parents[3]
_OURS: Final = ("ockamlite", "transports", "boards", "tests/ble/qemu")
_PYPI: Final = ("ockamlite", "bumble")
_UNUSED: Final = re.compile(
    r"(^|/)(test|tests|idlelib|tkinter|lib2to3|ensurepip|turtledemo|config-[^/]*|(site|dist)-packages)/"
)
_WANTED: Final = re.compile(
    r"usr/lib/x86_64-linux-gnu/[^/]+$|usr/lib64/|usr/libexec/bluetooth/bluetoothd$"
    r"|usr/bin/(dbus-daemon|btmon|bluetoothctl)$|etc/(bluetooth|dbus-1)/|usr/share/dbus-1/"
)
_DEPENDS: Final = re.compile(rb"\0depends=([^\0]*)\0")
_REQUIREMENT: Final = re.compile(r"[\w.-]+")


class Image:
    """Files by their paths; folders above them come by themselves."""

    def __init__(self) -> None:
        self._entries: dict[str, tuple[int, int, bytes]] = {}

    def __contains__(self, path: str) -> bool:
        return path in self._entries

    def add(self, path: str, content: bytes, *, executable: bool = False, changed: float = 0) -> None:
        """Add a file."""
        self._put(path, stat.S_IFREG | (0o755 if executable else 0o644), int(changed), content)

    def link(self, path: str, to: str) -> None:
        """Add a symbolic link."""
        self._put(path, stat.S_IFLNK | 0o777, 0, to.encode())

    def folder(self, path: str) -> None:
        """Add an empty folder."""
        self._put(path, stat.S_IFDIR | 0o755, 0, b"")

    def take(self, file: Path, path: str) -> None:
        """Add a file of this system."""
        found = file.stat()
        self.add(path, file.read_bytes(), executable=bool(found.st_mode & 0o100), changed=found.st_mtime)

    def write(self, file: Path) -> None:
        """Write all as a compressed archive in the format ``newc``."""
        with gzip.open(file, "wb", compresslevel=1) as out:
            for number, (path, (mode, changed, content)) in enumerate(self._in_order(), 1):
                name = path.encode() + b"\0"
                fields = (number, mode, 0, 0, 1, changed, len(content), 0, 0, 0, 0, len(name), 0)
                out.write(_padded(b"070701" + b"".join(b"%08X" % field for field in fields) + name))
                out.write(_padded(content))
            out.write(_padded(b"070701" + b"%08X" * 13 % (*(0,) * 11, 11, 0) + b"TRAILER!!!\0"))

    def _put(self, path: str, mode: int, changed: int, content: bytes) -> None:
        self._entries[path] = (mode, changed, content)
        for parent in PurePosixPath(path).parents:
            self._entries.setdefault(str(parent), (stat.S_IFDIR | 0o755, 0, b""))

    def _in_order(self) -> Iterator[tuple[str, tuple[int, int, bytes]]]:
        """Folders before what is in them."""
        return ((path, self._entries[path]) for path in sorted(self._entries) if path != ".")


def build(debian: dict[str, Path], image: Path, kernel: Path) -> None:
    """Make the image, and take the kernel out of its package."""
    made = Image()
    for name in ("bin", "sbin", "lib", "lib64"):
        made.link(name, f"usr/{name}")
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "var/lib/bluetooth", "home/pi"):
        made.folder(name)
    made.add("etc/passwd", b"root:x:0:0::/root:\nmessagebus:x:100:100::/:\npi:x:1000:1000::/home/pi:\n")
    made.add("etc/group", b"root:x:0:\nmessagebus:x:100:\nbluetooth:x:101:pi\npi:x:1000:\n")
    made.add("etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n")
    for name, package in debian.items():
        if name != "linux-image":
            _add_programs(made, package)
    _add_kernel(made, debian["linux-image"], kernel)
    _add_python(made)
    starter = Path(__file__).parent / "guest" / "init.py"
    made.add("init", f"#!{_interpreter()} -u\n".encode() + starter.read_bytes(), executable=True)
    made.write(image)


def _add_programs(made: Image, package: Path) -> None:
    for member, content in packages.members(package):
        if not _WANTED.match(member.name):
            continue
        if member.issym():
            made.link(member.name, member.linkname)
        else:
            made.add(member.name, content, executable=bool(member.mode & 0o100))


def _add_kernel(made: Image, package: Path, kernel: Path) -> None:
    """The modules, in the order in which they can be loaded."""
    modules: dict[str, bytes] = {}
    for member, content in packages.members(package):
        name = PurePosixPath(member.name).name
        if member.name.startswith("boot/vmlinuz-"):
            kernel.write_bytes(content)
        elif name.endswith(".ko"):
            modules[name.removesuffix(".ko").replace("-", "_")] = content
        elif name.endswith(".ko.xz"):
            modules[name.removesuffix(".ko.xz").replace("-", "_")] = content
    order: list[str] = []
    for name in MODULES:
        _load(name, modules, order)
    for number, name in enumerate(order):
        made.add(f"modules/{number:02}-{name}.ko", _plain(modules[name]))


def _load(name: str, modules: dict[str, bytes], order: list[str]) -> None:
    """Put a module behind those it needs; one that is not there is part of the kernel."""
    if name in order or name not in modules:
        return
    found = _DEPENDS.search(_plain(modules[name]))
    for needed in filter(None, (found[1] if found else b"").decode().split(",")):
        _load(needed.replace("-", "_"), modules, order)
    order.append(name)


def _plain(module: bytes) -> bytes:
    return lzma.decompress(module) if module.startswith(b"\xfd7zXZ") else module


def _add_python(made: Image) -> None:
    """The interpreter, its library, packages, our sources, and the shared objects that all of them need."""
    programs = [_interpreter()]
    standard = Path(sysconfig.get_path("stdlib"))
    made.take(_interpreter(), packages.merged(str(_interpreter())))
    files = [(file, f"{standard}/{file.relative_to(standard)}") for file in _files(standard)]
    files += [(file, f"{INSTALLED}/{path}") for file, path in _installed(_PYPI)]
    for name in _OURS:
        files += [(file, f"{SOURCES}/{file.relative_to(_ROOT)}") for file in _files(_ROOT / name, every=True)]
    for file, path in files:
        made.take(file, packages.merged(path))
        if ".so" in file.suffixes:
            programs.append(file)
    for library in _shared(programs):
        if packages.merged(str(library)) not in made:
            made.take(library, packages.merged(str(library)))


def _files(folder: Path, *, every: bool = False) -> Iterator[Path]:
    for file in sorted(folder.rglob("*")):
        if file.is_file() and (every or not _UNUSED.search(f"{file.relative_to(folder)}")):
            yield file


def _interpreter() -> Path:
    """This Python, not its place in a virtual environment."""
    return Path(sys.executable).resolve()


def _installed(names: Iterable[str]) -> Iterator[tuple[Path, str]]:
    """The files of packages and of those they need, with their paths.

    Raises:
        UnavailableError: one is missing.
    """
    done: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in done:
            continue
        done.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError as error:
            if name not in names:
                continue
            raise UnavailableError(
                f"the package {name} is not installed for {sys.executable}",
                hint="pip install --editable '.[bumble]'",
            ) from error
        needed = (text for text in found.requires or () if "extra ==" not in text)
        waiting += [match[0] for text in needed if (match := _REQUIREMENT.match(text))]
        for part in found.files or ():
            if (
                ".." not in part.parts
                and part.suffix != ".pth"
                and (file := Path(str(part.locate()))).is_file()
            ):
                yield file, str(part)


def _shared(programs: Iterable[Path]) -> set[Path]:
    """The shared objects of this system that programs need."""
    said = subprocess.run(
        ["ldd", *map(str, programs)], capture_output=True, text=True, timeout=120, check=False
    )
    return {Path(match) for match in re.findall(r"(?:=> |^\t)(/\S+) \(0x", said.stdout, re.MULTILINE)}


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
