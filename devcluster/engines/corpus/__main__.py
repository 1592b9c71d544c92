"""``python -m devcluster.engines.corpus OUT [NAME…]``: provoke each start, or those named, and keep the logs in OUT.

Two hours on two cores with two at a time (``CORPUS_AT_ONCE``). Paths of this machine are rewritten; nothing else is.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from devcluster import models as demo_models
from devcluster.engines import vllm_cpu
from devcluster.engines.corpus import interruptions, models, refusals, scenarios
from devcluster.engines.corpus.running import NotReachedError, Stage
from devcluster.engines.corpus.scenarios import Scenario

ALL = (*scenarios.ALL, *refusals.ALL, *interruptions.ALL)
AT_ONCE = int(os.environ.get("CORPUS_AT_ONCE") or 2)
"""A group takes 4 to 8 GB of memory."""
_LONGEST_BYTES = 190_000
_guard = threading.Lock()
_stages: set[Stage] = set()
"""What runs; ended when this process is asked to stop."""
_stopping = threading.Event()


def main() -> None:
    """Parse the command line and provoke."""
    parser = argparse.ArgumentParser(prog="python -m devcluster.engines.corpus", description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    given = parser.parse_args()
    known = {scenario.name: scenario for scenario in ALL}
    if unknown := [name for name in given.names if name not in known]:
        parser.error(f"no such start: {', '.join(unknown)}")
    chosen = [known[name] for name in given.names or known]
    vllm_cpu.command()
    signal.signal(signal.SIGTERM, _stop)
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        demo_models.build(Path(scratch) / "base")
        (Path(scratch) / "models").mkdir()
        pool = ThreadPoolExecutor(AT_ONCE)
        try:
            list(pool.map(lambda scenario: _provoke(scenario, Path(scratch), given.out), chosen))
        finally:
            pool.shutdown(cancel_futures=True)


def _stop(*_: object) -> None:
    _stopping.set()
    for stage in list(_stages):
        stage.close()
    sys.exit("stopped")


def _provoke(scenario: Scenario, scratch: Path, out: Path) -> None:
    """Play one scenario and keep what its ranks wrote."""
    group = dict(zip(scenario.names, scenario.ranks, strict=False))
    with _guard:
        for rank in group.values():
            if rank.model in models.SPOILED:
                models.make(rank.model, scratch / "base" / "v1", scratch / "models")
    stage = Stage(scratch / "runs" / scenario.name, scratch / "models")
    began = time.monotonic()
    _stages.add(stage)
    try:
        scenario.play(stage, group)
    except NotReachedError as error:
        print(f"{scenario.name}: not kept: {error}", flush=True)
        return
    finally:
        stage.close()
        _stages.discard(stage)
    if _stopping.is_set():
        return
    _keep(scenario, stage, scratch, out)
    print(f"{scenario.name}: {time.monotonic() - began:.0f} s, exit codes {stage.exit_codes}", flush=True)


def _keep(scenario: Scenario, stage: Stage, scratch: Path, out: Path) -> None:
    folder = out / scenario.name
    folder.mkdir(exist_ok=True)
    for name in stage.exit_codes:
        text = _portable(stage.log(name), scratch)
        if len(text.encode()) > _LONGEST_BYTES:
            raise ValueError(f"{scenario.name}/{name}.log has {len(text)} characters: shorten what it asks for")
        (folder / f"{name}.log").write_text(text, encoding="utf-8", newline="")
    with _guard:
        path = out / "expected.json"
        expected = json.loads(path.read_text()) if path.exists() else {}
        expected[scenario.name] = _expectation(scenario, stage.exit_codes)
        path.write_text(json.dumps(dict(sorted(expected.items())), indent=1) + "\n")


def _expectation(scenario: Scenario, exit_codes: Mapping[str, int | None]) -> dict[str, object]:
    """Phase and class as the scenario's table says them; exit codes as seen, null for a process that was cut."""
    return {
        "phase": scenario.phase,
        "class": scenario.class_name,
        "first": scenario.first,
        "others": dict(scenario.others),
        "exit_codes": dict(exit_codes),
        "note": scenario.note,
    }


def _portable(text: str, scratch: Path) -> str:
    """Without the paths of this machine."""
    places = {
        str(scratch / "models"): "/models",
        str(scratch / "runs"): "/runs",
        str(scratch): "/scratch",
        str(vllm_cpu.command().parents[1]): "/opt/venv",
        str(Path(sys.base_prefix).resolve()): "/usr/local",
        str(Path.home()): "/root",
    }
    for place, name in places.items():
        text = text.replace(place, name)
    return text


if __name__ == "__main__":
    main()
