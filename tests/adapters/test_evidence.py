import pytest

from llm_rollout.adapters.evidence import DirectoryEvidence
from llm_rollout.errors import Permanent


@pytest.fixture
def evidence(tmp_path):
    return DirectoryEvidence(tmp_path / "kept")


def test_what_is_put_is_found_at_the_address(evidence, tmp_path):
    address = evidence.put("chat/run-1/leader.log", "Zeile mit ü\n")

    assert address == str(tmp_path / "kept/chat/run-1/leader.log")
    assert (tmp_path / "kept/chat/run-1/leader.log").read_text(encoding="utf-8") == "Zeile mit ü\n"


def test_the_folder_is_made_with_the_first_text_only(evidence, tmp_path):
    assert not (tmp_path / "kept").exists()

    evidence.put("a.log", "")

    assert (tmp_path / "kept").is_dir()


def test_putting_again_replaces(evidence, tmp_path):
    evidence.put("a.log", "a long first text")
    evidence.put("a.log", "second")

    assert (tmp_path / "kept/a.log").read_text() == "second"


@pytest.mark.parametrize("path", ["../outside", "chat/../../outside", "/etc/outside", "link/outside"])
def test_nothing_is_written_outside_of_the_folder(evidence, tmp_path, path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/link").symlink_to(tmp_path)

    with pytest.raises(Permanent, match=r"leaves .*: use a relative path"):
        evidence.put(path, "text")

    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(("path", "reason"), [("", "Is a directory"), ("taken/a.log", "File exists")])
def test_a_folder_that_cannot_be_written_is_named_with_its_reason(evidence, tmp_path, path, reason):
    evidence.put("taken", "")

    with pytest.raises(Permanent, match=f"cannot be written to {tmp_path}/kept.*: {reason}: give it another folder"):
        evidence.put(path, "text")
