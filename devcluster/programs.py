"""The programs of the operating system that a devcluster needs, and whether this machine lets it work."""

from __future__ import annotations

import os
import shutil
import subprocess

PACKAGES = {"bwrap": "bubblewrap", "ip": "iproute2", "unshare": "util-linux", "nsenter": "util-linux"}
"""Program to Debian package; other distributions call them the same."""

NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
AS_ROOT_INSIDE = ("--user", "--map-root-user")


class UnsuitableError(Exception):
    """This machine cannot run a devcluster; the text is one line with what to do."""


def require() -> None:
    """Install what is missing when we may, else raise UnsuitableError."""
    packages = sorted({package for program, package in PACKAGES.items() if shutil.which(program) is None})
    if packages:
        _install(packages)
    _try_namespaces()


def unshare() -> tuple[str, ...]:
    """The command that runs its arguments as process 1 of the new namespaces and kills them when it dies."""
    return ("unshare", *(() if os.geteuid() == 0 else AS_ROOT_INSIDE), *NAMESPACES)


def _install(packages: list[str]) -> None:
    names = " ".join(packages)
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise UnsuitableError(
            f"missing {names}: install it with your package manager (Debian: sudo apt-get install {names})"
        )
    print(f"installing {names} (apt-get)", flush=True)
    for command in (["apt-get", "update", "-qq"], ["apt-get", "install", "-y", "-qq", *packages]):
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UnsuitableError(f"apt-get could not install {names} ({reason}): install it by hand")


def _try_namespaces() -> None:
    done = subprocess.run([*unshare(), "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise UnsuitableError(
            f"this machine refuses new namespaces ({done.stderr.strip()}): run as root, or allow them to users "
            "(sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0); "
            "in a container start it with --privileged"
        )
