"""Everything that the demo needs running: devcluster with hub, Airflow, the specs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from devcluster import exposing, lifecycle
from devcluster.airflow import AirflowProcesses
from devcluster.layout import REPOSITORY, Layout, write_json
from llm_rollout import record
from llm_rollout.adapters import cluster_of
from llm_rollout.record import Record

NODES = 6
GPUS = 8
MODEL = "tiny-chat"
SERVICE = "tiny-chat-api"
NAMESPACE = "default"
DAG = "roll_out__tiny_chat"


class Stack:
    """A devcluster and an Airflow in one folder outside the tree."""

    def __init__(self, home: Path) -> None:
        """Start nothing yet; ``home`` is made when something starts."""
        self.home = home
        self.layout = Layout(home / "devcluster")
        self._specs = home / "specs"
        self._airflow: AirflowProcesses | None = None

    def start(
        self, *, tied: bool, standalone: bool = True, changes: Mapping[str, Any] | None = None
    ) -> AirflowProcesses:
        """Start an empty cluster and a new Airflow, saying what comes up; return when both can be used.

        Args:
            tied: They end with this process, however it ends.
            standalone: One ``airflow standalone``, else its four components apart.
            changes: To the top level of the model's spec.
        """
        shutil.rmtree(self.home / "airflow", ignore_errors=True)
        self._specs.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / "include/rollouts" / f"{MODEL}.yaml", self._specs)
        if changes:
            self._rewrite(lambda spec: spec | dict(changes))
        _say("Starting the devcluster")
        lifecycle.up(self.layout, NODES, GPUS, say=lambda text: _say(f"  {text}"), tied=tied)
        airflow = self.airflow()
        _say("Starting Airflow")
        airflow.start(standalone=standalone, tied=tied)
        airflow.wait_healthy()
        airflow.wait_dags([DAG])
        return airflow

    def airflow(self) -> AirflowProcesses:
        """The Airflow of this folder, running or not."""
        if self._airflow is not None:
            return self._airflow
        hub = f"http://127.0.0.1:{self.layout.read_state().get('hub_port', 0)}"
        evidence = self.home / "evidence"
        home = self.home / "airflow"
        self._airflow = AirflowProcesses(home, self.layout.kubeconfig, self._specs, hub, evidence)
        return self._airflow

    def stop(self) -> None:
        """End everything; fine when nothing runs."""
        if (self.home / "airflow").exists():
            self.airflow().stop()
        lifecycle.down(self.layout)

    def expose(self) -> str:
        """The URL at which clients on this machine reach the model's Service."""
        return exposing.expose(self.layout, NAMESPACE, SERVICE, None, 0)

    def record(self) -> Record:
        """The model's record as it stands."""
        return record.load(cluster_of(str(self.layout.kubeconfig)), NAMESPACE, MODEL)

    def change_spec(self, server: dict[str, Any]) -> None:
        """Edit the model's spec file as a platform engineer would."""
        self._rewrite(lambda spec: spec | {"server": spec["server"] | server})

    def slow_link(self, nodes: tuple[str, str], gbps: int) -> None:
        """Have the simulated fabric carry less between two nodes."""
        fabric = lifecycle.DEFAULT_FABRIC | {"links": [{"nodes": list(nodes), "hca": None, "gbps": gbps}]}
        write_json(self.layout.fabric_file, fabric)

    def _rewrite(self, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        path = self._specs / f"{MODEL}.yaml"
        path.write_text(yaml.safe_dump(change(yaml.safe_load(path.read_text())), sort_keys=False))


def _say(text: str) -> None:
    print(text, flush=True)
