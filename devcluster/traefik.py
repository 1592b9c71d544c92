"""Traefik, an implementation of the Gateway API, built from its Go module: what the gateway stand-in is compared with.

Traefik is built inside a copy of its own module, whose go.sum pins everything that it needs; the module itself is
pinned here. That takes ten minutes on two cores, so only ``make test-gateway`` asks for it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from devcluster import toolchain
from devcluster.layout import API_URL, GATEWAY_PORT, Layout, cache

MODULE = "github.com/traefik/traefik/v3@v3.6.0"
SUM = "h1:axM42ACSLlB/NWCAx/DTYCrSfmhMukVjXPJDkbZAk1c="
CONTROLLER = "traefik.io/gateway-controller"
VARIABLE = "DEVCLUSTER_GATEWAY"
"""Names the program that takes the stand-in's place in a devcluster."""


def program() -> Path:
    """The program; built when it is missing.

    Raises:
        ValueError: The module is not the pinned one.
        devcluster.toolchain.NoCompilerError: There is no Go and none can be installed.
        subprocess.CalledProcessError: It could not be built.
    """
    place = cache() / "traefik" / MODULE.rpartition("@")[2] / "traefik"
    if not place.exists():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
            source = Path(shutil.copytree(_module(), Path(scratch) / "source"))
            built = Path(scratch) / place.name
            command = [toolchain.go(), "build", "-ldflags", "-s -w", "-o", str(built), "./cmd/traefik"]
            print(f"building {MODULE}: ten minutes on two cores", flush=True)
            subprocess.run(command, cwd=source, env={**os.environ, "CGO_ENABLED": "0"}, check=True)
            built.replace(place)
    return place


def flags(layout: Layout) -> dict[str, object]:
    """What it needs to be the gateway of a devcluster."""
    kubernetes = "providers.kubernetesgateway"
    token = (layout.pki / "tokens.csv").read_text().partition(",")[0]
    return {
        "entrypoints.web.address": f":{GATEWAY_PORT}",
        f"{kubernetes}.endpoint": API_URL,
        f"{kubernetes}.token": token,
        f"{kubernetes}.certauthfilepath": layout.certificate("ca"),
        "global.checknewversion": "false",
        "global.sendanonymoususage": "false",
        "log.level": "INFO",
    }


def _module() -> Path:
    command = [toolchain.go(), "mod", "download", "-json", MODULE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cache())
    found = json.loads(done.stdout)
    if found["Sum"] != SUM:
        raise ValueError(f"{MODULE} has the sum {found['Sum']}, not {SUM}: somebody changed it")
    return Path(found["Dir"])
