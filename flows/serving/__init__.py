"""What `nightbeam serve` runs beside its pages on one machine: Prefect's server, its deployments, workers, triggers."""
