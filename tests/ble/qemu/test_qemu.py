"""What can be said of the machine without running it: its file system, end, result, and errors."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ockamlite.errors import UnavailableError
from tests.ble.qemu import machine
from tests.ble.qemu.image import Image
from tests.ble.qemu.report import BEGIN, END, Result

ROOT = Path(__file__).parents[3]


def command(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command on a system that has nothing but what is in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "tests.ble.qemu", "--folder", str(tmp_path / "build"), *arguments],
        cwd=ROOT,
        env={"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def program(folder: Path, name: str, text: str = "") -> None:
    (folder / name).write_text(f"#!/bin/sh\n{text}\n")
    (folder / name).chmod(0o755)


def test_a_system_without_qemu_is_told_what_to_install(tmp_path: Path) -> None:
    ended = command(tmp_path)
    assert ended.returncode == 69
    assert "qemu-system-x86_64 is not installed" in ended.stderr
    assert "try: sudo apt install qemu-system-x86" in ended.stderr


def test_a_system_that_is_no_debian_is_told_so(tmp_path: Path) -> None:
    program(tmp_path, machine.QEMU)
    ended = command(tmp_path)
    assert ended.returncode == 69
    assert "apt-get is not there" in ended.stderr
    assert "try: run it on Debian 12 or later" in ended.stderr


def test_package_lists_that_are_missing_are_named(tmp_path: Path) -> None:
    for name in (machine.QEMU, "apt-get", "dpkg-deb"):
        program(tmp_path, name)
    program(tmp_path, "apt-cache", 'echo "E: No packages found" >&2; exit 100')
    ended = command(tmp_path)
    assert ended.returncode == 69
    assert "E: No packages found" in ended.stderr
    assert "try: sudo apt-get update" in ended.stderr


def test_a_check_that_there_is_not_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    ended = command(tmp_path, "--only", "flying")
    assert ended.returncode == 2
    assert "'flying': known are " in ended.stderr
    assert "a_portal_moves_every_octet" in ended.stderr


def unpacked(archive: bytes) -> list[tuple[str, int, bytes]]:
    """Names, modes and contents of an archive in the format newc."""
    found: list[tuple[str, int, bytes]] = []
    at = 0
    while True:
        assert archive[at : at + 6] == b"070701"
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        mode, size, name_size = fields[1], fields[6], fields[11]
        name = archive[at + 110 : at + 110 + name_size - 1].decode()
        at = (at + 110 + name_size + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found.append((name, mode, archive[at : at + size]))
        at = (at + size + 3) & ~3


def test_the_file_system_is_written_with_folders_before_what_is_in_them(tmp_path: Path) -> None:
    made = Image()
    made.add("usr/bin/tool", b"#!", executable=True)
    made.add("a", b"12345")
    made.link("bin", "usr/bin")
    made.write(tmp_path / "image")
    assert unpacked(gzip.decompress((tmp_path / "image").read_bytes())) == [
        ("a", 0o100644, b"12345"),
        ("bin", 0o120777, b"usr/bin"),
        ("usr", 0o040755, b""),
        ("usr/bin", 0o040755, b""),
        ("usr/bin/tool", 0o100755, b"#!"),
    ]


def run(tmp_path: Path, heard: list[dict[str, Any]]) -> None:
    asyncio.run(
        machine.run(
            tmp_path / "kernel", tmp_path / "image", tmp_path / "console",
            accelerator="tcg", arguments="", limit_s=1.0, heard=heard.append,
        )
    )  # fmt: skip


def test_reports_are_heard_among_other_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, machine.QEMU, 'echo SeaBIOS; echo \'{"check": "one", "ok": true}\'; echo 7')
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    heard: list[dict[str, Any]] = []
    run(tmp_path, heard)
    assert heard == [{"check": "one", "ok": True}]


@pytest.mark.parametrize(
    ("text", "error"), [("exec sleep 60", "did not end within 1 s"), ("echo broken >&2; exit 1", "broken")]
)
def test_a_machine_that_hangs_or_fails_is_ended_and_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, error: str
) -> None:
    program(tmp_path, machine.QEMU, text)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(UnavailableError, match=error):
        run(tmp_path, [])


def result(*oks: bool, ended: bool = True) -> Result:
    made = Result("tcg", "5.66-1")
    made.heard({"fact": "versions", "kernel": "6.1", "bluez": "5.66"})
    for number, ok in enumerate(oks):
        made.heard({"check": f"check {number}", "ok": ok, "seconds": 1.5, "detail": "a|b"})
    if ended:
        made.heard({"end": True})
    return made


def test_a_result_holds_if_every_check_did_and_the_machine_came_to_its_end() -> None:
    assert result(True, True).holds
    assert not result(True, False).holds
    assert not result(True, ended=False).holds
    assert not result().holds


def test_a_result_goes_where_a_page_marks_its_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    result(True, False).place(page)
    text = page.read_text()
    assert text.startswith(f"before\n{BEGIN}\n")
    assert text.endswith(f"{END}\nafter\n")
    assert "1 of 2 checks held" in text
    assert "| check 1 | **failed** | 1.5 | a\\|b |" in text
    assert "old" not in text


def test_a_page_without_a_place_is_left_alone_and_said(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("nothing")
    with pytest.raises(UnavailableError, match="does not mark"):
        result(True).place(page)
    assert page.read_text() == "nothing"
