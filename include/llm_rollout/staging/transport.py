"""How bytes of a file come from where they are: what ``transfer`` asks of HTTP, Xet and object stores alike."""

from __future__ import annotations

from typing import Protocol

from llm_rollout.errors import Transient
from llm_rollout.staging.listing import File

STALL_SECONDS = 30.0
"""A connection that brings no byte for so long is opened anew."""


class Refused(Transient):
    """The server wants no requests for a while. ``seconds`` is what it asked for, if it did."""

    def __init__(self, message: str, seconds: float | None) -> None:
        """Remember how long to wait."""
        super().__init__(message)
        self.seconds = seconds


class RangeIgnored(Transient):
    """The server sends the whole file whatever is asked for."""


class Connection(Protocol):
    """One worker's way to the bytes. Never shared between threads."""

    def request(self, file: File, start: int, end: int) -> None:
        """Ask for ``file[start:end]``; ``read`` then brings it.

        Raises:
            Permanent: This file cannot be had.
            RangeIgnored: The whole file would come although ``start`` is not 0.
            Transient: Anything that may be different next time.
        """

    def read(self, buffer: memoryview) -> int:
        """Fill ``buffer`` as far as one read does; 0 at the end of the answer. Raises Transient on a broken one."""

    def finish(self) -> None:
        """Be done with the answer."""

    def close(self) -> None:
        """Let everything go. Twice is fine."""


class Transport(Protocol):
    """A way to a repository's files at one commit. Safe to use from many threads."""

    name: str
    """As people say it, for progress lines and errors: ``HTTP``, ``Xet``."""

    def connect(self, stall_seconds: float) -> Connection:
        """A connection that gives up a read or a request after ``stall_seconds`` without a byte."""

    def distrust(self, file: File) -> None:
        """The file's content was wrong: forget whatever was remembered about where it lies."""
