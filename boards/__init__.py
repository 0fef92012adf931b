"""What is known of single-board computers; emulated links, networks and boards; the pytest plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from boards.emulated_board import EmulatedBoard, emulated
    from boards.emulation.board_process import BoardFailedError

__all__ = ["BoardFailedError", "EmulatedBoard", "emulated"]


def __getattr__(name: str) -> object:
    """Import what is asked for, no sooner: pytest imports this package wherever it is installed."""
    if name in __all__:
        from boards import emulated_board

        return getattr(emulated_board, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
