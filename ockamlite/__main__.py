"""``python -m ockamlite``: the command."""

from __future__ import annotations

from ockamlite.cli.main import main

main()
