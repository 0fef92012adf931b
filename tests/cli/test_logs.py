"""What logs may hold of what a peer sent: nothing that a terminal would obey."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from ockamlite.cli.options import Common
from ockamlite.cli.run.logs import EVENTS, set_up

if TYPE_CHECKING:
    from collections.abc import Iterator

NASTY = "a\x1b[2Jb\rc\nd\x07\x9b\u202e"


@pytest.fixture
def loggers() -> Iterator[None]:
    """As they were before."""
    root = logging.getLogger()
    handlers, raises = root.handlers[:], logging.raiseExceptions
    levels = {name: logging.getLogger(name).level for name in ("", "ockamlite", "transports", EVENTS)}
    yield
    root.handlers[:], logging.raiseExceptions = handlers, raises
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


@pytest.mark.parametrize("as_json", [False, True])
def test_a_log_line_is_one_line_of_printable_signs(
    loggers: None, capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    set_up(Common(json=False, verbose=0, quiet=False, json_log=as_json, identity="default", ephemeral=False))
    logging.getLogger("ockamlite.relays").warning("refused: %s", NASTY)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.rstrip("\n").isprintable()
    assert "refused: a" in said
