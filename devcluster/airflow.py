"""Real Airflow processes on this machine, each in a process namespace of its own that dies as one.

``airflow standalone`` for the demo and for a look; its four components apart for tests that kill one of them.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from devcluster.airflow_client import POLL_SECONDS, Client, Login
from devcluster.layout import write_json
from devcluster.lifecycle import die_with_parent
from devcluster.programs import AS_ROOT_INSIDE

__all__ = ["COMPONENTS", "AirflowError", "AirflowProcesses", "Client", "Login"]

COMPONENTS = ("api-server", "scheduler", "dag-processor", "triggerer")
ROOT = Path(__file__).resolve().parent.parent
USER = "admin"
STOP_SECONDS = 8.0
MIGRATE_SECONDS = 180.0
HEALTHY_SECONDS = 180.0
"""Ten seconds on an idle machine; a shared one has taken half a minute."""
_PORTS = ("api", "worker_log", "trigger_log")
_TAIL = 2000


class AirflowError(Exception):
    """Airflow did not start; the text says which process and what it said last."""


class AirflowProcesses:
    """One Airflow with a home, a database, ports and a login of its own.

    A second object with the same home finds the processes, the ports and the login of the first.
    """

    def __init__(self, home: Path, kubeconfig: Path, specs: Path, hub_endpoint: str, evidence: Path) -> None:
        """Start nothing yet.

        Args:
            home: AIRFLOW_HOME, outside of the tree; is made.
            kubeconfig: How its tasks reach the cluster.
            specs: The folder with one spec a model.
            hub_endpoint: Where its tasks ask for commits instead of the public hub.
            evidence: The folder for what steps keep.
        """
        self.home = home.resolve()
        self._paths = {"kubeconfig": kubeconfig, "specs": specs, "evidence": evidence}
        self._hub_endpoint = hub_endpoint
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._state = self._load()

    @property
    def url(self) -> str:
        """Airflow's address."""
        return f"http://127.0.0.1:{self._state['ports']['api']}"

    @property
    def login(self) -> Login:
        """Address, user and password."""
        return Login(self.url, USER, self._state["password"])

    def client(self) -> Client:
        """A new session at the API."""
        return Client(self.login)

    def start(self, *, standalone: bool = True, tied: bool = True) -> None:
        """Start the processes; see ``wait_healthy`` for when they answer.

        Args:
            standalone: One ``airflow standalone`` instead of four components.
            tied: They end with the calling thread, however that ends.
        """
        if standalone:
            self._launch("standalone", tied=tied)
            return
        self._migrate()
        for component in COMPONENTS:
            self._launch(component, tied=tied)

    def restart(self, component: str, *, tied: bool = True) -> None:
        """Start a component that was killed."""
        if self._alive(component) is None:
            self._launch(component, tied=tied)

    def kill(self, component: str) -> None:
        """SIGKILL to a component and everything that it started, all at once."""
        process = self._alive(component)
        if process is not None:
            process.kill()
            process.wait(STOP_SECONDS)
        self._forget(component)

    def kill_task(self, inner_pid: int) -> bool:
        """SIGKILL to a running task's process, by the number that it has in the scheduler's namespace.

        Returns whether it was there.
        """
        scheduler = self._alive("scheduler") or self._alive("standalone")
        for process in scheduler.children(recursive=True) if scheduler else ():
            if _inner_pid(process.pid) == inner_pid:
                process.kill()
                return True
        return False

    def stop(self) -> None:
        """Ask everything to end, and kill what has not after a few seconds; nothing is left afterwards."""
        running = {name: process for name in list(self._state["processes"]) if (process := self._alive(name))}
        for name, process in running.items():
            # Process 1 of a namespace gets only signals that it handles, and standalone handles the keyboard's.
            self._signal(process, signal.SIGINT if name == "standalone" else signal.SIGTERM)
        psutil.wait_procs(list(running.values()), timeout=STOP_SECONDS)
        for name in list(self._state["processes"]):
            self.kill(name)

    def wait_healthy(self, timeout: float = HEALTHY_SECONDS) -> None:
        """Return when database, scheduler, triggerer and DAG processor are healthy.

        Raises:
            AirflowError: One of them ended.
            TimeoutError: They are still not, after so many seconds.
        """
        deadline = time.monotonic() + timeout
        with self.client() as client:
            while set((seen := client.health()).values()) != {"healthy"}:
                self._require_alive()
                if time.monotonic() > deadline:
                    raise TimeoutError(f"Airflow is not healthy after {timeout:.0f} s: {seen}; see {self._logs}")
                time.sleep(POLL_SECONDS)

    def wait_dags(self, ids: list[str], timeout: float = 90.0) -> None:
        """Return when all these DAGs are there."""
        with self.client() as client:
            client.wait_dags(ids, timeout)

    def environment(self) -> dict[str, str]:
        """The environment of every process, free of the caller's own Airflow settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
        programs = f"{Path(sys.executable).parent}:{kept.get('PATH', os.defpath)}"
        return kept | self._settings() | {
            "AIRFLOW_HOME": str(self.home),
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(
                {"conn_type": "kubernetes", "extra": {"kube_config_path": str(self._paths["kubeconfig"])}}
            ),
            "HF_ENDPOINT": self._hub_endpoint,
            "LLM_ROLLOUT_SPECS": str(self._paths["specs"]),
            "LLM_ROLLOUT_EVIDENCE": str(self._paths["evidence"]),
            "PATH": programs,
            "PYTHONPATH": f"{ROOT / 'include'}:{ROOT / 'plugins'}",
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
        }  # fmt: skip

    @property
    def _logs(self) -> Path:
        return self.home / "logs"

    @property
    def _state_file(self) -> Path:
        return self.home / "processes.json"

    def _load(self) -> dict[str, Any]:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)  # The password lies in it.
        self._logs.mkdir(exist_ok=True)
        if self._state_file.exists():
            return dict(json.loads(self._state_file.read_text()))
        state = {"ports": _free_ports(), "password": secrets.token_urlsafe(12), "processes": {}}
        write_json(self._state_file, state)
        write_json(self._passwords, {USER: state["password"]})
        return state

    @property
    def _passwords(self) -> Path:
        return self.home / "passwords.json"

    def _settings(self) -> dict[str, str]:
        ports = self._state["ports"]
        settings: dict[str, dict[str, object]] = {
            "CORE": {
                "DAGS_FOLDER": ROOT / "dags", "PLUGINS_FOLDER": ROOT / "plugins", "LOAD_EXAMPLES": False,
                "DAGS_ARE_PAUSED_AT_CREATION": False, "EXECUTION_API_SERVER_URL": f"{self.url}/execution/",
                "SIMPLE_AUTH_MANAGER_USERS": f"{USER}:admin", "SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": self._passwords,
                "EXECUTOR": "LocalExecutor", "PARALLELISM": 4,
            },
            "DATABASE": {"SQL_ALCHEMY_CONN": f"sqlite:///{self.home}/airflow.db"},
            "API": {"HOST": "127.0.0.1", "PORT": ports["api"], "BASE_URL": self.url, "WORKERS": 1},
            "LOGGING": {
                "BASE_LOG_FOLDER": self._logs / "tasks", "WORKER_LOG_SERVER_PORT": ports["worker_log"],
                "TRIGGER_LOG_SERVER_PORT": ports["trigger_log"],
            },
            "SCHEDULER": {
                "SCHEDULER_IDLE_SLEEP_TIME": 0.1, "SCHEDULER_HEARTBEAT_SEC": 1, "JOB_HEARTBEAT_SEC": 1,
                # A new scheduler takes over what a dead one left within half a minute, not within five.
                "SCHEDULER_HEALTH_CHECK_THRESHOLD": 15, "ORPHANED_TASKS_CHECK_INTERVAL": 10,
                "TASK_INSTANCE_HEARTBEAT_TIMEOUT": 20, "TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": 5,
            },
            # A worker may miss that its task has ended, and then looks again only when it is due to send a heartbeat.
            "WORKERS": {"MIN_HEARTBEAT_INTERVAL": 1},
            "TRIGGERER": {"JOB_HEARTBEAT_SEC": 1, "TRIGGERER_HEALTH_CHECK_THRESHOLD": 10},
            "DAG_PROCESSOR": {"MIN_FILE_PROCESS_INTERVAL": 5, "REFRESH_INTERVAL": 10},
        }  # fmt: skip
        return {f"AIRFLOW__{part}__{key}": str(value) for part, keys in settings.items() for key, value in keys.items()}

    def _migrate(self) -> None:
        with (self._logs / "migrate.log").open("wb") as log:
            done = subprocess.run(
                [sys.executable, "-m", "airflow", "db", "migrate"], env=self.environment(), cwd=self.home,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=MIGRATE_SECONDS, check=False,
            )  # fmt: skip
        if done.returncode:
            raise AirflowError(f"airflow db migrate ended with {done.returncode}:\n{self._last_words('migrate')}")

    def _launch(self, name: str, *, tied: bool) -> None:
        with (self._logs / f"{name}.log").open("ab") as log:
            child = subprocess.Popen(
                [*_namespace(), sys.executable, "-m", "airflow", name], env=self.environment(), cwd=self.home,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                preexec_fn=die_with_parent if tied else None,  # noqa: PLW1509 - it only makes one system call
            )  # fmt: skip
        self._children[name] = child
        self._state["processes"][name] = {"pid": child.pid, "created": psutil.Process(child.pid).create_time()}
        write_json(self._state_file, self._state)

    def _alive(self, name: str) -> psutil.Process | None:
        """The namespace's holder, if it is still that process and no stranger with a reused number."""
        noted = self._state["processes"].get(name)
        with suppress(psutil.Error):
            process = psutil.Process(noted["pid"]) if noted else None
            if process and process.create_time() == noted["created"] and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    def _require_alive(self) -> None:
        for name in self._state["processes"]:
            if self._alive(name) is None:
                raise AirflowError(f"airflow {name} ended; its last words:\n{self._last_words(name)}")

    def _forget(self, name: str) -> None:
        child = self._children.pop(name, None)
        if child is not None:
            child.wait(STOP_SECONDS)
        self._state["processes"].pop(name, None)
        write_json(self._state_file, self._state)

    def _last_words(self, name: str) -> str:
        return (self._logs / f"{name}.log").read_text(errors="replace")[-_TAIL:]

    @staticmethod
    def _signal(holder: psutil.Process, number: int) -> None:
        with suppress(psutil.Error):
            for inner in holder.children():
                inner.send_signal(number)


def _namespace() -> tuple[str, ...]:
    """The command that runs its arguments as process 1: when it or its holder dies, everything in it does."""
    as_root = () if os.geteuid() == 0 else AS_ROOT_INSIDE
    return ("unshare", *as_root, "--pid", "--fork", "--kill-child", "--mount-proc")


def _inner_pid(pid: int) -> int | None:
    """The number of a process in the innermost namespace that it is in; see proc(5), NSpid."""
    with suppress(OSError):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("NSpid:")).split()[-1])
    return None


def _free_ports() -> dict[str, int]:
    """Ports that were free together a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in _PORTS]
    ports = {name: opened.getsockname()[1] for name, opened in zip(_PORTS, sockets, strict=True)}
    for opened in sockets:
        opened.close()
    return ports
