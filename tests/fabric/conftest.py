"""Whole probes for several test files: real processes, real TCP, the stand-ins as tools."""

import json
import random
import signal
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

TOOLS = ("ib_write_bw", "ib_write_lat", "ibv_devinfo", "show_gids")


@pytest.fixture(scope="session")
def tools_directory(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tools")
    for tool in TOOLS:
        script = folder / tool
        script.write_text(f'#!/bin/sh\nexec {sys.executable} -m devcluster.standins.{tool} "$@"\n')
        script.chmod(0o755)
    return folder


ROOT = Path(__file__).parents[2]
SPACING = 5
DEADLINE_SECONDS = 150
"""Of a whole probe: some twenty starts of programs, each of a second or more where the machine is busy."""
START = """
import argparse, os, sys
from llm_rollout.commands import probe
from llm_rollout.fabric import tools
tools.START_SECONDS = float(os.environ["TOOL_START_SECONDS"])
parser = argparse.ArgumentParser()
probe.arguments(parser)
sys.exit(probe.run(parser.parse_args()))
"""


def _free_base_port(members):
    """A block of ports that nothing listens on; below the range that the kernel hands out by itself."""
    for base in random.sample(range(20_000, 32_000, 100), 50):
        with ExitStack() as held:
            try:
                for offset in range(members * SPACING):
                    held.enter_context(socket.create_server(("127.0.0.1", base + offset)))
            except OSError:
                continue
            return base
    raise AssertionError("no free block of ports")


class Probe:
    """The members of one probe as processes."""

    def __init__(self, members, fabric, tools, folder):
        self._members, self._fabric, self._tools, self._folder = members, fabric, tools, folder
        base = _free_base_port(members)
        self.addresses = ",".join(f"127.0.0.1:{base + SPACING * index}" for index in range(members))
        self.processes = {}

    def start(self, index, *options, tools=None, tool_start_seconds=20):
        environment = {
            "PATH": f"{tools or self._tools}:/usr/sbin",
            "PYTHONPATH": f"{ROOT / 'include'}:{ROOT}",
            "NODE_NAME": f"node-{index + 1}",
            "DEVCLUSTER_NODE": f"node-{index + 1}",
            "DEVCLUSTER_FABRIC": str(self._fabric),
            "DEVCLUSTER_TIME_SCALE": "0.01",
            "DEVCLUSTER_LISTEN_HOST": "127.0.0.1",
            "JOB_COMPLETION_INDEX": str(index),
            "TOOL_START_SECONDS": str(tool_start_seconds),
        }
        command = [sys.executable, "-c", START]
        sysfs = self._folder / f"sysfs-{index}"
        environment["DEVCLUSTER_SYSFS"] = str(sysfs)
        command += ["--addresses", self.addresses, "--deadline-seconds", str(DEADLINE_SECONDS)]
        command += ["--sysfs", str(sysfs), *options]
        out = (self._folder / f"{index}.out").open("w")
        with out:
            self.processes[index] = subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.STDOUT)

    def lines(self, index=0):
        text = (self._folder / f"{index}.out").read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    def wait_for(self, phase):
        deadline = time.monotonic() + 60
        while not any(line.get("phase") == phase for line in self.lines()):
            assert time.monotonic() < deadline, self.lines()
            time.sleep(0.02)

    def wait_connected(self, index):
        deadline = time.monotonic() + 60
        process = psutil.Process(self.processes[index].pid)
        while not any(connection.status == psutil.CONN_ESTABLISHED for connection in process.net_connections()):
            assert time.monotonic() < deadline, self.lines(index)
            time.sleep(0.02)

    def report(self):
        assert self.processes[0].wait(timeout=DEADLINE_SECONDS + 10) == 0, self.lines()
        assert self.lines()[-1]["event"] == "report"
        return self.lines()[-1]

    def whole(self, *options, **settings):
        for index in range(self._members):
            self.start(index, *options, **settings)
        return self.report()

    def stop(self):
        for process in self.processes.values():
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()


@pytest.fixture
def probe(tools_directory, tmp_path):
    started = []

    def make(members, fabric=None):
        path = tmp_path / "fabric.json"
        path.write_text(json.dumps(fabric or {}))
        started.append(Probe(members, path, tools_directory, tmp_path))
        return started[-1]

    yield make
    for one in started:
        one.stop()
