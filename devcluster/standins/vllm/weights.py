"""Loads from the safetensors of a model directory what one rank needs, and complains the way vLLM does."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from devcluster.models.architecture import EMBEDDING, FINAL_NORM, HEAD, Architecture
from devcluster.models.llama import Array
from devcluster.standins.vllm import failures
from devcluster.standins.vllm.failures import WEIGHTS, WEIGHTS_MISSING, StartupError


def layers_of(rank: int, ranks: int, layers: int) -> range:
    """Return the decoder layers of a rank: equal shares, the first ranks taking one more where they do not divide."""
    share, rest = divmod(layers, ranks)
    start = rank * share + min(rank, rest)
    return range(start, start + share + (rank < rest))


def needed_tensors(arch: Architecture, rank: int, ranks: int) -> dict[str, tuple[int, ...]]:
    """Return names and shapes of what ``rank`` loads: the first also embeds, the last also says logits."""
    needed: dict[str, tuple[int, ...]] = {}
    if rank == 0:
        needed[EMBEDDING] = (arch.vocab_size, arch.hidden_size)
    for layer in layers_of(rank, ranks, arch.num_hidden_layers):
        needed |= arch.layer_shapes(layer)
    if rank == ranks - 1:
        needed |= {FINAL_NORM: (arch.hidden_size,), HEAD: (arch.vocab_size, arch.hidden_size)}
    return needed


def load_weights(
    directory: Path,
    needed: dict[str, tuple[int, ...]],
    load_seconds: float,
    bar: Callable[[int, int], None],
    midway: Callable[[], None],
) -> tuple[dict[str, Array], float]:
    """Return the needed tensors and the seconds it took; ``load_seconds`` more are spread over the shards.

    Args:
        directory: The model.
        needed: Names and shapes.
        load_seconds: What slower storage would add.
        bar: Hears of the shards done and of all of them.
        midway: Called in the middle of the load.

    Raises:
        StartupError: Shards or tensors are missing, broken or of another shape.
    """
    shards = find_shards(directory)
    started = time.monotonic()
    bar(0, len(shards))
    weights: dict[str, Array] = {}
    for done, shard in enumerate(shards, start=1):
        weights |= dict(_read(shard, needed))
        time.sleep(load_seconds / len(shards))
        if done == (len(shards) + 1) // 2:
            midway()
        bar(done, len(shards))
    missing = sorted(needed.keys() - weights.keys())
    if missing:
        names = "{" + ", ".join(map(repr, missing)) + "}"
        raise StartupError(failures.NOT_INITIALIZED.format(names=names), WEIGHTS)
    return weights, time.monotonic() - started


def find_shards(directory: Path) -> list[Path]:
    """Return the safetensors files of a model, in order.

    Raises:
        StartupError: The index names files that are not there, or there are no weights at all.
    """
    index = directory / "model.safetensors.index.json"
    if index.exists():
        names: Sequence[str] = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        missing = {str(directory / name) for name in names if not (directory / name).exists()}
        if missing:
            raise StartupError(WEIGHTS_MISSING.format(files=missing), WEIGHTS)
        return [directory / name for name in names]
    shards = sorted(directory.glob("*.safetensors"))
    if not shards:
        raise StartupError(failures.NO_WEIGHTS.format(model=directory), WEIGHTS)
    return shards


def _read(shard: Path, needed: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, Array]]:
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(shard, framework="numpy") as tensors:
            for name in needed.keys() & set(tensors.keys()):
                tensor = tensors.get_tensor(name)
                if tensor.shape != needed[name]:
                    shapes = {"found": list(tensor.shape), "wanted": list(needed[name])}
                    raise StartupError(failures.WEIGHTS_MISMATCH.format(**shapes), WEIGHTS)
                yield name, tensor
    except SafetensorError as error:
        text = failures.WEIGHTS_CORRUPT.format(error=error)
        raise StartupError(text, WEIGHTS, "safetensors/torch.py") from error
    except PermissionError as error:
        raise StartupError(failures.PERMISSION.format(file=shard), WEIGHTS, "safetensors/torch.py") from error
