"""Reports: one self-contained HTML page for a run and one for a night."""
