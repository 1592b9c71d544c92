"""What can be said about docker-compose.yaml without Docker: by its own text, the repository, and the real Airflow."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from airflow.api_fastapi.core_api.datamodels.monitor import HealthInfoResponse
from airflow.cli.cli_parser import get_parser
from airflow.configuration import retrieve_configuration_description
from airflow.jobs.dag_processor_job_runner import DagProcessorJobRunner
from airflow.jobs.triggerer_job_runner import TriggererJobRunner

from rollout_airflow import connection

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docker-compose.yaml").read_text()
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(TEXT)["services"]
AIRFLOW = [name for name in SERVICES if name != "postgres"]
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|(?:^|_)KEY$|FERNET|SQL_ALCHEMY_CONN")
VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?:(:-|:\?)([^}]*))?\}")


def environment(name: str) -> dict[str, str]:
    return dict(SERVICES[name]["environment"])


def variables() -> list[tuple[str, str, str]]:
    """Name, operator and what stands behind it, of each ``${…}``."""
    lines = (line for line in TEXT.splitlines() if not line.lstrip().startswith("#"))
    return [found.groups(default="") for line in lines for found in VARIABLE.finditer(line)]  # type: ignore[misc]


def airflow_settings() -> dict[str, str]:
    return {name: value for name, value in environment("scheduler").items() if name.startswith("AIRFLOW__")}


def option_of(name: str) -> tuple[str, str]:
    _, section, option = name.split("__")
    return section.lower(), option.lower()


def targets(name: str) -> dict[str, str]:
    """Where a service sees what, by target."""
    short = [volume.split(":") for volume in SERVICES[name]["volumes"] if isinstance(volume, str)]
    long = [volume for volume in SERVICES[name]["volumes"] if isinstance(volume, dict)]
    return {one[1]: one[0] for one in short} | {one["target"]: one["source"] for one in long}


def health_command(name: str) -> list[str]:
    kind, *rest = SERVICES[name]["healthcheck"]["test"]
    return shlex.split(rest[0]) if kind == "CMD-SHELL" else rest


def airflow_command(words: list[str]) -> list[str]:
    """The arguments of ``airflow`` in a command, be it started by a shell."""
    if words[0] == "bash":
        words = words[-1].strip().splitlines()[-1].removeprefix("exec ").split()
    assert words[0] == "airflow"
    return words[1:]


def test_every_airflow_component_runs():
    commands = {airflow_command(SERVICES[name]["command"])[0] for name in AIRFLOW}

    assert commands == {"api-server", "scheduler", "dag-processor", "triggerer", "db"}


@pytest.mark.parametrize("name", AIRFLOW)
def test_all_airflow_services_have_the_same_configuration(name):
    only_here = {"AIRFLOW_PASSWORDS"} if name == "api-server" else set()
    found = environment(name)

    assert {key: value for key, value in found.items() if key not in only_here} == environment("scheduler")
    assert only_here <= set(found)
    for shared in ("image", "build", "user", "volumes", "cap_drop", "security_opt"):
        assert SERVICES[name][shared] == SERVICES["scheduler"][shared]


def test_the_services_import_the_library_and_the_plugin_from_the_mounts():
    seen = targets("scheduler")
    sources = [seen[folder].removeprefix("./") for folder in environment("scheduler")["PYTHONPATH"].split(":")]

    assert (ROOT / sources[0] / "llm_rollout/__init__.py").is_file()
    assert (ROOT / sources[1] / "rollout_airflow/__init__.py").is_file()
    assert seen[airflow_settings()["AIRFLOW__CORE__DAGS_FOLDER"]] == "./dags"
    assert seen[airflow_settings()["AIRFLOW__CORE__PLUGINS_FOLDER"]] == "./plugins"


def test_every_secret_comes_from_the_environment():
    secret = [(name, key) for name in SERVICES for key in environment(name) if SECRET.search(key)]

    assert ("postgres", "POSTGRES_PASSWORD") in secret
    assert ("scheduler", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN") in secret
    for name, key in secret:
        assert VARIABLE.search(environment(name)[key]), f"{name}: {key} has no variable in it"
    literal = [name for name, operator, default in variables() if SECRET.search(name) and operator == ":-" and default]
    assert literal == []


def test_only_the_token_for_private_repositories_may_be_missing():
    optional = {name for name, operator, _ in variables() if SECRET.search(name) and operator != ":?"}

    assert optional == {"HF_TOKEN"}


def test_a_missing_variable_is_explained():
    assert [name for name, operator, text in variables() if operator != ":-" and not text] == []


def test_the_example_environment_lists_every_variable_and_no_other():
    example = re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE)
    used = {name: (operator, default) for name, operator, default in variables()}

    assert sorted(name for name, _ in example) == sorted(used)
    for name, value in example:
        if used[name][0] == ":-":
            assert value == used[name][1], f"{name}: the example says {value!r}, the default is {used[name][1]!r}"
        if SECRET.search(name):
            assert value == "", f"{name} has a value that people would keep"


def test_required_variables_stand_without_a_comment_sign_in_the_example():
    written = set(re.findall(r"^([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))

    assert written == {name for name, operator, _ in variables() if operator == ":?"}


def test_ports_are_published_on_the_loopback_address_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]

    assert len(ports) == 1
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert not any("network_mode" in service for service in SERVICES.values())


def test_images_are_pinned_and_airflow_is_the_tested_one():
    assert re.fullmatch(r"postgres:\d+\.\d+-\w+", SERVICES["postgres"]["image"])
    assert "apache-airflow==" + SERVICES["scheduler"]["image"].partition(":")[2] in (
        (ROOT / "requirements.txt").read_text().splitlines()
    )


def test_the_image_is_built_from_the_repository():
    build = SERVICES["scheduler"]["build"]

    assert (ROOT / build["context"] / build["dockerfile"]).is_file()


@pytest.mark.parametrize("name", sorted(airflow_settings()))
def test_airflow_knows_the_setting(name):
    section, option = option_of(name)
    known = retrieve_configuration_description(include_providers=False)[section]["options"][option]
    kind, value = known["type"], airflow_settings()[name]

    assert not known.get("deprecated")
    if kind in {"integer", "float"}:
        float(value)
    if kind == "boolean":
        assert value in {"true", "false"}


@pytest.mark.parametrize("name", AIRFLOW)
def test_airflow_knows_the_command(name):
    words = airflow_command(SERVICES[name]["command"])

    assert get_parser().parse_args(words).subcommand == words[0] or words == ["db", "migrate"]


@pytest.mark.parametrize("name", [name for name in AIRFLOW if name != "migrate"])
def test_every_component_has_a_health_check(name):
    assert health_command(name)[0] in {"airflow", "curl"}


def test_airflow_knows_the_health_commands_and_their_job_types():
    commands = [health_command(name) for name in AIRFLOW if "healthcheck" in SERVICES[name]]
    parsed = [get_parser().parse_args(words[1:]) for words in commands if words[0] == "airflow"]

    assert {one.job_type for one in parsed} == {DagProcessorJobRunner.job_type, TriggererJobRunner.job_type}
    assert all(one.local for one in parsed)


def test_the_api_servers_health_check_finds_what_airflow_answers():
    wanted = health_command("api-server")[-1]
    state = {"status": "healthy"}
    heartbeats = {
        "scheduler": {**state, "latest_scheduler_heartbeat": None},
        "triggerer": {**state, "latest_triggerer_heartbeat": None},
    }

    def answer(database: str) -> str:
        found = HealthInfoResponse.model_validate({"metadatabase": {"status": database}, **heartbeats})
        return str(found.model_dump_json())

    assert wanted in answer("healthy")
    assert wanted not in answer("unhealthy")


def test_the_health_checks_ask_at_the_ports_that_airflow_listens_on():
    description = retrieve_configuration_description(include_providers=False)
    scheduler_port = description["scheduler"]["options"]["scheduler_health_check_server_port"]["default"]
    api_port = airflow_settings()["AIRFLOW__API__PORT"]

    assert airflow_settings()["AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK"] == "true"
    assert f"http://127.0.0.1:{scheduler_port}/health" in health_command("scheduler")
    assert any(
        word.startswith(f"http://127.0.0.1:{api_port}/api/v2/monitor/health") for word in health_command("api-server")
    )
    assert f"http://api-server:{api_port}/execution/" == airflow_settings()["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"]
    assert SERVICES["api-server"]["ports"][0].endswith(f":{api_port}")


@pytest.mark.parametrize("name", list(SERVICES))
def test_a_service_waits_for_what_it_needs(name):
    waits = {other: what["condition"] for other, what in SERVICES[name].get("depends_on", {}).items()}

    assert name == "postgres" or waits["postgres"] == "service_healthy"
    assert name in {"postgres", "migrate"} or waits["migrate"] == "service_completed_successfully"
    assert name not in {"scheduler", "triggerer"} or waits["api-server"] == "service_healthy"
    for other, condition in waits.items():
        assert condition == "service_completed_successfully" or "healthcheck" in SERVICES[other]


@pytest.mark.parametrize("name", AIRFLOW)
def test_the_project_is_mounted_read_only(name):
    bound = [volume for volume in SERVICES[name]["volumes"] if isinstance(volume, str) and volume.startswith(".")]

    assert {volume.split(":")[0] for volume in bound} == {"./dags", "./plugins", "./include"}
    for volume in bound:
        assert volume.endswith(":ro")
        assert (ROOT / volume.split(":")[0]).is_dir()


def test_other_volumes_are_declared():
    named = {volume.split(":")[0] for one in SERVICES.values() for volume in one["volumes"] if isinstance(volume, str)}

    assert {volume for volume in named if not volume.startswith(".")} == set(yaml.safe_load(TEXT)["volumes"])


def test_the_kubernetes_connection_names_the_mounted_kubeconfig():
    name = f"AIRFLOW_CONN_{connection.CONNECTION_ID.upper()}"
    extras = json.loads(environment("triggerer")[name])["extra"]
    mounted = [volume for volume in SERVICES["triggerer"]["volumes"] if isinstance(volume, dict)]

    assert [(volume["target"], volume["read_only"]) for volume in mounted] == [(extras["kube_config_path"], True)]
    assert mounted[0]["bind"]["create_host_path"] is False


def test_evidence_outlives_the_containers():
    _, _, default = next(found for found in variables() if found[0] == connection.EVIDENCE)

    assert environment("scheduler")[connection.EVIDENCE].startswith(f"${{{connection.EVIDENCE}:-")
    assert targets("scheduler")[default] == "evidence"


def test_what_stops_is_started_again_except_the_migration():
    assert {name for name, one in SERVICES.items() if one["restart"] != "unless-stopped"} == {"migrate"}
