from types import ModuleType

import pytest

from devcluster.hub import models
from devcluster.hub.repository import load


@pytest.fixture
def builder(tmp_path, monkeypatch):
    package = tmp_path / "package"
    package.mkdir()
    (package / "code.py").write_text("one")
    module = ModuleType("devcluster.models")
    module.__path__ = [str(package)]
    module.built = 0

    def build(out):
        module.built += 1
        for branch in ("v1", "v2", "v3"):
            (out / branch).mkdir()
            (out / branch / "config.json").write_text(f"{branch} {module.built}")

    module.build = build
    monkeypatch.setattr(models.importlib, "import_module", lambda _name: module)
    monkeypatch.setenv("LLM_ROLLOUT_CACHE", str(tmp_path / "cache"))
    module.code = package / "code.py"
    return module


def test_models_are_built_once_and_main_is_v1(builder):
    place = models.bundled()
    assert models.bundled() == place
    assert builder.built == 1
    repository = load(place)[models.TINY_CHAT]
    assert set(repository.branches) == {"main", "v1", "v2", "v3"}
    assert repository.branches["main"] == repository.branches["v1"]


def test_changed_code_builds_anew_beside_the_old(builder):
    first = models.bundled()
    builder.code.write_text("two")
    assert models.bundled() != first
    assert builder.built == 2


def test_failed_build_leaves_nothing_that_looks_whole(builder, tmp_path):
    builder.build = _fail
    with pytest.raises(RuntimeError):
        models.bundled()
    assert list((tmp_path / "cache/models").iterdir()) == []


def _fail(out):
    (out / "v1").mkdir()
    raise RuntimeError("out of memory")
