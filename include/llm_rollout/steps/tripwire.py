"""How likely the candidate and stable find the same fixed texts: what shows wrong weights, template or precision.

A model that answers fluently can still be the wrong one, or half broken. The log probabilities of given tokens show it
within a few requests, with no sampling in between. They say nothing on which of two good models is better: that is the
canary's matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from llm_rollout.errors import Transient
from llm_rollout.ports import Endpoint, Ports

TEXTS = (
    "The sun rises in the east and sets in the west. Water boils at one hundred degrees and freezes at zero.",
    "def add(left, right):\n    return left + right\n\n\nprint(add(2, 3))\n",
    "Monday, Tuesday, Wednesday, Thursday, Friday, Saturday, Sunday. January, February, March, April, May, June.",
    "1+1=2\n2+2=4\n3+4=7\n5+3=8\n",
)
CHAT = ({"role": "user", "content": "Name the capital of France."},)
"""Asked as a chat, so that the tokens of the template are among those that are scored."""

MOST_SAME_COMMIT = 0.2
"""Nats, the median over all tokens, where both sides serve the same weights. Other batches and kernels move a token by
hundredths, 8-bit arithmetic by up to a tenth; a broken kernel, a wrong scale or a wrong dtype by more than that."""
MOST_OTHER_COMMIT = 2.0
"""Nats by which the candidate may find the texts less likely, the median over all tokens, where the weights differ on
purpose: other weights may differ from stable's, but not only downwards. Training on moves plain text by tenths; damaged
weights make each token less likely by several nats, down to chance, which is 12 nats at 150,000 tokens."""
LEAST_TOKENS = 16
"""A median of fewer tells nothing."""

_OK = 200


@dataclass(frozen=True)
class Scores:
    """What one server says to the fixed texts: for each, its tokens and their log probabilities in nats."""

    tokens: tuple[tuple[str, ...], ...] = ()
    logprobs: tuple[tuple[float, ...], ...] = ()
    missing: str = ""
    """Why there are none."""


@dataclass(frozen=True)
class Comparison:
    """``bad`` says what is wrong, ``skipped`` why nothing was compared, else there is the median.

    It is of the differences where both sides serve the same commit, and of the losses where they do not.
    """

    bad: str = ""
    skipped: str = ""
    median_nats: float | None = None
    tokens: int = 0

    def as_json(self) -> dict[str, Any]:
        """For the evidence."""
        if self.skipped:
            return {"log_probabilities": f"not compared: {self.skipped}"}
        return {
            "log_probabilities": {"median_difference_nats": round(self.median_nats or 0.0, 4), "tokens": self.tokens}
        }


NOT_ASKED = Scores(missing="no server was asked")
NO_STABLE = Scores(missing="there is no stable revision")


def read(ports: Ports, endpoint: Endpoint, model: str) -> Scores:
    """Have one server score all texts. A server that cannot is no fault of it: vLLM can, others need not."""
    asked: list[tuple[str, dict[str, Any]]] = [("/v1/completions", {"prompt": text}) for text in TEXTS]
    asked += [("/v1/chat/completions", {"messages": [dict(each) for each in CHAT]})]
    scored = []
    for path, question in asked:
        body = {"model": model, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0, **question}
        try:
            reply = ports.server.post(endpoint, path, body)
        except Transient as error:
            return Scores(missing=f"{endpoint.name}: {error}")
        of_text = _scored(reply.body) if reply.status == _OK else None
        if of_text is not None:
            scored.append(of_text)
        elif "prompt" in question:
            return Scores(missing=f"{endpoint.name} gives no prompt_logprobs (status {reply.status})")
    return Scores(tuple(tokens for tokens, _ in scored), tuple(values for _, values in scored))


def compare(candidate: Scores, stable: Scores, *, same_commit: bool) -> Comparison:
    """Hold the candidate's scores against stable's. Scores of other tokens cannot be held against each other."""
    missing = stable.missing or candidate.missing
    if missing:
        return Comparison(skipped=missing)
    if candidate.tokens != stable.tokens:
        told = "the tokenizer or the chat template splits the fixed texts into other tokens than stable's"
        return Comparison(bad=f"{told}, from the same commit") if same_commit else Comparison(skipped=told)
    pairs = list(zip(_flat(candidate.logprobs), _flat(stable.logprobs), strict=True))
    if len(pairs) < LEAST_TOKENS:
        return Comparison(skipped=f"the fixed texts are {len(pairs)} tokens, fewer than {LEAST_TOKENS}")
    return _same_weights(pairs) if same_commit else _other_weights(pairs)


def _same_weights(pairs: Sequence[tuple[float, float]]) -> Comparison:
    found = median(abs(mine - theirs) for mine, theirs in pairs)
    bad = (
        f"its log probabilities of {len(pairs)} fixed tokens differ from stable's, which serves the same commit, by "
        f"{found:.2f} nats in the median, over {MOST_SAME_COMMIT:g}: a wrong dtype, a broken kernel or other files"
    )
    return Comparison(bad if found > MOST_SAME_COMMIT else "", "", found, len(pairs))


def _other_weights(pairs: Sequence[tuple[float, float]]) -> Comparison:
    found = median(theirs - mine for mine, theirs in pairs)
    bad = (
        f"it finds {len(pairs)} fixed tokens less likely than stable by {found:.2f} nats in the median, over "
        f"{MOST_OTHER_COMMIT:g}: wrong or damaged weights, or a broken kernel"
    )
    return Comparison(bad if found > MOST_OTHER_COMMIT else "", "", found, len(pairs))


def _scored(body: Any) -> tuple[tuple[str, ...], tuple[float, ...]] | None:
    """Tokens and log probabilities of a prompt; the first token has none. Completions put them into the choice."""
    try:
        given = body.get("prompt_logprobs") or body["choices"][0].get("prompt_logprobs")
        entries = [next(iter(entry.items())) for entry in given or () if entry]
        scores = tuple(float(score["logprob"]) for _, score in entries)
        return (tuple(token for token, _ in entries), scores) if entries else None
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, StopIteration):
        return None


def _flat(values: Sequence[Sequence[float]]) -> list[float]:
    return [each for of_text in values for each in of_text]
