"""Physics that the simulated instrument is made of: specimen, probe, patterns, counts."""
