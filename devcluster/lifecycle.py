"""Start and end a devcluster from outside its namespaces."""

from __future__ import annotations

import ctypes
import datetime as dt
import fcntl
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import psutil

from devcluster import build, control, pki, programs
from devcluster.controlplane import python_path
from devcluster.layout import MAX_NODES, MAX_SOCKET_PATH, Layout, node_names, write_json

START_SECONDS = 400.0
"""More than all of the supervisor's own limits together: those name the component that is late."""
END_SECONDS = 8.0
POLL_SECONDS = 0.05
DEFAULT_FABRIC = {"rate_gbps": 400, "hcas": ["mlx5_0"], "links": [], "nodes": {}, "noise": 0.01}
PR_SET_PDEATHSIG = 1

Say = Callable[[str], None]


class StartError(Exception):
    """The devcluster did not come up; the text says which part and what it said last."""


_started: dict[int, subprocess.Popen[bytes]] = {}
"""What this process started and has not seen end, by number."""


def up(layout: Layout, nodes: int, gpus: int, *, say: Say, tied: bool = False) -> None:
    """Start an empty devcluster and return when pods can run; nothing happens when it runs already.

    ``tied``: it ends with the calling process, however that ends. Raises StartError, programs.UnsuitableError and
    build.BuildError.
    """
    _check(layout, nodes)
    layout.home.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (layout.home / "up.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_running(layout):
            _same_size(layout, nodes, gpus)
            say("it runs already")
            return
        programs.require()
        built = build.programs()
        _clean(layout)
        process = _launch(layout, str(built), {"nodes": node_names(nodes), "gpus": gpus}, tied=tied)
    _await_ready(layout, process, say)


def down(layout: Layout) -> bool:
    """End it and everything in it; False when nothing ran. Afterwards no process and no mount of it exists."""
    state = layout.read_state()
    pid = int(state.get("pid", 0))
    if not _is_ours(pid, layout):
        _forget(layout)
        return False
    try:
        control.ask(layout.control_socket, {"command": "stop"})
    except (control.NotRunningError, ValueError):
        os.kill(pid, signal.SIGKILL)
    if not _wait_gone(pid, layout, END_SECONDS):
        os.kill(pid, signal.SIGKILL)
        _wait_gone(pid, layout, END_SECONDS)
    if child := _started.pop(pid, None):
        child.wait()
    _forget(layout)
    return True


def is_running(layout: Layout) -> bool:
    """Whether the supervisor answers."""
    try:
        control.ask(layout.control_socket, {"command": "status"})
    except control.NotRunningError:
        return False
    return True


def die_with_parent(number: int = signal.SIGKILL) -> None:
    """Have the kernel send this process a signal when its parent ends."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def _check(layout: Layout, nodes: int) -> None:
    path = str(layout.control_socket)
    if len(path) > MAX_SOCKET_PATH:
        raise StartError(f"DEVCLUSTER_HOME is too long for a unix socket ({path}): choose one below /tmp or your home")
    if not 1 <= nodes <= MAX_NODES:
        raise StartError(f"--nodes {nodes}: choose 1 to {MAX_NODES}")


def _same_size(layout: Layout, nodes: int, gpus: int) -> None:
    state = layout.read_state()
    if (len(state["nodes"]), state["gpus"]) != (nodes, gpus):
        there = f"{len(state['nodes'])} nodes with {state['gpus']} GPUs"
        raise StartError(f"a devcluster of {there} runs at {layout.home}: `devcluster down` first to change that")


def _clean(layout: Layout) -> None:
    """Remove what an earlier cluster left: a new one starts empty and without faults."""
    for folder in (layout.etcd, layout.volumes, layout.pods, layout.pki, layout.logs, layout.inside_kubeconfig.parent):
        shutil.rmtree(folder, ignore_errors=True)
    layout.volumes.mkdir()
    layout.pods.mkdir()
    layout.logs.mkdir()
    write_json(layout.fabric_file, DEFAULT_FABRIC)
    write_json(layout.faults_file, [])
    write_json(layout.failed_nodes_file, [])


def _launch(layout: Layout, built: str, state: dict[str, Any], *, tied: bool) -> subprocess.Popen[bytes]:
    api, hub = _listen(), _listen()
    ports = {"api_port": api.getsockname()[1], "hub_port": hub.getsockname()[1]}
    pki.issue(layout, state["nodes"])
    pki.write_kubeconfigs(layout, ports["api_port"])
    started = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    state = state | ports | {"pid": 0, "started": started, "exposed": []}
    write_json(layout.state_file, state)
    arguments = ["--home", str(layout.home), "--programs", built]
    sockets = ["--api-socket", str(api.fileno()), "--hub-socket", str(hub.fileno())]
    with (layout.logs / "supervisor.log").open("wb") as log, api, hub:
        process = subprocess.Popen(
            [*programs.unshare(), sys.executable, "-m", "devcluster.supervisor", *arguments, *sockets],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=layout.home,
            env={**os.environ, "PYTHONPATH": python_path(), "PYTHONUNBUFFERED": "1"},
            pass_fds=(api.fileno(), hub.fileno()),
            start_new_session=True,
            preexec_fn=die_with_parent if tied else None,  # noqa: PLW1509 - this program has no threads here
        )
    write_json(layout.state_file, state | {"pid": process.pid})
    _started[process.pid] = process
    return process


def _listen() -> socket.socket:
    """A listening socket of this machine; it stays one wherever its file descriptor goes."""
    return socket.create_server(("127.0.0.1", 0), backlog=1024)


def _await_ready(layout: Layout, process: subprocess.Popen[bytes], say: Say) -> None:
    shown: set[str] = set()
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            log = (layout.logs / "supervisor.log").read_text(errors="replace")
            raise StartError(f"the supervisor ended with {process.returncode}; its last words:\n{log[-2000:]}")
        try:
            status = control.ask(layout.control_socket, {"command": "status"})
        except control.NotRunningError:
            time.sleep(POLL_SECONDS)
            continue
        for item in status["components"]:
            if item["state"] == "up" and item["name"] not in shown:
                shown.add(item["name"])
                say(f"{status['seconds']:5.1f} s  {item['name']} is up")
        if status["phase"] == "ready":
            return
        if status["phase"] == "failed":
            down(layout)
            raise StartError(status["message"])
        time.sleep(POLL_SECONDS)
    down(layout)
    raise StartError(f"not ready after {START_SECONDS:.0f} s; see {layout.logs}")


def _is_ours(pid: int, layout: Layout) -> bool:
    """Whether that process still is this home's namespace holder, and no stranger with a reused number."""
    try:
        process = psutil.Process(pid)
        return str(layout.home) in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _wait_gone(pid: int, layout: Layout, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if not _is_ours(pid, layout):
            return True
        time.sleep(POLL_SECONDS)
    return False


def _forget(layout: Layout) -> None:
    layout.control_socket.unlink(missing_ok=True)
    layout.state_file.unlink(missing_ok=True)
