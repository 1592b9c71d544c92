from __future__ import annotations

import pytest

from llm_rollout.errors import Permanent
from llm_rollout.ports import HubCommit, HubFile
from llm_rollout.staging.listing import (
    DEFAULT_EXCLUDE,
    INDEX,
    Digest,
    File,
    choose,
    named_shards,
    refuse_absent_shards,
)

SHA1, SHA256 = "a" * 40, "b" * 64
MODEL = ("config.json", "tokenizer.json", INDEX, "model-00001-of-00001.safetensors")


def commit(*paths, **changes):
    files = [HubFile(path, 10, sha256=None, git_sha1=SHA1) for path in (*MODEL, *paths)]
    return HubCommit("c" * 40, tuple(files), **changes)


def paths(files):
    return [file.path for file in files]


def test_excluded_copies_of_the_weights_stay_away():
    chosen = choose(commit("original/a.pth", "consolidated.00.safetensors", "x/y.pth"), (), DEFAULT_EXCLUDE)
    assert paths(chosen) == sorted(MODEL)


def test_include_takes_only_what_matches_and_star_crosses_folders():
    chosen = choose(commit("deep/er/notes.json", "README.md"), ("*.json", "*.safetensors"), ())
    assert paths(chosen) == sorted([*MODEL, "deep/er/notes.json"])


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../up",
        "a/../../up",
        "a//b",
        "./a",
        "a/.",
        "",
        "a\nb",
        "a\x00b",
        "a\x1b[2J",
        "a\\b",
        "a\u202eb",
        "x" * 256,
        ".manifest.json",
        ".manifest.json/a",
        "\ud800",
    ],
)
def test_a_name_that_is_not_plainly_inside_of_the_directory_is_refused(path):
    with pytest.raises(Permanent, match="a file named"):
        choose(commit(path), (), ())


@pytest.mark.parametrize("path", ["ünïcode.txt", "with space.txt", "..hidden", "a/b..c", "-dash"])
def test_unusual_names_that_stay_inside_are_taken(path):
    assert path in paths(choose(commit(path), (), ()))


@pytest.mark.parametrize("twice", ["config.json", "config.json/inner"])
def test_one_name_for_two_files_is_refused(twice):
    with pytest.raises(Permanent, match=r"lists 'config\.json' twice"):
        choose(commit(twice), (), ())


@pytest.mark.parametrize(
    ("without", "named"),
    [
        ("config.json", "config.json"),
        ("tokenizer.json", "a tokenizer"),
        (INDEX, INDEX),
        ("*.safetensors", "weights"),
    ],
)
def test_what_no_engine_could_serve_is_refused_by_name(without, named):
    with pytest.raises(Permanent, match=named):
        choose(commit(), (), (without,))


@pytest.mark.parametrize(
    "file",
    [
        HubFile("x", 10, sha256="zz", git_sha1=None),
        HubFile("x", 10, sha256=None, git_sha1=None),
        HubFile("x", 10, sha256=None, git_sha1="../../" + "a" * 34),
        HubFile("x", -1, sha256=SHA256, git_sha1=None),
    ],
)
def test_a_file_that_cannot_be_proven_is_refused(file):
    with pytest.raises(Permanent, match="the hub names no"):
        choose(HubCommit("c" * 40, (*commit().files, file)), (), ())


def test_the_index_says_which_tensors_belong_where():
    assert named_shards(b'{"weight_map": {"a": "1", "b": "2", "c": "1"}}') == {"1": {"a", "c"}, "2": {"b"}}


@pytest.mark.parametrize("text", [b"", b"[]", b"{}", b'{"weight_map": []}', b"\xff"])
def test_an_index_that_is_none_is_refused(text):
    with pytest.raises(Permanent, match="is not an index"):
        named_shards(text)


def test_an_absent_shard_is_named():
    with pytest.raises(Permanent, match=r"names 1 shards .* 'two'"):
        refuse_absent_shards([File("one", 1, Digest("sha256", SHA256))], ["one", "two"])
