"""What is measured: each contender is one fresh process, from its start to its end."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.staging.site import Site

_PEER = """
import sys
from huggingface_hub import HfApi, snapshot_download
folder = snapshot_download(sys.argv[1], local_dir=sys.argv[2])
found = HfApi().verify_repo_checksums(sys.argv[1], local_dir=folder)
assert not found.mismatches and not found.missing_paths, found
"""


@dataclass(frozen=True)
class Cost:
    """What one run took, its children included."""

    wall_seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Job:
    """One repository at one endpoint, staged below ``target``, which is emptied before every run."""

    site: Site
    endpoint: str
    repo: str
    target: Path

    def llm_rollout(self) -> Cost:
        """Our command, which publishes only what it has proven."""
        return self._run([sys.executable, "-m", "llm_rollout", "stage", "--repo", self.repo, "--store", self.target])

    def huggingface_hub(self) -> Cost:
        """``snapshot_download`` and then the library's own verification, which it does not do by itself."""
        return self._run([sys.executable, "-c", _PEER, self.repo, self.target])

    def curl(self) -> Cost:
        """All files at once, eight at a time, nothing checked."""
        urls = "\n".join(f'url = "{self.endpoint}/lfs/{path.name}"\noutput = "{path.name}"' for path in self._large())
        settings = self.target.with_suffix(".curl")
        settings.write_text(urls)
        trust = ["--cacert", str(self.site.certificate)] if self.endpoint.startswith("https") else []
        how = ["-sSf", "-Z", "--parallel-max", "8", *trust]
        return self._run(["curl", *how, "--output-dir", self.target, "-K", settings])

    def cat(self) -> Cost:
        """The same bytes copied on this machine: no network, nothing checked."""
        return self._run(["sh", "-c", 'cat "$@" > "$0/all"', self.target, *self._large()])

    def _large(self) -> list[Path]:
        """The shards of the many, not the one large file."""
        return [path for path in sorted(self.site.lfs.iterdir()) if self.repo in str(path.resolve())]

    def _run(self, command: list[str | Path]) -> Cost:
        shutil.rmtree(self.target, ignore_errors=True)
        self.target.mkdir(parents=True)
        environment = {
            **os.environ,
            "HF_ENDPOINT": self.endpoint,
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "HF_HOME": str(self.target.with_suffix(".home")),
            "SSL_CERT_FILE": str(self.site.certificate),
        }
        started = time.monotonic()
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        output, errors = process.stdout, process.stderr
        assert output is not None and errors is not None  # noqa: S101, PT018 - for the type checker
        said = output.read() + errors.read()
        _, status, used = os.wait4(process.pid, 0)
        wall = time.monotonic() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        shutil.rmtree(self.target)
        shutil.rmtree(self.target.with_suffix(".home"), ignore_errors=True)
        if process.returncode:
            sys.exit(f"{command[0]} ended with {process.returncode}: {said.decode()[-2000:]}")
        return Cost(wall, used.ru_utime + used.ru_stime)


def as_json(costs: dict[str, list[Cost]]) -> str:
    """The single figures, for those who want to do their own statistics."""
    return json.dumps({name: [[cost.wall_seconds, cost.cpu_seconds] for cost in runs] for name, runs in costs.items()})
