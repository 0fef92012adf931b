"""``ockamlite emulate``: devices for other processes, whose endpoints are those of hardware."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def test_a_message_goes_over_an_emulated_line_and_its_devices_go_with_it(
    run: Any, serve: Any, tmp_path: Path
) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    emulation = serve("emulate", "--serial", f"{a}:{b}", "--baud", "230400", "--output", "json")
    ready = emulation.event("ready")
    assert list(ready) == ["event", "time", "command", "pid", "serial", "environment"]
    assert (ready["command"], ready["serial"], ready["environment"]) == ("emulate", [[str(a), str(b)]], {})
    node = serve("node", "--listen", f"serial:{a}?baud=230400", "--trust-everyone", "--output", "json")
    assert node.event("ready")["listening"] == [f"serial:{a}?baud=230400"]
    done = run("send", f"serial:{b}?baud=230400,echo", "over a line")
    assert (done.returncode, done.stdout) == (0, "over a line\n"), done.stderr
    assert node.stop() == 0
    assert emulation.stop() == 0
    assert not a.is_symlink()
    assert not b.is_symlink()


def test_a_line_of_a_board_has_the_speed_of_its_port(run: Any, serve: Any, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    emulation = serve(
        "emulate", "--serial", f"{a}:{b}", "--board", "raspberry-pi-zero-2-w", "--output", "json"
    )
    assert emulation.event("ready")
    node = serve("node", "--listen", f"serial:{a}?baud=921600", "--trust-everyone", "--output", "json")
    assert node.event("ready")
    began = time.monotonic()
    done = run("send", f"serial:{b}?baud=921600,echo", "x" * 12_000)
    assert done.returncode == 0, done.stderr
    # No less, whatever the ends believe: what a busy machine adds does no harm.
    assert time.monotonic() - began > 0.9 * 2 * 12_000 * 10 / 115_200
    assert node.stop() == emulation.stop() == 0


def test_a_message_goes_over_the_emulated_air(run: Any, serve: Any) -> None:
    emulation = serve("emulate", "--ble", "--loss", "0.05", "--seed", "3", "--output", "json")
    ready = emulation.event("ready")
    assert ready["serial"] == []
    assert list(ready["environment"]) == ["OCKAMLITE_AIR"]
    environment = ready["environment"]
    node = serve("node", "--listen", "ble:pi-cabinet", "--trust-everyone", "--output", "json", **environment)
    assert node.event("ready")["listening"] == ["ble:pi-cabinet"]
    done = run("send", "ble:pi-cabinet,echo", "through the air", **environment)
    assert (done.returncode, done.stdout) == (0, "through the air\n"), done.stderr
    assert node.stop() == 0
    assert emulation.stop(signal.SIGINT) == 0
    gone = run("send", "ble:pi-cabinet,echo", "through the air", **environment)
    assert gone.returncode == 69


def test_the_text_is_to_be_pasted(serve: Any, tmp_path: Path) -> None:
    a, b = tmp_path / "a", tmp_path / "b"
    emulation = serve("emulate", "--serial", f"{a}:{b}", "--ble")
    assert emulation.line() == f"ready: emulate serial:{a} - serial:{b}, ble: where this is set"
    assert emulation.line().startswith("export OCKAMLITE_AIR=/")
    assert emulation.stop() == 0


def test_left_overs_of_one_who_was_killed_are_replaced(serve: Any, tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("/dev/pts/no-longer")
    emulation = serve("emulate", "--serial", f"{tmp_path / 'a'}:{tmp_path / 'b'}", "--output", "json")
    assert emulation.event("ready")
    assert (tmp_path / "a").is_char_device()
    assert emulation.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((), 64, "nothing to emulate"),
        (("--serial", "a"), 64, "two devices with a colon"),
        (("--serial", "a:b:c"), 64, "two devices with a colon"),
        (("--serial", ":b"), 64, "two devices with a colon"),
        (("--serial", "{}/x:{}/x"), 64, "two lines"),
        (("--serial", "{}/x:{}/y", "--serial", "{}/y:{}/z"), 64, "two lines"),
        (("--serial", "{}/file:{}/y"), 73, "exists already"),
        (("--serial", "{}/none/x:{}/y"), 69, "there is no folder"),
        (("--serial", "{}/nowhere/x:{}/y"), 69, "cannot emulate"),
        (("--ble", "--mtu", "22"), 64, "mtu"),
        (("--ble", "--loss", "1"), 64, "loss"),
        (("--ble", "--board", "raspberry-pi-9"), 64, "no board"),
        (("--ble", "--board", "beaglebone-black"), 64, "no Bluetooth LE adapter"),
        (
            ("--serial", "{}/x:{}/y", "--board", "raspberry-pi-4b", "--baud", "921600"),
            64,
            "115200 Bd at most",
        ),
    ],
)
def test_what_cannot_be_emulated_is_refused(
    run: Any, tmp_path: Path, arguments: tuple[str, ...], code: int, text: str
) -> None:
    (tmp_path / "file").write_text("somebody's")
    done = run("emulate", *(argument.replace("{}", str(tmp_path)) for argument in arguments))
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "file").read_text() == "somebody's"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_line_with_loss_is_a_json_line_like_any_other(serve: Any, tmp_path: Path) -> None:
    emulation = serve(
        "emulate",
        "--serial",
        f"{tmp_path}/a:{tmp_path}/b",
        "--loss",
        "0.001",
        "--noise",
        "1e-5",
        "--output",
        "json",
    )
    assert json.dumps(emulation.event("ready")["serial"]) == json.dumps([[f"{tmp_path}/a", f"{tmp_path}/b"]])
    assert emulation.stop() == 0
