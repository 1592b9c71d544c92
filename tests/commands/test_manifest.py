"""The command as people run it: what it writes, what it refuses, and that ``stage`` takes the result."""

from __future__ import annotations

import json
import struct
import threading
from pathlib import Path

import pytest

from llm_rollout.cli import main
from llm_rollout.staging import manifest

REPO = "acme/small"
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
INDEX = "model.safetensors.index.json"


def shard(tensor):
    header = json.dumps({tensor: {"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}})
    return struct.pack("<Q", len(header)) + header.encode() + tensor[:4].encode()


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "source" / REPO / "v1"
    (folder / "code").mkdir(parents=True)
    for number, name in enumerate(SHARDS):
        (folder / name).write_bytes(shard(f"layer.{number}"))
    weight_map = {f"layer.{number}": name for number, name in enumerate(SHARDS)}
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))
    for name in ("config.json", "tokenizer.json", "code/model.py"):
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def run(capsys):
    def call(*arguments):
        code = main([str(argument) for argument in arguments])
        return code, json.loads(capsys.readouterr().out.splitlines()[-1])

    return call


@pytest.fixture
def write(run, model):
    return lambda *flags: run("manifest", model, f"--repo={REPO}", *flags)


def written(model):
    return json.loads((model / ".manifest.json").read_text())


def test_the_manifest_names_every_file_with_its_size_and_digest(write, model):
    code, report = write()
    assert code == 0
    assert (report["event"], report["files"], report["commit"]) == ("report", 6, written(model)["commit"])
    assert written(model)["repo"] == REPO
    digests = {entry["path"]: (entry["size_bytes"], entry["digest"]) for entry in written(model)["files"]}
    assert set(digests) == {*SHARDS, INDEX, "config.json", "tokenizer.json", "code/model.py"}
    # sha256 of "{}", from sha256sum
    assert digests["config.json"] == (2, "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a")


def test_the_same_files_have_the_same_commit_wherever_they_lie(write, model, run, tmp_path):
    first = write()[1]["commit"]
    moved = model.rename(tmp_path / "elsewhere")
    assert run("manifest", moved, "--repo=other/name")[1]["commit"] == first


@pytest.mark.parametrize("name", ["config.json", "code/model.py"])
def test_other_content_is_another_commit(write, model, name):
    first = write()[1]["commit"]
    (model / name).write_text("[]")
    assert write()[1]["commit"] != first


def test_another_name_is_another_commit(write, model):
    first = write()[1]["commit"]
    (model / "code/model.py").rename(model / "code/other.py")
    assert write()[1]["commit"] != first


def test_stage_takes_what_was_described(write, model, run, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", f"file://{tmp_path}/source")
    commit = write()[1]["commit"]
    code, report = run("stage", f"--repo={REPO}", "--revision=v1", f"--store={tmp_path}/store")
    assert (code, report["commit"]) == (0, commit)
    assert (Path(report["path"]) / SHARDS[1]).read_bytes() == (model / SHARDS[1]).read_bytes()
    assert run("verify", f"--repo={REPO}", f"--commit={commit}", f"--store={tmp_path}/store")[0] == 0


def test_what_tools_left_and_second_copies_of_the_weights_are_not_listed(write, model):
    for name in (".git/config", ".cache/huggingface/x.metadata", "original/consolidated.00.pth", ".manifest.json.123"):
        (model / name).parent.mkdir(parents=True, exist_ok=True)
        (model / name).write_text("x")
    assert write()[1]["files"] == 6


def test_patterns_choose_files(write, model):
    write("--include=*.json", "--include=*.safetensors", "--exclude=code/*")
    assert "code/model.py" not in {entry["path"] for entry in written(model)["files"]}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda model: (model / "tokenizer.json").unlink(), "none is a tokenizer"),
        (lambda model: (model / SHARDS[1]).unlink(), "names 1 shards that the repository's files lack"),
        (lambda model: (model / SHARDS[1]).write_bytes(b"x" * 100), "is not safetensors"),
        (lambda model: (model / SHARDS[1]).write_bytes(shard("layer.9")), "lacks 1 tensors"),
        (lambda model: (model / "a\\b.txt").touch(), "could be written outside"),
        (lambda model: (model / "a\nb.txt").touch(), "could be written outside"),
    ],
)
def test_what_could_not_be_staged_is_refused_and_nothing_is_written(write, model, spoil, message):
    spoil(model)
    code, error = write()
    assert (code, error["event"]) == (3, "error")
    assert message in error["message"]
    assert not [*model.glob(".manifest.json*")]


def test_a_directory_that_is_not_there_and_a_name_that_is_none_are_refused(run, model, tmp_path):
    code, error = run("manifest", tmp_path / "nowhere", f"--repo={REPO}")
    assert (code, "is no directory" in error["message"]) == (3, True)
    code, error = run("manifest", model, "--repo=noname")
    assert (code, "write organisation/name" in error["message"]) == (3, True)


def test_a_file_that_grows_meanwhile_is_named(write, model, monkeypatch):
    listed = manifest._listed

    def then_grow(*arguments):
        files = listed(*arguments)
        (model / "config.json").write_text("{ }")
        return files

    monkeypatch.setattr(manifest, "_listed", then_grow)
    code, error = write()
    assert (code, "config.json changes while it is read" in error["message"]) == (3, True)


def test_a_manifest_is_there_whole_or_not_at_all(write, model, monkeypatch):
    write()
    before = written(model)
    (model / "config.json").write_text("[]")
    monkeypatch.setattr(manifest, "flush", _full)
    code, error = write()
    assert (code, "No space left" in error["message"]) == (3, True)
    assert written(model) == before
    assert [path.name for path in model.glob(".manifest.json*")] == [".manifest.json"]


def _full(_path):
    raise OSError(28, "No space left on device")


def test_progress_is_told(model, monkeypatch):
    monkeypatch.setattr(manifest, "_REPORT_EVERY_SECONDS", 0.0)
    lines = []
    manifest.describe(model, REPO, (), (), lines.append)
    assert [line["files_done"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert {line["files_total"] for line in lines} == {6}


def test_files_are_read_several_at_a_time(model, monkeypatch):
    """Each reader waits for a second one; alone, none would ever end."""
    together, read = threading.Barrier(2, timeout=30), manifest._read

    def wait_and_read(path, file):
        together.wait()
        return read(path, file)

    monkeypatch.setattr(manifest, "_read", wait_and_read)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    manifest.describe(model, REPO, (), (), lambda _: None)
