"""The command: `python -m tests.ble.qemu`."""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from pathlib import Path
from typing import Any

from ockamlite.errors import UnavailableError
from tests.ble.qemu import image, machine, packages
from tests.ble.qemu.guest import checks
from tests.ble.qemu.report import Result

_ROOT = Path(__file__).parents[3]
_LIMIT_S = 900.0


def _checks(text: str) -> str:
    known = [check.__name__ for check in checks.ALL]
    unknown = [name for name in filter(None, text.split(",")) if name not in known]
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(map(repr, unknown))}: known are {', '.join(known)}")
    return text


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.ble.qemu",
        description="Runs both ends of a link over Bluetooth LE on a real kernel and a real bluetoothd, in a "
        "machine of its own: Debian's packages, this Python, the sources as they stand. Needs no root.",
    )
    parser.add_argument(
        "--accel",
        choices=("auto", "kvm", "tcg"),
        default="auto",
        help="how QEMU runs the machine (default auto)",
    )
    parser.add_argument(
        "--folder", type=Path, default=_ROOT / "build" / "qemu", help="for packages, image and log"
    )
    parser.add_argument(
        "--only", type=_checks, default="", metavar="CHECKS", help="names with commas between"
    )
    parser.add_argument("--trace", action="store_true", help="what goes over HCI, in the machine's log")
    parser.add_argument(
        "--limit", type=float, default=_LIMIT_S, metavar="SECONDS", help="three times that by tcg"
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="FILE", help="put the result where FILE marks its place"
    )
    return parser.parse_args()


def _heard(result: Result, report: dict[str, Any]) -> None:
    result.heard(report)
    if "check" in report:
        sign = "ok    " if report.get("ok") else "FAILED"
        print(f"{sign} {report['check']} ({report.get('seconds')} s) {report.get('detail', '')}", flush=True)


def _run(arguments: argparse.Namespace) -> Result:
    machine.check_qemu()
    folder: Path = arguments.folder
    debian = packages.fetch(folder / "packages")
    archive, kernel, console = folder / "image.cpio.gz", folder / "vmlinuz", folder / "console.log"
    image.build(debian, archive, kernel)
    accelerator = arguments.accel
    if accelerator == "auto":
        accelerator = asyncio.run(machine.best_accelerator(kernel))
    print(f"running by {accelerator}; the machine's own words: {console}", flush=True)
    result = Result(accelerator, packages.version(debian["bluez"]))
    patience = machine.PATIENCE[accelerator]
    asyncio.run(
        machine.run(
            kernel,
            archive,
            console,
            accelerator=accelerator,
            arguments=f"ockamlite.patience={patience} ockamlite.only={arguments.only} "
            f"ockamlite.trace={int(arguments.trace)}",
            limit_s=arguments.limit * patience,
            heard=lambda report: _heard(result, report),
        )
    )
    return result


def main() -> int:
    """Run it; 0 if every check held, 1 if not, 69 if it could not be run."""
    arguments = _arguments()
    # The machine ends with us.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        result = _run(arguments)
    except UnavailableError as error:
        print(f"qemu: {error}", file=sys.stderr)
        if error.hint:
            print(f"try: {error.hint}", file=sys.stderr)
        return 69
    if arguments.markdown is not None:
        result.place(arguments.markdown)
    print(result.summary())
    return 0 if result.holds else 1


if __name__ == "__main__":
    sys.exit(main())
