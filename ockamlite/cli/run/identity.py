"""What the commands of ``ockamlite identity`` do."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ockamlite.cli.run.logs import iso_time, set_up
from ockamlite.cli.run.output import print_result
from ockamlite.cli.run.state import load, open_store
from ockamlite.errors import NotFoundError, UsageError
from ockamlite.identities.local import create_identity

if TYPE_CHECKING:
    from ockamlite.cli.options import Common
    from ockamlite.identities.change_history import Identity


def create(common: Common, name: str | None) -> None:
    """Create an identity and print its identifier."""
    chosen = _begin(common, name)
    identity = create_identity(open_store(), chosen, int(time.time())).identity
    _print(common, chosen, identity, str(identity.identifier))


def show(common: Common, name: str | None) -> None:
    """Print an identifier."""
    chosen = _begin(common, name)
    identity = load(open_store(), chosen).identity
    _print(common, chosen, identity, str(identity.identifier))


def list_all(common: Common) -> None:
    """Print all names and identifiers."""
    _begin(common, None)
    for name, identity in open_store().list():
        _print(common, name, identity, f"{name} {identity.identifier}")


def export(common: Common, name: str | None) -> None:
    """Print a change history."""
    chosen = _begin(common, name)
    identity = load(open_store(), chosen).identity
    history = identity.encoded.hex()
    _print(common, chosen, identity, history, history=history)


def rotate(common: Common, name: str | None) -> None:
    """Replace the keys of an identity and print its identifier."""
    chosen = _begin(common, name)
    ours = load(open_store(), chosen)
    ours.rotate(int(time.time()))
    _print(common, chosen, ours.identity, str(ours.identifier))


def delete(common: Common, name: str | None, *, yes: bool) -> None:
    """Delete an identity, after asking; print it in JSON only."""
    chosen = _begin(common, name)
    store = open_store()
    try:
        identity = store.show(chosen)
    except NotFoundError as error:
        raise NotFoundError(str(error), hint="ockamlite identity list") from error
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise UsageError(f"identity {chosen!r} is deleted for ever", hint="--yes, if that is meant")
        if not click.confirm(f"Delete identity {chosen!r} ({identity.identifier}) and its keys?", err=True):
            return
    store.delete(chosen)
    if common.json:
        _print(common, chosen, identity, "")
    else:
        click.echo(f"deleted identity {chosen} {identity.identifier}", err=True)


def _begin(common: Common, name: str | None) -> str:
    """Set the logs up; return the name that is meant."""
    set_up(common)
    if common.ephemeral:
        raise UsageError("an ephemeral identity is kept nowhere", hint="leave out --ephemeral")
    return name or common.identity


def _print(common: Common, name: str, identity: Identity, text: str, **more: Any) -> None:
    print_result(
        common,
        text,
        name=name,
        identifier=str(identity.identifier),
        created=iso_time(identity.changes[0].valid_from),
        expires=iso_time(identity.latest.valid_until),
        changes=len(identity.changes),
        **more,
    )
