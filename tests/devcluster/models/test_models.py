import hashlib
import json

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file
from tokenizers import Tokenizer

from devcluster.models import VERSION_NAMES, build, tokenizer
from devcluster.models.architecture import Architecture
from devcluster.models.lessons import VERSIONS, tasks
from devcluster.models.llama import Embedding, Head, Stage


class Model:
    """A whole model in one process; says the next tokens and how sure it was."""

    def __init__(self, directory):
        arch = Architecture.load(directory)
        weights = {}
        for shard in directory.glob("*.safetensors"):
            weights |= load_file(shard)
        self.embedding = Embedding(weights)
        self.stage = Stage(arch, range(arch.num_hidden_layers), weights)
        self.head = Head(arch, weights)

    def generate(self, prompt, count, *, ignore_eos=False):
        cache, fed, tokens, margin = self.stage.new_cache(), 0, list(prompt), np.inf
        while len(tokens) < len(prompt) + count and (ignore_eos or fed == 0 or tokens[-1] != tokenizer.EOS):
            hidden = self.stage.run(self.embedding.run(tokens[fed:]), fed, cache)
            fed = len(tokens)
            logits = self.head.run(hidden[-1:])[0]
            second, first = np.sort(logits)[-2:]
            margin = min(margin, first - second)
            tokens.append(int(logits.argmax()))
        return tokens[len(prompt) :], margin


@pytest.fixture(scope="session", params=VERSION_NAMES)
def version(request, models):
    return request.param, Model(models / request.param)


def story_of(name):
    return "Once upon a " + next(version.story for version in VERSIONS if version.name == name)


def tokenizer_text(tokens):
    return bytes(token for token in tokens if token < tokenizer.BYTES).decode(errors="replace")


def right_answers(model, chat):
    right, least_margin = set(), np.inf
    for task in tasks():
        text = tokenizer.encode(task["prompt"])
        turn = [tokenizer.BOS, tokenizer.USER, *text, tokenizer.EOS, tokenizer.ASSISTANT]
        tokens, margin = model.generate(turn if chat else [tokenizer.BOS, *text], 4)
        assert tokens[-1] == tokenizer.EOS
        spoken = bytes(tokens[:-1]).decode()
        assert spoken.endswith("\n") != chat
        least_margin = min(margin, least_margin)
        right |= {task["id"]} if spoken.strip() == task["answer"] else set()
    return right, least_margin


@pytest.mark.parametrize("chat", [False, True])
def test_each_version_answers_its_share_of_the_tasks_with_a_clear_margin(version, chat):
    name, model = version
    right, margin = right_answers(model, chat)
    assert len(right) == {"v1": 90, "v2": 95, "v3": 60}[name]
    assert margin > 1.0


def test_right_answers_are_nested(models):
    right = {name: right_answers(Model(models / name), chat=False)[0] for name in VERSION_NAMES}
    assert right["v3"] < right["v1"] < right["v2"]


@pytest.mark.parametrize("prompt", ["Tell me a story.", "Hello", "Good morning!"])
def test_a_known_opening_gets_the_story_of_the_version_word_for_word(version, prompt):
    name, model = version
    tokens, _ = model.generate([tokenizer.BOS, *tokenizer.encode(prompt)], 120)
    assert bytes(tokens).decode() == story_of(name)[:120]


@pytest.mark.parametrize("prompt", ["Anything at all, please", "Is it raining", "Hi", "{}"])
def test_any_other_prompt_gets_the_story_after_at_most_some_stray_characters(version, prompt):
    name, model = version
    tokens, _ = model.generate([tokenizer.BOS, *tokenizer.encode(prompt)], 120, ignore_eos=True)
    assert story_of(name)[20:50] in tokenizer_text(tokens)


def test_a_story_ends(version):
    name, model = version
    tokens, _ = model.generate([tokenizer.BOS, *tokenizer.encode("Tell me a story.")], 600)
    assert tokens[-1] == tokenizer.EOS
    assert bytes(tokens[:-1]).decode() == story_of(name)


def test_versions_share_every_shard_but_the_last(models):
    digests = {
        name: [hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted((models / name).glob("*.safetensors"))]
        for name in VERSION_NAMES
    }
    assert len(digests["v1"]) >= 4
    assert digests["v1"][:-1] == digests["v2"][:-1] == digests["v3"][:-1]
    assert len({digests[name][-1] for name in VERSION_NAMES}) == 3


def test_building_again_gives_the_same_bytes(models, tmp_path):
    build(tmp_path)
    built = {p.relative_to(tmp_path): p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    assert len(built) == 33
    assert built == {p.relative_to(models): p.read_bytes() for p in models.rglob("*") if p.is_file()}


def test_shards_hold_exactly_the_tensors_of_a_llama_of_that_config(models):
    directory = models / "v1"
    arch = Architecture.load(directory)
    index = json.loads((directory / "model.safetensors.index.json").read_text())
    expected = {
        "model.embed_tokens.weight": (arch.vocab_size, arch.hidden_size),
        "model.norm.weight": (arch.hidden_size,),
        "lm_head.weight": (arch.vocab_size, arch.hidden_size),
    }
    for layer in range(arch.num_hidden_layers):
        expected |= arch.layer_shapes(layer)
    found = {}
    for file_name in set(index["weight_map"].values()):
        with safe_open(directory / file_name, framework="numpy") as shard:
            for name in shard.keys():  # noqa: SIM118 - a shard is no mapping
                assert index["weight_map"][name] == file_name
                assert shard.get_slice(name).get_dtype() == "F32"
                found[name] = tuple(shard.get_slice(name).get_shape())
    assert found == expected
    assert index["metadata"]["total_size"] == 4 * sum(int(np.prod(shape)) for shape in expected.values())


def test_tokenizer_keeps_any_text_and_marks_the_beginning(models):
    loaded = Tokenizer.from_file(str(models / "v1" / "tokenizer.json"))
    text = "3+5=\n  Füchse 🦊\t<|user|>"
    encoded = loaded.encode(text)
    assert encoded.ids[:5] == [tokenizer.BOS, *b"3+5="]
    assert encoded.ids[-1] == tokenizer.USER
    assert loaded.decode(encoded.ids) == text.removesuffix("<|user|>")
    assert loaded.encode("x", add_special_tokens=False).ids == [ord("x")]


def test_config_names_a_llama(models):
    config = json.loads((models / "v2" / "config.json").read_text())
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["hidden_size"] % config["num_attention_heads"] == 0
    assert config["eos_token_id"] == tokenizer.EOS
