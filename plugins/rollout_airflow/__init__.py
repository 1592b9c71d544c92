"""The only code that knows Airflow: operators and triggers that carry verdicts, and the page of a model."""
