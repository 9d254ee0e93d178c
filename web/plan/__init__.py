"""Pictures of plans: what a scan will look like, and what a finer target costs."""
