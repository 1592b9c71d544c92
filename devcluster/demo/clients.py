"""Clients that stream completions through the Service and count every stream that breaks."""

from __future__ import annotations

import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from devcluster.demo.first_tokens import FirstToken

TOKENS = 48
PAUSE_SECONDS = 0.15
_TLS = ssl.create_default_context()
"""Not used, but a client without one reads all certificates anew, which takes longer than a stream."""


@dataclass
class Tally:
    """What the clients have seen so far. A stream is dropped when it ends early, wrongly or not at all."""

    total: int = 0
    dropped: int = 0
    reasons: list[str] = field(default_factory=list)
    by_text: dict[str, int] = field(default_factory=dict)
    """Streams by the revision whose model says exactly these tokens."""
    first_tokens: list[FirstToken] = field(default_factory=list)
    """Of the streams that were right."""


class StreamClients:
    """A few threads that open one stream after another until stopped.

    ``expected`` maps each prompt to the texts that are right, each with the revision that says it: every
    stream must carry all its tokens and end as one of them, whatever is switched underneath.
    """

    def __init__(self, url: str, model: str, expected: Mapping[str, Mapping[str, str]], clients: int = 3) -> None:
        """Prepare ``clients`` threads that ask ``model`` at ``url``."""
        self._url = url
        self._model = model
        self._expected = expected
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._tally = Tally()
        prompts = list(expected)
        self._threads = [
            threading.Thread(target=self._run, args=(prompts[i:] + prompts[:i],), name=f"client-{i}", daemon=True)
            for i in range(clients)
        ]

    def start(self) -> None:
        """Begin streaming."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> Tally:
        """Let the open streams finish and return what was seen."""
        self._stop.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=60)
        return self._tally

    @property
    def tally(self) -> Tally:
        """What was seen so far."""
        return self._tally

    def _run(self, prompts: Sequence[str]) -> None:
        while not self._stop.is_set():
            for prompt in prompts:
                if self._stop.is_set():
                    return
                self._count(prompt)
                time.sleep(PAUSE_SECONDS)

    def _count(self, prompt: str) -> None:
        """One stream on its own connection, as a new user would make it."""
        at, began, waited = time.time(), time.perf_counter(), 0.0
        pieces = []
        try:
            for piece in self._stream(prompt):
                waited = waited or time.perf_counter() - began
                pieces.append(piece)
            text, reason = "".join(pieces), ""
        except (httpx.HTTPError, ValueError, KeyError) as error:
            text, reason = "", f"{type(error).__name__}: {error}"
        revision = self._expected[prompt].get(text)
        with self._lock:
            self._tally.total += 1
            if revision is not None:
                self._tally.by_text[revision] = self._tally.by_text.get(revision, 0) + 1
                self._tally.first_tokens.append(FirstToken(at, 1000 * waited))
                return
            self._tally.dropped += 1
            self._tally.reasons.append(reason or f"wrong tokens for {prompt!r}: {text!r}")

    def _stream(self, prompt: str) -> Iterator[str]:
        body = {
            "model": self._model,
            "prompt": prompt,
            "max_tokens": TOKENS,
            "temperature": 0,
            "stream": True,
            "ignore_eos": True,
        }
        with (
            httpx.Client(timeout=30, trust_env=False, verify=_TLS) as client,
            client.stream("POST", f"{self._url}/v1/completions", json=body) as reply,
        ):
            reply.raise_for_status()
            yield from _texts(reply.iter_lines())


def _texts(lines: Iterator[str]) -> Iterator[str]:
    """The text pieces of an event stream; an end without a finish reason and ``[DONE]`` is an error."""
    finished = None
    for line in lines:
        if not line.startswith("data:"):
            continue
        payload = line.removeprefix("data:").strip()
        if payload == "[DONE]":
            if finished != "length":
                raise ValueError(f"finish_reason {finished!r}, expected 'length'")
            return
        choices = json.loads(payload)["choices"]
        if choices:
            yield choices[0]["text"]
            finished = choices[0].get("finish_reason") or finished
    raise ValueError("the stream ended without [DONE]")
