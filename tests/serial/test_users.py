"""Who else uses a line: read from a tree of files that stands for a machine."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

import pytest

from ockamlite.errors import UnavailableError
from transports.serial import users
from transports.serial.options import LineSettings
from transports.serial.port import open_port

if TYPE_CHECKING:
    from pathlib import Path


def process(root: Path, pid: int, name: str, *words: str, opens: str = "") -> None:
    folder = root / "proc" / str(pid)
    (folder / "fd").mkdir(parents=True)
    (folder / "comm").write_text(name + "\n")
    (folder / "cmdline").write_bytes("\0".join((name, *words, "")).encode())
    if opens:
        (folder / "fd" / "3").symlink_to(opens)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    process(tmp_path, 1, "systemd")
    process(tmp_path, 321, "agetty", "-o", "-p -- \\u", "--keep-baud", "115200,9600", "ttyS0", "vt220")
    process(tmp_path, 400, "picocom", "/dev/ttyUSB0", opens="/dev/ttyUSB0")
    (tmp_path / "proc" / "consoles").write_text(
        "ttyS0                -W- (EC   p a)    4:64\ntty0                 -WU (E    p  )    4:1\n"
    )
    (tmp_path / "proc" / "self").mkdir()
    (tmp_path / "proc" / "12").mkdir()  # one that ended while we looked
    return tmp_path


def test_a_login_prompt_is_found_without_privileges(root: Path) -> None:
    assert users.login_on("/dev/ttyS0", root) == users.Process("agetty", 321)
    assert users.login_on("/dev/ttyS1", root) is None
    assert users.login_on("/dev/ttyUSB0", root) is None


def test_a_login_prompt_is_found_behind_another_name_of_the_line(root: Path, tmp_path: Path) -> None:
    (tmp_path / "serial0").symlink_to("/dev/ttyS0")
    assert users.login_on(str(tmp_path / "serial0"), root) == users.Process("agetty", 321)
    assert "serial-getty@ttyS0.service" in users.login_fix(str(tmp_path / "serial0"))


def test_the_kernels_console_is_found(root: Path) -> None:
    assert users.is_console("/dev/ttyS0", root)
    assert not users.is_console("/dev/ttyS", root)
    assert not users.is_console("/dev/ttyUSB0", root)
    assert "console=ttyS0" in users.console_fix("/dev/ttyS0")


def test_who_has_a_line_open_is_named(root: Path) -> None:
    assert str(users.holder_of("/dev/ttyUSB0", root)) == "picocom (pid 400)"
    assert users.holder_of("/dev/ttyS0", root) is None


def test_this_process_is_named_only_if_no_other_is(root: Path) -> None:
    process(root, os.getpid(), "ockamlite", opens="/dev/ttyUSB0")
    assert users.holder_of("/dev/ttyUSB0", root) == users.Process("picocom", 400)
    (root / "proc" / "400" / "fd" / "3").unlink()
    assert users.holder_of("/dev/ttyUSB0", root) == users.Process("ockamlite", os.getpid())


def test_a_machine_without_proc_tells_nothing(tmp_path: Path) -> None:
    assert users.holder_of("/dev/ttyS0", tmp_path) is None
    assert users.login_on("/dev/ttyS0", tmp_path) is None
    assert not users.is_console("/dev/ttyS0", tmp_path)


async def test_a_line_with_a_login_prompt_is_not_opened_and_the_fix_is_named(root: Path) -> None:
    with pytest.raises(
        UnavailableError, match=r"a login prompt is on this line, agetty \(pid 321\)"
    ) as caught:
        await open_port(LineSettings("/dev/ttyS0"), asyncio.Protocol(), root=root)
    assert caught.value.hint == "sudo systemctl disable --now serial-getty@ttyS0.service"


async def test_the_kernels_console_on_a_line_is_a_warning(
    root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (root / "proc" / "321" / "comm").write_text("other\n")
    (root / "proc" / "consoles").write_text("ttyNone -W- (E)\n")
    with caplog.at_level(logging.WARNING), pytest.raises(UnavailableError, match="no such device"):
        await open_port(LineSettings("/dev/ttyNone"), asyncio.Protocol(), root=root)
    assert "the kernel writes its messages to this line" in caplog.text


def test_the_group_that_may_open_a_device_is_named(tmp_path: Path) -> None:
    device = tmp_path / "ttyUSB0"
    device.touch(mode=0o660)
    device.chmod(0o660)
    os.chown(device, -1, os.getgid())
    reason, fix = users.permission_fix(str(device))
    assert "open to group" in reason
    assert fix.startswith("sudo usermod -aG ")
    device.chmod(0o600)
    reason, fix = users.permission_fix(str(device))
    assert "not even group" in reason
    assert fix == f"sudo chmod g+rw {device}"
