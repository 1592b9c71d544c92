import json
from dataclasses import asdict

import pytest

from llm_rollout.fabric.tools import Run, Traffic, run_from_json

MARKED = Traffic(traffic_class=106, service_level=3, queue_pairs=8)


def test_bandwidth_carries_the_marks_of_the_models_traffic():
    run = Run("bandwidth", "mlx5_1", 18502, 5, "10.0.0.2", 5, MARKED)
    assert " ".join(run.command()) == (
        "ib_write_bw -d mlx5_1 -p 18502 -F -s 1048576 -x 5 -S 3 --tclass 106 -D 5 -q 8 --report_gbits 10.0.0.2"
    )


def test_latency_is_marked_too_and_has_one_queue_pair():
    run = Run("latency", "mlx5_1", 18502, 5, "", 0, Traffic(0, 0))
    assert " ".join(run.command()) == "ib_write_lat -d mlx5_1 -p 18502 -F -s 8 -x 0 -S 0 --tclass 0 -n 5000"


def test_what_is_not_known_is_left_to_the_tool():
    command = Run("bandwidth", "mlx5_0", 1, 1).command()
    assert not {"-x", "-S", "--tclass"} & set(command)


@pytest.mark.parametrize(
    "run", [Run("bandwidth", "mlx5_1", 18502, 5, "10.0.0.2", 5, MARKED), Run("latency", "a", 1, 1)]
)
def test_run_survives_the_wire(run):
    assert run_from_json(json.loads(json.dumps(asdict(run)))) == run
