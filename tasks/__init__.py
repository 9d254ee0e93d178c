"""One stage of a run each, as a thin Prefect task."""
