"""One network namespace and one address for each pod, on the cluster's bridge."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass

from devcluster.layout import BRIDGE, FIRST_POD_ADDRESS, NETWORK, ROOT_ADDRESS

_numbers = itertools.count()
_ROOM = 60_000
"""Addresses before the first one is used again: many minutes on any machine this runs on."""


@dataclass
class PodNetwork:
    """A pod's network; a sleeping process holds the namespace open."""

    address: str
    holder: asyncio.subprocess.Process

    @property
    def path(self) -> str:
        """The namespace as a file."""
        return f"/proc/{self.holder.pid}/ns/net"

    async def remove(self) -> None:
        """End the holder; the kernel removes namespace and links with it."""
        if self.holder.returncode is None:
            self.holder.kill()
        await self.holder.wait()


async def create() -> PodNetwork:
    """A namespace with ``lo`` and an ``eth0`` that reaches every node, pod and Service."""
    number = next(_numbers)
    address = str(FIRST_POD_ADDRESS + number % _ROOM)
    # The holder tells by its first line that it is in the new namespace.
    holder = await asyncio.create_subprocess_exec(
        "setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", "echo; exec sleep infinity",
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert holder.stdout is not None  # noqa: S101 - asked for above; narrows the type
    network = PodNetwork(address, holder)
    try:
        await holder.stdout.readline()
        link = f"veth{number:x}"
        await _ip([
            f"link add {link} type veth peer name eth0 netns {holder.pid}",
            f"link set {link} master {BRIDGE} up",
        ])  # fmt: skip
        await _ip(
            [
                "link set lo up",
                f"address add {address}/{NETWORK.prefixlen} dev eth0",
                "link set eth0 up",
                f"route add default via {ROOT_ADDRESS}",
            ],
            inside=network,
        )
    except BaseException:
        await network.remove()
        raise
    return network


async def _ip(commands: list[str], inside: PodNetwork | None = None) -> None:
    enter = ["nsenter", f"--net={inside.path}"] if inside else []
    process = await asyncio.create_subprocess_exec(
        *enter, "ip", "-batch", "-",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, errors = await process.communicate("\n".join(commands).encode())
    if process.returncode:
        raise OSError(f"ip: {errors.decode().strip()}")
