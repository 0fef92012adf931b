"""The demo's course: start everything, fetch through it, look at what the middle saw, end it all."""

from __future__ import annotations

import asyncio
import http.client
import secrets
import shutil
import subprocess
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ockamlite.cli.exits import DEFECT, OK, UNAVAILABLE
from ockamlite.cli.run.demo.emulated import Emulation, Tap
from ockamlite.cli.run.demo.processes import Processes
from ockamlite.cli.run.demo.recorder import Recorder
from ockamlite.cli.run.demo.report import Report
from ockamlite.cli.run.demo.web import FILE_BYTES, WebService
from ockamlite.cli.run.logs import set_up
from ockamlite.cli.run.loop import run_to_end, serve
from ockamlite.errors import OckamError

if TYPE_CHECKING:
    from ockamlite.cli.options import Common

_LONGEST_S: Final = 19.0
_RELAY: Final = ("relay", "--ephemeral", "--listen")
_PICTURE: Final = """\
  browser > inlet                                                     outlet > web service
            laptop --tcp-- relay --tcp-- gateway 2 --serial-- gateway 1 --ble-- device
            [keys]                                                             [keys]
"""


def run(common: Common, *, keep: bool) -> int:
    """Show the whole system; return the exit code."""
    set_up(common)
    report = Report(common)
    folder = Path(tempfile.mkdtemp(prefix="ockamlite-demo-"))
    try:
        tour = _Tour(report, folder)
        if keep:
            serve(tour.go(keep=True))
        else:
            run_to_end(tour.go(keep=False))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return tour.code


class _Tour:
    """One run of the demo."""

    def __init__(self, report: Report, folder: Path) -> None:
        self.code = DEFECT
        self._report = report
        self._folder = folder
        self._canary = f"canary-{secrets.token_hex(16)}"
        self._device_link = Tap("device - gateway 1", "ble")
        self._serial_link = Tap("gateway 1 - gateway 2", "serial")
        self._gateway_link = Recorder("gateway 2 - relay")
        self._laptop_link = Recorder("relay - laptop")
        self._service_link = Recorder("outlet - web service")
        self._middle = (self._device_link, self._serial_link, self._gateway_link, self._laptop_link)

    async def go(self, *, keep: bool) -> None:
        """Start, check, report; with ``keep`` wait for a signal before ending it all."""
        report = self._report
        port = 0
        async with AsyncExitStack() as stack:
            try:
                async with asyncio.timeout(_LONGEST_S):
                    port = await self._start(stack)
                    await self._fetch(port)
                    self._look()
            except TimeoutError:
                report.check("in-time", False, f"it took longer than {_LONGEST_S:.0f} s")
            except OckamError as error:
                report.check("start", False, str(error))
            self.code = OK if report.is_ok else UNAVAILABLE
            if keep and report.is_ok:
                url = f"http://127.0.0.1:{port}/"
                report.finish(url=url)
                report.say(f"try: {url} (Ctrl-C ends it)")
                await asyncio.get_running_loop().create_future()
            report.finish()

    async def _start(self, stack: AsyncExitStack) -> int:
        """Start everything; return the port of the inlet."""
        report = self._report
        report.say(
            "A web service on a device that has nothing but Bluetooth LE, reached through two gateways:\n"
        )
        report.say(_PICTURE)
        web = stack.enter_context(WebService(self._canary))
        self._web = web
        emulation = Emulation(self._folder, self._device_link, self._serial_link)
        await stack.enter_async_context(emulation)
        processes = await stack.enter_async_context(Processes(self._folder, emulation.environment))
        for recorder in (self._gateway_link, self._laptop_link, self._service_link):
            await recorder.start()
            stack.push_async_callback(recorder.close)
        self._service_link.target = web.port
        report.step(f"the web service listens on the device, port {web.port}")
        device, laptop = await asyncio.gather(
            processes.result("device", "identity", "create"),
            processes.result("laptop", "identity", "create"),
        )
        report.step(f"the device made its identity: {device['identifier'][:12]}...")
        report.step(f"the laptop made its identity: {laptop['identifier'][:12]}...")
        one_end, other_end = emulation.line
        hops = ["ble:gateway-1", one_end, f"tcp:127.0.0.1:{self._gateway_link.port}"]
        ready = await asyncio.gather(
            processes.serve("gateway 1", *_RELAY, "ble:gateway-1", "--forward", hops[1]),
            processes.serve("gateway 2", *_RELAY, other_end, "--forward", hops[2]),
            processes.serve("relay", *_RELAY, "tcp:127.0.0.1:0"),
        )
        port = int(ready[2]["listening"][0].rpartition(":")[2])
        self._gateway_link.target = self._laptop_link.target = port
        report.step("gateway 1, gateway 2 and the relay run, each a process of its own")
        outlet = await processes.serve(
            "device", "outlet", f"tcp:127.0.0.1:{self._service_link.port}", "--relay", ",".join(hops),
            "--name", "device", "--allow", laptop["identifier"],
        )  # fmt: skip
        report.step(f"the outlet registered as {outlet['relays'][0]['address']}, over ble, serial and tcp")
        inlet = await processes.serve(
            "laptop", "inlet", "tcp:127.0.0.1:0", "--relay", f"tcp:127.0.0.1:{self._laptop_link.port}",
            "--name", "device", "--allow", device["identifier"],
        )  # fmt: skip
        report.step(f"the inlet listens at {inlet['listening'][0]}")
        return int(inlet["listening"][0].rpartition(":")[2])

    async def _fetch(self, port: int) -> None:
        """Get the page and the file with real HTTP clients."""
        report = self._report
        page, seconds = await asyncio.to_thread(_get, port, "/", self._canary)
        report.check(
            "page", page == self._web.page, f"a page of {len(page)} bytes in {1000 * seconds:.0f} ms"
        )
        report.figures["page_ms"] = round(1000 * seconds, 1)
        file, seconds = await asyncio.to_thread(_get, port, "/file", self._canary)
        rate = len(file) * 8 / seconds / 1e6
        same = file == self._web.file and len(file) == FILE_BYTES
        report.check("file", same, f"a file of 1 MiB, every byte, in {seconds:.2f} s: {rate:.2f} Mbit/s")
        report.figures |= {"file_bytes": len(file), "file_s": round(seconds, 3), "mbit_s": round(rate, 2)}
        curl = shutil.which("curl")
        if curl is not None:
            page = await asyncio.to_thread(_curl, curl, port, self._canary)
            report.check("curl", page == self._web.page, "the same page with curl")

    def _look(self) -> None:
        """Search the canary in every byte that was carried."""
        report = self._report
        canary = self._canary.encode()
        report.say("\n  hop                    link   bytes carried  canary found   who can read it")
        for link in (*self._middle, self._service_link):
            seen = link.saw(canary)
            who = "the two ends only" if link is not self._service_link else "the device itself"
            found = "yes, in clear" if seen else "no"
            report.say(f"  {link.name:22} {link.kind:6} {link.count_bytes:14,}  {found:14} {who}")
            report.hops.append(
                {
                    "hop": link.name,
                    "transport": link.kind,
                    "bytes": link.count_bytes,
                    "canary_found": seen,
                    "readable_by": who,
                }
            )
            link.is_recording = False
        report.say()
        carried = all(link.count_bytes > FILE_BYTES for link in self._middle)
        blind = not any(link.saw(canary) for link in self._middle)
        report.check("ciphertext", carried and blind, "no hop, gateway or relay carried the canary in clear")
        works = self._service_link.saw(canary)
        report.check("search-works", works, "the same search finds it on the device's own side")


def _get(port: int, path: str, canary: str) -> tuple[bytes, float]:
    """Fetch with Python's client; return the body and the seconds it took."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", path, headers={"X-Canary": canary})
        return connection.getresponse().read(), time.perf_counter() - began
    except (OSError, http.client.HTTPException):
        return b"", time.perf_counter() - began
    finally:
        connection.close()


def _curl(program: str, port: int, canary: str) -> bytes:
    """Fetch with curl."""
    url = f"http://127.0.0.1:{port}/"
    command = [program, "-q", "--noproxy", "*", "-s", "-m", "10", "-H", f"X-Canary: {canary}", url]
    return subprocess.run(command, capture_output=True, check=False).stdout  # noqa: S603  (our own arguments)
