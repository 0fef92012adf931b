"""Identities and where they are kept."""

from __future__ import annotations

import json
import os
import pty
import stat
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest


def test_an_identity_is_created_shown_listed_exported_rotated_and_deleted(run: Any, tmp_path: Path) -> None:
    home = tmp_path / "state"
    made = run("identity", "create", "bob", home=home).stdout
    assert len(made) == 66
    assert made.startswith("I")
    assert run("identity", "show", "bob", home=home).stdout == made
    assert run("identity", "list", home=home).stdout == f"bob {made}"
    exported = run("identity", "export", "bob", home=home).stdout.strip()
    assert bytes.fromhex(exported)
    assert run("identity", "rotate", "bob", home=home).stdout == made
    rotated = json.loads(run("identity", "export", "bob", "--output", "json", home=home).stdout)
    assert rotated["changes"] == 2
    assert rotated["identifier"] == made.strip()
    assert exported[8:] in rotated["history"]
    refused = run("identity", "delete", "bob", home=home)
    assert (refused.returncode, refused.stdout) == (64, "")
    assert "try: --yes" in refused.stderr
    assert run("identity", "delete", "bob", "--yes", home=home).returncode == 0
    assert run("identity", "list", home=home).stdout == ""


def test_json_of_an_identity_has_its_keys(run: Any, tmp_path: Path) -> None:
    home = tmp_path / "state"
    for command in ("create", "show", "list", "export", "rotate", "delete"):
        yes = ["--yes"] if command == "delete" else []
        found = json.loads(run("identity", command, *yes, "--output", "json", home=home).stdout)
        assert found["name"] == "default"
        assert found.keys() >= {"identifier", "created", "expires", "changes"}
        assert ("history" in found) == (command == "export")
        assert datetime.fromisoformat(found["created"]) < datetime.fromisoformat(found["expires"])


def test_a_name_that_is_taken_ends_with_73(run: Any, homes: Any) -> None:
    done = run("identity", "create", home=homes["pi"][0])
    assert (done.returncode, done.stdout) == (73, "")
    assert "there is an identity 'default' already" in done.stderr


def test_default_is_created_on_first_use_by_one_of_several_at_once(tmp_path: Path, run: Any) -> None:
    command = [sys.executable, "-m", "ockamlite", "identity", "show"]
    environment = {"OCKAMLITE_HOME": str(tmp_path / "state"), "PYTHONPATH": str(Path(__file__).parents[2])}
    started = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    shown = {process.communicate(timeout=30)[0] for process in started}
    assert len(shown) == 1
    assert shown.pop().startswith("I")


def test_another_identity_is_used_when_asked_for(run: Any, tmp_path: Path) -> None:
    home = tmp_path / "state"
    made = run("identity", "create", "bob", home=home).stdout
    assert run("identity", "show", "--identity", "bob", home=home).stdout == made
    assert run("identity", "show", home=home, OCKAMLITE_IDENTITY="bob").stdout == made
    assert run("identity", "show", home=home).stdout != made


def test_the_state_is_for_its_owner_only(run: Any, tmp_path: Path) -> None:
    home = tmp_path / "state"
    run("identity", "create", home=home)
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in home.iterdir()} == {0o600}


@pytest.mark.parametrize("what", ["folder", "file"])
def test_permissions_that_are_too_wide_are_refused_with_what_to_run(
    run: Any, tmp_path: Path, what: str
) -> None:
    home = tmp_path / "state"
    run("identity", "create", home=home)
    path = home if what == "folder" else next(iter(home.iterdir()))
    path.chmod(0o755 if what == "folder" else 0o644)
    done = run("identity", "show", home=home)
    assert (done.returncode, done.stdout) == (77, "")
    assert "try: chmod" in done.stderr
    assert str(path) in done.stderr


def test_a_damaged_database_ends_with_65(run: Any, tmp_path: Path) -> None:
    home = tmp_path / "state"
    run("identity", "create", home=home)
    for path in home.iterdir():
        path.write_bytes(b"this is no database" * 100)
    done = run("identity", "show", home=home)
    assert (done.returncode, done.stdout) == (65, "")
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_disk_under_stdout_ends_with_74(homes: Any) -> None:
    environment = {"OCKAMLITE_HOME": str(homes["pi"][0]), "PYTHONPATH": str(Path(__file__).parents[2])}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ockamlite", "identity", "show"],
            env=environment, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert done.returncode == 74
    assert done.stderr == "ockamlite: cannot write to stdout: no space left on device\n"


def test_a_reader_that_has_gone_is_no_traceback(homes: Any) -> None:
    environment = {"OCKAMLITE_HOME": str(homes["pi"][0]), "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-m", "ockamlite", "identity", "export"],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert process.stderr.read() == ""
    process.stderr.close()
    assert process.wait(30) == 74


@pytest.mark.parametrize(("answer", "is_left"), [(b"y\n", False), (b"n\n", True)])
def test_on_a_terminal_delete_asks(run: Any, tmp_path: Path, answer: bytes, is_left: bool) -> None:
    home = tmp_path / "state"
    run("identity", "create", "bob", home=home)
    ours, theirs = pty.openpty()
    environment = {"OCKAMLITE_HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(
        [sys.executable, "-m", "ockamlite", "identity", "delete", "bob"],
        env=environment, stdin=theirs, stderr=theirs, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    assert b"Delete identity 'bob'" in os.read(ours, 1000)
    os.write(ours, answer)
    assert process.wait(30) == 0
    os.close(ours)
    os.close(theirs)
    assert bool(run("identity", "list", home=home).stdout) == is_left
