"""The entry of the ``ockamlite`` command: calls a command, and tells its errors as people want them.

Imports nothing of the runtime; ``ockamlite --help`` needs none of it.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

import click

from ockamlite._version import __version__
from ockamlite.cli.exits import DEFECT, IO, OK, USAGE, exit_code, system_exit_code
from ockamlite.cli.stop import ReaderGoneError, StoppedError, end_at_once
from ockamlite.cli.table import Commands
from ockamlite.errors import OckamError


@click.command(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="'ockamlite COMMAND --help' says more. Each option can be an environment variable: "
    "OCKAMLITE_ and its name in capitals.",
    no_args_is_help=False,
)
@click.version_option(__version__, prog_name="ockamlite")
def cli() -> None:
    """End-to-end encrypted connections over any mix of links, in Ockam's wire format.

    An outlet connects: it stands near the service. An inlet listens: it stands near the client.
    A relay forwards between them and sees ciphertext only. Begin with 'ockamlite demo'.
    """


def main() -> NoReturn:
    """Run the command and exit."""
    end_at_once()
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
    except OSError:
        _drop_stdout()
    threading = sys.modules.get("threading")
    if threading is not None and threading.active_count() > 1:
        # A name that is still being looked up, or a reader that does not read, must not keep us.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run(args: list[str]) -> int:
    """Run the command with its arguments; return its exit code, after telling errors on stderr."""
    try:
        code = cli.main(args, prog_name="ockamlite", standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.UsageError as error:
        return _tell_usage(error)
    except click.Abort:
        return 128 + signal.SIGINT
    except click.ClickException as error:
        return _tell(error.format_message(), "", USAGE)
    except OckamError as error:
        code = exit_code(error)
        return _defect() if code == DEFECT else _tell(str(error), error.hint, code)
    except ReaderGoneError:
        _drop_stdout()
        return IO
    except StoppedError as stop:
        return 128 + stop.number
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        return _tell(f"{where}{(error.strerror or str(error)).lower()}", "", system_exit_code(error))
    except Exception:  # noqa: BLE001  (the last resort: our defect, told as one)
        return _defect()
    return code if isinstance(code, int) else OK


def _tell(message: str, hint: str, code: int) -> int:
    """Print an error as one line, and what to try as another."""
    lines = [f"ockamlite: {_one_line(message)}"]
    if hint:
        lines.append(f"try: {_one_line(hint)}")
    click.echo("\n".join(lines), err=True)
    return code


def _tell_usage(error: click.UsageError) -> int:
    path = error.ctx.command_path if error.ctx is not None else "ockamlite"
    message = error.format_message()
    if isinstance(error.ctx and error.ctx.command, click.Group) and message == "Missing command.":
        assert error.ctx is not None  # noqa: S101  (it has a command)
        group = error.ctx.command
        assert isinstance(group, click.Group)  # noqa: S101  (just asked)
        message = f"which command? {', '.join(group.list_commands(error.ctx))}"
    return _tell(message[:1].lower() + message[1:].rstrip("."), f"{path} --help", USAGE)


def _one_line(text: str) -> str:
    """The text without line ends and other control characters: it may hold what a peer sent."""
    joined = " ".join(text.split())
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in joined)


def _defect() -> int:
    import traceback

    traceback.print_exc()
    return _tell(
        f"this is a defect of ockamlite {__version__}, not of your input",
        "report it with the lines above",
        DEFECT,
    )


def _drop_stdout() -> None:
    """Nobody reads our output any more: let what Python still holds of it vanish."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
