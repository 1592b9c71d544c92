from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from safetensors.numpy import save_file

from llm_rollout.errors import Permanent
from llm_rollout.staging import headers


def written(tmp_path, content, name="shard"):
    (tmp_path / name).write_bytes(content)
    return {name: tmp_path / name}


def raw(header, data):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(start, end, dtype="U8", shape=None):
    return {"dtype": dtype, "shape": [end - start] if shape is None else shape, "data_offsets": [start, end]}


def test_what_the_reference_library_writes_is_whole(tmp_path):
    tensors = {
        "half": np.zeros((3, 5), np.float16),
        "scalar": np.zeros((), np.float32),
        "none": np.zeros((0, 4), np.int64),
    }
    save_file(tensors, tmp_path / "shard", metadata={"format": "pt"})
    headers.check({"shard": tmp_path / "shard"}, {"shard": tensors})


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is not safetensors"),
        (b"\xff" * 64, "is not safetensors"),
        (raw([], b""), "header cannot be read"),
        (raw({"a": entry(0, 4)}, b"123"), "bytes, its header speaks of"),
        (raw({"a": entry(0, 4)}, b"12345"), "bytes, its header speaks of"),
        (raw({"a": entry(0, 4), "b": entry(5, 8)}, b"12345678"), "'b' does not fit"),
        (raw({"a": entry(0, 4), "b": entry(3, 8)}, b"12345678"), "'b' does not fit"),
        (raw({"a": entry(0, 4, "F32", [2])}, b"1234"), "'a' does not fit"),
        (raw({"a": {"dtype": "U8"}}, b""), "header cannot be read"),
        (raw({"b": entry(0, 4)}, b"1234"), "lacks 1 tensors .* 'a'"),
    ],
)
def test_a_shard_that_is_not_whole_is_named_with_the_reason(tmp_path, content, why):
    with pytest.raises(Permanent, match=f"shard.*{why}"):
        headers.check(written(tmp_path, content), {"shard": ["a"]})


def test_a_type_of_the_future_is_not_refused(tmp_path):
    headers.check(written(tmp_path, raw({"a": entry(0, 3, "F3_NEW", [8])}, b"123")), {"shard": ["a"]})
