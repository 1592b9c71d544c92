"""Turns what other tools wrote into tasks: samples of lm-evaluation-harness, reports of GuideLLM, captured requests."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_rollout.canary.redaction import redact
from llm_rollout.errors import Permanent
from llm_rollout.names import digest

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_KEPT_FIELDS = ("role", "content")


@dataclass
class Imported:
    """Tasks as lines of a task set, and what became of the rest."""

    tasks: list[dict[str, Any]] = field(default_factory=list)
    repeated: int = 0
    """Questions that were there already: one counts once."""
    redacted: Counter[str] = field(default_factory=Counter)
    _seen: set[str] = field(default_factory=set)

    def add(self, task: Mapping[str, Any]) -> None:
        """Take a task in under an id made from its question, unless it is there."""
        asked = {key: task[key] for key in ("prompt", "messages") if key in task}
        identity = digest(asked)[:16]
        if identity in self._seen:
            self.repeated += 1
            return
        self._seen.add(identity)
        self.tasks.append({"id": identity, **task})


def lm_eval(text: str, name: str) -> Imported:
    """Read a ``samples_*.jsonl`` of ``lm_eval --log_samples``.

    Generated answers become ``exact`` tasks, or ``numeric`` ones where every answer is a number; a choice among
    continuations becomes ``multiple_choice`` with the choices listed in the prompt.

    Raises:
        Permanent: A line is no such sample; the text names line and field.
    """
    samples = [(_sample(value, place), place) for value, place in _lines(text, name)]
    imported = Imported()
    numeric = all(_is_number(str(sample["target"])) for sample, _ in samples if len(sample["questions"]) == 1)
    for sample, place in samples:
        imported.add(_sample_task(sample, place, numeric=numeric))
    return _not_empty(imported, name)


def guidellm(text: str, name: str) -> Imported:
    """Read the prompts of a GuideLLM report. It knows no right answers, so the tasks are load only.

    Raises:
        Permanent: It is no such report; the text names the field.
    """
    report = _json(text, name)
    imported = Imported()
    benchmarks = _field(report, "benchmarks", list, name)
    for number, benchmark in enumerate(benchmarks):
        place = f"{name}: benchmarks.{number}"
        requests = _field(_field(benchmark, "requests", dict, place), "successful", list, f"{place}.requests")
        for index, request in enumerate(requests):
            imported.add(_guidellm_task(request, f"{place}.requests.successful.{index}"))
    return _not_empty(imported, name)


def traffic(text: str, name: str) -> Imported:
    """Read captured bodies of OpenAI requests, one a line, without what ``redact`` finds. Load only.

    Raises:
        Permanent: A line is no such body; the text names line and field.
    """
    imported = Imported()
    for value, place in _lines(text, name):
        question = _question(value, place)
        imported.add({**_redacted(question, imported.redacted), **_limit(value, place)})
    return _not_empty(imported, name)


READERS = {"lm-eval": lm_eval, "guidellm": guidellm, "traffic": traffic}


def _sample(value: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Questions and target. ``arguments`` is a list of lists, or in newer versions an object of objects."""
    if "target" not in value:
        raise Permanent(f"{place}: target: no value: is this a samples_*.jsonl of lm_eval --log_samples?")
    given = value.get("arguments")
    calls = list(given.values()) if isinstance(given, dict) else given
    if not isinstance(calls, list) or not calls:
        raise Permanent(f"{place}: arguments: {given!r:.80}: wanted are the prompts of the sample, at least one")
    questions = [_call(call, place) for call in calls]
    return {"questions": questions, "target": value["target"]}


def _call(call: Any, place: str) -> tuple[str, Any]:
    words = list(call.values()) if isinstance(call, dict) else call
    if not isinstance(words, list) or not words or not isinstance(words[0], str):
        raise Permanent(f"{place}: arguments: {call!r:.80}: wanted is a prompt and what belongs to it")
    return words[0], words[1] if len(words) > 1 else {}


def _sample_task(sample: Mapping[str, Any], place: str, *, numeric: bool) -> dict[str, Any]:
    questions, target = sample["questions"], sample["target"]
    if len(questions) > 1:
        return _choice_task(questions, target, place)
    prompt, settings = questions[0]
    answer = str(target).strip()
    if not answer:
        raise Permanent(f"{place}: target: {target!r}: wanted is the right answer")
    until = settings.get("until") if isinstance(settings, dict) else None
    stop = {"stop": [each for each in until if each]} if isinstance(until, list) else {}
    limit = settings.get("max_gen_toks") if isinstance(settings, dict) else None
    most = {"max_tokens": limit} if isinstance(limit, int) and limit > 0 else {}
    if numeric:
        number = answer.rpartition("####")[2].strip().replace(",", "")
        return {"prompt": prompt, "answer": number, "grader": "numeric", **most, **stop}
    return {"prompt": prompt, "answer": answer, "grader": "exact", **most, **stop}


def _choice_task(questions: list[tuple[str, Any]], target: Any, place: str) -> dict[str, Any]:
    """A server that is asked cannot be asked for the likelier of two texts, so they are offered as letters."""
    choices = [str(continuation).strip() for _, continuation in questions]
    right = _right_choice(target, choices)
    if right is None or len(choices) > len(_LETTERS):
        raise Permanent(f"{place}: target: {target!r:.80}: wanted is the number of one of the {len(choices)} choices")
    listed = "\n".join(f"{letter}. {choice}" for letter, choice in zip(_LETTERS, choices, strict=False))
    prompt = f"{questions[0][0].rstrip()}\n{listed}\nAnswer with the letter alone.\nAnswer:"
    return {"prompt": prompt, "answer": _LETTERS[right], "grader": "multiple_choice", "max_tokens": 4}


def _right_choice(target: Any, choices: list[str]) -> int | None:
    text = str(target).strip()
    if text.isdigit() and int(text) < len(choices):
        return int(text)
    return choices.index(text) if text in choices else None


def _is_number(text: str) -> bool:
    try:
        float(text.rpartition("####")[2].strip().replace(",", ""))
    except ValueError:
        return False
    return True


def _guidellm_task(request: Any, place: str) -> dict[str, Any]:
    """Older reports hold the prompt, newer ones the arguments of the request as an object or as its JSON."""
    if isinstance(request, dict) and isinstance(request.get("prompt"), str):
        return {"prompt": request["prompt"]}
    arguments = _field(request, "request_args", (dict, str), place)
    if isinstance(arguments, str):
        arguments = _json(arguments, f"{place}.request_args")
    body = arguments.get("body") if isinstance(arguments.get("body"), dict) else arguments
    return {**_question(body, f"{place}.request_args"), **_limit(body, f"{place}.request_args")}


def _question(body: Mapping[str, Any], place: str) -> dict[str, Any]:
    messages, prompt = body.get("messages"), body.get("prompt")
    if isinstance(prompt, str) and prompt:
        return {"prompt": prompt, "stop": _stop(body)}
    if not isinstance(messages, list) or not messages:
        raise Permanent(f"{place}: messages: {messages!r:.80}: wanted are messages, or a prompt")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str) or not _is_text(message):
            raise Permanent(f"{place}: messages.{number}: {message!r:.80}: wanted are a role and a content of text")
    return {"messages": [{key: each[key] for key in _KEPT_FIELDS} for each in messages]}


def _is_text(message: Mapping[str, Any]) -> bool:
    content = message.get("content")
    parts = content if isinstance(content, list) else []
    return isinstance(content, str) or bool(parts and all(isinstance(part, dict) and "text" in part for part in parts))


def _stop(body: Mapping[str, Any]) -> list[str]:
    stop = body.get("stop") or []
    return [stop] if isinstance(stop, str) else [str(each) for each in stop]


def _limit(body: Mapping[str, Any], place: str) -> dict[str, int]:
    limit = body.get("max_tokens", body.get("max_completion_tokens"))
    if limit is None:
        return {}
    if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
        raise Permanent(f"{place}: max_tokens: {limit!r}: wanted is a number above 0")
    return {"max_tokens": limit}


def _redacted(value: Any, found: Counter[str]) -> Any:
    if isinstance(value, str):
        text, here = redact(value)
        found.update(here)
        return text
    if isinstance(value, dict):
        return {key: each if key == "role" else _redacted(each, found) for key, each in value.items()}
    return [_redacted(each, found) for each in value] if isinstance(value, list) else value


def _lines(text: str, name: str) -> Iterator[tuple[dict[str, Any], str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            place = f"{name}, line {number}"
            yield _json(line, place), place


def _json(text: str, place: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Permanent(f"{place}: is no JSON ({error})") from None
    if not isinstance(value, dict):
        raise Permanent(f"{place}: is no JSON object")
    return value


def _field(value: Any, key: str, kind: type | tuple[type, ...], place: str) -> Any:
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise Permanent(f"{place}: {key}: {found!r:.80}: wanted is {' or '.join(each.__name__ for each in kinds)}")
    return found


def _not_empty(imported: Imported, name: str) -> Imported:
    if not imported.tasks:
        raise Permanent(f"{name}: holds nothing to ask")
    return imported
