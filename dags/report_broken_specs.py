"""No DAG: a place where Airflow shows what is wrong with spec files, apart from the models that are right."""

from __future__ import annotations

from rollout_airflow import specs

_problems = specs.load()[1]
if _problems:
    raise ValueError(
        "these models have no DAG until their spec is right (the others run on):\n" + "\n".join(map(str, _problems))
    )
