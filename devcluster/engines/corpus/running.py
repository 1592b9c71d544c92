"""The processes of one start: begins them, watches their logs, kills, freezes and asks them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from devcluster.engines import vllm_cpu

POLL_SECONDS = 0.03
AS_IS = "as-is:"


class NotReachedError(Exception):
    """A start did not come as far as its scenario needs; the text says where it should have been."""


@dataclass(frozen=True)
class Rank:
    """How one node of a group is started."""

    model: str = "good"
    """A folder among the models, or what is served as it is written, after ``as-is:``."""
    arguments: Sequence[str] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    wrapper: Sequence[str] = ()
    """A command that runs the command after it, such as bwrap or prlimit."""


class Stage:
    """One start of one group."""

    def __init__(self, folder: Path, models: Path, vllm: Sequence[str] = ()) -> None:
        """Take the folder for logs, the folder of models, and what ``vllm`` is: the installed one unless said."""
        self.folder = folder
        self._models = models
        self._vllm = list(vllm) or [str(vllm_cpu.command())]
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self.port, self.master_port = free_port(), free_port()
        self.exit_codes: dict[str, int | None] = {}
        folder.mkdir(parents=True)

    def start(self, name: str, rank: Rank) -> None:
        """Start ``vllm serve`` with the rank's arguments; its output goes to ``<name>.log``."""
        arguments = [self._filled(text) for text in rank.arguments]
        wrapper = [self._filled(text) for text in rank.wrapper]
        written = rank.model.removeprefix(AS_IS)
        model = written if written != rank.model else str(self._models / rank.model)
        command = [*wrapper, *self._vllm, "serve", model, *arguments]
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        _block_tokenizers(self.folder / "blocked")
        env = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "HF_HUB_OFFLINE": "1"}
        env |= vllm_cpu.SETTINGS
        env |= {key: self._filled(text) for key, text in rank.env.items()}
        with (self.folder / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def _filled(self, text: str) -> str:
        return text.format(port=self.port, master=self.master_port, models=self._models, folder=self.folder)

    def lock(self, path: str) -> None:
        """Take all permissions from a file or folder of the models."""
        (self._models / path).chmod(0)

    def unlock(self, path: str) -> None:
        """Give them back."""
        (self._models / path).chmod(0o755)

    def log(self, name: str) -> str:
        """What a process has written so far."""
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def reach(self, name: str, pattern: str, seconds: float = 400) -> None:
        """Wait until the log has a match of ``pattern``.

        Raises:
            NotReachedError: The process ended without one, or time is up.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            ended = self._processes[name].poll() is not None
            if re.search(pattern, self.log(name)):
                return
            if ended:
                break
            time.sleep(POLL_SECONDS)
        raise NotReachedError(f"{name}.log has no match of {pattern!r}")

    def wait_healthy(self, seconds: float = 400) -> bool:
        """Wait until the leader answers /health with 200."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self._processes["leader"].poll() is None:
            if self._ask("/health", None, 5) == 200:  # noqa: PLR2004 - HTTP
                return True
            time.sleep(0.5)
        return False

    def complete(self, seconds: float = 100) -> int:
        """Ask for a few tokens and return the status; 0 for no answer."""
        body = {"model": "tiny-chat", "prompt": "17+25=", "max_tokens": 4, "temperature": 0}
        return self._ask("/v1/completions", body, seconds)

    def _ask(self, path: str, body: Mapping[str, object] | None, seconds: float) -> int:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers)
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:  # noqa: S310
                return int(answer.status)
        except urllib.error.HTTPError as error:
            return error.code
        except (OSError, ValueError):
            return 0

    def send(self, name: str, number: signal.Signals, title: str = "") -> None:
        """Send a signal to a rank's first process, or to those below it whose title contains ``title``."""
        for process in self._family(name):
            if not title or title in _title(process):
                process.send_signal(number)
                if not title:
                    return

    def freeze(self, name: str) -> None:
        """Stop every process of a rank, as a node that hangs does."""
        for process in self._family(name):
            process.suspend()

    def destroy(self, name: str) -> None:
        """Kill every process of a rank at once, as a node that loses power does."""
        for process in self._family(name):
            process.kill()

    def _family(self, name: str) -> list[psutil.Process]:
        try:
            first = psutil.Process(self._processes[name].pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def wait_end(self, name: str, seconds: float = 120) -> bool:
        """Wait until a rank has ended by itself."""
        try:
            self._processes[name].wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def wait_any_end(self, names: Sequence[str], seconds: float) -> bool:
        """Wait until one of these ranks has ended by itself."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if any(self._processes[name].poll() is not None for name in names):
                return True
            time.sleep(POLL_SECONDS)
        return False

    def close(self) -> None:
        """Note how each ended and kill what still runs."""
        families = {name: self._family(name) for name in self._processes}
        for name, process in self._processes.items():
            self.exit_codes[name] = process.poll()
        for family in families.values():
            for process in family:
                if process.is_running():
                    process.kill()
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _block_tokenizers(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    text = "raise ModuleNotFoundError(\"No module named 'tokenizers'\", name='tokenizers')\n"
    (folder / "tokenizers.py").write_text(text)


def free_port() -> int:
    """A TCP port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
