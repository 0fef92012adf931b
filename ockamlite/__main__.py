"""The command ``ockamlite``, also as ``python -m ockamlite``: from here on a signal ends it cleanly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ockamlite.cli.stop import end_at_once

if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Run the command and exit."""
    end_at_once()
    # Imported here: what takes a tenth of a second on a small board is when the first signals come.
    from ockamlite.cli.main import main as command

    command()


if __name__ == "__main__":
    main()
