"""Starts that are stopped, killed or left alone, each at another phase; and groups that do not fit together."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace

from devcluster.engines.corpus import playing
from devcluster.engines.corpus.scenarios import Scenario, alone, pair

_MEETING = r"world_size=\d rank=0"
_CACHE = r"CPU KV cache size"
_LOADING = r"Completed \| [1-9]\d*/41"

STOPPED = (
    Scenario("terminated-at-process", "stopped", "TERMINATED", alone(), play=playing.signalled_at(r"non-default args")),
    Scenario("terminated-while-waiting", "rendezvous", None, pair()[:1], play=playing.signalled_at(_MEETING),
             first=None, note="the worker never came; that it is asked to stop is neither mentioned nor heeded"),
    Scenario("interrupted-in-load", "stopped", "TERMINATED", alone("--dtype=bfloat16", model="large"),
             play=playing.signalled_at(_LOADING, signal.SIGINT)),
    Scenario("terminated-at-kv-cache", "serving", None, alone(), play=playing.signalled_at(_CACHE), first=None,
             note="the signal is lost, and the engine comes up"),
    Scenario("worker-terminated-serving", "serving", "PEER_LOST", pair(),
             play=playing.signalled_while_serving("worker", signal.SIGTERM),
             others={"worker.log": ["stopped", "TERMINATED"]}, note="that the worker was asked to stop is no failure"),
)  # fmt: skip

KILLED = (
    Scenario("worker-killed-at-rendezvous", "rendezvous", "RENDEZVOUS", pair(),
             play=playing.destroy_at("worker", _MEETING), note="the leader never met it"),
    Scenario("worker-killed-at-kv-cache", "kv_cache", None, pair(), play=playing.destroy_at("worker", _CACHE),
             first=None, note="the leader waits for it and says nothing"),
    Scenario("leader-killed-serving", "serving", None, pair(), play=playing.destroyed_while_serving("leader"),
             first=None, note="the worker waits for it and says nothing"),
    Scenario("engine-killed-in-load", "weights", "UNKNOWN", alone("--dtype=bfloat16", model="large"),
             play=playing.signalled_at(_LOADING, signal.SIGKILL, "VLLM::Engine"), note="its parent does not say why"),
    Scenario("engine-killed-serving", "serving", "UNKNOWN", alone(),
             play=playing.signalled_while_serving("leader", signal.SIGKILL, "VLLM::Engine")),
    Scenario("engine-crashed-serving", "serving", "ENGINE_BUG", alone(),
             play=playing.signalled_while_serving("leader", signal.SIGSEGV, "VLLM::Engine")),
)  # fmt: skip

MISFITS = (
    Scenario("leader-without-model", "process", "MODEL_REF", pair(models=("nowhere", "good")),
             others={"worker.log": ["rendezvous", None]}, note="the worker waits, for five minutes at least"),
    Scenario("worker-with-bad-flag", "process", "BAD_FLAG", pair(worker=("--dtype=float33",)), first="worker.log",
             others={"leader.log": ["rendezvous", None]}, note="the leader waits, for five minutes at least"),
    Scenario("two-headless", "rendezvous", "RENDEZVOUS", pair(leader=("--headless",)), first="worker.log",
             others={"leader.log": ["process", None]}, note="the leader waits for a head that is nowhere"),
    Scenario("worker-with-a-server", "weights", "PARALLEL_CFG",
             (pair()[0], replace(pair()[1], arguments=[each for each in pair()[1].arguments if each != "--headless"])),
             first="worker.log", others={"leader.log": ["weights", None]},
             note="the worker is started without --headless"),
    Scenario("worker-with-other-layers", "weights", "FLAGS_DISAGREE", pair(models=("good", "fewer-layers")),
             first="worker.log", others={"leader.log": ["weights", "PEER_LOST"]},
             note="of itself the worker says WEIGHTS_MISMATCH"),
    Scenario("worker-with-other-shapes", "weights", "FLAGS_DISAGREE", pair(models=("good", "other-shapes")),
             first="worker.log", others={"leader.log": ["weights", "PEER_LOST"]},
             note="of itself the worker says WEIGHTS_MISMATCH"),
    Scenario("worker-without-tokenizer", "serving", None, pair(models=("good", "no-tokenizer")),
             play=playing.until_ended_or_asked, first=None, note="only the leader needs one"),
    Scenario("worker-not-ready-in-time", "rendezvous", "RENDEZVOUS",
             pair(both=("--distributed-timeout-seconds=5",))[1:], names=("worker",), first="worker.log",
             note="the leader never came, and the wait is short"),
)  # fmt: skip

ALL: Sequence[Scenario] = (*STOPPED, *KILLED, *MISFITS)
