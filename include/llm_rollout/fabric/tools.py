"""Run the perftest tools of this machine, each with a hard timeout."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llm_rollout.fabric import inventory
from llm_rollout.fabric.perftest import Output

Kind = Literal["bandwidth", "latency"]
PROGRAMS: Mapping[Kind, str] = {"bandwidth": "ib_write_bw", "latency": "ib_write_lat"}

START_SECONDS = 20.0
"""What a tool gets besides its measuring time: opening a device and locking memory takes seconds on busy nodes."""
LATENCY_EXCHANGES = 5000
"""Enough for a 99th percentile over 50 values; about 20 milliseconds."""
_MESSAGE_BYTES = {"bandwidth": 1024 * 1024, "latency": 8}
_POLL_SECONDS = 0.02
_KEPT_CHARACTERS = 16_000
_KEPT_LOG_CHARACTERS = 16_000_000


@dataclass(frozen=True)
class Traffic:
    """How the model's traffic is marked and spread; None: as the tools do without being told."""

    traffic_class: int | None = None
    service_level: int | None = None
    queue_pairs: int = 4


DEFAULT_TRAFFIC = Traffic()


@dataclass(frozen=True)
class Run:
    """One run of a tool: as server when ``host`` is empty."""

    kind: Kind
    hca: str
    port: int
    seconds: int
    host: str = ""
    gid_index: int | None = None
    traffic: Traffic = DEFAULT_TRAFFIC

    @property
    def timeout_seconds(self) -> float:
        """When the run is ended, whatever it does."""
        return START_SECONDS + (self.seconds if self.kind == "bandwidth" else 0)

    def command(self) -> list[str]:
        """The command line. Gb/s and a quiet CPU check are asked for; the parser relies on neither."""
        shared = ["-d", self.hca, "-p", str(self.port), "-F", "-s", str(_MESSAGE_BYTES[self.kind]), *self._marks()]
        host = [self.host] if self.host else []
        if self.kind == "latency":
            return [PROGRAMS["latency"], *shared, "-n", str(LATENCY_EXCHANGES), *host]
        queue_pairs = str(self.traffic.queue_pairs)
        return [PROGRAMS["bandwidth"], *shared, "-D", str(self.seconds), "-q", queue_pairs, "--report_gbits", *host]

    def _marks(self) -> list[str]:
        values = ("-x", self.gid_index), ("-S", self.traffic.service_level), ("--tclass", self.traffic.traffic_class)
        return [part for flag, value in values if value is not None for part in (flag, str(value))]


def run_from_json(value: Mapping[str, Any]) -> Run:
    """The inverse of ``dataclasses.asdict``."""
    return Run(**{**value, "traffic": Traffic(**value["traffic"])})


class RunningTool:
    """A tool that was started. It is ended at its timeout or by ``stop``, with all its children."""

    def __init__(
        self,
        command: Sequence[str],
        timeout_seconds: float,
        environment: Mapping[str, str] | None = None,
        kept_characters: int = _KEPT_CHARACTERS,
    ) -> None:
        """Start ``command`` with ``environment`` added to its own; FileNotFoundError when PATH lacks it."""
        self._kept = kept_characters
        self._deadline = time.monotonic() + timeout_seconds
        self._stopped = threading.Event()
        self._process = subprocess.Popen(
            command,
            env=None if environment is None else {**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )

    def wait_listening(self, port: int) -> None:
        """Return when ``port`` is listened on, or when the tool has ended, was stopped or ran out of time.

        The kernel's table is read: a trial connection would be taken for the client.
        """
        while not self._over() and self._process.poll() is None and not is_listening(port):
            time.sleep(_POLL_SECONDS)

    def output(self) -> Output:
        """Wait for the end and return what was printed; ``exit_code`` None when it had to be ended."""
        while not self._over():
            try:
                stdout, stderr = self._process.communicate(timeout=_POLL_SECONDS * 5)
            except subprocess.TimeoutExpired:
                continue
            return Output(self._process.returncode, stdout[-self._kept :], stderr[-self._kept :])
        return self._end()

    def stop(self) -> None:
        """End the tool soon; ``output`` then returns."""
        self._stopped.set()

    def _over(self) -> bool:
        return self._stopped.is_set() or time.monotonic() > self._deadline

    def _end(self) -> Output:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        stdout, stderr = self._process.communicate()
        return Output(None, stdout[-self._kept :], stderr[-self._kept :])


def run(run_: Run, started: Callable[[RunningTool], None], listening: Callable[[], None]) -> Output:
    """One run to its end. ``started`` gets the tool, ``listening`` is called when a server can be connected to."""
    command = run_.command()
    if not run_.host and is_listening(run_.port):
        return Output(1, "", f"port {run_.port} is taken by another program on this node")
    try:
        tool = RunningTool(command, run_.timeout_seconds)
    except OSError as error:
        return Output(127, "", f"{command[0]} cannot be started: {error.strerror}; the image needs perftest")
    started(tool)
    if not run_.host:
        tool.wait_listening(run_.port)
        listening()
    return tool.output()


def run_command(command: Sequence[str], environment: Mapping[str, str], timeout_seconds: float) -> Output:
    """A command of the user's to its end, with as much of its log as eight chatty processes write."""
    try:
        return RunningTool(command, timeout_seconds, environment, _KEPT_LOG_CHARACTERS).output()
    except OSError as error:
        return Output(127, "", f"{command[0]} cannot be started: {error.strerror}; the image needs it")


def own_ports() -> tuple[dict[str, inventory.Port], str]:
    """This node's ports by device, and why they could not be read ("" when they could)."""
    try:
        output = RunningTool(["ibv_devinfo", "-v"], START_SECONDS).output()
    except OSError as error:
        return {}, f"ibv_devinfo cannot be started: {error.strerror}; the image needs ibverbs-utils"
    ports = inventory.parse(output.stdout)
    none_found = "No IB devices found" in output.text
    if ports or none_found:
        return ports, ""
    return {}, f"ibv_devinfo failed: {output.stderr.strip() or output.exit_code}"


def is_listening(port: int) -> bool:
    """Whether something listens on the TCP port in this network namespace."""
    wanted = f":{port:04X}"
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        for line in table.read_text().splitlines()[1:] if table.exists() else ():
            fields = line.split()
            if fields[1].endswith(wanted) and fields[3] == "0A":
                return True
    return False
