"""Check files of specs and of Kubernetes manifests without a cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from llm_rollout.fabric.lint import lint as rdma_lint
from llm_rollout.fabric.lint import recognised
from llm_rollout.manifests.fabric_job import fabric_job
from llm_rollout.manifests.findings import Finding, is_env_block, manifest_name, text
from llm_rollout.manifests.leader_worker_set import leader_worker_set
from llm_rollout.manifests.lint import lint
from llm_rollout.manifests.linting.shape import misshapen
from llm_rollout.manifests.service import service
from llm_rollout.names import lws_name, revision_id
from llm_rollout.ports import Manifest
from llm_rollout.rollout import RolloutPlan
from llm_rollout.spec import RolloutSpec
from llm_rollout.spec_loading import load_specs
from llm_rollout.spec_problems import NO_VALUE, Problem, SpecError, file_problem, masked
from llm_rollout.spec_yaml import Document, duplicate_problems, read_documents

_SURROUNDINGS = {"NetworkAttachmentDefinition", "Node"}
"""Kinds that a spec's own manifests refer to: given beside a spec, they are looked at with it."""


class Report:
    """What there is to say about each file, in the order of the files."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.lines: dict[Path, list[str]] = {path: [] for path in paths}
        self.failed: set[Path] = set()
        """The files that are not valid."""

    def problem(self, path: Path, problem: Problem) -> None:
        """A line that makes the file invalid."""
        self.lines[path].append(str(problem))
        self.failed.add(path)

    def finding(self, path: Path, finding: Finding) -> None:
        """An error as a problem, a warning as a note; the corrected lines stand below, indented."""
        where = f"{finding.manifest} {finding.field_path}".strip()
        value = NO_VALUE if finding.value is None else finding.value
        code = finding.code if finding.severity == "error" else f"{finding.code} warning"
        problem = Problem(str(path), where, value, f"[{code}] {finding.message}", finding.fix)
        corrected = masked(finding.corrected).splitlines()
        self.lines[path] += [str(problem), *(f"    {line}" for line in corrected)]
        if finding.severity == "error":
            self.failed.add(path)

    def note(self, path: Path, text: str) -> None:
        """A line that does not."""
        self.lines[path].append(f"{path}: {text}")

    def __str__(self) -> str:
        """All lines."""
        return "\n".join(line for lines in self.lines.values() for line in lines)


def check(paths: Sequence[Path]) -> Report:
    """Read and check files; one that is named twice is checked once."""
    report = Report(dict.fromkeys(paths))
    documents = _read(report)
    manifests = {path: found for path, found in documents.items() if _is_kubernetes(found)}
    specs, problems = load_specs([path for path in documents if path not in manifests])
    for problem in problems:
        report.problem(Path(problem.file), problem)
    shaped = {path: _manifests(report, path, found) for path, found in manifests.items()}
    given = [one for found in shaped.values() for one in found if text(one.get("kind")) in _SURROUNDINGS]
    for path, spec in specs.items():
        _check_rendered(report, path, spec, given)
    _check_manifests(report, shaped)
    return report


def _read(report: Report) -> dict[Path, list[Document]]:
    documents = {}
    for path in report.lines:
        try:
            documents[path] = read_documents(path)
        except SpecError as error:
            for problem in error.problems:
                report.problem(path, problem)
    return documents


def _is_kubernetes(documents: Sequence[Document]) -> bool:
    return any(isinstance(document.value, dict) and _is_manifest(document.value) for document in documents)


def _is_manifest(value: Mapping[str, Any]) -> bool:
    return {"apiVersion", "kind"} <= value.keys()


def _check_rendered(report: Report, path: Path, spec: RolloutSpec, given: Sequence[Manifest]) -> None:
    """Lint what a valid spec will become: settings that are each allowed may still be wrong together."""
    rendered = _rendered(spec)
    about = {manifest_name(manifest) for manifest in rendered}
    findings = [finding for finding in _findings([*rendered, *given]) if finding.manifest in about]
    for finding in dict.fromkeys(_in_spec(spec, finding) for finding in findings):
        report.finding(path, finding)
    for pairing in dict.fromkeys(recognised([rendered[0], *given]).values()):
        report.note(path, pairing)
    if path not in report.failed:
        server = spec.server
        gpus = spec.groups * server.nodes_per_group * server.gpus_per_node
        report.note(
            path,
            f"valid: {spec.name}: {_count(spec.groups, 'group')} of {_count(server.nodes_per_group, 'node')} with "
            f"{_count(server.gpus_per_node, 'GPU')} each ({gpus} in all), "
            f"Service {spec.service.name} in {spec.namespace}",
        )


def _in_spec(spec: RolloutSpec, finding: Finding) -> Finding:
    """A finding about a variable that the spec sets, said once and of the spec's field, which is the one to correct."""
    variable = finding.field_path.rpartition(".env.")[2]
    if variable not in spec.server.network.nccl_env:
        return finding
    return replace(finding, manifest="", field_path=f"server.network.nccl_env.{variable}", corrected="")


def _rendered(spec: RolloutSpec) -> list[Manifest]:
    nodes = tuple(f"node-{index}" for index in range(spec.groups * spec.server.nodes_per_group))
    revision = revision_id("0" * 40, {})
    plan = RolloutPlan(
        spec=spec,
        commit="0" * 40,
        revision_id=revision,
        lws=lws_name(spec.name, revision),
        nodes=nodes,
        weights_bytes=0,
        stable_lws=None,
        stable_revision_id=None,
        fencing_token=0,
    )
    return [leader_worker_set(spec, plan), service(spec, revision), *fabric_job(spec, nodes, "check")]


def _check_manifests(report: Report, files: Mapping[Path, Sequence[Manifest]]) -> None:
    """Lint the manifests of all files together: a defect often lies between two of them."""
    manifests = [manifest for own in files.values() for manifest in own]
    owners = {manifest_name(manifest): path for path, own in files.items() for manifest in own}
    for finding in _findings(manifests):
        report.finding(owners[finding.manifest], finding)
    for manifest, pairing in recognised(manifests).items():
        report.note(owners[manifest], pairing)
    for path in files:
        if path not in report.failed:
            report.note(path, "no known defect")


def _manifests(report: Report, path: Path, documents: Sequence[Document]) -> list[Manifest]:
    """The file's manifests that can be looked at; of the others it is said what is wrong with them."""
    found: list[Manifest] = []
    for place, document in enumerate(documents, start=1):
        for problem in duplicate_problems(path, document):
            report.problem(path, problem)
        manifests = _items(document.value)
        if manifests and all(
            isinstance(item, dict) and (_is_manifest(item) or is_env_block(item)) for item in manifests
        ):
            found += [manifest for manifest in manifests if _is_shaped(report, path, manifest)]
        else:
            message = f"document {place} has no apiVersion and kind"
            report.problem(path, file_problem(path, message, "add them, or remove the document"))
    return found


def _is_shaped(report: Report, path: Path, manifest: Manifest) -> bool:
    wrong = misshapen(manifest)
    if wrong:
        message = f"{manifest_name(manifest)} is not shaped as its kind demands: {wrong}"
        report.problem(path, file_problem(path, message, "try kubectl apply --dry-run=server"))
    return not wrong


def _items(value: Any) -> list[Any]:
    """The manifests of a document: those of a List, else itself."""
    kind = value.get("kind") if isinstance(value, dict) else None
    items = value.get("items") if isinstance(kind, str) and kind.endswith("List") else None
    if isinstance(items, list):
        return items
    return [] if kind == "List" else [value]


def _findings(manifests: Sequence[Manifest]) -> list[Finding]:
    return [*lint(manifests), *rdma_lint(manifests)]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
