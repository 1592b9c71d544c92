"""The lints take whatever people write: no shape of a manifest makes them fail."""

import copy
import random
from pathlib import Path

import pytest
import yaml

from llm_rollout.checking import check
from llm_rollout.fabric.lint import lint as rdma_lint
from llm_rollout.fabric.lint import recognised
from llm_rollout.manifests.lint import lint
from llm_rollout.spec_yaml import read_documents

FOLDER = Path(__file__).parent / "defects"
FILES = sorted(FOLDER.glob("*.yaml"))
MUTATIONS_PER_FILE = 12
STRANGE = [
    None,
    "",
    "x",
    "=",
    "/",
    "-1",
    "[",
    "\n",
    0,
    -1,
    2**70,
    1.5,
    True,
    [],
    {},
    [None],
    [[]],
    [3],
    {"": None},
    {3: 4},
]


def places(value, path=()):
    """Every place of a manifest, as a path of keys."""
    if path:
        yield path
    for key, one in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from places(one, (*path, key))


def mutated(manifests, chance):
    """The manifests with one to four parts removed, doubled or replaced by something else."""
    manifests = copy.deepcopy(manifests)
    for _ in range(chance.randint(1, 4)):
        inner = [path for path in places(manifests) if len(path) > 1]
        *way, last = chance.choice(inner)
        parent = manifests
        for key in way:
            parent = parent[key]
        kind = chance.choice(["remove", "double", "replace", "replace"])
        if kind == "remove":
            del parent[last]
        elif kind == "double" and isinstance(parent, list):
            parent.append(copy.deepcopy(parent[last]))
        else:
            parent[last] = copy.deepcopy(chance.choice(STRANGE))
    return manifests + [copy.deepcopy(chance.choice(manifests))] * chance.randint(0, 1)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_shape_of_a_manifest_makes_the_lints_fail(path):
    manifests = [document.value for document in read_documents(path)]
    chance = random.Random(path.stem)  # noqa: S311 - chosen by chance, no secrets

    for _ in range(MUTATIONS_PER_FILE):
        strange = mutated(manifests, chance)
        for finding in [*lint(strange), *rdma_lint(strange)]:
            assert finding.code
            assert all(isinstance(one, (dict, list, type(None))) for one in yaml.safe_load_all(finding.corrected))
        assert isinstance(recognised(strange), dict)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_whatever_is_in_a_file_the_check_answers_in_lines(path, tmp_path):
    manifests = [document.value for document in read_documents(path)]
    chance = random.Random(path.stem)  # noqa: S311 - chosen by chance, no secrets
    file = tmp_path / "strange.yaml"

    for _ in range(3):
        file.write_text(yaml.safe_dump_all(mutated(manifests, chance), allow_unicode=True))
        lines = str(check([file])).splitlines()
        assert lines
        assert all(line.startswith((f"{file}: ", "    ")) for line in lines)


def test_a_manifest_of_the_wrong_shape_is_named_and_hides_no_other(tmp_path):
    file = tmp_path / "two.yaml"
    broken = "apiVersion: v1\nkind: LeaderWorkerSet\nmetadata: {name: odd}\nspec: {leaderWorkerTemplate: 7}\n"
    file.write_text((FOLDER / "K5_no_ipc_lock.yaml").read_text() + "---\n" + broken)

    report = check([file])

    assert report.failed == {file}
    first, *others = str(report).splitlines()
    assert first.startswith(f"{file}: LeaderWorkerSet/odd is not shaped as its kind demands: ")
    assert "spec.leaderWorkerTemplate is not an object" in first
    assert sum("[K5]" in line for line in others) == 2


def test_text_that_is_no_yaml_is_told_with_file_and_line(tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("apiVersion: v1\nkind: Service\nmetadata: {name: x\nspec: {}\n")

    (line,) = str(check([file])).splitlines()
    assert line.startswith(f"{file}: not YAML: line 4: ")


def test_lists_are_opened(tmp_path):
    manifests = [document.value for document in read_documents(FOLDER / "K6_prefix_of_adapters.yaml")]
    file = tmp_path / "list.yaml"
    file.write_text(yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": manifests}))

    assert {finding.split("]")[0] for finding in str(check([file])).split(" [")[1:]} == {"K6"}


def test_corrected_lines_stand_below_their_finding(tmp_path):
    file = tmp_path / "group.yaml"
    file.write_text((FOLDER / "K8_prefix_of_interfaces.yaml").read_text())
    lines = str(check([file])).splitlines()

    place = lines.index(next(line for line in lines if "[K8]" in line))
    comment, *corrected = (line.removeprefix("    ") for line in lines[place + 1 : place + 5])
    assert comment.startswith("# in LeaderWorkerSet/chat spec.leaderWorkerTemplate.leaderTemplate.spec.containers[0]")
    assert yaml.safe_load("\n".join(corrected)) == {"env": [{"name": "NCCL_SOCKET_IFNAME", "value": "=eth0"}]}
