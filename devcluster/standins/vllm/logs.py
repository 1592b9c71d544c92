"""Log lines as vLLM writes them: log messages to standard output, progress bars to standard error."""

from __future__ import annotations

import os
import sys
import time

_role = "APIServer"


def become(role: str) -> None:
    """Set the process name that stands before each line, such as ``Worker_PP1``."""
    global _role  # noqa: PLW0603 - one process has one log
    _role = role


def role() -> str:
    """Return the process name that stands before each line."""
    return _role


def info(where: str, message: str) -> None:
    """Write an INFO line as if from the source position ``where``, such as ``core.py:107``."""
    _write("INFO", where, message)


def warning(where: str, message: str) -> None:
    """Write a WARNING line."""
    _write("WARNING", where, message)


def error(where: str, message: str) -> None:
    """Write an ERROR line for each line of ``message``."""
    _write("ERROR", where, message)


def traceback(text: str, where: str) -> str:
    """An exception as Python prints it, raised in the file ``where`` of the packages."""
    frame = f'  File "/usr/local/lib/python3.12/dist-packages/{where}", line 412, in wrapper'
    code = "    assert self.intermediate_tensors is not None" if text == "AssertionError" else "    raise error"
    return f"Traceback (most recent call last):\n{frame}\n{code}\n{text}"


def plain(message: str) -> None:
    """Write lines without level and time, the way tracebacks come."""
    for line in message.splitlines():
        print(f"({_role} pid={os.getpid()}) {line}", flush=True)


def torch_warning(where: str, message: str) -> None:
    """Write a warning of PyTorch's C++ side, which has a stamp of its own and no process name."""
    nanoseconds = time.time_ns() % 1_000_000_000
    sys.stderr.write(f"[W{time.strftime('%m%d %H:%M:%S')}.{nanoseconds:09d} {where}] {message}\n")
    sys.stderr.flush()


def _write(level: str, where: str, message: str) -> None:
    stamp = time.strftime("%m-%d %H:%M:%S")
    for line in message.splitlines():
        print(f"({_role} pid={os.getpid()}) {level} {stamp} [{where}] {line}", flush=True)


def shard_bar(done: int, total: int, seconds: float) -> None:
    """Draw the bar over safetensors shards: each state on a line of its own, as vLLM's format for tqdm has it."""
    rate = f"{done / seconds:.2f}it/s" if done and seconds > 0 else "?it/s"
    left = _clock(seconds * (total - done) / done) if done else "?"
    sys.stderr.write(
        f"\rLoading safetensors checkpoint shards: {100 * done // total:3d}% Completed | {done}/{total} "
        f"[{_clock(seconds)}<{left}, {rate}]\n"
    )
    sys.stderr.flush()


def prefetched(done: int, total: int, seconds: float) -> None:
    """Tell how many shards are in the page cache."""
    if done == 0:
        how = "(in background, num_threads=8, block_size=16777216 bytes)"
        info("weight_utils.py:1107", f"Prefetching checkpoint files into page cache started {how}")
        return
    info("weight_utils.py:1083", f"Prefetching checkpoint files: {100 * done // total}% ({done}/{total})")
    if done == total:
        info("weight_utils.py:1102", f"Prefetching checkpoint files into page cache finished in {seconds:.2f}s")


def bare(message: str) -> None:
    """Write lines as Python itself does when a process ends."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def graph_bar(total: int, seconds: float) -> None:
    """Draw the bar over CUDA graphs while they are captured: one line, redrawn with carriage returns, as tqdm does."""
    desc = "Capturing CUDA graphs (mixed prefill-decode, PIECEWISE)"
    for done in range(total + 1):
        filled = "█" * (10 * done // total)
        sys.stderr.write(f"\r{desc}: {100 * done // total:3d}%|{filled:10}| {done}/{total}")
        sys.stderr.flush()
        time.sleep(seconds / total if done < total else 0)
    sys.stderr.write("\n")
    sys.stderr.flush()


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60:02d}:{int(seconds) % 60:02d}"
