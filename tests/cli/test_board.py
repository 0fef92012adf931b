"""``ockamlite board`` says which board this is, what to use, what is in the way and how to end that."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from boards.profiles import NAMES

if TYPE_CHECKING:
    from pathlib import Path

FILES = {
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.1\0",
    "proc/device-tree/compatible": "raspberrypi,4-model-b\0brcm,bcm2711\0",
    "proc/cpuinfo": "Features\t: fp asimd crc32\n",
    "proc/consoles": "ttyS0                -W- (EC  p a)    4:64\n",
    "proc/600/comm": "bluetoothd\n",
    "proc/sys/kernel/hostname": "pi-cabinet\n",
    "boot/firmware/cmdline.txt": "console=serial0,115200 console=tty1\n",
    "sys/class/bluetooth/hci0/type": "primary\n",
    "sys/class/tty/ttyS0/device/uevent": "",
    "sys/class/tty/ttyS0/type": "4\n",
    "dev/ttyS0": "",
}
CONSOLE_FIX = (
    r"sudo sed -i 's/console=\(serial0\|ttyS0\),[0-9a-z]* *//' /boot/firmware/cmdline.txt && sudo reboot"
)


@pytest.fixture
def pi4(tmp_path: Path) -> str:
    """The root of a Raspberry Pi 4B whose serial port is its console."""
    root = tmp_path / "pi"
    for path, text in FILES.items():
        where = root / path
        where.parent.mkdir(parents=True, exist_ok=True)
        where.write_text(text)
    (root / "dev/serial0").symlink_to("ttyS0")
    return str(root)


def test_json_of_a_board_is_what_the_contract_says(run: Any, pi4: str) -> None:
    done = run("board", "--root", pi4, "--output", "json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {
        "board": "raspberry-pi-4b",
        "model": "Raspberry Pi 4 Model B Rev 1.1",
        "evidence": ["/proc/device-tree/compatible: raspberrypi,4-model-b"],
        "endpoints": ["serial:/dev/serial0?baud=115200", "ble:pi-cabinet"],
        "obstacles": [{"what": "/dev/serial0 is the kernel's console", "fix": CONSOLE_FIX}],
    }


def test_the_text_has_the_same_and_what_is_good_to_know(run: Any, pi4: str) -> None:
    lines = run("board", "--root", pi4).stdout.splitlines()
    assert lines[:10] == [
        "raspberry-pi-4b: Raspberry Pi 4 Model B Rev 1.1",
        "seen:",
        "  /proc/device-tree/compatible: raspberrypi,4-model-b",
        "endpoints:",
        "  serial:/dev/serial0?baud=115200",
        "  ble:pi-cabinet",
        "in the way:",
        "  /dev/serial0 is the kernel's console",
        f"    try: {CONSOLE_FIX}",
        "notes:",
    ]
    assert "exclude each other" in lines[-3]
    assert "no AES instructions" in lines[-2]


def test_a_profile_can_be_given(run: Any, pi4: str) -> None:
    shown = json.loads(
        run("board", "--root", pi4, "--profile", "raspberry-pi-zero-2-w", "--output", "json").stdout
    )
    assert (shown["board"], shown["model"]) == ("raspberry-pi-zero-2-w", "Raspberry Pi Zero 2 W")
    assert shown["evidence"] == ["--profile: raspberry-pi-zero-2-w"]


def test_a_profile_that_nobody_knows_ends_with_64(run: Any) -> None:
    done = run("board", "--profile", "raspberry-pi-9")
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr == "ockamlite: there is no board 'raspberry-pi-9'\ntry: ockamlite board list\n"


def test_this_machine_is_some_board(run: Any) -> None:
    shown = json.loads(run("board", "--output", "json").stdout)
    assert shown["board"] in NAMES
    assert shown["evidence"]


def test_a_root_that_is_no_folder_ends_with_64(run: Any, tmp_path: Path) -> None:
    assert run("board", "--root", str(tmp_path / "nothing")).returncode == 64


def test_a_model_cannot_steer_a_terminal(run: Any, tmp_path: Path) -> None:
    where = tmp_path / "proc/device-tree/model"
    where.parent.mkdir(parents=True)
    where.write_text("Evil\x1b[2J Board\0")
    assert run("board", "--root", str(tmp_path)).stdout.splitlines()[0] == r"generic-arm: Evil\x1b[2J Board"


def test_the_profiles_are_listed(run: Any) -> None:
    lines = run("board", "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)
    assert lines[3].split(maxsplit=1)[1] == "Raspberry Pi 4 Model B"


def test_json_of_the_profiles_has_an_object_a_line_with_all_facts(run: Any) -> None:
    found = [json.loads(line) for line in run("board", "list", "--output", "json").stdout.splitlines()]
    assert [profile["board"] for profile in found] == list(NAMES)
    pi = found[NAMES.index("raspberry-pi-4b")]
    assert pi["uarts"][0]["devices"][0] == "/dev/serial0"
    assert pi["ble"]["links"] == 7
    assert pi["unverified"]
    assert pi["sources"]
