"""Runs steps through all ranks: the leader's side and the worker's side."""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence

import numpy as np

from devcluster.models.llama import Array
from devcluster.standins.vllm import logs
from devcluster.standins.vllm.failures import PEER_LOST
from devcluster.standins.vllm.rendezvous import Group, Place
from devcluster.standins.vllm.share import Chunk, Share
from devcluster.standins.vllm.wire import Channel


class EngineDeadError(Exception):
    """A rank died or does not answer; nothing more will be computed."""


class Pipeline:
    """The leader's side: its own share, and the connections to the others."""

    def __init__(self, share: Share, group: Group) -> None:
        """Compute with ``share`` and the ranks of ``group``."""
        self._share = share
        self._group = group
        self._answers: queue.Queue[bytes | EngineDeadError] = queue.Queue()
        self._timeout_seconds = float(os.environ.get("VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS", "300"))
        self._released: deque[int] = deque()

    def watch(self, on_death: Callable[[str], None]) -> None:
        """Listen to all workers from now on; ``on_death`` hears (in a thread of its own) of the first that dies."""
        for rank, channel in self._group.workers.items():
            threading.Thread(target=self._listen, args=(rank, channel, on_death), daemon=True).start()

    def step(self, chunks: Sequence[Chunk], tokens: Sequence[int], vocabulary: int) -> Array:
        """Return the wanted rows of logits for ``tokens``, which are those of ``chunks`` one after the other.

        Raises:
            EngineDeadError: A rank is gone or took longer than VLLM_EXECUTE_MODEL_TIMEOUT_SECONDS.
        """
        released = [self._released.popleft() for _ in range(len(self._released))]
        self._share.release(released)
        hidden = self._share.run(chunks, self._share.embed(tokens))
        if self._group.downstream is None:
            return self._share.logits(chunks, hidden)
        header = {"chunks": [chunk.packed() for chunk in chunks], "released": released}
        try:
            self._group.downstream.send(header, hidden.tobytes())
            answer = self._answers.get(timeout=self._timeout_seconds)
        except OSError as error:
            raise EngineDeadError(str(error)) from error
        except queue.Empty:
            text = f"RPC call to execute_model timed out after {self._timeout_seconds:.0f} seconds"
            raise EngineDeadError(text) from None
        if isinstance(answer, EngineDeadError):
            raise answer
        return np.frombuffer(answer, np.float32).reshape(-1, vocabulary)

    def release(self, sequence: int) -> None:
        """Let all ranks forget a sequence, with the next step."""
        self._released.append(sequence)

    def close(self) -> None:
        """Leave the group; the workers end."""
        for channel in (*self._group.workers.values(), *filter(None, [self._group.downstream])):
            channel.close()

    def _listen(self, rank: int, channel: Channel, on_death: Callable[[str], None]) -> None:
        while True:
            try:
                _, payload = channel.receive()
            except (OSError, ValueError):
                reason = f"Worker proc VllmWorker-{rank} died unexpectedly, shutting down executor."
                self._answers.put(EngineDeadError(reason))
                on_death(reason)
                return
            self._answers.put(payload)


def work(share: Share, place: Place) -> str:
    """Serve as worker until the leader or a neighbour is gone; return what happened."""
    _die_with(place.leader)
    while True:
        try:
            header, payload = place.upstream.receive()
            chunks = [Chunk(*packed) for packed in header["chunks"]]
            share.release(header["released"])
            hidden = share.run(chunks, share.from_bytes(payload))
            if place.downstream is None:
                place.leader.send({}, share.logits(chunks, hidden).tobytes())
            else:
                place.downstream.send(header, hidden.tobytes())
        except OSError as error:
            return f"{_lost(place.upstream)} ({error})"


def _lost(channel: Channel) -> str:
    host, port = channel.address
    return PEER_LOST.format(peer=host, port=port)


def _die_with(leader: Channel) -> None:
    """End the process when the leader is gone, whatever it is doing."""

    def listen() -> None:
        try:
            leader.receive()
        except (OSError, ValueError):
            logs.error("multiproc_executor.py:298", f"{_lost(leader)} Shutting down.")
            os._exit(1)

    threading.Thread(target=listen, daemon=True).start()
