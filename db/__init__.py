"""What is remembered: the provenance database."""
