"""The public names are this list; each is imported only when it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import ockamlite

PUBLIC = {
    "Address",
    "AnswerTimeoutError",
    "Context",
    "Identifier",
    "Limits",
    "Link",
    "LinkError",
    "LocalError",
    "LocalIdentity",
    "Node",
    "OckamError",
    "Path",
    "Received",
    "RemoteError",
    "Route",
    "SecureChannel",
    "Trust",
    "TrustEveryone",
    "TrustError",
    "TrustIdentifiers",
    "Worker",
    "__version__",
}

PUBLIC_BOARDS = {
    "boards.detection": {"detect"},
    "boards.doctor": {"examine"},
    "boards.machine": {"Machine"},
}
"""What examples may use of the package that knows boards, by module."""

EXAMPLES = Path(__file__).parents[2] / "examples"


def modules_after(code: str) -> set[str]:
    """The modules that a fresh Python has imported when it has run ``code``."""
    script = f"import sys\n{code}\nprint(*sys.modules, file=sys.stderr)"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(ran.stderr.splitlines()[-1].split())


def test_the_public_names_are_these() -> None:
    assert set(ockamlite.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_a_public_name_is_there(name: str) -> None:
    assert getattr(ockamlite, name) is not None
    assert name in dir(ockamlite)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nonsense'"):
        _ = ockamlite.Nonsense  # type: ignore[attr-defined]


def test_importing_the_package_imports_none_of_its_parts() -> None:
    assert {name for name in modules_after("import ockamlite") if name.startswith("ockamlite.")} == {
        "ockamlite._version"
    }


def test_help_imports_neither_cryptography_nor_the_runtime() -> None:
    code = (
        "from ockamlite.cli.main import main\n"
        "sys.argv = ['ockamlite', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass"
    )
    assert not {"cryptography", "cbor2", "asyncio", "ockamlite.node"} & modules_after(code)


@pytest.mark.parametrize("example", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_use_public_names_only(example: Path) -> None:
    for node in ast.walk(ast.parse(example.read_text())):
        if isinstance(node, ast.ImportFrom):
            if node.module in sys.stdlib_module_names:
                continue
            public = PUBLIC if node.module == "ockamlite" else PUBLIC_BOARDS.get(str(node.module), set())
            assert {alias.name for alias in node.names} <= public
        elif isinstance(node, ast.Import):
            assert {alias.name for alias in node.names} <= sys.stdlib_module_names
