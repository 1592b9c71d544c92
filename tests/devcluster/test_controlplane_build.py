from __future__ import annotations

from pathlib import Path

import pytest

from devcluster import build, toolchain

FAKE_GO = """#!/bin/sh
echo "$@" >> {calls}
case "$1" in
env) echo {version} ;;
list) if [ "$2" = -m ]; then echo {module}; else printf 'one\\ntwo\\n'; fi ;;
build) echo "some/package" >&2; {compile} ;;
esac
"""
WRITE_OUTPUT = 'while [ "$1" != -o ]; do shift; done; echo program > "$2"'


@pytest.fixture
def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A `go` that notes its calls; returns the file of the calls."""
    module = tmp_path / "module"
    (module / "config" / "crd" / "bases").mkdir(parents=True)
    (module / "config" / "webhook").mkdir()
    (module / "config" / "crd" / "bases" / "lws.yaml").write_text("kind: CustomResourceDefinition")
    (module / "config" / "webhook" / "manifests.yaml").write_text("webhooks: []")
    monkeypatch.setenv("LLM_ROLLOUT_CACHE", str(tmp_path / "cache"))
    _install(tmp_path, monkeypatch, WRITE_OUTPUT)
    return tmp_path / "calls"


def _install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compile_command: str, version: str = "go1.26.8") -> None:
    program = tmp_path / "bin" / "go"
    program.parent.mkdir(exist_ok=True)
    values = {"calls": tmp_path / "calls", "module": tmp_path / "module", "compile": compile_command}
    values |= {"version": version}
    program.write_text(FAKE_GO.format(**values))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")


def test_a_build_has_every_program_and_the_manifests_of_lws(fake_go: Path) -> None:
    place = build.programs()
    assert {path.name for path in place.iterdir()} == {*build.MAINS, "manifests"}
    assert (place / "manifests" / "crd" / "lws.yaml").exists()
    assert fake_go.exists()


def test_what_is_built_is_not_built_again(fake_go: Path) -> None:
    build.programs()
    calls = fake_go.read_text()
    build.programs()
    assert fake_go.read_text() == calls


def test_a_failed_build_leaves_nothing_and_tells_the_compilers_words(
    fake_go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path, monkeypatch, 'echo "undefined: x" >&2; exit 1')
    with pytest.raises(build.BuildError, match="undefined: x"):
        build.programs()
    assert [path.name for path in (tmp_path / "cache" / "controlplane").iterdir()] == ["build.lock"]
    _install(tmp_path, monkeypatch, WRITE_OUTPUT)
    assert build.programs().exists()
    assert fake_go.exists()


def test_progress_names_each_program(fake_go: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build.programs()
    said = capsys.readouterr().out
    assert all(f"{name}: built in" in said for name in build.MAINS)
    assert fake_go.exists()


def _installer(tmp_path: Path, script: str) -> None:
    program = tmp_path / "bin" / "uv"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)


@pytest.mark.parametrize("version", ["go1.19.8", "", "go1.2.1"])
def test_an_old_go_is_replaced_by_one_in_the_cache(
    fake_go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    _install(tmp_path, monkeypatch, WRITE_OUTPUT, version)
    _installer(tmp_path, 'mkdir -p "$7/go/bin"; echo here > "$7/go/bin/go"')
    assert Path(toolchain.go()).read_text() == "here\n"
    assert Path(toolchain.go()).is_relative_to(tmp_path / "cache")
    assert fake_go.exists()


def test_without_any_go_the_error_says_what_to_install(
    fake_go: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _install(tmp_path, monkeypatch, WRITE_OUTPUT, "go1.19.8")
    _installer(tmp_path, "echo no route to the index >&2; exit 1")
    with pytest.raises(build.BuildError, match=r"no route to the index.*install Go 1\.26 or newer"):
        build.programs()
    assert fake_go.exists()
