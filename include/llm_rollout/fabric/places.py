"""Where the members of a probe find each other."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from llm_rollout.errors import Permanent


@dataclass(frozen=True)
class Place:
    """Host and base port of one member. The tools of device number k listen on ``port + 1 + k``."""

    host: str
    port: int

    @property
    def name(self) -> str:
        """Who this is, for messages about a member that never said its node's name."""
        return self.host.partition(".")[0] if not self.host[:1].isdigit() else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Places:
    """All members in index order; index 0 coordinates."""

    index: int
    members: tuple[Place, ...]
    listen_host: str
    """What index 0 binds: "" is every address."""

    @property
    def own(self) -> Place:
        """This member's."""
        return self.members[self.index]

    @property
    def coordinator(self) -> Place:
        """Where this member reaches index 0; index 0 reaches itself without a name."""
        first = self.members[0]
        return Place(self.listen_host or "127.0.0.1", first.port) if self.index == 0 else first


def in_job(hostname: str, index: int, count: int, subdomain: str, port: int) -> Places:
    """Members of an Indexed Job: host names ``<job>-<index>`` below the headless Service ``subdomain``."""
    named = re.fullmatch(rf"(.+?)-{index}(-[a-z0-9]{{5}})?", hostname.partition(".")[0])
    if named is None:
        raise Permanent(
            f"hostname {hostname!r} is not <job>-{index}: run this in an Indexed Job, or by hand with --addresses"
        )
    if not 0 <= index < count:
        raise Permanent(f"index {index} is outside --peers {count}")
    members = (Place(f"{named.group(1)}-{number}.{subdomain}", port) for number in range(count))
    return Places(index, tuple(members), "")


def by_hand(addresses: Sequence[str], index: int) -> Places:
    """Members given as ``HOST:PORT`` in index order."""
    members = []
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise Permanent(f"--addresses: {address!r} is not HOST:PORT")
        members.append(Place(host.strip("[]"), int(port)))
    if not 0 <= index < len(members):
        raise Permanent(f"index {index} is outside the {len(members)} --addresses")
    return Places(index, tuple(members), members[0].host)
