import re
import subprocess
from pathlib import Path

import pytest

from llm_rollout.steps import PIPELINE, RECOVERY

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def tracked_files() -> list[Path]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [ROOT / line for line in listed.stdout.splitlines() if (ROOT / line).is_file()]


def names_a_place_of_one_machine(path: Path) -> bool:
    foreign = re.compile(r"(?<![\w.~])/(?:root|home|Users)/\w|/wor[k]/(?:main|shared)")
    text = path.suffix in {".py", ".md", ".toml", ".yaml", ".yml", ""}
    return text and foreign.search(path.read_text(errors="ignore")) is not None


def described_targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):.*## ", MAKEFILE, re.MULTILINE))


def test_every_make_target_is_described():
    targets = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))

    assert targets == described_targets()


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/runbook.md"])
def test_every_make_command_in_the_documents_exists(document):
    commands = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / document).read_text(), re.MULTILINE))

    assert commands <= described_targets()


def test_ci_runs_the_readmes_test_command():
    commands = [
        line
        for line in (ROOT / ".ci/run").read_text().splitlines()
        if line and not line.startswith(("#", "set ", "cd "))
    ]

    assert commands == ["exec make test"]
    assert "\nmake test\n" in README


def test_the_readme_explains_the_steps_in_their_order():
    headings = re.findall(r"^### ([a-z_]+)$", README, re.MULTILINE)
    steps = list(PIPELINE)
    steps.insert(steps.index("switch_service"), "approve")

    assert headings == [*steps, *RECOVERY]


def test_relative_links_in_documents_lead_somewhere():
    for document in ROOT.glob("**/*.md"):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.relative_to(ROOT)} links to {target}"


def test_no_file_names_a_place_of_one_machine():
    offenders = [str(path.relative_to(ROOT)) for path in tracked_files() if names_a_place_of_one_machine(path)]

    assert offenders == []


def test_requirements_are_pinned():
    for name in ("requirements.txt", "requirements-dev.txt"):
        lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.lstrip().startswith("#")]

        assert [line for line in lines if "==" not in line] == []
