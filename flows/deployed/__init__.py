"""The flows that deployments name: each takes up what asked for it once, and calls what a person's command calls."""
