"""L5, L6, L7, L11, L12 and L15: the engine's command, for itself and leader against worker.

The right form is vLLM's own for several nodes (``--nnodes`` and its kin), which needs no Ray.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from llm_rollout.manifests import corrections
from llm_rollout.manifests.findings import Finding, Template, at, flags_of, number, text

_API = {"--host", "--port", "--api-key"}
_PLACE = {"--nnodes", "--node-rank", "--master-addr", "--headless"}
_LEADER_ONLY = _API | _PLACE
"""Flags of the API server and of a node's place in the group; all others describe the engine."""
_FIRST_WITHOUT_RAY = 19
"""vllm/vllm-openai v0.19: the first stock image without Ray."""
_GROUP = ["--nnodes=$(LWS_GROUP_SIZE)", "--node-rank=$(LWS_WORKER_INDEX)", "--master-addr=$(LWS_LEADER_ADDRESS)"]
_DRAIN_SECONDS, _GRACE_SECONDS = 60, 90


class Command:
    """What one pod of a group runs, with what its right form needs to know of the group."""

    def __init__(self, template: Template, leader: Template) -> None:
        self.template = template
        self.leader = leader
        """The template that the engine's flags are taken from; itself where there is only one."""
        self.size = number(at(template.manifest, "spec", "leaderWorkerTemplate", "size"), 1)

    def corrected(self) -> str:
        """The whole command in its right form."""
        model = model_of(self.leader) or model_of(self.template) or "PATH"
        local = is_local(model)
        words = ["vllm", "serve", model if local else f"/models/{model}", *self._engine()]
        words += _GROUP if self.size > 1 else []
        if self.template.role == "worker" and self.size > 1:
            words.append("--headless")
        else:
            words += _chosen(self.template, lambda flag: flag in _API)
        lines: dict[str, Any] = {"command": words, "args": None}
        remark = "" if local else f"/models/{model} stands for the place where the weights are staged"
        if not local:
            lines["env"] = [{"name": "HF_HUB_OFFLINE", "value": "1"}]
        return corrections.in_container(self.template, lines, remark)

    def _engine(self) -> list[str]:
        """The leader's engine flags, those that only the worker has, and the drain of open requests."""
        gone = _LEADER_ONLY | {"--model", "--distributed-executor-backend"}
        words = _chosen(self.leader, lambda flag: flag not in gone)
        have = {_flag(word) for word in words if word.startswith("-")}
        if not starts_ray(self.template):
            words += _chosen(self.template, lambda flag: flag not in gone | have)
        drains = any(word.startswith("--shutdown-timeout") for word in words)
        return words if drains else [*words, f"--shutdown-timeout={_DRAIN_SECONDS}"]


def defects(template: Template, engines: Mapping[str, Template]) -> Iterator[Finding]:
    """L5, L6, L7 and L15: the command of one pod for itself; ``engines`` are all of its group, by role."""
    leader = engines.get("leader", template)
    command = Command(template, leader)
    everywhere = corrections.together(*(Command(one, leader).corrected() for one in engines.values()))
    flags, path = flags_of(template.arguments), template.at("args")
    if "--model" in flags:
        advice = ("vllm serve takes the model as its first argument", "write command: [vllm, serve, PATH, …]")
        yield template.finding("L5", path, f"--model={flags['--model']}", advice, command.corrected())
    model = model_of(template)
    if model and not is_local(model) and template.env.get("HF_HUB_OFFLINE") != "1":
        message = "every start of every pod depends on the hub, and a branch may have moved between two of them"
        advice = (message, "serve a staged path, with HF_HUB_OFFLINE=1")
        yield template.finding("L6", path, model, advice, command.corrected())
    if template.role == "leader" and "--shutdown-timeout" not in flags:
        message = "without it vLLM aborts open requests when its pod is stopped"
        advice = (message, "add --shutdown-timeout and a longer terminationGracePeriodSeconds")
        grace = corrections.in_pod(template, {"spec": {"terminationGracePeriodSeconds": _GRACE_SECONDS}})
        yield template.warning("L15", path, None, advice, corrections.together(everywhere, grace))
    yield from _ray(command, flags, everywhere)


def _ray(command: Command, flags: dict[str, str], everywhere: str) -> Iterator[Finding]:
    """L7: a backend that nothing starts."""
    template = command.template
    path, image = template.at("args"), text(template.container.get("image"))
    if flags.get("--distributed-executor-backend") == "ray":
        stock = re.search(r"vllm/vllm-openai:v0\.(\d{1,4})(?!\d)", image)
        if stock and int(stock[1]) >= _FIRST_WITHOUT_RAY:
            advice = ("stock images have no Ray since 0.19", "use --nnodes, --node-rank and --master-addr")
            yield template.finding("L7", template.at("image"), image, advice, command.corrected())
        elif template.role == "leader" and not starts_ray(template):
            message = "nothing starts the Ray cluster that this backend asks for"
            fix = "use --nnodes, --node-rank and --master-addr, or start it with multi-node-serving.sh leader"
            yield template.finding("L7", path, "ray", (message, fix), everywhere)


def roles(leader: Template | None, worker: Template) -> Iterator[Finding]:
    """L11 and L12: leader and workers against each other."""
    if number(at(worker.manifest, "spec", "leaderWorkerTemplate", "size"), 1) == 1:
        return
    command = Command(worker, leader or worker)
    path = worker.at("args")
    if not _joins(worker):
        message = "every worker starts a server of its own and nobody joins the leader"
        fix = "give it --headless, --nnodes=$(LWS_GROUP_SIZE), --node-rank=$(LWS_WORKER_INDEX) and --master-addr"
        value = " ".join(worker.arguments)[:60]
        yield worker.finding("L11", path, value, (message, fix), command.corrected())
    if leader is None or starts_ray(worker):
        return
    mine, its = _engine_flags(leader), _engine_flags(worker)
    for flag in sorted(mine.keys() | its.keys()):
        if mine.get(flag) != its.get(flag):
            message = f"the leader has {mine.get(flag, 'no such flag')}: the nodes would build different engines"
            advice = (message, "give all nodes the same engine flags")
            lines = command.corrected() if flag in mine else Command(leader, worker).corrected()
            yield worker.finding("L12", path, f"{flag}={its.get(flag, 'missing')}", advice, lines)


def model_of(template: Template) -> str:
    """The model as the command names it, "" where it does not."""
    words = template.arguments
    if "--model" in flags_of(words):
        return flags_of(words)["--model"]
    following = words[words.index("serve") + 1 :] if "serve" in words else []
    return following[0] if following and not following[0].startswith("-") else ""


def is_local(model: str) -> bool:
    """Whether it is a path; a variable may be one."""
    return model.startswith(("/", "$"))


def starts_ray(template: Template) -> bool:
    """Whether the command starts or joins a Ray cluster before it serves."""
    return any("multi-node-serving" in word or word == "ray" for word in _programs(template))


def _joins(worker: Template) -> bool:
    return "--headless" in flags_of(worker.arguments) or starts_ray(worker)


def _programs(template: Template) -> list[str]:
    """Words that are no flags; the ``ray`` that a flag asks for starts nothing."""
    words = template.arguments
    before = ["", *words]
    asked = "--distributed-executor-backend"
    return [word for last, word in zip(before, words, strict=False) if not word.startswith("--") and last != asked]


def _engine_flags(template: Template) -> dict[str, str]:
    return {flag: value for flag, value in flags_of(template.arguments).items() if flag not in _LEADER_ONLY}


def _chosen(template: Template, wanted: Callable[[str], bool]) -> list[str]:
    """The server's flags that are wanted, each with its values, word for word."""
    words = template.arguments
    chosen: list[str] = []
    taking = False
    for word in words[words.index("serve") + 1 :] if "serve" in words else words:
        if word.startswith("--") or (word.startswith("-") and "serve" in words):
            taking = wanted(_flag(word))
        if taking:
            chosen.append(word)
    return chosen


def _flag(word: str) -> str:
    return word.partition("=")[0].replace("_", "-")
