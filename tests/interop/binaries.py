"""Which Rust programs there are on this machine."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tomllib
from pathlib import Path

from tests.interop.programs import FOLDER, ROOT, plain_environment, run
from tests.interop.rust import OckamCommand, release_of


@dataclasses.dataclass(frozen=True, slots=True)
class Binary:
    """A Rust program to test against, or why there is none."""

    label: str
    path: str = ""
    missing: str = ""

    @property
    def is_peer(self) -> bool:
        return self.label.startswith("ockam-peer")


def peer_binary() -> Binary:
    lock = tomllib.loads((FOLDER / "rust-peer" / "Cargo.lock").read_text())
    version = next(package["version"] for package in lock["package"] if package["name"] == "ockam")
    label = f"ockam-peer {version}"
    given = os.environ.get("OCKAM_PEER")
    path = Path(given) if given else FOLDER / "rust-peer" / "target" / "release" / "ockam-peer"
    if os.access(path, os.X_OK):
        return Binary(label, str(path.resolve()))
    manifest = (FOLDER / "rust-peer" / "Cargo.toml").relative_to(ROOT)
    if given:
        return Binary(label, missing=f"OCKAM_PEER={given} cannot be run")
    build = f"cargo build --release --locked --manifest-path {manifest}"
    return Binary(label, missing=f"no Rust peer: run `make interop` or `{build}`, or set OCKAM_PEER")


def ockam_binaries() -> list[Binary]:
    """Every binary of OCKAM, else the one on PATH, by release."""
    given = os.environ.get("OCKAM")
    found = given.split(os.pathsep) if given else list(filter(None, [shutil.which("ockam")]))
    how = "install Ockam's command (https://docs.ockam.io) or set OCKAM to its binaries, separated by `:`"
    binaries = []
    for path in found:
        try:
            with_home = plain_environment() | OckamCommand.SERVICES
            printed = run([str(Path(path).resolve()), "--version"], with_home, 10).stdout
        except OSError as error:
            binaries.append(Binary(f"ockam {path}", missing=f"OCKAM={path}: {error.strerror}"))
            continue
        label = f"ockam {'.'.join(map(str, release_of(printed))) or 'of unknown release'}"
        binaries.append(Binary(label, str(Path(path).resolve())))
    return binaries or [Binary("ockam", missing=f"no `ockam` command: {how}")]


BINARIES = [peer_binary(), *ockam_binaries()]
