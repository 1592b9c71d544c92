"""What is done to a group while it starts or serves."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable
from typing import TypeAlias

from devcluster.engines.corpus.running import NotReachedError, Rank, Stage

Group: TypeAlias = "dict[str, Rank]"
Play: TypeAlias = "Callable[[Stage, Group], None]"
BLOCKED = "{folder}/blocked"
"""A folder first on the path of modules, with a ``tokenizers`` that cannot be imported."""
_LOADING = r"Completed \| [1-9]\d*/41"
_LATE_SECONDS = 25


def begin(stage: Stage, group: Group) -> None:
    """Start all ranks at once."""
    for name, rank in group.items():
        stage.start(name, rank)


def until_ended(stage: Stage, group: Group) -> None:
    """Start, and wait until every rank has ended; give a rank left alone a little longer."""
    begin(stage, group)
    names = list(group)
    stage.wait_any_end(names, 240)
    for name in names:
        stage.wait_end(name, 60)


def until_ended_or_asked(stage: Stage, group: Group) -> None:
    """Start; if it gets healthy, ask for tokens and wait whether it survives that."""
    begin(stage, group)
    if stage.wait_healthy():
        print(f"  healthy; a completion is answered with {stage.complete()}", flush=True)
        stage.wait_any_end(list(group), 5)
    stage.wait_end("leader", 20)


def serve_and_cut(stage: Stage, group: Group) -> None:
    """Serve a completion."""
    begin(stage, group)
    if not stage.wait_healthy() or stage.complete() != 200:  # noqa: PLR2004 - HTTP
        raise NotReachedError("no completion was served")


def cut_at(pattern: str) -> Play:
    """End at the first match of ``pattern``."""

    def play(stage: Stage, group: Group) -> None:
        begin(stage, group)
        stage.reach("leader", pattern)

    return play


def destroy_in_load(name: str) -> Play:
    """Kill a whole rank while it loads, and wait for the others."""

    def play(stage: Stage, group: Group) -> None:
        begin(stage, group)
        stage.reach("leader", _LOADING)
        stage.destroy(name)
        for other in group:
            stage.wait_end(other, 120)

    return play


def kill_worker_process(stage: Stage, group: Group) -> None:
    """Kill only the process that holds the accelerator; its parents see it."""
    begin(stage, group)
    stage.reach("leader", _LOADING)
    stage.send("worker", signal.SIGKILL, "VLLM::Worker")
    for other in group:
        stage.wait_end(other, 90)


def freeze_in_load(stage: Stage, group: Group) -> None:
    """Stop the worker's node in mid-load."""
    begin(stage, group)
    stage.reach("leader", _LOADING)
    stage.freeze("worker")
    stage.wait_end("leader", 60)


def destroy_at(name: str, pattern: str) -> Play:
    """Kill a whole rank when the leader has written ``pattern``, and wait for the others."""

    def play(stage: Stage, group: Group) -> None:
        begin(stage, group)
        stage.reach("leader", pattern)
        stage.destroy(name)
        for other in group:
            stage.wait_end(other, 150)

    return play


def signalled_at(pattern: str, number: signal.Signals = signal.SIGTERM, title: str = "") -> Play:
    """A signal to the leader's first process, or to those of a title, when it has written ``pattern``."""

    def play(stage: Stage, group: Group) -> None:
        begin(stage, group)
        stage.reach("leader", pattern)
        stage.send("leader", number, title)
        stage.wait_end("leader", 40)

    return play


def signalled_while_serving(name: str, number: signal.Signals, title: str = "") -> Play:
    """A signal to one rank after the first answer; then ask again, and wait for all."""

    def play(stage: Stage, group: Group) -> None:
        serve_and_cut(stage, group)
        stage.send(name, number, title)
        stage.wait_any_end(list(group), 10)
        stage.complete(40)
        for other in group:
            stage.wait_end(other, 40)

    return play


def destroyed_while_serving(name: str) -> Play:
    """A node is gone after the first answer; ask again, and wait for the others."""

    def play(stage: Stage, group: Group) -> None:
        serve_and_cut(stage, group)
        stage.destroy(name)
        for other in group:
            stage.wait_end(other, 90)

    return play


def terminate_in_load(stage: Stage, group: Group) -> None:
    """SIGTERM to process 1 in mid-load, as a deleted pod gets it."""
    begin(stage, group)
    stage.reach("leader", _LOADING)
    stage.send("leader", signal.SIGTERM)
    stage.wait_end("leader", 30)


def terminate_serving(stage: Stage, group: Group) -> None:
    """SIGTERM after the first answer."""
    serve_and_cut(stage, group)
    stage.send("leader", signal.SIGTERM)
    stage.wait_end("leader", 30)


def terminate_group(stage: Stage, group: Group) -> None:
    """SIGTERM to every rank, as LeaderWorkerSet deletes a group: the leader first."""
    serve_and_cut(stage, group)
    for name in group:
        stage.send(name, signal.SIGTERM)
    for name in group:
        stage.wait_end(name, 30)


def freeze_serving(stage: Stage, group: Group) -> None:
    """Stop the worker's node and ask for tokens."""
    serve_and_cut(stage, group)
    stage.freeze("worker")
    stage.complete(40)
    stage.wait_end("leader", 40)


def destroy_serving(stage: Stage, group: Group) -> None:
    """Kill the worker's node and ask for tokens."""
    serve_and_cut(stage, group)
    stage.destroy("worker")
    stage.complete(60)
    stage.wait_end("leader", 60)


def worker_late(stage: Stage, group: Group) -> None:
    """Start the worker long after the leader."""
    stage.start("leader", group["leader"])
    stage.reach("leader", r"DP group leader")
    time.sleep(_LATE_SECONDS)
    stage.start("worker", group["worker"])
    stage.wait_end("leader", 90)
    stage.wait_end("worker", 60)


def with_port_taken(stage: Stage, group: Group) -> None:
    """Start while something else listens on the API's port."""
    with socket.create_server(("0.0.0.0", stage.port)):
        until_ended(stage, group)


def with_master_port_taken(stage: Stage, group: Group) -> None:
    """Start while something else listens on the rendezvous port."""
    with socket.create_server(("0.0.0.0", stage.master_port)):
        until_ended(stage, group)


def with_locked_shard(stage: Stage, group: Group) -> None:
    """Start on a model with a shard that only its owner's administrator can read."""
    stage.lock("good-locked/model-00002-of-00005.safetensors")
    until_ended(stage, group)


def with_closed_folder(stage: Stage, group: Group) -> None:
    """Start on a folder that cannot be entered."""
    stage.lock("good-closed")
    try:
        until_ended(stage, group)
    finally:
        stage.unlock("good-closed")
