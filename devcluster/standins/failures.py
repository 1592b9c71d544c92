"""What perftest 6.06 prints when something is wrong, by fault. Compared with the texts in its program files."""

from __future__ import annotations

NO_DEVICE = (" Unable to find the Infiniband/RoCE device",)
MEMORY = ("Couldn't allocate MR", "failed to create mr", "Failed to create MR", " Couldn't create IB resources")
EXCHANGE = (
    "ethernet_read_keys: Couldn't read remote address",
    " Unable to read to socket/rdma_cm",
    " Failed to exchange data between server and clients",
)
SOCKET = ("Unable to open file descriptor for socket connection", " Unable to init the socket connection")
GID_TYPES = ("", " Found Incompatibility issue with GID types.")
LINK = " Unable to Connect the HCA's through the link"

_STATUS = {"access": (4, 0x51), "flush": (5, 0xF9), "timeout": (12, 0x81), "mtu": (12, 0x81)}
"""Completion status and vendor syndrome."""


def port_state(state: str) -> tuple[str, ...]:
    """A port that is not ACTIVE."""
    told = f" Port number 1 state is {state.capitalize()}"
    return told, " Couldn't set the link layer", " Couldn't get context for the device"


def queue_pairs(number: int) -> tuple[str, ...]:
    """Queue pairs that cannot be connected: no way to the peer's GID, or none of its own."""
    return f"Failed to modify QP {number} to RTR", LINK


def completion(fault: str, program: str) -> tuple[str, ...]:
    """A completion with an error, as the sender sees it."""
    status, syndrome = _STATUS[fault]
    lines = (
        " Completion with error at client",
        f" Failed status {status}: wr_id 0 syndrom 0x{syndrome:x}",
        "scnt=128, ccnt=0",
    )
    return (*lines, " Failed to complete run_iter_bw function successfully") if program == "ib_write_bw" else lines


def completions(*, large: bool) -> frozenset[str]:
    """The faults that end a run with a completion error; ``mtu`` only that of large messages."""
    return frozenset(_STATUS if large else _STATUS.keys() - {"mtu"})
