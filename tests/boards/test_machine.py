"""Files of a machine are read below its root, wherever its links point."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def test_an_absolute_link_stays_below_the_root(tree: Any) -> None:
    tree.write("/etc/hostname", "inside\n")
    tree.link("/proc/name", "/etc/hostname")
    assert tree.text("/proc/name") == "inside"
    assert tree.real("/proc/name") == "/etc/hostname"


def test_a_link_cannot_climb_out_of_the_root(tree: Any, tmp_path: Path) -> None:
    tree.link("/dev/out", "../../../../../../../etc/passwd")
    assert tree.real("/dev/out") == "/etc/passwd"
    assert tree.data("/dev/out") is None


def test_links_through_folders_are_followed(tree: Any) -> None:
    tree.write("/sys/devices/soc/tty/ttyS0/type", "4\n")
    tree.link("/sys/class/tty/ttyS0", "../../devices/soc/tty/ttyS0")
    tree.link("/port", "sys/class/tty/ttyS0")
    assert tree.text("/port/type") == "4"


def test_a_circle_of_links_is_absent_and_ends(tree: Any) -> None:
    tree.link("/a", "b")
    tree.link("/b", "a")
    assert tree.data("/a") is None
    assert not tree.has("/a")


@pytest.mark.parametrize("path", ["/nothing", "/folder", "/file/below"])
def test_what_cannot_be_read_is_absent(tree: Any, path: str) -> None:
    tree.write("/folder/x", "")
    tree.write("/file", "")
    assert tree.data(path) is None
    assert tree.text(path) is None
    assert tree.strings(path) == []


def test_a_long_file_is_read_in_part(tree: Any) -> None:
    tree.write("/long", b"x" * 100_000)
    assert len(tree.data("/long")) == 65_536


def test_strings_are_parted_by_zeros(tree: Any) -> None:
    tree.write("/compatible", b"ti,am335x-bone\0ti,am33xx\0")
    assert tree.strings("/compatible") == ["ti,am335x-bone", "ti,am33xx"]
