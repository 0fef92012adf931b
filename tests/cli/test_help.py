"""Help is quick and says what each thing is; completion scripts are scripts; each error has its code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import Any

import pytest

from ockamlite import errors
from ockamlite.cli.exits import CODES, exit_code
from ockamlite.cli.table import COMMANDS

SLOW = ("cryptography", "bleak", "asyncio", "cbor2", "sqlite3", "importlib.metadata", "serial")


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)], ids=str)
def test_help_imports_nothing_that_is_slow(arguments: list[str]) -> None:
    program = (
        f"import sys; from ockamlite.cli.main import run; code = run({arguments!r}); "
        f"loaded = [name for name in {SLOW!r} if name in sys.modules]; "
        "assert not loaded, loaded; sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage: " in done.stdout


@pytest.mark.parametrize(
    ("command", "claim"),
    [
        ("outlet", "outlet connects"),
        ("inlet", "inlet listens"),
        ("relay", "relay forwards"),
        ("node", "node is a process"),
    ],
)
def test_the_first_line_of_a_help_says_what_the_thing_is(run: Any, command: str, claim: str) -> None:
    lines = run(command, "--help").stdout.splitlines()
    assert lines[0].startswith("Usage: ockamlite ")
    assert claim in lines[2]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_one_that_its_shell_can_read(run: Any, shell: str) -> None:
    done = run("completion", shell)
    assert done.returncode == 0
    assert "_OCKAMLITE_COMPLETE" in done.stdout
    as_json = json.loads(run("completion", shell, "--output", "json").stdout)
    assert as_json["script"].strip() == done.stdout.strip()
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here: apt-get install {shell}")
    checked = subprocess.run([shell, "-n"], input=done.stdout, text=True, capture_output=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_options_are_completed(run: Any) -> None:
    done = run(
        "",
        _OCKAMLITE_COMPLETE="bash_complete",
        COMP_WORDS="ockamlite inlet --allow-r",
        COMP_CWORD="2",
    )
    assert done.stdout.split(",")[-1].strip() == "--allow-relay"


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.UsageError, 64),
        (errors.NotFoundError, 64),
        (errors.DamagedStateError, 65),
        (errors.UnavailableError, 69),
        (errors.LinkClosedError, 69),
        (errors.LinkBrokenError, 69),
        (errors.ClosedError, 70),
        (errors.AlreadyExistsError, 73),
        (errors.StorageError, 74),
        (errors.AnswerTimeoutError, 75),
        (errors.DecodeError, 76),
        (errors.ProtocolError, 76),
        (errors.VerificationError, 76),
        (errors.TrustError, 77),
        (errors.PermissionsError, 77),
    ],
)
def test_each_error_has_its_exit_code(error: type[errors.OckamError], code: int) -> None:
    assert exit_code(error("why")) == code


def test_no_row_of_the_table_of_exit_codes_hides_behind_another() -> None:
    for place, (kind, _) in enumerate(CODES):
        assert not any(issubclass(kind, before) for before, _ in CODES[:place])
