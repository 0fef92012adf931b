"""Imports point one way: words, bytes and state machines, runtime, services. Types count as well.

Transports stand beside the tower, on its two lowest floors; boards stand above both; the core imports
neither. Each outside package has one place that imports it, so that the rest can be read, tested and
used without.
"""

from __future__ import annotations

import ast
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

FLOORS = {
    # 0: words
    "ockamlite._version": 0,
    "ockamlite.errors": 0,
    "ockamlite.events": 0,
    "ockamlite.limits": 0,
    "ockamlite.cbor": 0,
    "ockamlite.bare": 0,
    # 1: bytes
    "ockamlite.routing": 1,
    "ockamlite.wire": 1,
    # 2: state machines, none of which waits
    "ockamlite.vault": 2,
    "ockamlite.identities": 2,
    "ockamlite.secure_channels": 2,
    "ockamlite.portals.protocol": 2,
    "ockamlite.relays.protocol": 2,
    # 3: the event loop begins
    "ockamlite.workers": 3,
    "ockamlite.links": 3,
    # 4: services
    "ockamlite.secure_channels.channel": 4,
    "ockamlite.secure_channels.handshake": 4,
    "ockamlite.secure_channels.listener": 4,
    "ockamlite.portals": 4,
    "ockamlite.relays": 4,
    "ockamlite.services": 4,
    "ockamlite.paths": 4,
    "ockamlite.forwarding": 4,
    # 5: what has them all
    "ockamlite.node": 5,
    # 6: what people use
    "ockamlite.config": 6,
    "ockamlite.cli": 6,
    "ockamlite.__main__": 6,
    "ockamlite": 6,
}
"""The floor of a module, or of all modules of a package that are not named themselves."""

HIGHEST_FOR_TRANSPORTS = 1

IMPORTERS = {
    "cbor2": "ockamlite.cbor",
    "cryptography": "ockamlite.vault.primitives",
    "click": "ockamlite.cli",
    "bleak": "transports.ble",
    "bumble": "transports.ble boards.emulation.controllers",
    "dbus_fast": "transports.ble boards.emulation.fake_bluez",
    "serial_asyncio": "transports.serial",
    "gpiod": "boards.led",
    "pytest": "boards.pytest_plugin",
    "zeroconf": "boards.neighbours",
    "ifaddr": "boards.neighbours",  # comes with zeroconf
}
"""The module, or package, that alone imports an outside package; a fake beside it may, too."""

SHORTCUTS = {
    "ockamlite.cli.run.serving": {"transports.tcp"},
    "ockamlite.cli.run.announcing": {"boards.neighbours"},
    "ockamlite.cli.run.auto": {
        "boards.detection", "boards.machine", "boards.serial_ports", "transports.ble",
    },
    "ockamlite.cli.run.board": {
        "boards.detection", "boards.doctor", "boards.machine", "boards.profiles",
    },
    "ockamlite.cli.run.demo.emulated": {
        "boards.emulation.air", "boards.emulation.air_server", "boards.emulation.line",
        "boards.emulation.uart",
    },
    "ockamlite.cli.run.emulate": {
        "boards.board_limits", "boards.profiles",
        "boards.emulation.air", "boards.emulation.air_server", "boards.emulation.line",
        "boards.emulation.uart",
    },
    "ockamlite.cli.run.scan": {"boards.machine", "boards.neighbours", "boards.serial_ports"},
}  # fmt: skip
"""What the command names itself: to look through all that is installed costs a third of its start."""

NO_LOOP_BELOW = 3
"""No module of a lower floor imports asyncio, but for what back-pressure is made of."""
LOOP_ALLOWED = {"ockamlite.wire.gate"}


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def floor_of(module: str) -> int:
    named = [name for name in FLOORS if module == name or (name != "ockamlite" and within(module, name))]
    return FLOORS[max(named, key=len)] if named else 0


@cache
def modules() -> dict[str, Path]:
    found = {}
    for package in ("ockamlite", "transports", "boards"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports_of(module: str, *, with_types: bool = True) -> frozenset[str]:
    """What a module imports, as modules of ours or as names of outside packages."""
    tree = ast.parse(modules()[module].read_text())
    found = set()
    for node in statements(tree, with_types=with_types):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module} has a relative import"
            assert node.module is not None
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = names & modules().keys()
            found |= inner
            if len(inner) < len(names):
                found.add(node.module)
    return frozenset(found)


def statements(tree: ast.AST, *, with_types: bool) -> list[ast.AST]:
    found: list[ast.AST] = []
    for child in ast.iter_child_nodes(tree):
        if not with_types and isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            found += [
                inner for branch in child.orelse for inner in (branch, *statements(branch, with_types=False))
            ]
        else:
            found += [child, *statements(child, with_types=with_types)]
    return found


CORE = sorted(name for name in modules() if within(name, "ockamlite"))
BESIDE = sorted(name for name in modules() if within(name, "transports"))


def test_every_module_of_the_core_has_a_floor() -> None:
    packages = FLOORS.keys() - {"ockamlite"}
    assert not {name for name in CORE if name != "ockamlite" and not any(within(name, p) for p in packages)}


def test_the_table_names_nothing_that_is_gone() -> None:
    later = {"ockamlite.config", "ockamlite.cli"}
    assert not {name for name in FLOORS if not any(within(module, name) for module in modules())} - later


@pytest.mark.parametrize("module", CORE)
def test_a_module_imports_its_own_floor_or_below(module: str) -> None:
    above = {
        name: floor_of(name)
        for name in imports_of(module)
        if within(name, "ockamlite") and floor_of(name) > floor_of(module)
    }
    assert not above, f"{module} stands on floor {floor_of(module)}"


@pytest.mark.parametrize("module", CORE)
def test_the_core_imports_neither_transports_nor_boards(module: str) -> None:
    beside = {name for name in imports_of(module) if within(name, "transports") or within(name, "boards")}
    assert not beside - SHORTCUTS.get(module, set())


@pytest.mark.parametrize("module", BESIDE)
def test_a_transport_sees_words_and_bytes_only(module: str) -> None:
    assert not {name for name in imports_of(module) if within(name, "boards")}
    high = {
        name
        for name in imports_of(module)
        if within(name, "ockamlite") and floor_of(name) > HIGHEST_FOR_TRANSPORTS
    }
    assert not high


@pytest.mark.parametrize("module", sorted(modules()))
def test_each_outside_package_is_imported_in_one_place(module: str) -> None:
    ours = {"ockamlite", "transports", "boards"}
    outside = {name.partition(".")[0] for name in imports_of(module)} - ours - sys.stdlib_module_names
    wrong = {
        name
        for name in outside
        if not any(within(module, place) for place in IMPORTERS.get(name, "nowhere").split())
    }
    assert not wrong, "see IMPORTERS"


@pytest.mark.parametrize("module", [name for name in CORE if floor_of(name) < NO_LOOP_BELOW])
def test_what_lies_below_the_runtime_knows_no_event_loop_and_no_socket(module: str) -> None:
    allowed = {"asyncio"} if module in LOOP_ALLOWED else set()
    assert not (imports_of(module, with_types=False) & {"asyncio", "socket"}) - allowed


def test_no_module_needs_itself_to_be_imported() -> None:
    graph = {
        module: {
            name for name in imports_of(module, with_types=False) if name in modules() and name != module
        }
        for module in modules()
    }
    assert list(TopologicalSorter(graph).static_order())
