"""The gate alone: what it prints, how it exits, and that nothing of it stays."""

from __future__ import annotations

import json

import pytest

from llm_rollout import adapters, cli, kinds
from llm_rollout.testing import Ending, Simulation

NODES = ("node-1", "node-2", "node-3")


def row(client, server, status="ok", gbps=391.2):
    return {"client": client, "server": server, "hca": "mlx5_0", "gbps": gbps, "status": status}


def report(verdict, transport="rdma", *rows, bad=()):
    return {
        "event": "report", "verdict": verdict, "transport": transport, "sentence": f"{verdict}: as measured",
        "rows": list(rows), "bad": list(bad),
    }  # fmt: skip


LINK = {"kind": "link", "name": "node-1 <-> node-2", "detail": "120 Gb/s"}
GOOD = [row(one, other) for one in NODES for other in NODES if one != other]


@pytest.fixture
def world(monkeypatch):
    """A cluster in memory that moves on while the command sleeps."""
    simulation = Simulation("chat", {})
    simulation.add_nodes(3)
    monkeypatch.setattr(adapters, "connect", lambda *_args, **_options: simulation.ports)
    monkeypatch.setattr("time.sleep", simulation.tick)
    monkeypatch.setattr("time.time", simulation.now)
    return simulation


@pytest.fixture
def run(world, capsys):
    """The exit code, and what was printed as objects."""

    def call(found, *arguments):
        world.controllers.job_ends["validate_rdma"] = Ending(found)
        code = cli.main(["fabric", "--nodes", ",".join(NODES), *arguments])
        printed = capsys.readouterr()
        return code, [json.loads(line) for line in printed.out.splitlines()], printed.err

    return call


def left(world):
    """What the garbage collector does not take."""
    for _ in range(3):
        world.tick()
    return [one["metadata"]["name"] for kind in (kinds.JOB, kinds.SERVICE) for one in world.objects(kind)]


@pytest.mark.parametrize(
    ("found", "arguments", "code"),
    [
        pytest.param(report("PASS"), [], 0, id="pass"),
        pytest.param(report("DEGRADED"), ["--accept-degraded"], 0, id="accepted"),
        pytest.param(report("DEGRADED"), [], 3, id="degraded"),
        pytest.param(report("FAIL", bad=[LINK]), [], 3, id="fail"),
        pytest.param(report("PASS", "simulated"), ["--accept=simulated"], 0, id="a simulated pass that is accepted"),
        pytest.param(report("PASS", "simulated"), [], 3, id="a simulated pass"),
        pytest.param(report("PASS", "tcp"), [], 3, id="a pass over TCP"),
        pytest.param(report("INCONCLUSIVE"), [], 4, id="inconclusive"),
        pytest.param(report("INCONCLUSIVE", "tcp"), [], 4, id="inconclusive over TCP"),
    ],
)
def test_the_exit_code_is_the_verdict_and_nothing_stays(world, run, found, arguments, code):
    exit_code, lines, _ = run(found, *arguments)

    assert exit_code == lines[-1]["exit"] == code
    assert lines[-1]["event"] == "verdict"
    assert [line["event"] for line in lines].count("report") == 1
    assert left(world) == []


def test_the_last_line_names_the_part_and_the_remedy(run):
    _, lines, _ = run(report("FAIL", bad=[LINK]))

    assert lines[-1]["sentence"] == "FAIL: as measured"
    assert lines[-1]["remedy"].startswith("link node-1 <-> node-2: look at the path")


def test_progress_comes_before_the_report(run):
    _, lines, _ = run(report("PASS"))

    assert lines[0]["event"] == "progress"


def test_a_job_that_fails_is_not_known_and_says_why(world, capsys):
    error = {"event": "error", "class": "Transient", "message": "port 18500 is taken", "remedy": "free it"}
    world.controllers.job_ends["validate_rdma"] = Ending(error, succeeded=False)

    assert cli.main(["fabric", "--nodes", "node-1,node-2"]) == 4
    assert "port 18500 is taken: free it" in capsys.readouterr().err
    assert left(world) == []


def test_what_keeps_it_from_running_is_said_before_anything_starts(world, run):
    node = world.cluster.get(kinds.NODE, "", "node-2")
    world.cluster.show({**node, "spec": {"unschedulable": True}})

    code, _, said = run(report("PASS"))

    assert code == 4
    assert said.startswith("INCONCLUSIVE: node node-2: cordoned")
    assert [what for what in world.cluster.writes if what.startswith("create")] == []


def test_nodes_whose_gpus_are_in_use_can_be_measured(world, run):
    container = {"name": "x", "resources": {"limits": {"nvidia.com/gpu": "8"}}}
    world.cluster.show({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "serving", "namespace": "default"},
        "spec": {"nodeName": "node-1", "containers": [container]}, "status": {"phase": "Running"},
    })  # fmt: skip

    assert run(report("PASS"))[0] == 0


def test_past_its_deadline_it_says_what_it_waited_for(world, capsys):
    del world.controllers.job_ends["validate_rdma"]

    assert cli.main(["fabric", "--nodes", "node-1,node-2"]) == 4
    assert "INCONCLUSIVE: not done after 600 s, and still: Job gate-" in capsys.readouterr().err
    assert left(world) == []


def test_an_interrupt_takes_the_job_away(world, monkeypatch):
    def interrupted(_seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cli.main(["fabric", "--nodes", "node-1,node-2"])

    assert [one["metadata"].get("deletionTimestamp") is not None for one in world.objects(kinds.JOB)] == [True]
    assert world.objects(kinds.SERVICE) == []


def test_two_invocations_have_jobs_of_their_own(world):
    seen = set()
    world.cluster.before_write = seen.add
    for _ in range(2):
        cli.main(["fabric", "--nodes", "node-1,node-2"])
        world.tick()

    assert len({what for what in seen if what.startswith("create Job gate-")}) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--nodes", "node-1"], "does not name two different nodes"),
        (["--nodes", "node-1,node-1"], "does not name two different nodes"),
        (["--nodes", "a,b", "--accept", "carrier-pigeon"], "fabric.accept_transports"),
        (["--nodes", "a,b", "--spec", "x.yaml", "--hca", "mlx5_1"], "--hca"),
        (["--nodes", "a,b", "--spec", "x.yaml"], "x.yaml"),
    ],
)
def test_usage_is_refused_with_what_is_wrong(world, capsys, arguments, said):
    try:
        code = cli.main(["fabric", *arguments])
    except SystemExit as ended:
        code = ended.code

    assert code == 2
    assert said in capsys.readouterr().err
    assert world.cluster.writes == []


def test_a_terminal_gets_a_matrix(world, monkeypatch, capsys):
    rows = [*GOOD[1:], row("node-1", "node-2", "bad", 120.4)]
    world.controllers.job_ends["validate_rdma"] = Ending(report("FAIL", "rdma", *rows, bad=[LINK]))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)

    code = cli.main(["fabric", "--nodes", ",".join(NODES)])

    printed = capsys.readouterr().out
    assert code == 3
    assert "120.4 (mlx5_0)" in printed
    assert printed.count("391.2") == 5
    assert "remedy: link node-1 <-> node-2" in printed
