"""The bubblewrap command line of one container, and the programs that every container finds on its PATH."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from devcluster.layout import REPOSITORY, Layout

PROGRAMS_FOLDER = "/opt/devcluster/bin"
PATH = f"{PROGRAMS_FOLDER}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# The container's own PATH must not decide where these are found.
NSENTER = shutil.which("nsenter") or "nsenter"
BWRAP = shutil.which("bwrap") or "bwrap"
_TOP = ("/bin", "/lib", "/lib64", "/sbin")

_MODULES = {
    "vllm": "devcluster.standins.vllm",
    "ib_write_bw": "devcluster.standins.ib_write_bw",
    "ib_write_lat": "devcluster.standins.ib_write_lat",
    "ibv_devinfo": "devcluster.standins.ibv_devinfo",
    "show_gids": "devcluster.standins.show_gids",
    "llm-rollout": "llm_rollout",
}


@dataclass(frozen=True)
class Mount:
    """A file or folder of this machine at a place in the container."""

    source: Path
    target: str
    read_only: bool = False


@dataclass(frozen=True)
class Sandbox:
    """What one container sees."""

    layout: Layout
    hostname: str
    hosts: Path
    mounts: Sequence[Mount] = field(default=())
    workdir: str = "/"

    def command(self, network: str, status_fd: int, argv: Sequence[str]) -> list[str]:
        """The whole command line. The container's process is process 1 of its PID namespace, as in a real one."""
        return [
            NSENTER, f"--net={network}", BWRAP,
            "--die-with-parent", "--as-pid-1", "--unshare-pid", "--unshare-uts", "--unshare-ipc",
            "--hostname", self.hostname, "--json-status-fd", str(status_fd),
            "--tmpfs", "/", "--ro-bind", "/usr", "/usr", *_top_folders(),
            "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--tmpfs", "/run", "--tmpfs", "/root",
            # Processors and memory nodes, which vLLM for CPUs asks lscpu about.
            "--ro-bind-try", "/sys/devices/system", "/sys/devices/system",
            "--ro-bind-try", "/etc/ssl", "/etc/ssl", "--ro-bind-try", "/etc/ld.so.cache", "/etc/ld.so.cache",
            *_code(),
            *self._own_files(),
            *_binds(self.mounts),
            "--chdir", self.workdir, "--", *argv,
        ]  # fmt: skip

    def _own_files(self) -> list[str]:
        files = programs_folder(self.layout)
        binds = [
            (str(files / "bin"), PROGRAMS_FOLDER),
            (str(files / "etc/passwd"), "/etc/passwd"),
            (str(files / "etc/group"), "/etc/group"),
            (str(files / "etc/nsswitch.conf"), "/etc/nsswitch.conf"),
            # Without an empty one, looking up an unknown name waits seconds for a name server outside.
            (str(files / "etc/resolv.conf"), "/etc/resolv.conf"),
            (str(self.hosts), "/etc/hosts"),
            (str(self.layout.fabric_file), "/etc/devcluster/fabric.json"),
        ]
        return [part for source, target in binds for part in ("--ro-bind", source, target)]


def programs_folder(layout: Layout) -> Path:
    """Where ``write_programs`` puts what all containers share."""
    return layout.home / "sandbox"


def write_programs(layout: Layout) -> None:
    """Write the wrappers and the few files of /etc. ``DEVCLUSTER_VLLM`` names a real vLLM to run instead."""
    root = programs_folder(layout)
    (root / "bin").mkdir(parents=True, exist_ok=True)
    (root / "etc").mkdir(exist_ok=True)
    for name, module in _MODULES.items():
        _write_program(root / "bin" / name, [sys.executable, "-m", module])
    for name in ("python3", "python"):
        _write_program(root / "bin" / name, [sys.executable])
    if real := os.environ.get("DEVCLUSTER_VLLM"):
        _write_program(root / "bin/vllm", [real], own_path=False)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/nsswitch.conf").write_text("hosts: files\npasswd: files\ngroup: files\n")
    (root / "etc/resolv.conf").write_text("")


def _write_program(path: Path, argv: Sequence[str], *, own_path: bool = True) -> None:
    setting = f"PYTHONPATH={shlex.quote(f'{REPOSITORY}:{REPOSITORY}/include')} PYTHONDONTWRITEBYTECODE=1 "
    path.write_text(f'#!/bin/sh\n{setting if own_path else ""}exec {shlex.join(argv)} "$@"\n')
    path.chmod(0o755)


def _top_folders() -> list[str]:
    """/bin and its like, which are links into /usr on some distributions and folders on others."""
    parts: list[str] = []
    for top in _TOP:
        path = Path(top)
        if path.is_symlink():
            parts += ["--symlink", str(path.readlink()), top]
        elif path.exists():
            parts += ["--ro-bind", top, top]
    return parts


def _code() -> list[str]:
    """The interpreter, its packages and this repository, at their own places."""
    places = {sys.base_prefix, sys.prefix, str(Path(sys.executable).resolve().parents[1])}
    if real := os.environ.get("DEVCLUSTER_VLLM"):
        places |= {str(Path(real).parents[1])}
    outside_usr = sorted(place for place in places if not place.startswith("/usr"))
    return [part for place in (*outside_usr, str(REPOSITORY)) for part in ("--ro-bind", place, place)]


def _binds(mounts: Sequence[Mount]) -> list[str]:
    return [
        part
        for mount in mounts
        for part in ("--ro-bind" if mount.read_only else "--bind", str(mount.source), mount.target)
    ]
