"""The demo: four rollouts on the devcluster through Airflow, with clients streaming all the while."""
