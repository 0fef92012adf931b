"""`ssh -L` through an sshd of our own: own keys, own port, no root, no PAM, one cipher."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.errors import NotReadyError
from benchmarks.processes import READY_TIMEOUT_S, Program, program, tree
from benchmarks.tunnels.tunnel import End, Tunnel, free_port

if TYPE_CHECKING:
    from contextlib import ExitStack

CIPHER = "aes256-gcm@openssh.com"
_PRIVILEGE_SEPARATION = Path("/run/sshd")


def _sshd() -> str | None:
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


class Ssh(Tunnel):
    """The tunnel that everybody has."""

    name = "ssh"

    def obstacle(self) -> str | None:
        """Which of OpenSSH's programs is missing."""
        if _sshd() is None:
            return "sshd is not installed"
        return None if shutil.which("ssh") and shutil.which("ssh-keygen") else "ssh is not installed"

    def help_command(self) -> list[str] | None:
        """`ssh -V`, since ssh has no help."""
        return ["ssh", "-V"]

    def open_far(self, stack: ExitStack, folder: Path, target_port: int) -> End:
        """Start sshd with fresh keys."""
        for name in ("host_key", "user_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)],
                check=True,
                timeout=20,
                stdin=subprocess.DEVNULL,
            )
        port = free_port()
        public = (folder / "host_key.pub").read_text().strip()
        (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {public}\n")
        settings = {
            "ListenAddress": f"127.0.0.1:{port}",
            "HostKey": folder / "host_key",
            "AuthorizedKeysFile": folder / "user_key.pub",
            "PidFile": "none",
            "UsePAM": "no",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "PermitRootLogin": "prohibit-password",
            "AllowTcpForwarding": "local",
            "Ciphers": CIPHER,
        }
        (folder / "sshd_config").write_text("".join(f"{k} {v}\n" for k, v in settings.items()))
        self._make_privilege_separation_folder(stack)
        sshd = _sshd() or "sshd"
        running = stack.enter_context(
            program([sshd, "-D", "-e", "-f", str(folder / "sshd_config")], folder, "sshd")
        )
        stack.callback(_wait_for_sessions, running)
        _wait_for_port(running, port)
        return End((running.pid,), port, facts={"target": str(target_port)})

    def open_near(self, stack: ExitStack, folder: Path, far: End) -> End:
        """Start `ssh -N -L`; it is ready when it has logged in and bound its port."""
        port = free_port()
        options = {
            "Ciphers": CIPHER,
            "Compression": "no",
            "IdentityFile": folder / "user_key",
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": folder / "known_hosts",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "ExitOnForwardFailure": "yes",
            # ssh says nothing when it can serve; this runs once the forwarding is set up.
            "PermitLocalCommand": "yes",
            "LocalCommand": "echo ready",
        }
        command = ["ssh", "-F", "none", "-N", "-L", f"127.0.0.1:{port}:127.0.0.1:{far.facts['target']}"]
        for key, value in options.items():
            command += ["-o", f"{key}={value}"]
        command += ["-p", str(far.port), f"{getpass.getuser()}@127.0.0.1"]
        running = stack.enter_context(program(command, folder, f"ssh-{port}"))
        running.first_line()
        return End((running.pid,), port, time.perf_counter() - running.started)

    @staticmethod
    def _make_privilege_separation_folder(stack: ExitStack) -> None:
        """As root sshd wants this folder, which its service unit would have made; gone again afterwards."""
        if os.geteuid() == 0 and not _PRIVILEGE_SEPARATION.exists():
            _PRIVILEGE_SEPARATION.mkdir(mode=0o755)
            stack.callback(_PRIVILEGE_SEPARATION.rmdir)


def _wait_for_sessions(running: Program) -> None:
    """Let sshd wait for its own children, which end with the client, or nobody might."""
    deadline = time.monotonic() + 2
    while len(tree([running.pid])) > 1 and time.monotonic() < deadline:
        time.sleep(0.02)


def _wait_for_port(running: Program, port: int) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and running.process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), 1):
                return
        except OSError:
            time.sleep(0.01)
    raise NotReadyError(f"sshd does not listen: {running.stderr.read_text(errors='replace')[-300:]}")
