"""``serial:auto`` is replaced by a real port where the command reads its options."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ockamlite.cli.run import auto
from ockamlite.cli.run.auto import choose_port
from ockamlite.cli.run.serving import read_listen
from ockamlite.cli.run.ways import read_hops
from ockamlite.errors import UnavailableError, UsageError
from ockamlite.routing.endpoint import Endpoint
from ockamlite.routing.hops import format_hops

AUTO = Endpoint.parse("serial:auto")
BY_ID = "/dev/serial/by-id/usb-FTDI_FT232R_A1-if00-port0"
COMMAND = """
import sys
from ockamlite.cli.main import main
from ockamlite.cli.run import auto
from ockamlite.routing.endpoint import Endpoint
device = sys.argv.pop(1)
auto.default_serial = lambda root: Endpoint("serial", device, (("baud", "115200"),))
main()
"""


@pytest.fixture
def at_root(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets the command look at a tree of files instead of this machine."""
    return lambda root: monkeypatch.setattr(auto.choose_port, "__defaults__", (root,))


def test_an_endpoint_to_listen_at_becomes_the_free_port(pi4: Any, at_root: Any) -> None:
    pi4.usb_serial("ttyUSB0", "ftdi_sio", Path(BY_ID).name)
    pi4.process(321, "agetty", "ttyS0")
    at_root(pi4.root)
    assert [str(endpoint) for endpoint in read_listen(["serial:auto"])] == [f"serial:{BY_ID}?baud=115200"]


def test_the_first_hop_of_a_route_becomes_the_free_port(pi4: Any, at_root: Any) -> None:
    at_root(pi4.root)
    hops = read_hops("--via", "serial:auto,tcp:10.0.0.7:4000")
    assert format_hops(hops) == "serial:/dev/serial0?baud=115200,tcp:10.0.0.7:4000"


def test_options_stay_as_they_were_given(pi4: Any) -> None:
    wanted = Endpoint.parse("serial:auto?parity=even&baud=9600")
    assert str(choose_port(wanted, pi4.root)) == "serial:/dev/serial0?baud=9600&parity=even"


def test_another_machines_port_cannot_be_chosen_here() -> None:
    with pytest.raises(UsageError, match="route hop 2, column 19: "):
        read_hops("--via", "tcp:10.0.0.7:4000,serial:auto")


def test_a_port_in_use_is_named_with_who_uses_it_and_what_to_write_instead(pi4: Any) -> None:
    pi4.process(321, "agetty", "ttyS0")
    with pytest.raises(UnavailableError) as caught:
        choose_port(AUTO, pi4.root)
    assert str(caught.value) == (
        "serial:auto: no serial port is free: /dev/serial0 is in use by agetty (pid 321)"
        " (on Raspberry Pi 4 Model B Rev 1.1)"
    )
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("serial:/dev/ttyS0?baud=115200, or another port")


def test_a_port_that_may_be_anything_is_not_taken_but_offered(pi4: Any) -> None:
    pi4.process(321, "agetty", "ttyS0")
    pi4.serial("ttyS9", "serial8250")
    with pytest.raises(UnavailableError, match="free but not taken unasked: /dev/ttyS9") as caught:
        choose_port(AUTO, pi4.root)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("serial:/dev/ttyS9?baud=115200")


def test_a_machine_without_any_port_says_what_an_endpoint_looks_like(x86: Any) -> None:
    with pytest.raises(UnavailableError, match="shows no serial port") as caught:
        choose_port(AUTO, x86.root)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("serial:/dev/ttyUSB0?baud=115200")


@pytest.mark.parametrize(
    "arguments",
    [
        ["node", "--listen", "serial:auto"],
        ["inlet", "tcp:127.0.0.1:0", "--via", "serial:auto"],
    ],
    ids=["listening", "dialling"],
)
def test_the_ready_line_names_the_real_device(tmp_path: Path, arguments: list[str]) -> None:
    ends = pty.openpty()
    device = os.ttyname(ends[1])
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, device, *arguments, "--trust-everyone"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"OCKAMLITE_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith(f"ready: {arguments[0]}")
        assert f"serial:{device}?baud=115200" in line
        assert "auto" not in line
    finally:
        process.terminate()
        process.communicate(timeout=10)
        for end in ends:
            os.close(end)
