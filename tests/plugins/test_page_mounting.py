from __future__ import annotations

import os
import subprocess
import sys

import pytest

from rollout_airflow.page import mounting

from .conftest import ROOT


def test_loading_the_plugin_needs_no_cluster_and_imports_for_tasks_but_not_for_the_page():
    code = (
        "import sys; from airflow import plugins_manager as m; plugins, errors = m._get_plugins();"
        "print(errors, [name in sys.modules for name in ('rollout_plugin', 'kubernetes.client',"
        " 'rollout_airflow.operators', 'fastapi', 'airflow.api_fastapi.core_api.security')])"
    )
    paths = os.pathsep.join(str(ROOT / part) for part in ("include", "plugins"))
    quiet = {
        key: value for key, value in os.environ.items() if key not in {"AIRFLOW_CONN_KUBERNETES_DEFAULT", "KUBECONFIG"}
    }
    environment = quiet | {"PYTHONPATH": paths, "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "{} [True, True, True, False, False]"


def test_airflow_under_a_path_of_its_own_keeps_it_in_every_address(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://ops.example/airflow/")
    assert mounting.address() == "/airflow/rollouts/"
    assert mounting.login_address() == "/airflow/api/v2/auth/login?next=%2Fairflow%2Frollouts%2F"
    assert mounting.run_address("d", "a/b") == "/airflow/dags/d/runs/a%2Fb"
