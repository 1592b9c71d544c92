"""``python -m devcluster.demo run | up | down``: what ``make demo``, ``make up`` and ``make down`` call."""

from __future__ import annotations

import argparse
import fcntl
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from devcluster.airflow import AirflowError
from devcluster.build import BuildError
from devcluster.demo import engines
from devcluster.demo.clients import StreamClients
from devcluster.demo.driving import Driver
from devcluster.demo.engines import Engine
from devcluster.demo.expectations import expected_texts
from devcluster.demo.report import DemoReport
from devcluster.demo.stack import MODEL, SERVICE, Stack
from devcluster.engines.vllm_cpu import InstallError
from devcluster.layout import REPOSITORY, cache
from devcluster.lifecycle import StartError
from devcluster.programs import UnsuitableError

REPORT = REPOSITORY / "var" / "demo.json"


def main() -> int:
    """Run one command: 0 when all came out as it should, 1 when not."""
    options = _parser().parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    home: Path = options.home or cache() / ("demo" if options.command == "run" else "up")
    try:
        stack = Stack(home.expanduser().resolve())
        if options.command == "down":
            return _down(stack)
        engine = engines.chosen()
        os.environ.update(engine.environment)
        return {"run": _run, "up": _up}[options.command](stack, engine)
    except (AirflowError, StartError, UnsuitableError, BuildError, InstallError, TimeoutError, ValueError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(stack: Stack, engine: Engine) -> int:
    with _alone(stack):
        try:
            report = _rollouts(stack, engine)
        finally:
            print("Stopping everything", flush=True)
            stack.stop()
    report.write(REPORT)
    report.print(Console())
    return 0 if report.passed else 1


def _rollouts(stack: Stack, engine: Engine) -> DemoReport:
    airflow = stack.start(tied=True, changes=engine.spec)
    first, *others = engine.scenarios
    with airflow.client() as client:
        driver = Driver(stack, client, engine.rollout_seconds)
        reports = [driver.carry_out(1, first)]
        clients = StreamClients(stack.expose(), MODEL, expected_texts(), engine.clients)
        clients.start()
        try:
            reports += [driver.carry_out(number, scenario) for number, scenario in enumerate(others, 2)]
        finally:
            tally = clients.stop()
    return DemoReport(tuple(reports), tally, _serving(stack))


def _serving(stack: Stack) -> str:
    current = stack.record().current
    if current is None:
        return "nothing"
    return f"{current.lws} (commit {current.commit[:12]}) behind Service {SERVICE}"


def _up(stack: Stack, engine: Engine) -> int:
    login = stack.start(tied=False, changes=engine.spec).login
    print(f"Airflow: {login.url}  user {login.user}  password {login.password}")
    print(f"Cluster: export KUBECONFIG={stack.layout.kubeconfig} DEVCLUSTER_HOME={stack.layout.home}")
    print("Trigger the DAG roll_out__tiny_chat with revision v1, then v2; `make down` stops everything.")
    return 0


def _down(stack: Stack) -> int:
    stack.stop()
    print("Stopped")
    return 0


@contextmanager
def _alone(stack: Stack) -> Iterator[None]:
    """One demo at a time in one folder: two would use each other's cluster."""
    stack.home.mkdir(parents=True, exist_ok=True)
    with (stack.home / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StartError(
                f"another demo runs in {stack.home}: wait for it, or name another folder with --home"
            ) from error
        yield


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m devcluster.demo", description=__doc__)
    commands = {
        "run": "four rollouts, a table and var/demo.json",
        "up": "start everything and leave it running",
        "down": "stop what up started",
    }
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, text in commands.items():
        command = subparsers.add_parser(name, help=text, description=text)
        command.add_argument("--home", type=Path, help="folder for cluster and Airflow (default: in the cache)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
