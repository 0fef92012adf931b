"""The machine's first process: does what a system does before services start, and turns it off at the end.

Runs from the archive as /init, with nothing but the standard library.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import traceback
from pathlib import Path

_MOUNTS = (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"))
_FINIT_MODULE = 313
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1
_REBOOT = 169
_REBOOT_MAGIC = (0xFEE1DEAD, 672274793, 0x4321FEDC)
_PORT = "/dev/ttyS1"
"""Where reports go; what else is said goes to the console."""

libc = ctypes.CDLL(None, use_errno=True)


def mount(kind: str, where: str) -> None:
    if libc.mount(kind.encode(), where.encode(), kind.encode(), 0, None) != 0:
        raise OSError(ctypes.get_errno(), f"{kind} at {where} cannot be mounted")


def load(module: Path) -> None:
    with module.open("rb") as file:
        if libc.syscall(_FINIT_MODULE, file.fileno(), b"", 0) != 0:
            raise OSError(ctypes.get_errno(), f"{module.name} cannot be loaded")


def start_loopback() -> None:
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14x", b"lo", _IFF_UP))


def main() -> None:
    for kind, where in _MOUNTS:
        mount(kind, where)
    for module in sorted(Path("/modules").iterdir()):
        load(module)
    start_loopback()
    Path("/var/run").symlink_to("/run")
    Path("/tmp").chmod(0o1777)
    os.chown("/home/pi", 1000, 1000)
    environment = {
        "PATH": "/usr/bin",
        "HOME": "/root",
        "PYTHONPATH": "/opt/ockamlite:/opt/installed",
        "OCKAMLITE_REPORTS": _PORT,
    }
    subprocess.run(
        [sys.executable, "-u", "-m", "tests.ble.qemu.guest.course"], env=environment, cwd="/", check=False
    )


try:
    main()
except Exception:  # noqa: BLE001  (the machine must be turned off)
    traceback.print_exc()
finally:
    sys.stdout.flush()
    os.sync()
    libc.syscall(_REBOOT, *_REBOOT_MAGIC, None)
