"""Build the control plane from Go modules, once for each set of pinned versions."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devcluster import toolchain
from devcluster.layout import cache

SOURCE = Path(__file__).resolve().parent / "controlplane"
MAINS = {
    "etcd": "go.etcd.io/etcd/server/v3",
    "kube-apiserver": "k8s.io/kubernetes/cmd/kube-apiserver",
    "kube-controller-manager": "k8s.io/kubernetes/cmd/kube-controller-manager",
    "kube-scheduler": "k8s.io/kubernetes/cmd/kube-scheduler",
    "lws": "sigs.k8s.io/lws/cmd",
}
LWS_MODULE = "sigs.k8s.io/lws"
GATEWAY_MODULE = "sigs.k8s.io/gateway-api"
PINS = ("go.mod", "go.sum", "tools.go")
LINE_SECONDS = 15.0
"""Between progress lines where no terminal can overwrite one."""


class BuildError(Exception):
    """The control plane could not be built; the text says why and what to do."""


def programs() -> Path:
    """The folder of the built control plane: the five programs and ``manifests/``; built when it is missing."""
    place = cache() / "controlplane" / _digest()
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place.parent / "build.lock"):
            if not place.exists():
                _build(place)
    return place


def _digest() -> str:
    digest = hashlib.sha256()
    for name in PINS:
        digest.update((SOURCE / name).read_bytes())
    return digest.hexdigest()[:16]


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another build of the control plane is running; waiting for it", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(place: Path) -> None:
    """Build beside ``place`` and rename: a killed build leaves nothing that looks whole."""
    try:
        go = toolchain.go()
    except toolchain.NoCompilerError as error:
        raise BuildError(str(error)) from error
    for leftover in place.parent.glob(".build-*"):
        shutil.rmtree(leftover)
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=".build-") as scratch:
        out = Path(scratch) / "out"
        out.mkdir()
        print("fetching the Go modules of Kubernetes, etcd, LWS and the Gateway API", flush=True)
        _run(go, "mod", "download")
        _copy_manifests(_module(go, LWS_MODULE), _module(go, GATEWAY_MODULE), out / "manifests")
        total = len(_run(go, "list", "-tags", "tools", "-deps", *MAINS.values()).split())
        for name, package in MAINS.items():
            _compile(go, name, package, out, total)
        out.rename(place)
    print(f"built in {place}", flush=True)


def _copy_manifests(lws: Path, gateway: Path, manifests: Path) -> None:
    crd = manifests / "crd"
    crd.mkdir(parents=True)
    for folder in (lws / "config" / "crd" / "bases", gateway / "config" / "crd" / "standard"):
        for path in folder.glob("*.yaml"):
            shutil.copyfile(path, crd / path.name)
    shutil.copyfile(lws / "config" / "webhook" / "manifests.yaml", manifests / "webhook.yaml")


def _module(go: str, name: str) -> Path:
    return Path(_run(go, "list", "-m", "-f", "{{.Dir}}", name).strip())


def _run(go: str, *arguments: str) -> str:
    done = subprocess.run([go, *arguments], cwd=SOURCE, env=_environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        last = "\n".join(done.stderr.strip().splitlines()[-5:])
        raise BuildError(f"`go {arguments[0]}` failed; is the Go module proxy reachable (GOPROXY)?\n{last}")
    return done.stdout


def _environment() -> dict[str, str]:
    """Without C: no compiler for it is needed, and the programs do not depend on the system's libraries."""
    return {**os.environ, "CGO_ENABLED": "0"}


def _compile(go: str, name: str, package: str, out: Path, total: int) -> None:
    """Compile one program. ``go build -v`` names each package it compiles, which is the progress."""
    command = [go, "build", "-v", "-ldflags", "-s -w", "-o", str(out / name), package]
    began = time.monotonic()
    progress = _Progress(name, total)
    with subprocess.Popen(command, cwd=SOURCE, stderr=subprocess.PIPE, text=True, env=_environment()) as process:
        assert process.stderr is not None  # noqa: S101 - asked for above
        last: list[str] = []
        for line in process.stderr:
            last = [*last[-10:], line.rstrip()]
            progress.step(time.monotonic() - began)
    if process.returncode:
        raise BuildError(f"`go build {package}` failed:\n" + "\n".join(last))
    progress.done(time.monotonic() - began)


class _Progress:
    """One line that a terminal overwrites, or a line now and then elsewhere."""

    def __init__(self, name: str, total: int) -> None:
        self._name = name
        self._total = total
        self._compiled = 0
        self._shown = 0.0

    def step(self, seconds: float) -> None:
        self._compiled += 1
        terminal = sys.stdout.isatty()
        if terminal or seconds - self._shown > LINE_SECONDS:
            self._shown = seconds
            text = f"  {self._name}: {self._compiled} packages compiled (all five have {self._total}), {seconds:.0f} s"
            print(f"\r{text}\033[K" if terminal else text, end="" if terminal else "\n", flush=True)

    def done(self, seconds: float) -> None:
        start = "\r\033[K" if sys.stdout.isatty() else ""
        print(f"{start}  {self._name}: built in {seconds:.0f} s ({self._compiled} packages compiled)", flush=True)
