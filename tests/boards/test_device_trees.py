"""Boards are recognised by the device trees that Linux really gives them.

The table has the root nodes of real ones. Where compiled trees lie on this machine (a kernel package of
Debian for ARM brings them), they are read as well, with what the profiles say of LEDs and Bluetooth.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

import pytest

from boards.detection import detect
from boards.profiles import load

TABLE = json.loads((Path(__file__).parent / "device_trees.json").read_text())["trees"]
BOARDS = {row["file"]: row["board"] for row in TABLE}
FOLDERS = [
    *Path("/usr/lib").glob("linux-image-*"),
    *map(Path, filter(None, [os.environ.get("DEVICE_TREES")])),
]
HOW = "no compiled device trees: apt-get install linux-image-arm64 on ARM, or DEVICE_TREES=FOLDER"

BEGIN, END, PROPERTY, NOTHING, LAST = 1, 2, 3, 4, 9


def read_blob(data: bytes) -> dict[str, bytes]:
    """The properties of a flattened device tree (Devicetree Specification 0.4, §5) by their paths."""
    magic, _, at, strings = struct.unpack_from(">4I", data)
    assert magic == 0xD00DFEED
    path: list[str] = []
    found = {}
    while (token := struct.unpack_from(">I", data, at)[0]) != LAST:
        at += 4
        if token == BEGIN:
            end = data.index(b"\0", at)
            path.append(data[at:end].decode())
            at = (end + 4) & ~3
        elif token == END:
            path.pop()
        elif token == PROPERTY:
            length, name = struct.unpack_from(">2I", data, at)
            end = data.index(b"\0", strings + name)
            found["/".join([*path, data[strings + name : end].decode()])] = data[at + 8 : at + 8 + length]
            at = (at + 8 + length + 3) & ~3
        else:
            assert token == NOTHING
    return found


def blob(model: str, compatible: list[str]) -> bytes:
    """A flattened device tree with a root node alone."""
    strings = b"model\0compatible\0"
    body = struct.pack(">2I", BEGIN, 0)
    for offset, value in ((0, model.encode() + b"\0"), (6, b"".join(c.encode() + b"\0" for c in compatible))):
        body += struct.pack(">3I", PROPERTY, len(value), offset) + value + bytes(-len(value) % 4)
    body += struct.pack(">3I", NOTHING, END, LAST)
    head = struct.pack(
        ">10I", 0xD00DFEED, 56 + len(body) + len(strings), 56, 56 + len(body), 40, 17, 16, 0, 0, 0
    )
    return head + bytes(16) + body + strings


def show(tree: Any, properties: dict[str, bytes]) -> None:
    """Put the root node into a machine, as its kernel would."""
    tree.link("/proc/device-tree", "/sys/firmware/devicetree/base")
    for path, value in properties.items():
        if path.count("/") == 1:
            tree.write(f"/sys/firmware/devicetree/base{path}", value)


def real_blobs() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted(folder.rglob("*.dtb")) if path.name in BOARDS]


@pytest.mark.parametrize("row", TABLE, ids=lambda row: row["file"])
def test_the_root_node_of_a_real_tree_names_its_board(tree: Any, row: Any) -> None:
    show(tree, read_blob(blob(row["model"], row["compatible"])))
    found = detect(tree.root)
    assert (found.profile.name, found.model) == (row["board"], row["model"])


def test_every_board_but_the_generic_ones_has_a_real_tree() -> None:
    from boards.profiles import NAMES

    assert set(BOARDS.values()) == {name for name in NAMES if not name.startswith("generic")}


def test_compiled_trees_of_this_machine_name_their_boards(tmp_path: Path, machine_at: Any) -> None:
    blobs = real_blobs()
    if not blobs:
        pytest.skip(HOW)
    for number, path in enumerate(blobs):
        properties = read_blob(path.read_bytes())
        tree = machine_at(tmp_path / str(number))
        show(tree, properties)
        found = detect(tree.root)
        assert found.profile.name == BOARDS[path.name], path
        row = next(row for row in TABLE if row["file"] == path.name)
        assert properties["/compatible"].decode().rstrip("\0").split("\0") == row["compatible"]
        labels = {
            value.decode().rstrip("\0")
            for name, value in properties.items()
            if name.startswith("/leds/") and name.endswith("/label")
        }
        profile = load(found.profile.name)
        assert not labels or set(profile.leds) <= labels, path
        lines = {
            line
            for name, value in properties.items()
            if name.endswith("/gpio-line-names")
            for line in value.decode().split("\0")
        }
        assert not lines or set(profile.gpio.line_names) <= lines, path
        on_uart = any(name.endswith("/bluetooth/compatible") for name in properties)
        assert not on_uart or profile.ble.attached == "uart", path
