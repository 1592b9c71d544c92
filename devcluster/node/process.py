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
from typing import Any

from devcluster.node.network import PodNetwork
from devcluster.node.sandbox import Sandbox
from devcluster.node.states import now


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

    async def wait(self) -> int:
        """The exit code, 128 + n for an end by signal n."""
        code = await self.outer.wait()
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
        enter = ("nsenter", "-t", str(self.pid), "--mount", "--pid", "--net", "--uts", "--ipc")
        process = await asyncio.create_subprocess_exec(
            *enter, *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env=dict(self.env)
        )
        try:
            async with asyncio.timeout(seconds):
                output, _ = await process.communicate()
        except TimeoutError:
            process.kill()
            await process.wait()
            return False, f"command timed out after {seconds:g} s"
        return process.returncode == 0, output.decode(errors="replace")[-500:]


async def start(
    sandbox: Sandbox, network: PodNetwork, argv: Sequence[str], env: Mapping[str, str], log: Path
) -> Process:
    """Start ``argv`` in the sandbox with its output in ``log``.

    Raises:
        StartError: bubblewrap did not get as far as the container's process.
    """
    read_end, write_end = os.pipe()
    try:
        with log.open("ab") as output:
            outer = await asyncio.create_subprocess_exec(
                *sandbox.command(network.path, write_end, argv),
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, env=dict(env), pass_fds=(write_end,),
            )  # fmt: skip
    finally:
        os.close(write_end)
    info = await asyncio.to_thread(_read, read_end)
    if "child-pid" not in info:
        await outer.wait()
        raise StartError(log.read_text(errors="replace").strip()[-500:] or "bubblewrap ended without a word")
    return Process(info["child-pid"], outer, now(), env)


def _read(descriptor: int) -> dict[str, Any]:
    with os.fdopen(descriptor, "rb") as pipe:
        text = pipe.read()
    return dict(json.loads(text)) if text else {}
