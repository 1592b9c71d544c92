"""One run of a container: a sandboxed process, its log and its end."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from devcluster.node.log_files import Pump
from devcluster.node.network import PodNetwork
from devcluster.node.sandbox import BWRAP, NSENTER, Sandbox
from devcluster.node.states import now

NEVER_BEGAN = 128
"""What a container runtime reports for a command that does not exist."""
TAIL_CHARACTERS = 500
_SET_UP_SECONDS = 0.002
"""Between two looks at a sandbox in the making, which takes about 10 ms."""


class StartError(Exception):
    """The sandbox could not be made; the text is what bubblewrap said."""


@dataclass
class Process:
    """A container that has been started."""

    pid: int
    """Its process 1, as this namespace numbers it."""
    outer: asyncio.subprocess.Process
    started: str
    env: Mapping[str, str]
    status: BinaryIO
    """What bubblewrap reports of it, one JSON object a line."""
    output: Pump
    """Carries what it prints into its log."""
    executed: bool = True
    end_reason: str = ""
    """Why it was ended from outside, as a kubelet names it in the status; empty where its exit code says enough."""

    async def wait(self) -> int:
        """The exit code, 128 + n for an end by signal n, ``NEVER_BEGAN`` when the command could not be executed."""
        code = await self.outer.wait()
        await self.output.ended()
        with self.status:
            # bubblewrap reports an exit code only for a command that it got to execute.
            self.executed = b"exit-code" in self.status.read()
        if not self.executed:
            return NEVER_BEGAN
        return code if code >= 0 else 128 - code

    def signal(self, number: int) -> None:
        """Send a signal to process 1; the kernel ends the whole sandbox with it."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    async def end(self, grace_seconds: float) -> None:
        """SIGTERM, then SIGKILL when the grace is over."""
        self.signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(max(grace_seconds, 0.01)):
                await self.outer.wait()
        except TimeoutError:
            self.signal(signal.SIGKILL)
            await self.outer.wait()

    async def run_inside(self, command: Sequence[str], seconds: float) -> tuple[bool, str]:
        """Run a command in the container: whether it exited with 0, and the end of what it printed."""
        # A command that ran into its timeout has to end with the nsenter that waits for it.
        enter = [NSENTER, "-t", str(self.pid), "--mount", "--pid", "--net", "--uts", "--ipc"]
        enter += ["/usr/bin/setpriv", "--pdeathsig", "KILL", "--"]
        process = await asyncio.create_subprocess_exec(
            *enter, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=dict(self.env)
        )
        try:
            async with asyncio.timeout(seconds):
                output, _ = await process.communicate()
        except TimeoutError:
            return False, f"command timed out after {seconds:g} s"
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return process.returncode == 0, output.decode(errors="replace")[-500:]


async def start(
    sandbox: Sandbox, network: PodNetwork, argv: Sequence[str], env: Mapping[str, str], log: Path
) -> Process:
    """Start ``argv`` in the sandbox with its output in ``log``.

    Raises:
        StartError: bubblewrap did not get as far as the container's process.
    """
    read_end, write_end = os.pipe()
    status = os.fdopen(read_end, "rb")
    try:
        output = Pump(log)
        outer = await _launch(sandbox.command(network.path, write_end, argv), env, output, write_end)
        line = await _first_line(status, outer)
    except BaseException:
        status.close()
        raise
    if line:
        process = Process(json.loads(line)["child-pid"], outer, now(), env, status, output)
        await _set_up(process)
        return process
    status.close()
    await outer.wait()
    await output.ended()
    raise StartError(tail(log) or "bubblewrap ended without a word")


async def _launch(
    command: Sequence[str], env: Mapping[str, str], output: Pump, status: int
) -> asyncio.subprocess.Process:
    writer = output.writer
    try:
        return await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL, stdout=writer, stderr=writer, env=dict(env), pass_fds=(status,),
        )  # fmt: skip
    finally:
        os.close(status)
        os.close(writer)


async def _first_line(status: BinaryIO, outer: asyncio.subprocess.Process) -> bytes:
    try:
        return await asyncio.to_thread(status.readline)
    except BaseException:
        # Nobody will know of this process: it must not outlive us. Its end also ends the thread's reading.
        outer.kill()
        await outer.wait()
        raise


async def _set_up(process: Process) -> None:
    """Wait until bubblewrap has become the command or has ended: before, there is nothing to enter for a probe."""
    try:
        while _is_bubblewrap(process.pid):  # noqa: ASYNC110 - another program's state has no event
            await asyncio.sleep(_SET_UP_SECONDS)
    except BaseException:
        process.outer.kill()
        await process.outer.wait()
        raise


def _is_bubblewrap(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/exe").samefile(BWRAP)
    except OSError:
        return False


def tail(log: Path) -> str:
    """The last words in a log."""
    return log.read_text(errors="replace").strip()[-TAIL_CHARACTERS:]
