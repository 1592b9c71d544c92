"""The page "Rollouts" inside Airflow: every model's revisions and last rollouts, drawn from their records.

``reading`` asks the cluster, ``views`` and ``timeline`` are pure, ``serving`` is the FastAPI application.
"""
