"""Machines made of files: what ``/proc``, ``/sys`` and ``/dev`` of a board look like."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from boards.machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ARM = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
ARM_AES = "processor\t: 0\nFeatures\t: fp asimd evtstrm aes pmull sha1 sha2 crc32\n"


class Tree(Machine):
    """A machine below a folder, and what a test puts into it."""

    def write(self, path: str, content: bytes | str) -> None:
        where = self.root / path.lstrip("/")
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_bytes(content.encode() if isinstance(content, str) else content)

    def link(self, path: str, target: str) -> None:
        where = self.root / path.lstrip("/")
        where.parent.mkdir(parents=True, exist_ok=True)
        where.symlink_to(target)

    def device_tree(self, model: str, *compatible: str, revision: int | None = None) -> None:
        """As Linux shows it: a link to /sys, strings that end in zeros, big-endian cells."""
        base = "/sys/firmware/devicetree/base"
        self.link("/proc/device-tree", base)
        self.write(f"{base}/model", f"{model}\0")
        self.write(f"{base}/compatible", "".join(f"{entry}\0" for entry in compatible))
        if revision is not None:
            self.write(f"{base}/system/linux,revision", revision.to_bytes(4, "big"))

    def serial(self, name: str, driver: str = "serial8250", *, kind: str = "4") -> None:
        """A port with hardware; kernels since 6.5 have layers between it and its driver."""
        home = f"/sys/devices/platform/soc/{name}.serial"
        for layer in ("port", "ctrl"):
            (self.root / f"sys/bus/serial-base/drivers/{layer}").mkdir(parents=True, exist_ok=True)
        (self.root / f"sys/bus/platform/drivers/{driver}").mkdir(parents=True, exist_ok=True)
        self.write(f"{home}/ctrl:0/port:0/tty/{name}/type", f"{kind}\n")
        self.link(f"{home}/driver", f"/sys/bus/platform/drivers/{driver}")
        self.link(f"{home}/ctrl:0/driver", "/sys/bus/serial-base/drivers/ctrl")
        self.link(f"{home}/ctrl:0/port:0/driver", "/sys/bus/serial-base/drivers/port")
        self.link(f"{home}/ctrl:0/port:0/tty/{name}/device", "../../../port:0")
        self.link(
            f"/sys/class/tty/{name}", f"../../devices/platform/soc/{name}.serial/ctrl:0/port:0/tty/{name}"
        )
        self.write(f"/dev/{name}", "")

    def usb_serial(self, name: str, driver: str, by_id: str) -> None:
        home = f"/sys/devices/pci0000:00/usb1/1-1/1-1:1.0/{name}"
        (self.root / f"sys/bus/usb-serial/drivers/{driver}").mkdir(parents=True, exist_ok=True)
        self.link(f"{home}/driver", f"../../../../../../bus/usb-serial/drivers/{driver}")
        self.link(f"{home}/tty/{name}/device", f"../../../{name}")
        self.link(f"/sys/class/tty/{name}", f"../../{home.removeprefix('/sys/')}/tty/{name}")
        self.write(f"/dev/{name}", "")
        self.link(f"/dev/serial/by-id/{by_id}", f"../../{name}")

    def process(self, pid: int, name: str, *words: str, opens: str = "") -> None:
        self.write(f"/proc/{pid}/comm", f"{name}\n")
        self.write(f"/proc/{pid}/cmdline", "".join(f"{word}\0" for word in (name, *words)))
        if opens:
            self.link(f"/proc/{pid}/fd/0", opens)

    def adapter(self, name: str = "hci0") -> None:
        """A Bluetooth adapter whose service runs."""
        self.write(f"/sys/class/bluetooth/{name}/type", "primary\n")
        self.process(600, "bluetoothd")

    def chip(self, name: str) -> None:
        """A Bluetooth chip on a UART of the board."""
        self._plug_adapter(name, f"/sys/devices/platform/soc/fe201000.serial/tty/ttyAMA0/{name}")

    def dongle(self, name: str) -> None:
        """A Bluetooth adapter on USB."""
        self._plug_adapter(name, f"/sys/devices/pci0000:00/usb1/1-1/1-1:1.0/bluetooth/{name}")

    def _plug_adapter(self, name: str, home: str) -> None:
        self.write(f"{home}/type", "primary\n")
        self.link(f"/sys/class/bluetooth/{name}", f"../../{home.removeprefix('/sys/')}")

    def block(self, adapter: str, how: str = "soft") -> None:
        """Let rfkill keep an adapter off."""
        self.write(f"{self.real(f'/sys/class/bluetooth/{adapter}')}/rfkill3/{how}", "1\n")

    def mode(self, path: str, mode: int, *, group: int | None = None) -> None:
        where = self.here(path)
        if group is not None:
            os.chown(where, -1, group)
        where.chmod(mode)


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """A machine of which nothing is known."""
    return Tree(tmp_path)


@pytest.fixture
def pi4(tree: Tree) -> Tree:
    """A Raspberry Pi 4B as Raspberry Pi OS sets it up, with the header's port switched on and free."""
    tree.write("/proc/cpuinfo", ARM + "Revision\t: c03111\n")
    tree.device_tree(
        "Raspberry Pi 4 Model B Rev 1.1", "raspberrypi,4-model-b", "brcm,bcm2711", revision=0xC03111
    )
    tree.serial("ttyS0")
    tree.link("/dev/serial0", "ttyS0")
    tree.adapter()
    tree.write("/proc/sys/kernel/hostname", "pi-cabinet\n")
    tree.write("/boot/firmware/config.txt", "enable_uart=1\n")
    tree.write("/boot/firmware/cmdline.txt", "console=tty1 root=/dev/mmcblk0p2\n")
    return tree


@pytest.fixture
def x86(tree: Tree) -> Tree:
    """A small PC without a serial port; its kernel keeps four names for some."""
    tree.write("/proc/cpuinfo", "flags\t\t: fpu vme aes avx\n")
    tree.write("/sys/devices/virtual/dmi/id/product_name", "NUC11TNHi5\n")
    tree.write("/sys/devices/virtual/dmi/id/board_name", "NUC11TNBi5\n")
    for number in range(4):
        tree.serial(f"ttyS{number}", kind="0")
    return tree


@pytest.fixture(scope="session")
def processors() -> dict[str, str]:
    """``/proc/cpuinfo`` of an ARM processor without, and with, AES instructions."""
    return {"plain": ARM, "aes": ARM_AES}


@pytest.fixture
def machine_at() -> Callable[[Path], Any]:
    """Makes a machine of files at another place."""
    return Tree
