"""Signals end a command that serves even if what it runs will not end, or blocks the event loop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ockamlite.cli.stop import SERVING

STUBBORN = """
import asyncio, sys, time
from ockamlite.cli.run.loop import run_to_end, serve
from ockamlite.cli.stop import StoppedError

async def work():
    try:
        print("begun", flush=True)
        await asyncio.sleep(60)
    finally:
        print("told to end", flush=True)
        {never}

try:
    {run}(work())
except StoppedError as stop:
    sys.exit(128 + stop.number)
"""
WAITS = "await asyncio.sleep(60)"
BLOCKS = "time.sleep(60)"
ENDS = "pass"

IMPORTING = """
import os, runpy, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == {name!r}:
            os.kill(os.getpid(), {number})

sys.meta_path.insert(0, Finder())
sys.argv = ["ockamlite", *{arguments!r}]
runpy.run_module("ockamlite", run_name="__main__", alter_sys=False)
"""
"""Gets the signal as a module is looked for, from the first to the last that the command imports."""


def stubborn(run: str, never: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", STUBBORN.format(run=run, never=never)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("never", [WAITS, BLOCKS], ids=["waits", "blocks"])
@pytest.mark.parametrize(
    ("run", "code"), [("serve", 0), ("run_to_end", 128 + signal.SIGTERM)], ids=["serves", "ends by itself"]
)
def test_what_will_not_end_is_ended(run: str, code: int, never: str) -> None:
    with stubborn(run, never) as process:
        process.terminate()
        assert process.wait(30) == code


@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_ends_at_once(second: signal.Signals) -> None:
    with stubborn("serve", WAITS) as process:
        process.terminate()
        assert process.stdout is not None
        assert process.stdout.readline() == "told to end\n"
        process.send_signal(second)
        assert process.wait(30) == 128 + second


@pytest.mark.parametrize(("run", "code"), [("serve", 0), ("run_to_end", 128 + signal.SIGINT)])
def test_what_ends_when_told_is_waited_for(run: str, code: int) -> None:
    with stubborn(run, ENDS) as process:
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stdout.read() == "told to end\n"
        assert process.wait(30) == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["ockamlite.cli.main", "click", "asyncio", "ockamlite.node"])
def test_a_signal_while_modules_are_imported_is_a_clean_end(name: str, number: signal.Signals) -> None:
    for arguments, code in (
        (["relay", "--listen", "tcp:127.0.0.1:0", "--ephemeral"], 0),
        (["send", "tcp:127.0.0.1:1,echo", "x"], 128 + number),
    ):
        program = IMPORTING.format(name=name, number=int(number), arguments=arguments)
        ended = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, timeout=30)
        assert (ended.returncode, ended.stdout, ended.stderr) == (code, b"", b"")


def test_a_signal_is_a_clean_end_of_each_command_that_serves() -> None:
    run = Path(__file__).parents[2] / "ockamlite/cli/run"
    assert {path.stem for path in run.glob("*.py") if " serve(_serve(" in path.read_text()} == SERVING
